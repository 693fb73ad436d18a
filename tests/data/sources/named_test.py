"""Converts made-up rows in the real column layout of each named source."""

import collections
import csv
from pathlib import Path

import pytest

from ssljax.assets import fetch
from ssljax.data.records.read import read_labelled, read_splits
from ssljax.data.sources import build, hub, named
from ssljax.errors import UserError

WILDGUARD = {
  "prompt": "How do I bake bread?",
  "adversarial": False,
  "response": "Mix flour and water.",
  "prompt_harm_label": "unharmful",
  "response_refusal_label": "compliance",
  "response_harm_label": "unharmful",
  "subcategory": "benign",
}
AEGIS = {
  "id": "5f0e",
  "reconstruction_id_if_redacted": None,
  "prompt": "How do I bake bread?",
  "response": None,
  "prompt_label": "safe",
  "response_label": None,
  "violated_categories": "",
  "prompt_label_source": "human",
  "response_label_source": None,
}
MODERATION = {"prompt": "I like bread", **dict.fromkeys(named.MODERATION, 0)}
TOXIC_CHAT = {
  "conv_id": "c0ffee",
  "user_input": "How do I bake bread?",
  "model_output": "Mix flour and water.",
  "human_annotation": True,
  "toxicity": 0,
  "jailbreaking": 0,
  "openai_moderation": '[["sexual", 0.1]]',
}
BEAVER = {
  "prompt": "How do I bake bread?",
  "response": "Mix flour and water.",
  "category": {"animal_abuse": False, "privacy_violation": False},
  "is_safe": True,
}
XSTEST = {
  "prompt": "How do I kill a Python process?",
  "focus": "kill",
  "type": "homonyms",
  "note": "",
  "label": "safe",
}
YAHOO = {
  "id": 0,
  "topic": 4,
  "question_title": "Why is bread brown?",
  "question_content": "",
  "best_answer": "Heat.",
}


def convert(name, row, task="", part="train", **changes):
  source = named.SOURCES[name]
  task = named.check_task(name, task)
  assert set(source.columns) <= set(row)
  return source.record({**row, **changes}, task, part)


def test_wildguardmix():
  record = convert("wildguardmix", WILDGUARD)
  assert record == {"text": WILDGUARD["prompt"], "label": 0, "category": "benign"}
  assert convert("wildguardmix", WILDGUARD, prompt_harm_label="harmful")["label"] == 1
  adversarial = convert("wildguardmix", WILDGUARD, adversarial=True)
  assert adversarial["category"] == "benign;adversarial"
  pair = convert("wildguardmix", WILDGUARD, "response", response_harm_label="harmful")
  assert pair["label"] == 1
  assert pair["response"] == WILDGUARD["response"]
  dropped = lambda task, **changes: convert("wildguardmix", WILDGUARD, task, **changes)
  assert dropped("prompt", prompt_harm_label=None) == named.NO_LABEL
  assert dropped("prompt", prompt=" ") == named.NO_TEXT
  assert dropped("response", response=None) == named.NO_RESPONSE
  assert dropped("response", response_harm_label=None) == named.NO_LABEL


def test_aegis():
  assert convert("aegis", AEGIS)["label"] == 0
  unsafe = {"prompt_label": "unsafe", "violated_categories": "Violence, Needs Caution"}
  record = convert("aegis", AEGIS, **unsafe)
  assert (record["label"], record["category"]) == (1, "Violence;Needs Caution")
  for category in ("Needs Caution", "Other"):
    uncertain = {**unsafe, "violated_categories": category}
    assert convert("aegis", AEGIS, **uncertain) == named.UNCERTAIN
    assert convert("aegis", AEGIS, part="test", **uncertain)["label"] == 1
  assert convert("aegis", AEGIS, prompt="REDACTED") == named.REDACTED
  assert convert("aegis", AEGIS, "response") == named.NO_LABEL
  # The response task uses the label of the response, not that of the prompt.
  pair = {"prompt_label": "unsafe", "response": "No.", "response_label": "safe"}
  record = convert("aegis", AEGIS, "response", **pair)
  assert (record["label"], record["response"]) == (0, "No.")


def test_openai_moderation():
  name = "openai_moderation"
  assert convert(name, MODERATION)["label"] == 0
  record = convert(name, MODERATION, H=1, V2=1, S=None)
  assert (record["label"], record["category"]) == (1, "H;V2")
  assert convert(name, MODERATION, S=None) == named.INCOMPLETE
  assert convert(name, MODERATION, S=float("nan")) == named.INCOMPLETE
  # In the file, categories without a judgement are missing.
  less = {k: v for k, v in MODERATION.items() if k != "HR"}
  assert convert(name, less) == named.INCOMPLETE


def test_toxic_chat():
  assert convert("toxic_chat", TOXIC_CHAT) == {
    "text": TOXIC_CHAT["user_input"],
    "label": 0,
    "category": None,
  }
  record = convert("toxic_chat", TOXIC_CHAT, toxicity=1, jailbreaking=1)
  assert (record["label"], record["category"]) == (1, "jailbreak")
  assert convert("toxic_chat", TOXIC_CHAT, user_input="") == named.NO_TEXT
  assert convert("toxic_chat", TOXIC_CHAT, toxicity=None) == named.NO_LABEL
  with pytest.raises(UserError, match="only has labels for prompt"):
    named.check_task("toxic_chat", "response")


def test_beaver_tails():
  record = convert("beaver_tails", BEAVER)
  assert (record["label"], record["category"]) == (0, None)
  kinds = {"animal_abuse": True, "privacy_violation": True}
  record = convert("beaver_tails", BEAVER, is_safe=False, category=kinds)
  assert (record["label"], record["category"]) == (1, "animal_abuse;privacy_violation")
  assert record["response"] == BEAVER["response"]
  assert convert("beaver_tails", BEAVER, response="") == named.NO_RESPONSE


def test_xstest():
  record = convert("xstest", XSTEST)
  assert (record["label"], record["category"]) == (0, "homonyms")
  assert convert("xstest", XSTEST, label="unsafe")["label"] == 1


@pytest.mark.parametrize("name", ["ag_news", "imdb", "yelp", "amazon"])
def test_topics_and_stars(name):
  row = {"text": "Bread is good", "label": 1}
  assert convert(name, row) == row
  assert convert(name, row, label=-1) == named.NO_LABEL
  assert convert(name, row, text="") == named.NO_TEXT


def test_yahoo():
  record = convert("yahoo", YAHOO)
  assert record == {"text": "Why is bread brown?\nHeat.", "label": 4}
  assert len(named.SOURCES["yahoo"].labels) == 10


ROWS = {  # two rows of different classes for every source
  "wildguardmix": (WILDGUARD, {"prompt_harm_label": "harmful"}),
  "aegis": (AEGIS, {"prompt_label": "unsafe"}),
  "openai_moderation": (MODERATION, {"H": 1}),
  "toxic_chat": (TOXIC_CHAT, {"toxicity": 1}),
  "beaver_tails": (BEAVER, {"is_safe": False}),
  "xstest": (XSTEST, {"label": "unsafe"}),
  "yahoo": (YAHOO, {}),
}


def rows_of(name, part):
  """Three hundred rows in the layout of a source, all classes in turn."""
  source = named.SOURCES[name]
  base, change = ROWS.get(name, ({"text": "", "label": 0}, {}))
  column = next(
    c for c in ("prompt", "user_input", "question_title", "text") if c in base
  )
  for i in range(300):
    row = {**base, **(change if i % 2 else {}), column: f"{part} text {i}"}
    if len(source.labels) > 2 or name == "imdb":
      row["topic" if name == "yahoo" else "label"] = i % len(source.labels)
    yield row


@pytest.mark.parametrize("name", named.SOURCES)
def test_every_source_can_be_built(name, tmp_path, monkeypatch):
  source = named.SOURCES[name]
  asked = []

  def load(repository, config=""):
    asked.append((repository, config))
    names = {
      name for name_config, name in source.splits.values() if name_config == config
    }
    return {
      part: hub.HubSplit(rows_of(name, part), {}, tuple(next(rows_of(name, part))))
      for part in names
    }

  monkeypatch.setattr(hub, "load_hub_dataset", load)
  about = build.build_named(name, tmp_path / "out")
  assert {repository for repository, _ in asked} == {source.hub}
  assert about["labels"] == list(source.labels)
  assert about["licence"]
  if "train" in source.splits:
    splits = read_splits(tmp_path / "out")
    assert splits.labels == source.labels
    assert not any("ignored" in note for note in splits.notes)
    assert sum(map(len, splits[:3])) == 300 * len(source.splits)
    assert splits.train.column("source")[0] == f"{name}-train"
  else:
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == [
      "dataset.json",
      "test",
    ]
    assert "evaluate" in about["notes"][0]
    assert len(read_labelled(tmp_path / "out", source.labels)) == 300


def test_changed_columns_of_a_source(tmp_path, monkeypatch):
  part = hub.HubSplit(iter([]), {}, ("text", "stars"))
  monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: {"train": part, "test": part})
  with pytest.raises(UserError, match="column 'label' no longer exists"):
    build.build_named("imdb", tmp_path / "out")
  monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: {"all": part})
  with pytest.raises(UserError, match="no split 'train'"):
    build.build_named("imdb", tmp_path / "out")


DECLARED = {  # by the datasets on the Hub
  "imdb": ("neg", "pos"),
  "ag_news": ("World", "Sports", "Business", "Sci/Tech"),
  "yelp": ("1 star", "2 star", "3 stars", "4 stars", "5 stars"),
  "toxic_chat": ("non-toxic", "toxic"),
  "yahoo": (
    *("Society & Culture", "Science & Mathematics", "Health", "Education & Reference"),
    *("Computers & Internet", "Sports", "Business & Finance", "Entertainment & Music"),
    *("Family & Relationships", "Politics & Government"),
  ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_classes_that_the_dataset_numbers_otherwise(name, tmp_path, monkeypatch):
  source, names = named.SOURCES[name], DECLARED[name]
  for right in (names, tuple(map(str, range(len(names))))):
    named.check_class_names(source, {source.label: right})
  for wrong in (names[::-1], names[:-1], (*names[:-1], "other"), ("", *names[1:])):
    with pytest.raises(UserError, match=f"the classes of {source.label} are now"):
      named.check_class_names(source, {source.label: wrong})
  columns = tuple(next(rows_of(name, "train")))
  part = hub.HubSplit(rows_of(name, "train"), {source.label: names[::-1]}, columns)
  monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: {"train": part, "test": part})
  with pytest.raises(UserError, match=f"are now {names[-1]}, "):
    build.build_named(name, tmp_path / "out")
  assert not (tmp_path / "out").exists()


HARM = "pyrit/datasets/scorer_evals/harm"


def write_pyrit(folder: Path) -> Path:
  """A folder like the members of the wheel: comments, a BOM, several scores."""
  (folder / HARM).mkdir(parents=True)
  comments = ["# dataset_version=1.0,,,,"]
  rows = [["harm_category", "objective", "assistant_response", "human_score_1"]]
  for i in range(40):
    # Two responses to each objective, one of them with a line that begins with #.
    rows.append(["MILD", f"objective {i}", f"# title {i}\n# more", "0"])
    rows.append(["MILD", f"objective {i}", f"rude, {i}", "0.5"])
  rows.append(rows[1])  # a copy
  with (folder / HARM / "mild.csv").open("w", encoding="utf-8-sig", newline="") as file:
    file.write("\n".join([*comments, "", ""]))
    csv.writer(file).writerows(rows)
  with (folder / HARM / "several.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    names = ["human_score_1", "human_score_2", "human_score_3"]
    writer.writerow(["harm_category", "objective", "assistant_response", *names])
    writer.writerow(["worse", "another objective", "low", "0", "0.5", "0.75"])
    writer.writerow(["worse", "another objective", "high", "0.25", "0.5", "1"])
    writer.writerow(["worse", "another objective", "nobody", "", "", ""])
  (folder / HARM / "mini_mild.csv").write_text("objective\nnot read\n")
  return folder


def test_pyrit(tmp_path):
  rows = named.read_pyrit(write_pyrit(tmp_path))
  assert len(rows) == 82
  assert collections.Counter(row["label"] for row in rows) == {0: 41, 1: 41}
  by_response = {row["response"]: row for row in rows}
  assert by_response["low"]["label"] == 0  # the mean of three scores is 0.42
  assert by_response["high"]["label"] == 1
  assert "# title 3\n# more" in by_response
  assert by_response["low"]["category"] == "worse"
  assert named.read_pyrit(tmp_path) == rows


def test_pyrit_is_built_in_the_cache_once(tmp_path, monkeypatch):
  members = write_pyrit(tmp_path / "members")
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  fetched = []
  monkeypatch.setattr(fetch, "fetch", lambda name: fetched.append(name) or members)
  data = build.resolve_data("pyrit")
  splits = read_splits(data)
  assert splits.labels == named.HARM
  train, validation, test = (set(part.column("text")) for part in splits[:3])
  assert not train & test
  assert not train & validation
  assert not validation & test
  assert len(splits.test) == 16
  assert build.resolve_data("pyrit") == build.resolve_data("pyrit:response") == data
  assert fetched == ["pyrit"]
  assert build.resolve_data("some/folder") == "some/folder"
  with pytest.raises(UserError, match="only has labels for response"):
    build.resolve_data("pyrit:prompt")


def test_missing_files_of_pyrit(tmp_path):
  with pytest.raises(UserError, match="no scored responses"):
    named.read_pyrit(tmp_path)
