"""Named public data sets: where each is, which columns it has, what its labels mean.

A `Source` is a row of a table and one small function from the source's row to a
record, or to the reason why the row is left out. Column layouts are those of the data
sets' pages on the Hugging Face Hub in November 2026.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.data import split
from ssljax.errors import UserError

HARM = ("unharmful", "harmful")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
NO_LABEL, NO_TEXT = "no label", "no text"  # why rows are left out
NO_RESPONSE, REDACTED = "no response", "text redacted by the source"
UNCERTAIN = "train rows of only `Needs Caution` or `Other`"
INCOMPLETE = "no category is 1 and one is missing"

Row = Mapping[str, object]
Record = dict[str, object]


class Source(NamedTuple):
  """Where a data set is and how its rows are read."""

  hub: str  # owner/name on the Hub
  parts: Mapping[str, tuple[str, str]]  # our split -> (configuration, its split)
  columns: tuple[str, ...]  # that are read; a row without one is an error
  # (row, task, our split) -> a record without id, or why the row is left out.
  record: Callable[[Row, str, str], Record | str]
  labels: tuple[str, ...]  # class names by id
  licence: str
  tasks: tuple[str, ...] = ("prompt",)  # the first is the default
  validation: float = 0.1  # part of train where the source has no validation split


def text(value: object) -> str:
  return value.strip() if isinstance(value, str) else ""


def _pair(row: Row, task: str, label: int, category: str | None = None) -> Record | str:
  """A prompt, for the response task with its response, labelled by harm."""
  record = {"text": row["prompt"], "label": label, "category": category}
  if not text(row["prompt"]):
    return NO_TEXT
  if task == "response":
    if not text(row["response"]):
      return NO_RESPONSE
    record["response"] = row["response"]
  return record


def wildguardmix(row: Row, task: str, part: str) -> Record | str:
  label = row[f"{task}_harm_label"]
  if label not in HARM:
    return NO_LABEL
  kinds = [text(row["subcategory"]), "adversarial" if row["adversarial"] else ""]
  return _pair(row, task, HARM.index(label), ";".join(filter(None, kinds)) or None)


def aegis(row: Row, task: str, part: str) -> Record | str:
  # The response task reads `response_label`: `prompt_label` judges another text.
  label = row[f"{task}_label"]
  if label not in ("safe", "unsafe"):
    return NO_LABEL
  if row["prompt"] == "REDACTED":  # only an id into another corpus is given
    return REDACTED
  category = text(row["violated_categories"]) or None
  if part == "train" and category in ("Needs Caution", "Other"):
    return UNCERTAIN
  kinds = None if category is None else ";".join(category.split(", "))
  return _pair(row, task, int(label == "unsafe"), kinds)


MODERATION = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


def openai_moderation(row: Row, task: str, part: str) -> Record | str:
  value = {name: row.get(name) for name in MODERATION}
  # Where a column was read as floats a missing value is NaN, which differs from itself.
  missing = [name for name, v in value.items() if v is None or v != v]
  harmful = [name for name, v in value.items() if v == 1]
  if missing and not harmful:
    return INCOMPLETE
  return _pair(row, task, int(bool(harmful)), ";".join(harmful) or None)


def toxic_chat(row: Row, task: str, part: str) -> Record | str:
  if row["toxicity"] is None:
    return NO_LABEL
  if not text(row["user_input"]):
    return NO_TEXT
  return {
    "text": row["user_input"],
    "label": int(row["toxicity"]),
    "category": "jailbreak" if row["jailbreaking"] else None,
  }


def beaver_tails(row: Row, task: str, part: str) -> Record | str:
  if row["is_safe"] is None:
    return NO_LABEL
  kinds = [name for name, holds in (row["category"] or {}).items() if holds]
  return _pair(row, task, int(not row["is_safe"]), ";".join(kinds) or None)


def xstest(row: Row, task: str, part: str) -> Record | str:
  if row["label"] not in ("safe", "unsafe"):
    return NO_LABEL
  return _pair(row, task, int(row["label"] == "unsafe"), row["type"])


def _topic(row: Row, label: object, words: object) -> Record | str:
  if label is None or label < 0:
    return NO_LABEL
  return {"text": words, "label": int(label)} if text(words) else NO_TEXT


def plain(row: Row, task: str, part: str) -> Record | str:
  return _topic(row, row["label"], row["text"])


def yahoo(row: Row, task: str, part: str) -> Record | str:
  names = ("question_title", "question_content", "best_answer")
  words = "\n".join(filter(None, (text(row[name]) for name in names)))
  return _topic(row, row["topic"], words)


TRAIN_AND_TEST = {"train": ("", "train"), "test": ("", "test")}
PAPERS = "none stated; made for research"
SOURCES = {
  "wildguardmix": Source(
    "allenai/wildguardmix",
    {"train": ("wildguardtrain", "train"), "test": ("wildguardtest", "test")},
    (
      *("prompt", "response", "subcategory", "adversarial"),
      *("prompt_harm_label", "response_harm_label"),
    ),
    wildguardmix,
    HARM,
    "ODC-BY 1.0; gated: accept the AI2 Responsible Use Guidelines on its page",
    ("prompt", "response"),
  ),
  "aegis": Source(
    "nvidia/Aegis-AI-Content-Safety-Dataset-2.0",
    {name: ("", name) for name in ("train", "validation", "test")},
    ("prompt", "response", "prompt_label", "response_label", "violated_categories"),
    aegis,
    HARM,
    "CC-BY 4.0",
    ("prompt", "response"),
  ),
  "openai_moderation": Source(
    "mmathys/openai-moderation-api-evaluation",
    {"test": ("", "train")},  # its only split has that name
    ("prompt",),  # rows may lack a category
    openai_moderation,
    HARM,
    "MIT",
  ),
  "toxic_chat": Source(
    "lmsys/toxic-chat",
    {name: ("toxicchat0124", name) for name in ("train", "test")},
    ("user_input", "toxicity", "jailbreaking"),
    toxic_chat,
    HARM,
    "CC-BY-NC 4.0: no commercial use",
  ),
  "beaver_tails": Source(
    "PKU-Alignment/BeaverTails",
    {"train": ("", "330k_train"), "test": ("", "330k_test")},
    ("prompt", "response", "category", "is_safe"),
    beaver_tails,
    HARM,
    "CC-BY-NC 4.0: no commercial use",
    ("response",),
  ),
  "xstest": Source(
    "walledai/XSTest",
    {"test": ("", "test")},
    ("prompt", "type", "label"),
    xstest,
    HARM,
    "CC-BY 4.0",
  ),
  "ag_news": Source(
    "fancyzhx/ag_news",
    TRAIN_AND_TEST,
    ("text", "label"),
    plain,
    ("world", "sports", "business", "sci_tech"),
    PAPERS,
    validation=10_000 / 120_000,
  ),
  "imdb": Source(
    "stanfordnlp/imdb",
    TRAIN_AND_TEST,
    ("text", "label"),
    plain,
    ("negative", "positive"),
    PAPERS,
    validation=2_000 / 25_000,
  ),
  "yelp": Source(
    "Yelp/yelp_review_full",
    TRAIN_AND_TEST,
    ("text", "label"),
    plain,
    STARS,
    "Yelp's data set terms: academic use",
    validation=50_000 / 650_000,
  ),
  # The English part of the multilingual Amazon reviews, in the copy that needs no
  # loading script; not the larger "Amazon review full" of 2015.
  "amazon": Source(
    "mteb/AmazonReviewsClassification",
    {name: ("en", name) for name in ("train", "validation", "test")},
    ("text", "label"),
    plain,
    STARS,
    "Amazon's terms: research only",
  ),
  "yahoo": Source(
    "community-datasets/yahoo_answers_topics",
    TRAIN_AND_TEST,
    ("topic", "question_title", "question_content", "best_answer"),
    yahoo,
    (
      *("society_culture", "science_mathematics", "health", "education_reference"),
      *("computers_internet", "sports", "business_finance", "entertainment_music"),
      *("family_relationships", "politics_government"),
    ),
    PAPERS,
    validation=50_000 / 1_400_000,
  ),
}
PYRIT = "pyrit"  # not on the Hub: human-scored responses inside the PyRIT package
PYRIT_LICENCE = "MIT, of the PyRIT package (Microsoft)"
PYRIT_SEED = 0  # fixed, so that everybody's splits are the same


def names() -> tuple[str, ...]:
  """Every name that `--source` and `--config.data` know."""
  return (PYRIT, *SOURCES)


def task_of(name: str, task: str = "") -> str:
  """The task that a named source is prepared for; "" asks for its default.

  Raises:
    UserError: the source has no labels for `task`.
  """
  tasks = ("response",) if name == PYRIT else SOURCES[name].tasks
  if task and task not in tasks:
    raise UserError(
      f"--task={task}: source {name} has labels for {' and '.join(tasks)} only; leave "
      "--task out or take another source"
    )
  return task or tasks[0]


def pyrit(folder: Path) -> dict[str, list[Record]]:
  """Responses of language models that people scored for harm, 0 to 1.

  Copies are left out (the first stays). A mean score of 0.5 or more is harmful. One
  objective never spans two splits.

  Args:
    folder: where the members of the PyRIT wheel lie, under their paths inside it.

  Returns:
    Records of train, validation and test: 70, 10 and 20 % of 984.
  """
  records: dict[tuple[str, str], Record] = {}
  for path in sorted((folder / "pyrit/datasets/scorer_evals/harm").glob("*.csv")):
    if path.stem.startswith("mini_"):  # a sample of another file
      continue
    for row in _below_comments(path):
      scores = [
        float(value)
        for name, value in row.items()
        if name and name.startswith("human_score") and value
      ]
      key = (row["objective"], row["assistant_response"])
      if key in records or not scores or not all(map(text, key)):
        continue
      records[key] = {
        "id": f"pyrit-{len(records)}",
        "text": row["objective"],
        "response": row["assistant_response"],
        "label": int(sum(scores) / len(scores) >= 0.5),
        "category": row["harm_category"].lower(),
      }
  found = list(records.values())
  if not found:
    raise UserError(
      f"{folder}: no scored responses of PyRIT 1.1.0 in it; remove the folder, it is "
      "fetched again"
    )
  groups = split.group([r["text"] for r in found])
  labels = np.array([r["label"] for r in found])
  parts = split.divide(groups, labels, (0.7, 0.1, 0.2), PYRIT_SEED)
  return {
    name: [found[row] for row in rows]
    for name, rows in zip(("train", "validation", "test"), parts, strict=True)
  }


def _below_comments(path: Path) -> Iterator[dict[str, str]]:
  with path.open(encoding="utf-8-sig", newline="") as file:
    begin = file.readline()
    # Only above the header: a response may hold lines that begin with #.
    while begin.startswith("#") or (begin and not begin.strip(" ,\r\n")):
      begin = file.readline()
    header = next(csv.reader([begin]))
    yield from csv.DictReader(file, header)
