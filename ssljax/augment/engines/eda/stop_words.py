"""English function words and negations, which EDA never replaces with synonyms."""

_WORDS = """
  a about above after again against ain all almost alone along already also although
  always am among an and another any anybody anyone anything anywhere are aren around
  as at away be became because become been before behind being below between beyond
  both but by can cannot could couldn did didn do does doesn doing don done down during
  each either else enough etc even ever every everybody everyone everything everywhere
  few for from further get gets getting go goes going got had hadn has hasn have haven
  having he hence her here hers herself him himself his how however i if in instead
  into is isn it its itself just least less let lets like ll made make makes many may
  maybe me might mightn mine more most much must mustn my myself need needn neither
  never no nobody none nor not nothing now nowhere of off often on once one only onto
  or other others otherwise our ours ourselves out over own per perhaps please quite
  rather re really same shall shan she should shouldn since so some somebody someone
  something sometimes somewhere still such than that the their theirs them themselves
  then there therefore these they this those though through throughout thus to together
  too toward towards under unless until up upon us use used using ve very via was wasn
  we well were weren what whatever when whenever where whereas wherever whether which
  while who whoever whole whom whose why will with within without won would wouldn yes
  yet you your yours yourself yourselves
  first last next two three four five six seven eight nine ten hundred thousand million
"""
STOP_WORDS = frozenset(_WORDS.split())


def is_stop_word(word: str) -> bool:
  """Whether a lower-case word is a stop word; "don't" is one because "don" is."""
  return word.replace("’", "'").split("'")[0] in STOP_WORDS
