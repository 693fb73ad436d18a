"""Scores a checkpoint: python -m ssljax.evaluate --workdir=DIR --data=FILE."""

import json
from pathlib import Path

import jax
from absl import flags

from ssljax import cli, jsonfile, scoring, sharding, step, trained
from ssljax import config as configuration
from ssljax.data import columns, files, locate, records, sets
from ssljax.errors import UserError
from ssljax.evals import evaluation
from ssljax.evals.predictions import write_predictions
from ssljax.models import resolve

flags.DEFINE_string("workdir", None, "folder of a run", required=True)
flags.DEFINE_string("data", None, "labelled file to score", required=True)
flags.DEFINE_string("output", None, "default WORKDIR/evaluations/<file stem>")
flags.DEFINE_list(
  "slices", [], "further columns of the file whose values are told apart"
)


def main() -> int:
  workdir = Path(flags.FLAGS.workdir).expanduser()
  data = Path(flags.FLAGS.data).expanduser()
  output = Path(
    flags.FLAGS.output or workdir / "evaluations" / files.stem(data)
  ).expanduser()
  config = configuration.read(workdir)
  rows = records.read_labelled(data, config["resolved"]["labels"])
  more: dict[str, list] = {name: [] for name in flags.FLAGS.slices}
  for path in locate.labelled_files(data) if more else ():
    for name, values in columns.others(path, flags.FLAGS.slices).items():
      more[name] += values
  _claim(output, data)
  folder = resolve(config["encoder"])
  part = sets.eval_set(rows, folder, config["max_length"])
  chosen, params, model, method = trained.load(workdir, config, folder)
  devices = sharding.make_devices()
  eval_step = jax.jit(
    step.make_eval_step(model=model, method=method), out_shardings=devices.replicated
  )
  params = sharding.put(params, sharding.state_shardings(params, devices))
  lengths = scoring.row_lengths(config["resolved"]["row_lengths"][-1])
  logits = scoring.score(eval_step, params, part.tokens, lengths, devices)
  decision = evaluation.decision_of(workdir)
  scored = evaluation.scored(rows, logits, part.tokens.truncated, more)
  found = {
    "data": str(data),
    "rows": len(rows),
    "step": chosen,
    "temperature": decision.temperature,
    "undefined": decision.undefined,
    "test": evaluation.of_set(scored, decision),
    "thresholds": evaluation.thresholds(scored, decision),
    "calibration": evaluation.calibrated(scored, decision),
    "slices": evaluation.of_slices(scored),
  }
  path = output / "predictions.parquet"
  write_predictions(path, rows, logits, decision.temperature)
  jsonfile.write_json(output / "metrics.json", found)
  names = ("accuracy", "precision", "recall", "f1", "macro_f1", "auroc", "auprc")
  shown = ", ".join(
    f"{name} {found['test'][name]:.3f}"
    for name in names
    if found["test"][name] is not None
  )
  print(f"{data} ({len(rows)} rows, step {chosen}): {shown}")
  if scored.truncated:
    print(f"{scored.truncated} texts were cut at {config['max_length']} tokens")
  print(f"results in {output}")
  return 0


def _claim(output: Path, data: Path) -> None:
  """Makes the folder; refuses one that holds the evaluation of another file.

  Raises:
    UserError: it does, or it cannot be written.
  """
  try:
    output.mkdir(parents=True, exist_ok=True)
    there = output / "metrics.json"
    old = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    if not isinstance(old, dict):
      raise ValueError(f"{there.name} is not that of an evaluation")
    if not old and (output / "predictions.parquet").exists():
      raise ValueError("predictions.parquet stands there without metrics.json")
  except (OSError, ValueError) as error:
    raise UserError(
      f"{output}: cannot be written ({error}); name another folder by --output"
    ) from error
  if old.get("data", str(data)) != str(data):
    raise UserError(
      f"{output} holds the evaluation of {old['data']}; name another folder by --output"
    )


if __name__ == "__main__":
  cli.run(main)
