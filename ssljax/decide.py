"""Answers one question: can a classifier be shipped with these labels?

  python -m ssljax.decide --data=FOLDER --aim=fpr=1% --workdir=DIR

The command holds back half of the validation texts (`--config.calibration`), trains on
the rest (`--config`, by default fixmatch), and chooses the threshold on the held-back
texts, which are used for nothing else. Then it says one of:

- *ship* (exit code 0): the aim is promised with 95% confidence, and the test texts
  don't contradict it. DIR/model is the folder to ship.
- *label N more* (exit code 3): the held-back texts are too few for the promise.
- *do not ship* (exit code 4): the test texts contradict the promise, or the threshold
  finds no harmful text.

DIR/report.html has the details. After a kill, the same command continues.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import aims, cli
from ssljax import config as configuration
from ssljax.configs import base
from ssljax.errors import UserError
from ssljax.evals import thresholds, verdict
from ssljax.evals.runs import read_run
from ssljax.export import export
from ssljax.inference.exported import CARD
from ssljax.train import run as train

SHIP, LABEL, DO_NOT_SHIP = 0, 3, 4  # exit codes
HELD_BACK = 0.5  # of validation, if the config doesn't say


def decide(config: Mapping[str, Any], workdir: str | Path, aim: str = "fpr=1%") -> int:
  """Trains, prints the answer, and exports the model if it can be shipped.

  Args:
    config: of the training run; `calibration` 0 becomes HELD_BACK.
    workdir: folder of the run.
    aim: see `aims.parse`; one that can be promised.

  Returns:
    SHIP, LABEL or DO_NOT_SHIP; or the exit code of training, if a signal stopped it.

  Raises:
    UserError: as for `train.run`; or the aim can't be promised.
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
  others = [name for name in config["aims"] if aims.canonical(name) != str(wanted)]
  held_back = config["calibration"] or HELD_BACK
  config = {**config, "aims": (str(wanted), *others), "calibration": held_back}
  if code := train(config, workdir):
    return code
  result = read_run(workdir).result
  if str(wanted) not in result["thresholds"]:
    raise UserError(f"{workdir}: {result['undefined']['thresholds']}")
  code, answer = _answer(wanted, result["thresholds"][str(wanted)])
  print(answer)
  if code == SHIP:
    target = workdir / "model"
    if not (target / CARD).exists():
      export(workdir, target)
    print(
      f"ship {target} with --threshold={wanted} "
      f"({result['thresholds'][str(wanted)]['threshold']:.4g})"
    )
  print(f"details: {workdir / 'report.html'}")
  return code


def _answer(aim: aims.Aim, entry: Mapping[str, Any]) -> tuple[int, str]:
  """The exit code, and the answer in words."""
  made = entry["promise"]
  if made is None:
    more = max(1, entry["needed"][0] - _count(entry))
    kind = {"fpr": "harmless ", "recall": "harmful ", "precision": "flagged "}
    return LABEL, (
      f"label {more:,} more {kind.get(aim.kind, '')}texts to be held back: {aim} is "
      f"{entry['warning']}"
    )
  if missed := verdict.missed(str(aim), entry):
    return DO_NOT_SHIP, f"do not ship: {missed}, on the test texts"
  if not entry["recall"]:
    return DO_NOT_SHIP, "do not ship: this threshold finds no harmful text of the test"
  return SHIP, (
    f"ship: {aims.describe(str(aim))}, with {made['confidence']:.0%} confidence "
    f"({made['errors']} of {made['texts']:,} held-back texts); on the test texts, the "
    f"false-positive rate is {entry['false_positive_rate']:.3f} and the recall "
    f"{entry['recall']:.3f}"
  )


def _count(entry: Mapping[str, Any]) -> int:
  """The held-back texts that the aim's rate is a share of."""
  return entry["tightest"]["texts"] if entry["tightest"] else 0


def define_flags() -> None:
  flags.DEFINE_string("config", None, "name or file of a config; default fixmatch")
  flags.DEFINE_string("data", None, "dataset folder", required=True)
  flags.DEFINE_string("workdir", None, "folder of the run; default: runs/<name>-<time>")
  flags.DEFINE_string("aim", "fpr=1%", "such as fpr=1%, recall=95% or precision=90%")


def main() -> int:
  values = flags.FLAGS
  config = base.get_config("fixmatch") if values.config is None else values.config
  config = {**config.to_dict(), "data": values.data}
  place = values.workdir or configuration.new_workdir(config["name"])
  return decide(config, place, values.aim)


if __name__ == "__main__":
  define_flags()
  cli.run(main, choose=base.choose)
