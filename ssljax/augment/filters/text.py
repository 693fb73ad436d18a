"""What a view must be: small pure functions of a text and a view of it.

`strip` takes off what an LLM puts around its answer. Each check of CHECKS then says
whether the view has one fault; the first fault found is the reason why it is dropped.
A text that looks like the fault itself excuses its views: a paraphrase of "I can't help
with that" may refuse.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from rapidfuzz.distance import Indel

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import Settings
from ssljax.errors import UserError

SHORTEST = 20  # letters; in fewer, no language can be told
SURE = 0.9  # probability of a language from which on it counts
ASKED = ("?", "？", "؟")
SAME = "same"  # config.language: that of the text

# Blanks are written \\s, since they count for nothing in a verbose pattern.
_NEGATED = (
  r"(?:can(?:no|['’])?t|can\snot|won['’]?t|will\snot|(?:am|['’]m)\s(?:not\sable|unable)\sto"
  r"|(?:am|['’]m)\snot\s(?:comfortable|allowed|going|willing|permitted))"
)
_TASK = (
  r"(?:help|assist|provide|fulfil|fulfill|comply|answer|support|create|generate|write"
  r"|rewrite|rephrase|paraphrase|engage|do|discuss|produce|satisfy|complete|process"
  r"|respond|give|offer|share|participate|promote|encourage|continue)"
)
# In the voice of an assistant: who writes of their own things is the user.
_REFUSAL = re.compile(
  rf"""[\W_]*(?:no[,.!]\ |my\ |as\ an?\ \w+\ (?:ai|assistant)[,.]?\ )?(?:
    (?:(?:i['’]?m|i\ am)\ (?:so\ |very\ |really\ |deeply\ )?sorry|sorry|apologies
      |i\ (?:must\ )?apologi[sz]e|unfortunately)\b[^.!?\n]{{0,60}}?\b
      (?:i\ ?{_NEGATED}|(?:not|isn['’]?t)\ something\ (?:that\ )?i|against\ my
        |i\ (?:must\ |have\ to\ )(?:decline|refuse))\b(?!\ \w+\ (?:my|our)\b)
    |as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
      [^.!?\n]{{0,60}}?\bi\ ?
      (?:{_NEGATED}|do(?:n['’]?t|\ not)|am\ not|['’]m\ not|have\ no|must)\b
    |i\ (?:don['’]?t|do\ not)\ feel\ comfortable\b
    |i\ ?{_NEGATED}\ (?:\w+\ ){{0,2}}?{_TASK}\b
      (?!\ (?:\w+\ )?(?:but|it|my|our|mine|ours|myself|feeling|noticing|thinking
        |wondering)\b)
    |(?:that|this)(?:['’]s|\ is)\ not\ something\ (?:that\ )?i\b
    |i\ (?:respectfully\ )?(?:decline|refuse)\ to\ {_TASK}\b
    |i\ (?:must|have\ to)\ (?:respectfully\ )?(?:decline|refuse)\b
    |it(?:['’]s|\ is|\ would\ be)\ (?:not\ (?:appropriate|ethical|right)|inappropriate
      |unethical)\ (?:for\ me\ )?to\b(?![^.!\n]*\?)
    |(?:this|that|your)\ (?:request|content|prompt|text)\ (?:violates|goes\ against
      |is\ against|is\ (?:inappropriate|harmful|not\ appropriate))\b
  )""",
  re.IGNORECASE | re.VERBOSE,
)
# What most refusals have somewhere, and a text that complies seldom at its beginning:
# a source with it excuses a view that refuses in other words.
_HESITANT = re.compile(
  rf"(?:\b{_NEGATED}\b|\b(?:sorry|apologi[sz]e|unable|not able|declin\w+|refus\w+"
  r"|against|inappropriate|unethical|illegal"
  r"|not (?:something|appropriate|ethical|okay|right)|should(?:n['’]t| not))\b)",
  re.IGNORECASE,
)
_BEGINNING = 300  # characters in which it says so
_WORK = (
  r"(?:paraphrase[ds]?|paraphrasing|rephrase[ds]?|rephrasing|rewrite|rewritten|rewriting"
  r"|rewording|reworded|revised|reformulat\w+|alternative)"
)
_SURE = r"(?:sure(?:\sthing)?|certainly|of\scourse|absolutely|okay|ok|gladly|great)"
# "Sure! Here is a paraphrase of the text:" and "Paraphrase:": the view comes after it.
_PREAMBLE = re.compile(
  rf"""\s*(?:
    (?:{_SURE}[,.!:]*\s+)?
      (?:here(?:['’]s|\ is|\ are)|this\ is|below\ is)\b[^:\n]{{0,20}}\b
      (?:{_WORK}|version|text)\b[^:\n]{{0,60}}:
    |(?:the\ |my\ |your\ )?{_WORK}\ (?:text|version|prompt|question|sentence|response
      |request)\s*:
    |(?:paraphrase[ds]?|rephrase[ds]?|rewrit(?:e|ten)|reworded|reformulat\w+)\s*:
    |(?:sure|certainly|of\ course)\s*[!:](?=\s)
  )\s*""",
  re.IGNORECASE | re.VERBOSE,
)
# What is left of such talk, where it cannot be told from the view.
_TALK = re.compile(
  rf"""\s*(?:
    {_SURE}[,!.]\s+(?:here|i|let|this|below)\b
    |here(?:['’]s|\ is|\ are)\ [^.\n]{{0,40}}\b{_WORK}\b
    |i(?:['’]ve|\ have|['’]ll|\ will)?\ {_WORK}\b
    |the\ (?:text|prompt|sentence|passage|original\ \w+)\ (?:can|could|may)\ be
      \ {_WORK}
    |{_WORK}\ (?:text|version|prompt)\b
  )""",
  re.IGNORECASE | re.VERBOSE,
)
# "Note: I kept the meaning." on a last line of its own.
_AFTERWARDS = re.compile(
  r"\W*(?:note\s*:|(?:please )?note that (?:i|the (?:original|text|meaning|tone))\b"
  r"|explanation\s*:|let me know if|i hope this|this (?:version|rewrite|paraphrase)\b"
  rf"|(?:the|this) {_WORK}\b)",
  re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "‘": "’", "'": "'", "`": "`"}


def strip(source: str, view: str) -> str:
  """The view without the preamble and the quotes that the source does not have."""
  view = view.strip()
  found = _PREAMBLE.match(view)
  if found and found.end() < len(view) and not _PREAMBLE.match(source):
    view = view[found.end() :]
  mark = view[:1]
  if (
    len(view) > 2
    and view[-1] == _QUOTES.get(mark)
    and source.strip()[:1] != mark
    and mark not in view[1:-1]
    and view[-1] not in view[1:-1].replace("’", "" if mark != "‘" else "’")
  ):
    view = view[1:-1].strip()
  return view


class Case(NamedTuple):
  """One part of a pair: the text, or the response."""

  source: str
  view: str
  settings: Settings
  reply: bool = False  # it is the response


def malformed(case: Case) -> bool:
  try:  # half a surrogate pair has no place in a file
    case.view.encode()
  except UnicodeEncodeError:
    return True
  return "\0" in case.view and "\0" not in case.source


def empty(case: Case) -> bool:
  return not any(c.isalnum() for c in case.view) and any(
    c.isalnum() for c in case.source
  )


def refusal(case: Case) -> bool:
  """Of a response also where it may well refuse itself, in words that are not known."""
  excused = case.reply and _HESITANT.search(case.source[:_BEGINNING])
  return not excused and _new(_REFUSAL.match, case)


def meta_talk(case: Case) -> bool:
  return (
    _new(_TALK.match, case)
    or _new(_PREAMBLE.match, case)
    or _new(lambda text: "\n" in text and _AFTERWARDS.match(_last_line(text)), case)
  )


def identical(case: Case) -> bool:
  return case.source.split() == case.view.split()


def near_identical(case: Case) -> bool:
  most = case.settings.most_alike
  if not most:
    return False
  alike = Indel.normalized_similarity(
    _plain(case.source), _plain(case.view), score_cutoff=most
  )
  return alike >= most


def too_short(case: Case) -> bool:
  return len(case.view) < case.settings.least_ratio * len(case.source)


def too_long(case: Case) -> bool:
  most = case.settings.most_ratio
  return bool(most) and len(case.view) > most * len(case.source)


def no_question(case: Case) -> bool:
  asked = case.source.rstrip(" \n\"'”)*_").endswith(ASKED)
  return (
    case.settings.keep_questions and asked and not any(m in case.view for m in ASKED)
  )


def other_language(case: Case) -> bool:
  wanted = case.settings.language
  if not wanted:
    return False
  model = identifier(wanted)
  if wanted == SAME:
    wanted = _language(model, case.source)
  return bool(wanted) and _language(model, case.view) not in ("", wanted)


CHECKS: dict[str, Callable[[Case], bool]] = {
  "malformed": malformed,
  "empty": empty,
  "refusal": refusal,
  "meta-talk": meta_talk,
  "identical": identical,
  "near-identical": near_identical,
  "too short": too_short,
  "too long": too_long,
  "no question": no_question,
  "other language": other_language,
}


def reason(source: Source, view: Candidate, settings: Settings) -> str:
  """Why a view is dropped, "" where it is good: the parts that differ are checked."""
  parts = changed(source, view)
  if not parts:
    return "identical"
  for name, wrong in CHECKS.items():
    # Of a pair one part may stay as it is, but a changed part must be a good one.
    if any(wrong(Case(old, new, settings, reply)) for old, new, reply in parts):
      return name
  return ""


def changed(source: Source, view: Candidate) -> list[tuple[str, str, bool]]:
  """(source, view, whether it is the response) of each part that an engine changed."""
  parts = [(source.text, view.text, False)]
  if source.response is not None:
    kept = view.response is None  # what an engine leaves out it repeats
    parts.append((source.response, source.response if kept else view.response, True))
  return [(old, new, reply) for old, new, reply in parts if old != new]


def tidy(source: Source, view: Candidate) -> Candidate:
  """A candidate in the form of its source, stripped of meta-talk."""
  text = view.text
  if text != source.text:
    text = strip(source.text, text)
  response = None
  if source.response is not None:
    response = source.response if view.response is None else view.response
  if response != source.response:
    response = strip(source.response, response)
  return view._replace(text=text, response=response)


def fingerprint(view: Candidate) -> tuple[str, str]:
  """Alike for views that are copies of each other."""
  return _plain(view.text), _plain(view.response or "")


@functools.cache
def identifier(language: str):
  """Says which language a text is in: py3langid's model, which ships with it.

  Args:
    language: as `config.language`.

  Raises:
    UserError: it is not installed, or does not know `language`.
  """
  try:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier
  except ImportError:
    raise UserError(
      "--config.language needs py3langid: pip install -e '.[augment]'"
    ) from None
  model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
  known = {str(name) for name in model.nb_classes}
  if language not in known | {SAME}:
    raise UserError(
      f"--config.language={language!r}: give {SAME}, or a two-letter code such as en, "
      f"one of {', '.join(sorted(known))}"
    )
  return model


def _language(model, text: str) -> str:
  """Its code; "" where it cannot be told."""
  if sum(map(str.isalpha, text)) < SHORTEST:
    return ""
  language, probability = model.classify(text)
  return str(language) if probability >= SURE else ""


def _new(found: Callable, case: Case) -> bool:
  return bool(found(case.view)) and not found(case.source)


def _last_line(text: str) -> str:
  return text.rstrip().rsplit("\n", 1)[-1]


def _plain(text: str) -> str:
  return " ".join(text.casefold().split())
