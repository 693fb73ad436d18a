"""Trains in generations: each trains again, with labels from the generation before.

  python -m ssljax.self_train --config=configs/supervised.py --workdir=DIR \\
    --config.data=FOLDER --config.method.view=strong --generations=3 \\
    --draw=noisy_student --floor=0.8

DIR/generation-0 is an ordinary run of the config. Its best checkpoint labels the
unlabelled texts of train; --draw chooses some of them, and DIR/DRAW-1.jsonl says which.
DIR/generation-1 is a run of the same config, again from the pretrained weights, in
which the drawn texts are labelled texts; and so on. After a kill or a signal, the same
command continues. docs/self-training.md explains the draws.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ssljax import cli, options, run_config
from ssljax import config as configuration
from ssljax.configs import base
from ssljax.data import balanced_draws, datasets, pseudo_labels
from ssljax.data.balanced_draws import DRAWS
from ssljax.data.records.records import Records
from ssljax.data.rows import load_rows
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals import generations as reporting
from ssljax.evals.classification import softmax
from ssljax.inference import score
from ssljax.inference.load import load_trained
from ssljax.report import COMPARISON, report
from ssljax.runtime import lock
from ssljax.runtime.atomic import sweep
from ssljax.runtime.json_files import write_json
from ssljax.train import run as train
from ssljax.training import build
from ssljax.training import workdir as folder

SUMMARY = "self_training.json"
METRICS = ("f1", "macro_f1", "accuracy", "auroc")  # copied to SUMMARY


def run(
  config: Mapping[str, Any],
  workdir: Path,
  generations: int = 3,
  draw: str = "noisy_student",
  **keywords: Any,
) -> int:
  """Trains all generations, or those that are missing, and writes a comparison.

  Args:
    config: all keys of `config.Keys`.
    workdir: folder of the generations.
    generations: number of runs, with generation 0.
    draw: one of `balanced_draws.DRAWS`.
    **keywords: of the draw.

  Returns:
    The exit code of `train.run`: 0 if all generations are finished.

  Raises:
    UserError: as for `train.run`; the draw has no such keyword; there is nothing to
      label, or too little is drawn; or the folder holds something else.
  """
  keywords = _check(config, generations, draw, keywords)
  folder.check_path(workdir)
  if config["dry_run"]:
    return train(dict(config), workdir / "generation-0")
  with lock.exclusive(workdir, "--workdir", inside=True):
    return _run(config, workdir, generations, draw, keywords)


def _check(
  config: Mapping[str, Any], generations: int, draw: str, keywords: Mapping[str, Any]
) -> dict[str, Any]:
  """Checks the arguments; returns all keywords of the draw."""
  configuration.validate(config)
  if config["distributed"]:
    raise UserError("distributed=True is for python -m ssljax.main; leave it out")
  if config["pseudo_labels"]:
    raise UserError(
      f"--config.pseudo_labels={config['pseudo_labels']}: self-training sets this key "
      "in each generation; leave it out"
    )
  if generations < 2:
    raise UserError(f"--generations={generations}: give 2 or more")
  if draw not in DRAWS:
    raise UserError(f"--draw={draw}: no such draw{options.nearest(draw, DRAWS)}")
  described = options.describe(DRAWS[draw])
  for name in keywords:
    if name not in described:
      raise UserError(
        f"--{name} is not a setting of --draw={draw}, which has {', '.join(described)}"
      )
  try:
    options.check(described, keywords)
  except ValueError as error:
    raise UserError(f"--{error}") from None
  return {name: option.default for name, option in described.items()} | dict(keywords)


def _run(
  config: Mapping[str, Any],
  workdir: Path,
  generations: int,
  draw: str,
  keywords: Mapping[str, Any],
) -> int:
  config = run_config.complete(config)  # with what an earlier version began with
  config, _ = run_config.continued(workdir / "generation-0", config)
  rows = load_rows({**config, "data": resolve_data(config["data"])})
  names, pool = rows.splits.labels, pseudo_labels.pool(rows.labelled, rows.unlabelled)
  true_counts = np.bincount(rows.labelled.label, minlength=len(names))
  _check_pool(config, len(pool), true_counts, draw, keywords)
  settings = {"draw": draw, **keywords, "rows_sha256": _sha256(rows.labelled, pool)}
  _claim(workdir, settings)
  files = [workdir / f"{draw}-{number}.jsonl" for number in range(generations)]
  sweep(workdir, SUMMARY, *(file.name for file in files))
  places = [workdir / f"generation-{number}" for number in range(generations)]
  # Otherwise the length of a generation would depend on the number of drawn texts.
  steps = configuration.steps_of(config, len(rows.labelled))
  config = {**config, **{key: steps[key] for key in ("steps", "warmup", "eval_every")}}

  saved, results = _saved_generations(workdir), []
  for number, (file, place) in enumerate(zip(files, places, strict=True)):
    drawn: dict[str, Any] = {}
    if number:
      if not file.exists():
        label, confidence = _predict(places[number - 1], pool)
        seed = (config["seed"], number)
        copies = DRAWS[draw](label, confidence, true_counts, seed, **keywords)
        pseudo = pseudo_labels.PseudoLabels(pool.column("id"), label, copies)
        _check_drawn(config, pseudo, len(rows.unlabelled), names, number)
        pseudo_labels.write(file, pseudo, confidence)
      drawn = _quality(file, pool, names)
      print(f"generation {number}: {reporting.describe(drawn)}", flush=True)
    code = train({**config, "pseudo_labels": str(file) if number else ""}, place)
    if code:
      return code
    results.append({"generation": number, **drawn, **_read_result(place)})
    _check_teacher(workdir / f"{draw}-{number + 1}.jsonl", saved[number:], results[-1])
    known = {"generations": results + saved[len(results) :]}
    write_json(workdir / SUMMARY, {**settings, **known})
  print("\n".join(reporting.table(results)))
  report([*map(str, places)], workdir / COMPARISON)
  return 0


def _check_pool(
  config: Mapping[str, Any],
  pool: int,
  true_counts: np.ndarray,
  draw: str,
  keywords: Mapping[str, Any],
) -> None:
  """Refuses a draw that can't work; says if it leaves out nothing.

  Args:
    pool: number of texts.
    true_counts: i64 [C], true labels by class.
  """
  if not pool:
    raise UserError(
      f"{config['data']}: no unlabelled text to label (--config.labels="
      f"{config['labels']}); set a smaller budget, or add unlabelled texts"
    )
  classes = len(true_counts)
  if draw == "noisy_student" and keywords["floor"] <= 1 / classes:
    print(
      f"--floor={keywords['floor']:g} leaves out no text: with {classes} classes, a "
      f"confidence is at least {1 / classes:.2g}"
    )
  if draw == "crest" and (
    (balanced_draws.crest_shares(true_counts, keywords["alpha"]) == 1).all()
  ):
    reason = (
      f"--draw=crest draws every text (labels by class: "
      f"{', '.join(map(str, true_counts))}; --alpha={keywords['alpha']:.3g})"
    )
    if not config["include_labelled"] and build.make_method(config).needs.views:
      raise UserError(
        f"{reason} and leaves no unlabelled text to {configuration.method_name(config)}"
        "; set --config.balance=stratified, or --config.include_labelled=true, which "
        "keeps the drawn texts unlabelled as well"
      )
    print(f"{reason}; --config.balance=stratified keeps the proportions of the data")


def _sha256(labelled: Records, pool: Records) -> str:
  names = ("id", "text", "response")
  texts = [[part.column(name) for name in names] for part in (labelled, pool)]
  content = json.dumps([texts, labelled.label.tolist()])
  return hashlib.sha256(content.encode()).hexdigest()


def _claim(workdir: Path, settings: Mapping[str, Any]) -> None:
  """Raises UserError if the folder holds something else, or has other settings.

  Until the first draw is written, other settings of the draw are allowed.
  """
  try:
    saved = json.loads((workdir / SUMMARY).read_text(encoding="utf-8"))
    saved.pop("generations")
  except FileNotFoundError:  # generation 0, which no setting concerns, isn't finished
    for path in workdir.iterdir():
      hidden = path.name.startswith(".") or path.suffix in folder.LOGS
      if not hidden and path.name != "generation-0":
        raise UserError(
          f"--workdir={workdir} exists and holds no self-training; choose another "
          "folder"
        ) from None
    return
  except (OSError, ValueError, KeyError, AttributeError) as error:
    raise UserError(
      f"{workdir / SUMMARY}: cannot be read ({error!r}); choose another --workdir"
    ) from None
  if saved.pop("rows_sha256", None) != settings["rows_sha256"]:
    raise UserError(
      f"--workdir={workdir}: the texts of train, or which of them are labelled, have "
      "changed since generation 0; restore them, or choose another folder"
    )
  changes = [
    f"{name}: {saved.get(name)!r} in the folder, {settings.get(name)!r} now"
    for name in dict.fromkeys([*saved, *settings])
    if name != "rows_sha256" and saved.get(name) != settings.get(name)
  ]
  if changes and any((workdir / f"{draw}-1.jsonl").exists() for draw in DRAWS):
    raise UserError(
      f"--workdir={workdir} holds a self-training with another draw "
      f"({'; '.join(changes)}); choose another folder, or use that draw"
    )


def _saved_generations(workdir: Path) -> list[dict[str, Any]]:
  file = workdir / SUMMARY
  return json.loads(file.read_bytes())["generations"] if file.exists() else []


def _check_teacher(file: Path, saved: Sequence[Mapping], result: Mapping) -> None:
  """Refuses a draw, if it exists, by another generation than the one of `result`."""
  key = "params_sha256"
  if file.exists() and saved and saved[0][key] != result[key]:
    raise UserError(
      f"{file}: its labels are of another generation {result['generation']} than the "
      "one in the folder; delete it and all later generations, or choose another "
      "--workdir"
    )


def _predict(teacher: Path, pool: Records) -> tuple[np.ndarray, np.ndarray]:
  """The labels, i64 [n], and confidences, f64 [n], from a run's best checkpoint.

  There is no noise, and the confidences aren't calibrated, as in the authors' code.
  """
  trained = load_trained(teacher)
  tokens = datasets.eval_set(pool, trained.encoder, trained.config).tokens
  longest = trained.config["resolved"]["row_lengths"][-1]
  lengths = score.choose_row_lengths(longest)
  scorer = score.make_scorer(trained.eval_step, trained.params, lengths)
  ids = pool.column("id")
  probability = softmax(scorer(tokens, name=lambda i: f"id {ids[i]}"))
  return probability.argmax(1), probability.max(1)


def _check_drawn(
  config: Mapping[str, Any],
  pseudo: pseudo_labels.PseudoLabels,
  unlabelled: int,
  names: tuple[str, ...],
  number: int,
) -> None:
  """Raises UserError if a generation can't train on the drawn texts.

  Args:
    unlabelled: number of unlabelled texts before the draw.
  """
  drawn = pseudo.copies > 0
  classes = np.unique(pseudo.label[drawn])
  if len(classes) < 2:
    what = f"only class {names[classes[0]]!r}" if len(classes) else "nothing"
    where = "" if number == 1 else ", in another --workdir"
    raise UserError(
      f"generation {number}: the draw takes {what} from {len(drawn)} texts; change the "
      f"draw{where}, or train for longer or with more labels, in another --workdir"
    )
  needed = config["batch"] * config["unlabelled_ratio"]
  left = unlabelled - int(drawn.sum())
  if config["include_labelled"] or left >= needed:
    return
  if build.make_method(config).needs.views:
    raise UserError(
      f"generation {number}: the draw leaves {left} unlabelled texts, but "
      f"{configuration.method_name(config)} reads {needed} in a step; use another "
      "--workdir, and draw fewer texts, or set --config.include_labelled=true, which "
      "keeps the drawn texts unlabelled as well"
    )


def _quality(file: Path, pool: Records, names: tuple[str, ...]) -> dict[str, Any]:
  """The name of a file of pseudo-labels, and `reporting.quality` of its content."""
  pseudo = pseudo_labels.read(file, len(names))
  true = dict(zip(pool.column("id"), pool.label.tolist(), strict=True))
  hidden = np.array([true.get(id_, -1) for id_ in pseudo.id], np.int64)
  return {"file": file.name, **reporting.quality(pseudo, hidden, names)}


def _read_result(place: Path) -> dict[str, Any]:
  result = folder.read_result(place) or {}
  chosen = {name: result[name] for name in ("step", "params_sha256")}
  for split in ("validation", "test"):
    chosen[split] = {name: result[split][name] for name in METRICS}
  return chosen


def define_flags() -> None:
  flags.DEFINE_string("config", None, "name or file of a config")
  flags.DEFINE_string("workdir", None, "folder; default: runs/<name>-<time>")
  flags.DEFINE_integer("generations", 3, "number of runs, with generation 0")
  flags.DEFINE_enum("draw", "noisy_student", [*DRAWS], "how texts are drawn")
  for draw, function in DRAWS.items():
    for name, option in options.describe(function).items():
      define = flags.DEFINE_integer if option.type is int else flags.DEFINE_float
      default = f"default {option.default:.3g}"
      define(name, None, f"--draw={draw}: {option.meaning}; {default}")


def main() -> int:
  values = flags.FLAGS
  if values.config is None:
    raise UserError("no config: give --config=configs/supervised.py, or another config")
  config = values.config.to_dict()
  place = Path(values.workdir or configuration.new_workdir(config["name"]))
  keywords = {
    name: values[name].value
    for draw in DRAWS.values()
    for name in options.describe(draw)
    if values[name].value is not None
  }
  return run(config, place.expanduser(), values.generations, values.draw, **keywords)


if __name__ == "__main__":
  define_flags()
  cli.run(main, choose=base.choose)
