"""Finished runs, read from their folders; nothing here trains or loads a model."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ssljax import config as configs
from ssljax.errors import UserError

OLD = "its result.json was written by an older version; run it again in a new folder"


class Predictions(NamedTuple):
  id: list[str]
  label: np.ndarray  # i64 [n]
  score: np.ndarray  # f64 [n], calibrated
  logits: np.ndarray  # f32 [n, C]
  text: list[str]
  response: list[str | None]


class Run(NamedTuple):
  workdir: Path
  config: dict[str, Any]  # with `resolved`
  result: dict[str, Any]

  @property
  def labels(self) -> list[str]:
    """Class names by id."""
    return self.config["resolved"]["labels"]


def find(places: Sequence[str]) -> list[Run]:
  """The finished runs in folders: each is one, or holds some at any depth.

  Raises:
    UserError: a place that is no folder, or holds no run; no run that is finished; one
      that cannot be read.
  """
  found = []
  for place in places:
    root = Path(place).expanduser()
    if not root.is_dir():
      raise UserError(f"{place}: no such folder; give folders of runs")
    some = sorted(root.rglob("result.json"))
    if not some and not unfinished([place]):
      raise UserError(f"{place}: holds no run of ssljax")
    found += [read(path.parent) for path in some]
  if places and not found:
    first = unfinished(places)[0]
    raise UserError(f"{first}: has no result.json: the run is not finished")
  return list({run.workdir.resolve(): run for run in found}.values())


def unfinished(places: Sequence[str]) -> list[Path]:
  """The folders of runs in these folders that have no result.json yet."""
  found = {}
  for place in places:
    for path in sorted(Path(place).expanduser().rglob("config.json")):
      workdir = path.parent
      if (workdir / "result.json").exists():
        continue
      try:
        configs.read(workdir)
      except UserError:  # the config.json of something else, such as an exported model
        continue
      found[workdir.resolve()] = workdir
  return list(found.values())


def read(workdir: Path) -> Run:
  """One finished run."""
  try:
    config = configs.read(workdir)
    result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
    if "calibration" not in result:
      raise UserError(f"{workdir}: {OLD}")
    return Run(workdir, config, result)
  except (OSError, ValueError) as error:
    raise UserError(f"{workdir}: cannot be read as a finished run ({error})") from None


def predictions(run: Run, split: str = "test") -> Predictions:
  """What a run said of each text of validation or test."""
  return said(run.workdir / "predictions" / f"{split}.parquet")


def said(path: Path) -> Predictions:
  """What `write_predictions` has written."""
  try:
    table = pq.read_table(path)
    return Predictions(
      table["id"].to_pylist(),
      table["label"].to_numpy(),
      table["score"].to_numpy(),
      np.stack(table["logits"].to_numpy(zero_copy_only=False)),
      table["text"].to_pylist(),
      table["response"].to_pylist(),
    )
  except (OSError, ValueError, KeyError) as error:
    raise UserError(f"{path}: cannot be read ({error})") from None


def tested_on(run: Run) -> bytes:
  """The same for runs that were tested on the same texts, with the same labels."""
  said = predictions(run)
  texts = [said.id, said.label.tolist(), said.text, said.response]
  return hashlib.sha256(json.dumps(texts).encode()).digest()


def history(run: Run) -> dict[str, list[dict[str, Any]]]:
  """The lines of metrics.jsonl by split, in the order of the steps."""
  found: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
  try:
    with open(run.workdir / "metrics.jsonl", encoding="utf-8") as lines:
      for line in lines:
        values = json.loads(line)
        if not isinstance(values["step"], int):
          raise ValueError(f"a step is {values['step']!r}")
        found.setdefault(values["split"], []).append(values)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{run.workdir}/metrics.jsonl: cannot be read ({error!r})"
    ) from None
  return found


def idle(workdir: Path) -> bool:
  """Whether a finished run gave pseudo-labels and no step used any."""
  try:
    lines = history(read(workdir))["train"]
  except UserError:  # somebody's hand: no reason for a run to fail
    return False
  rates = [line["mask_rate"] for line in lines if "mask_rate" in line]
  return bool(rates) and not any(rates)
