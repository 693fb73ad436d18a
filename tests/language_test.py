"""Docs, docstrings, comments, messages and test names are in plain English.

A line reported here reads strangely or names a module that has moved. Rewrite it. If
the phrase is right where it is, make its pattern below more precise.
"""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ssljax", "configs", "docs", "launch", "benchmarks", "tests", ".ci")
FILES = ("README.md", "CONTRIBUTING.md", "setup.py", "pyproject.toml")
SUFFIXES = {".py", ".md", ".html", ".sh", ".sbatch", ".toml", ""}
LEFT_OUT = (
  "tests/language_test.py",
  "tests/old_version/",  # written by an older version
  "ssljax/augment/engines/llm/prompts/",  # sent to LLMs as they are
  "ssljax/augment/engines/adversarial/templates/",
)

# Strange phrase: what to write instead.
PHRASES = {
  "anew": "again",
  "(go|goes|gone|went) on(?! to)": "continue",
  "(stand|stands|stood) (in(?! for)|there|behind|beside|before|twice)": "be in",
  r"(hold|holds|held|holding) (\w+ )?against": "compare with",
  r"(hold|holds|held) (\w+ )?to (the|it|its|their|every|them)": "check against",
  "of no account": "ignored",
  "whole or not at all": "atomically",
  "(what|all) (it |this |that )?(all )?came (out|to)|what comes out": "results",
  "for want of": "because there is no",
  r"(?<=,) too(?=[.,;:)]|\s\s|$)": "also",
  "(the|its|a|no) way out": "how to fix it",
  "nobody (sees|can see)|nobody's way": "invisible, ignored",
  "in vain": "needlessly",
  "mend|mends|mended|heed|heeds|heeded": "fix, obey",
  "of (its|their|one's|ours) own": "its own, separate",
  "which is none|where there (is|are) (none|one)": "if there is no",
  "would else|, else (it|they|that|those|the)": "otherwise",
  "for ever": "forever",
  "(say|says|said) of (a|an|the|n|it|them|its|each|labelled|texts?)": "predict for",
  "what (is|was) said|what was heard": "the answer, the output",
  "(one|two|a) (line|text|row|vector) a (row|line|text|file|case|step)": "one per",
  "unlike sizes?": "imbalanced",
  "methods around methods|line to beat|the first to try": "wrapper, baseline",
  "that which": "the one that",
  "(is|are|was|were) that of(?! type)": "belong to, be the same as",
  "(is|are|was|were) of (a|an|the|one|its|those|this|that|these|each)": "belong to",
  "all but (equal|undecided)": "almost",
  "thereof|therein|whereof|whereupon|hitherto|henceforth|thence|whence|naught": "",
  "too (long|large|short|small|deep) an? [a-z]+": "a text that is too long",
  "(would|will) come again": "would happen again",
  "surest|none the worse|and its kin|as ever": "most confident, similar, as usual",
  "passed over": "skipped",
  r"(it|they) knows? no \w+": "ignores",
}
PATTERNS = [
  (re.compile(rf"(?<!\w)({phrase})(?!\w)", re.IGNORECASE), instead)
  for phrase, instead in PHRASES.items()
]

# Modules that have moved; some of these names are packages now.
MOVED = """
  augment.apertium augment.ask augment.chance augment.client augment.folder
  augment.forms augment.glove augment.marian augment.on_ray augment.pieces
  augment.progress augment.prompt augment.sentences augment.shard augment.similarity
  augment.stop augment.stop_words augment.stream augment.tfidf augment.translate
  augment.verdict augment.wordnet augment.workers augment.words build checkpoint
  data.alike data.checks data.columns data.files data.folder data.hub data.ingest
  data.loader data.locate data.order data.overlap data.pack data.sets data.tftext
  data.words evals.card evals.html evals.operating evals.page
  evals.plots evals.report.page evals.shares forward job jsonfile keywords leaves
  metrics models.hub modules ops.listening optim plan rows scoring serving step
  trained window
"""
NAMES = "|".join(re.escape(name).replace(r"\.", "[./]") for name in MOVED.split())
PATTERNS.append((re.compile(rf"(?<!\w)ssljax[./]({NAMES})(?![\w/])"), "it has moved"))


def files() -> list[Path]:
  paths = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
  names = [path.relative_to(ROOT).as_posix() for path in paths if path.is_file()]
  return [
    ROOT / name
    for name in (*sorted(names), *FILES)
    if Path(name).suffix in SUFFIXES
    and not name.startswith(LEFT_OUT)
    and "__pycache__" not in name
  ]


def prose(path: Path) -> list[tuple[int, str]]:
  """Returns (first line, text) of the prose of a file; texts keep their line breaks.

  In Python code these are comments, strings and the names of tests. Comments on
  consecutive lines, and adjacent strings, are one text.
  """
  content = path.read_text(encoding="utf-8")
  if path.suffix != ".py":
    return [(1, content)]
  texts: list[tuple[int, str]] = []
  last_kind, last_line = "", 0
  for token in tokenize.generate_tokens(io.StringIO(content).readline):
    kind, line = tokenize.tok_name[token.type], token.start[0]
    if kind == "NAME" and token.string.startswith("test_"):
      texts.append((line, token.string.replace("_", " ")))
    elif kind in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
      text = token.string.lstrip("#rbfu").strip("\"' ")
      if kind == last_kind and line <= last_line + 1:
        line, before = texts.pop()
        text = f"{before}\n{text}" if token.start[0] > last_line else f"{before}{text}"
      texts.append((line, text))
      last_kind, last_line = kind, token.end[0]
    elif kind not in ("NL", "NEWLINE", "FSTRING_START", "FSTRING_END"):
      last_kind = ""
  return texts


def problems(path: Path) -> list[str]:
  name = path.relative_to(ROOT)
  return [
    f"{name}:{line + text.count(chr(10), 0, match.start())}: {match[0]!r} ({instead})"
    for line, text in prose(path)
    for pattern, instead in PATTERNS
    for match in pattern.finditer(text.replace("\n", " "))
  ]


@pytest.mark.parametrize(
  ("text", "strange"),
  [
    ("it is scored anew", True),
    ("the same command goes on", True),
    ("columns are ignored, too", True),
    ("columns that are too long", False),
    ("see ssljax/serving.py", True),
    ("see `ssljax.data.sets`", True),
    ("see ssljax.data.datasets and ssljax.training.step", False),
    ("logits are of the labelled texts", True),
    ("it goes on to say", False),
  ],
)
def test_the_patterns_find_strange_phrases_only(text, strange):
  assert any(pattern.search(text) for pattern, _ in PATTERNS) == strange


@pytest.mark.slow
@pytest.mark.parametrize("folder", [*FOLDERS, "."])
def test_texts_are_in_plain_english(folder):
  lines = [
    line
    for path in files()
    if path.relative_to(ROOT).parts[0] == folder or (folder, path.parent) == (".", ROOT)
    for line in problems(path)
  ]
  assert not lines, "\n" + "\n".join(lines)
