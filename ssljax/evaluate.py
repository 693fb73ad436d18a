"""Scores a checkpoint: python -m ssljax.evaluate --workdir=DIR [--data=FILE]."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import cli, run_config
from ssljax.data import datasets, prepare
from ssljax.data.records import files, records, schema, split_files
from ssljax.errors import UserError
from ssljax.evals import evaluation, runs, slices
from ssljax.evals.predictions import PREDICTIONS, write_predictions
from ssljax.evals.report import html, page
from ssljax.inference import score
from ssljax.inference.load import load_trained
from ssljax.models import resolve
from ssljax.runtime import json_files
from ssljax.training import pytrees

REPORT = "report.html"


def define_flags() -> None:
  flags.DEFINE_string("workdir", None, "folder of a run", required=True)
  flags.DEFINE_string("data", None, "labelled file to score; default the run's test")
  flags.DEFINE_string("output", None, "default WORKDIR/evaluations/<file stem>")
  flags.DEFINE_list(
    "slices", [], "further columns of the file whose values are told apart"
  )


def main() -> int:
  workdir = Path(flags.FLAGS.workdir).expanduser()
  config = run_config.read(workdir)
  data, rows, more = _labelled(config, workdir)
  place = Path(data)
  name = place.name if place.is_dir() else files.stem(place)
  name = name if flags.FLAGS.data else "test"
  output = Path(flags.FLAGS.output or workdir / "evaluations" / name).expanduser()
  own = {"data": data, "workdir": str(workdir.resolve())}
  _claim(output, own)
  folder = resolve(config["encoder"])
  part = datasets.eval_set(rows, folder, config["max_length"])
  trained = load_trained(workdir)
  lengths = score.choose_row_lengths(config["resolved"]["row_lengths"][-1])
  scorer = score.make_scorer(trained.eval_step, trained.params, lengths)
  logits = scorer(part.tokens)
  decision = evaluation.decision_of(workdir, trained.step)
  scored = evaluation.scored(rows, logits, part.tokens.truncated, more)
  found = {
    **own,
    "rows": len(rows),
    "step": trained.step,
    "params_sha256": pytrees.sha256(trained.params),
    "temperature": decision.temperature,
    "undefined": decision.undefined,
    "test": evaluation.of_set(scored, decision),
    "thresholds": evaluation.thresholds(scored, decision),
    "calibration": evaluation.calibrated(scored, decision),
    "slices": evaluation.of_slices(scored),
    "errors": _errors(rows, scored),
  }
  # In this order: after a kill the folder says whose it is.
  json_files.write_json(output / "metrics.json", found)
  write_predictions(output / PREDICTIONS, rows, logits, decision.temperature)
  names = ("accuracy", "precision", "recall", "f1", "macro_f1", "auroc", "auprc")
  shown = ", ".join(
    f"{name} {found['test'][name]:.3f}"
    for name in names
    if found["test"][name] is not None
  )
  print(f"{data} ({len(rows)} rows, step {trained.step}): {shown}")
  if scored.truncated:
    print(f"{scored.truncated} texts were cut at {config['max_length']} tokens")
  if "temperature" in decision.undefined:
    print(f"temperature: {decision.undefined['temperature']}")
  for name, values in more.items():
    if why := slices.unfit(values):
      print(f"--slices={name}: the column {why}, so it is left out")
  print(f"results in {output}")
  if (workdir / "result.json").exists():
    try:
      html.write(output / REPORT, page.of_evaluation(runs.read(workdir), output))
    except Exception as error:  # whatever: the numbers stand
      print(f"{REPORT} was not written ({error!r})", file=sys.stderr)
  return 0


def _labelled(
  config: Mapping, workdir: Path
) -> tuple[str, records.Records, dict[str, list]]:
  """What is scored: its name, its rows, and of --slices the values of each.

  Raises:
    UserError: it cannot be read, has labels that the run does not know, or, without
      --data, has other texts than the run was tested on.
  """
  more: dict[str, list] = {name: [] for name in flags.FLAGS.slices}
  if not flags.FLAGS.data:
    if more:
      raise UserError("--slices are columns of a file: name it by --data")
    splits = records.read_splits(prepare.in_cache(config["data"]), config["seed"])
    same = list(splits.labels) == config["resolved"]["labels"]
    if same and (workdir / "result.json").exists():
      said = runs.said(workdir / "predictions" / "test.parquet")
      same = (said.id, said.text, said.response, said.label.tolist()) == (
        *(splits.test.column(name) for name in ("id", "text", "response")),
        splits.test.label.tolist(),
      )
    if not same:
      raise UserError(
        f"{config['data']}: it is not what the run was tested on; name what to score "
        "by --data"
      )
    return f"test of {config['data']}", splits.test, more
  data = Path(flags.FLAGS.data).expanduser()
  rows = records.read_labelled(data, config["resolved"]["labels"])
  for path in split_files.labelled_files(data) if more else ():
    for name, values in schema.others(path, flags.FLAGS.slices).items():
      more[name] += values
  return str(data.resolve()), rows, more


def _errors(rows: records.Records, scored: evaluation.Scored) -> list[dict[str, Any]]:
  """The surest errors, by id; their texts stand in predictions.parquet."""
  ids, predicted = rows.column("id"), scored.logits.argmax(1)
  return [
    {"id": ids[i], "label": int(scored.label[i]), "predicted": int(predicted[i])}
    for i in evaluation.surest_errors(scored.logits, scored.label)
  ]


def _claim(output: Path, own: Mapping[str, str]) -> None:
  """Makes the folder; refuses one that holds another evaluation.

  Args:
    own: `data` and `workdir`, resolved.

  Raises:
    UserError: it does, or it cannot be written.
  """
  try:
    output.mkdir(parents=True, exist_ok=True)
    there = output / "metrics.json"
    old = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    if not isinstance(old, dict):
      raise ValueError(f"{there.name} is not that of an evaluation")
    for name in (PREDICTIONS, REPORT):
      if not old and (output / name).exists():
        raise ValueError(f"{name} stands there without metrics.json")
  except (OSError, ValueError) as error:
    raise UserError(
      f"{output}: cannot be written ({error}); name another folder by --output"
    ) from error
  if old and any(old.get(name) != value for name, value in own.items()):
    raise UserError(
      f"{output} holds the evaluation of {old.get('data')} by {old.get('workdir')}; "
      "name another folder by --output"
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
