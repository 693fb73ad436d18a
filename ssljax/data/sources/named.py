"""The named public datasets: where they are, their columns, and what labels mean.

Each is an entry of SOURCES. A small function turns a row of the source into a record,
or returns the reason for dropping the row. The columns are as on the Hugging Face Hub
in November 2026.
"""

import csv
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssljax.data.records import checks
from ssljax.errors import UserError

HARM = ("unharmful", "harmful")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
NO_LABEL, NO_TEXT = "no label", "no text"  # reasons for dropping a row
NO_RESPONSE, REDACTED = "no response", "text redacted by the source"
UNCERTAIN = "train rows of only `Needs Caution` or `Other`"
INCOMPLETE = "no category is 1 and one is missing"

Row = Mapping[str, object]
Record = dict[str, object]


class NamedSource(NamedTuple):
  hub: str  # owner/name on the Hub
  splits: Mapping[str, tuple[str, str]]  # our split -> (configuration, its split)
  columns: tuple[str, ...]  # the columns that `record` needs
  # (row, task, our split) -> a record without id, or the reason for dropping the row.
  record: Callable[[Row, str, str], Record | str]
  labels: tuple[str, ...]  # class names by id
  licence: str
  tasks: tuple[str, ...] = ("prompt",)  # the first is the default
  validation: float = 0.1  # fraction of train to use if there is no validation split
  label: str = ""  # the column of class ids, if the labels are ids


def check_class_names(
  source: NamedSource, classes: Mapping[str, Sequence[str]]
) -> None:
  """Refuses a dataset whose own class names are not those of `source`.

  Args:
    source: a named source.
    classes: the class names by id that the dataset declares, by column.
  """
  declared = classes.get(source.label, source.labels)
  numbers = map(str, range(len(declared)))  # says nothing
  names = zip(source.labels, declared, numbers, strict=False)
  if len(declared) != len(source.labels) or not all(
    theirs == number or checks.means(ours, theirs) for ours, theirs, number in names
  ):
    raise UserError(
      f"{source.hub}: the classes of {source.label} are now {', '.join(declared)}, but "
      f"ssljax knows them as {', '.join(source.labels)}; use --source={source.hub} "
      f"with --columns=label={source.label} instead"
    )


def clean(value: object) -> str:
  """Strips white space around a string; returns "" for any other value."""
  return value.strip() if isinstance(value, str) else ""


def _pair(
  row: Row, task: str, classes: Sequence, label: object, categories: Iterable[str]
) -> Record | str:
  """A labelled prompt, with its response if the task is "response".

  Args:
    classes: the values of `label` that stand for the classes 0, 1, …
  """
  if label not in classes:
    return NO_LABEL
  if not clean(row["prompt"]):
    return NO_TEXT
  category = ";".join(filter(None, categories)) or None
  record = {"text": row["prompt"], "label": classes.index(label), "category": category}
  if task == "prompt":
    return record
  if not clean(row["response"]):
    return NO_RESPONSE
  return {**record, "response": row["response"]}


def wildguardmix(row: Row, task: str, part: str) -> Record | str:
  categories = [clean(row["subcategory"]), "adversarial" if row["adversarial"] else ""]
  return _pair(row, task, HARM, row[f"{task}_harm_label"], categories)


def aegis(row: Row, task: str, part: str) -> Record | str:
  violated = clean(row["violated_categories"])
  categories = [violated.replace(", ", ";")]
  record = _pair(row, task, ("safe", "unsafe"), row[f"{task}_label"], categories)
  # For a redacted prompt, the source gives only its id in another corpus.
  if record != NO_LABEL and row["prompt"] == "REDACTED":
    return REDACTED
  if record != NO_LABEL and part == "train" and violated in ("Needs Caution", "Other"):
    return UNCERTAIN
  return record


MODERATION = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


def openai_moderation(row: Row, task: str, part: str) -> Record | str:
  flags = {name: row.get(name) for name in MODERATION}
  # A missing value in a column of floats is NaN, which differs from itself.
  missing = [name for name, flag in flags.items() if flag is None or flag != flag]
  harmful = [name for name, flag in flags.items() if flag == 1]
  if missing and not harmful:
    return INCOMPLETE
  return _pair(row, task, (False, True), bool(harmful), harmful)


def toxic_chat(row: Row, task: str, part: str) -> Record | str:
  categories = ["jailbreak"] if row["jailbreaking"] else []
  return _pair({"prompt": row["user_input"]}, task, (0, 1), row["toxicity"], categories)


def beaver_tails(row: Row, task: str, part: str) -> Record | str:
  harms = [name for name, holds in (row["category"] or {}).items() if holds]
  return _pair(row, task, (True, False), row["is_safe"], harms)


def xstest(row: Row, task: str, part: str) -> Record | str:
  return _pair(row, task, ("safe", "unsafe"), row["label"], [row["type"]])


def text_and_label(row: Row, task: str, part: str) -> Record | str:
  if row["label"] is None or row["label"] < 0:
    return NO_LABEL
  if not clean(row["text"]):
    return NO_TEXT
  return {"text": row["text"], "label": int(row["label"])}


def yahoo(row: Row, task: str, part: str) -> Record | str:
  names = ("question_title", "question_content", "best_answer")
  text = "\n".join(filter(None, (clean(row[name]) for name in names)))
  return text_and_label({"text": text, "label": row["topic"]}, task, part)


TRAIN_AND_TEST = {"train": ("", "train"), "test": ("", "test")}
UNSTATED = "none stated; made for research"
_text_source = functools.partial(
  NamedSource,
  splits=TRAIN_AND_TEST,
  columns=("text", "label"),
  record=text_and_label,
  label="label",
)
SOURCES = {
  "wildguardmix": NamedSource(
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
  "aegis": NamedSource(
    "nvidia/Aegis-AI-Content-Safety-Dataset-2.0",
    {name: ("", name) for name in ("train", "validation", "test")},
    ("prompt", "response", "prompt_label", "response_label", "violated_categories"),
    aegis,
    HARM,
    "CC-BY 4.0",
    ("prompt", "response"),
  ),
  "openai_moderation": NamedSource(
    "mmathys/openai-moderation-api-evaluation",
    {"test": ("", "train")},  # its only split is called train
    ("prompt",),  # the category columns may be missing
    openai_moderation,
    HARM,
    "MIT",
  ),
  "toxic_chat": NamedSource(
    "lmsys/toxic-chat",
    {name: ("toxicchat0124", name) for name in ("train", "test")},
    ("user_input", "toxicity", "jailbreaking"),
    toxic_chat,
    HARM,
    "CC-BY-NC 4.0: no commercial use",
    label="toxicity",
  ),
  "beaver_tails": NamedSource(
    "PKU-Alignment/BeaverTails",
    {"train": ("", "330k_train"), "test": ("", "330k_test")},
    ("prompt", "response", "category", "is_safe"),
    beaver_tails,
    HARM,
    "CC-BY-NC 4.0: no commercial use",
    ("response",),
  ),
  "xstest": NamedSource(
    "walledai/XSTest",
    {"test": ("", "test")},
    ("prompt", "type", "label"),
    xstest,
    HARM,
    "CC-BY 4.0",
  ),
  "ag_news": _text_source(
    "fancyzhx/ag_news",
    labels=("world", "sports", "business", "sci_tech"),
    licence=UNSTATED,
    validation=10_000 / 120_000,
  ),
  "imdb": _text_source(
    "stanfordnlp/imdb",
    labels=("negative", "positive"),
    licence=UNSTATED,
    validation=2_000 / 25_000,
  ),
  "yelp": _text_source(
    "Yelp/yelp_review_full",
    labels=STARS,
    licence="Yelp's data set terms: academic use",
    validation=50_000 / 650_000,
  ),
  # The English Amazon reviews of the multilingual corpus, from a copy without a loading
  # script. The "Amazon review full" of 2015 is a larger dataset.
  "amazon": _text_source(
    "mteb/AmazonReviewsClassification",
    splits={name: ("en", name) for name in ("train", "validation", "test")},
    labels=STARS,
    licence="Amazon's terms: research only",
  ),
  "yahoo": NamedSource(
    "community-datasets/yahoo_answers_topics",
    TRAIN_AND_TEST,
    ("topic", "question_title", "question_content", "best_answer"),
    yahoo,
    (
      *("society_culture", "science_mathematics", "health", "education_reference"),
      *("computers_internet", "sports", "business_finance", "entertainment_music"),
      *("family_relationships", "politics_government"),
    ),
    UNSTATED,
    validation=50_000 / 1_400_000,
    label="topic",
  ),
}
PYRIT = "pyrit"  # human-scored responses inside the PyRIT package, not on the Hub


def source_names() -> tuple[str, ...]:
  """All names that `--source` and `--config.data` accept."""
  return (PYRIT, *SOURCES)


def check_task(name: str, task: str = "") -> str:
  """Returns `task`, or the source's default task if it is "".

  Raises:
    UserError: the source has no labels for the task.
  """
  tasks = ("response",) if name == PYRIT else SOURCES[name].tasks
  if task and task not in tasks:
    raise UserError(
      f"--task={task}: source {name} only has labels for {' and '.join(tasks)}; omit "
      "--task or use another source"
    )
  return task or tasks[0]


def read_pyrit(folder: Path) -> list[Record]:
  """Reads model responses that people scored for harm, from 0 to 1.

  A response with a mean score of at least 0.5 is harmful. Of several equal pairs, only
  the first is kept.

  Args:
    folder: the unpacked PyRIT wheel.

  Returns:
    984 records.
  """
  records: dict[tuple[str, str], Record] = {}
  for path in sorted((folder / "pyrit/datasets/scorer_evals/harm").glob("*.csv")):
    if path.stem.startswith("mini_"):  # a sample of another file
      continue
    for row in _rows_after_comments(path):
      scores = [
        float(value)
        for name, value in row.items()
        if name and name.startswith("human_score") and value
      ]
      text, response = row["objective"], row["assistant_response"]
      if scores and clean(text) and clean(response) and (text, response) not in records:
        records[text, response] = {
          "id": f"pyrit-{len(records)}",
          "text": text,
          "response": response,
          "label": int(sum(scores) / len(scores) >= 0.5),
          "category": row["harm_category"].lower(),
        }
  if not records:
    raise UserError(
      f"{folder}: no scored responses of PyRIT 1.1.0 found; delete the folder to fetch "
      "it again"
    )
  return list(records.values())


def _rows_after_comments(path: Path) -> Iterator[dict[str, str]]:
  # Skip comments only above the header: responses may have lines that start with #.
  is_comment = lambda line: line.startswith("#") or not line.strip(" ,\r\n")
  with path.open(encoding="utf-8-sig", newline="") as file:
    yield from csv.DictReader(itertools.dropwhile(is_comment, file))
