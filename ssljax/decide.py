"""Answers one question: can a classifier be shipped with these labels?

  python -m ssljax.decide --data=FOLDER --aim=fpr=1% --workdir=DIR

The command holds back half of the validation texts (`--config.calibration`), trains,
and chooses the threshold on the held-back texts, which are used for nothing else.
Without `--config`, it trains FixMatch with all labels of train. Then it says one of:

- *ship* (exit code 0): the aim is promised with 95% confidence, and the test texts
  don't contradict it. DIR/model is the folder to ship.
- *label N more* (exit code 3): the held-back texts are too few for the promise. Give
  fresh ones to `python -m ssljax.thresholds --model=DIR`, and run the command again.
- *do not ship* (exit code 4): the test texts contradict the promise, or the threshold
  finds no harmful text.

DIR/report.html has the details. After a kill, the same command continues.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import aims, cli, run_config
from ssljax import config as configuration
from ssljax.configs import base
from ssljax.data.pool.splits import open_splits
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals import chosen, decisions, evaluation, thresholds, verdict
from ssljax.evals.report import html
from ssljax.evals.runs import read_run
from ssljax.export import export
from ssljax.inference.classifier import SafetyClassifier
from ssljax.inference.exported import CARD
from ssljax.report import report
from ssljax.train import run as train
from ssljax.training import workdir as folder

SHIP, LABEL, DO_NOT_SHIP = 0, 3, 4  # exit codes
HELD_BACK = 0.5  # of validation, if the config doesn't say
STEPS = 1300  # without --config; as many as with the default budget of 200 labels


def decide(config: Mapping[str, Any], workdir: str | Path, aim: str = "fpr=1%") -> int:
  """Trains, prints the answer, and exports the model if it can be shipped.

  Args:
    config: of the training run; `calibration` 0 becomes HELD_BACK.
    workdir: folder of the run.
    aim: see `aims.parse`; one that can be promised.

  Returns:
    SHIP, LABEL or DO_NOT_SHIP; or the exit code of training, if a signal stopped it.

  Raises:
    UserError: as for `train.run`; or the aim can't be promised, or the data has more
      than two classes.
  """
  try:
    wanted = aims.parse(aim)
  except ValueError as error:
    raise UserError(f"--aim={aim}: {error}") from None
  if thresholds.needed_texts(wanted) is None:
    raise UserError(
      f"--aim={aim} can't be promised; give a rate, such as fpr=1%, recall=95%, "
      "precision=90% or review=5%"
    )
  workdir = Path(workdir).expanduser()
  if not (workdir / "config.json").exists():
    _check_first(config, workdir)
  config = {**config, "calibration": config["calibration"] or HELD_BACK}
  config["aims"] = _aims(config, workdir, wanted)
  if code := train(config, workdir):
    return code
  if config["dry_run"]:
    return 0
  run = read_run(workdir)
  # With thresholds that were chosen since, on fresh texts.
  result = evaluation.with_chosen(run, run.predictions())
  if str(wanted) not in result["thresholds"]:
    raise UserError(f"{workdir}: {result['undefined']['thresholds']}")
  entry = result["thresholds"][str(wanted)]
  code, answer = _answer(wanted, entry, workdir)
  print(answer)
  if (workdir / chosen.FILE).exists():
    report([str(workdir)])  # train wrote it before these thresholds were chosen
  if code == SHIP:
    _export(workdir, workdir / "model", str(wanted), entry["threshold"])
  print(f"details: {workdir / 'report.html'}")
  return code


def _check_first(config: Mapping[str, Any], workdir: Path) -> None:
  """Refuses a mistake before hours of tokenising, and data without thresholds."""
  configuration.validate(config)
  folder.check_path(workdir)
  folder.claim(workdir, config)
  # This makes the tokens, which training needs as well.
  labels = open_splits({**config, "data": resolve_data(config["data"])}).labels
  if len(labels) != 2:
    raise UserError(
      f"--data={config['data']}: {decisions.TWO_CLASSES_ONLY}, but there are "
      f"{len(labels)} ({', '.join(labels)}); give data in which class 1 is the harmful "
      "one (prepare: --labels=VALUE:0,VALUE:1,VALUE:1)"
    )


def _aims(config: Mapping[str, Any], workdir: Path, wanted: aims.Aim) -> Sequence[str]:
  """The aims of the run, with the wanted one: first, unless the run exists already."""
  names = [aims.canonical(name) for name in config["aims"]]
  if (workdir / "config.json").exists():
    saved = run_config.read(workdir)["aims"]
    if {*map(aims.canonical, saved)} >= {*names, str(wanted)}:
      return tuple(saved)
  return (str(wanted), *(name for name in names if name != str(wanted)))


def _export(workdir: Path, target: Path, name: str, threshold: float) -> None:
  """Exports the run, unless it's there already with this threshold."""
  if (target / CARD).exists():
    shipped = SafetyClassifier.load(target).thresholds.get(name)
    if shipped is None or not math.isclose(shipped, threshold, abs_tol=1e-9):
      raise UserError(
        f"{target}: an earlier export, which has another threshold for {name}; remove "
        "the folder, and run the command again"
      )
  else:
    export(workdir, target)
  print(f"ship {target} with --threshold={name} ({html.threshold(threshold)})")


def _answer(aim: aims.Aim, entry: Mapping[str, Any], workdir: Path) -> tuple[int, str]:
  """The exit code, and the answer in words."""
  made, nearest = entry["promise"], entry["tightest"]
  if made is None:
    flagged = aim.kind == "precision" and nearest
    if flagged and nearest["errors"] > (1 - aim.value) * nearest["texts"]:
      return DO_NOT_SHIP, f"do not ship: {aim} is {entry['warning']}"
    kind = {"fpr": "harmless ", "recall": "harmful ", "precision": "flagged "}
    return LABEL, (
      f"label {entry['needed'][0]:,} more {kind.get(aim.kind, '')}texts, drawn at "
      f"random and used for nothing else: {aim} is {entry['warning']}. Then run "
      f"python -m ssljax.thresholds --model={workdir} --aim={aim} --data=FILE, and "
      "this command again"
    )
  if missed := verdict.missed(str(aim), entry):
    return DO_NOT_SHIP, f"do not ship: {missed}, on the test texts"
  if entry["recall"] is None:
    return DO_NOT_SHIP, "do not ship: the test has no harmful text to find"
  if not entry["recall"]:
    return DO_NOT_SHIP, "do not ship: this threshold finds no harmful text of the test"
  on = "held-back texts" if entry["on"] == "calibration" else f"texts of {entry['on']}"
  false, recall = entry["false_positive_rate"], entry["recall"]
  rate = "" if false is None else f"the false-positive rate is {false:.3f} and "
  return SHIP, (
    f"ship: {aims.describe(str(aim))}, with {made['confidence']:.0%} confidence "
    f"({made['errors']} errors in {made['texts']:,} {on}); on the test texts, {rate}"
    f"the recall is {recall:.3f}"
  )


def define_flags() -> None:
  flags.DEFINE_string("config", None, "name or file of a config; default fixmatch")
  flags.DEFINE_string("data", None, "dataset folder", required=True)
  flags.DEFINE_string("workdir", None, "folder of the run; default: runs/<name>-<time>")
  flags.DEFINE_string("aim", "fpr=1%", "such as fpr=1%, recall=95% or precision=90%")


def main() -> int:
  values = flags.FLAGS
  if (config := values.config) is None:
    config = base.get_config("fixmatch")
    config.labels, config.include_labelled = 0, True  # there may be only labelled texts
    config.steps = STEPS
  config = {**config.to_dict(), "data": values.data}
  place = values.workdir or configuration.new_workdir(config["name"])
  return decide(config, place, values.aim)


if __name__ == "__main__":
  define_flags()
  cli.run(main, choose=base.choose)
