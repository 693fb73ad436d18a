"""Scores the checkpoint of a run on labelled texts and writes metrics and a report.

  python -m ssljax.evaluate --workdir=DIR                  # the run's own test texts
  python -m ssljax.evaluate --workdir=DIR --data=FILE --slices=language,turn
  python -m ssljax.evaluate --workdir=DIR --data=FILE --columns=text=say,label=verdict
  python -m ssljax.evaluate --workdir=DIR --data=FILE --aim=fpr=2% --aim=review=5%

All rows of a file are scored; of a dataset folder, only the test split is. With
`--columns`, the label column may hold ids or the run's class names.
The command uses the temperature and the thresholds that the run chose on its validation
texts; `--aim` adds thresholds, chosen on the same texts. It writes `metrics.json`,
`predictions.parquet` and `report.html` to the output folder.
"""

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import aims, cli, run_config
from ssljax.data import coverage, datasets
from ssljax.data.dedup import conflicts
from ssljax.data.records import column_flag, files, schema, split_files
from ssljax.data.records.read import read_splits
from ssljax.data.records.records import Records
from ssljax.data.sources import convert, mapped
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals import chosen, decisions, evaluation, runs, verdict
from ssljax.evals.classification import METRICS, ranking_warning
from ssljax.evals.predictions import (
  PREDICTIONS,
  Predictions,
  read_predictions,
  write_predictions,
)
from ssljax.evals.report import html, run_page
from ssljax.evals.scored import ScoredTexts
from ssljax.evals.slices import skip_reason
from ssljax.inference import score
from ssljax.inference.load import load_trained
from ssljax.runtime import lock
from ssljax.runtime.atomic import FULL, sweep
from ssljax.runtime.json_files import write_json
from ssljax.training import pytrees

METRICS_FILE, REPORT = "metrics.json", "report.html"


def evaluate(
  workdir: str | Path,
  data: str | Path | None = None,
  output: str | Path | None = None,
  slices: Sequence[str] = (),
  column_names: Mapping[str, str] | None = None,
  wanted: Sequence[str] = (),
) -> dict[str, Any]:
  """Evaluates a run on labelled texts, prints a summary and writes the results.

  >>> import ssljax
  >>> metrics = ssljax.evaluate("runs/demo")
  test of data/mine: scoring 24 of ... rows (the other splits aren't scored)
  test of data/mine (24 rows, step ...): ...
  results in runs/demo/evaluations/test
  >>> metrics["test"]["auroc"]
  0.9...

  Args:
    workdir: folder of the run.
    data: a labelled file, or a dataset folder whose test split is scored; by default
      the run's own test texts.
    output: folder to write to; by default `WORKDIR/evaluations/<name of the data>`.
    slices: columns of `data`. Error rates are reported for each of their values, as
      they are for category, source and length.
    column_names: maps our columns ("text", "label", …) to the names that they have in
      `data`, as --columns of `prepare`; the labels may then be the run's class names.
    wanted: aims such as "fpr=2%", in addition to those of the run's config.

  Returns:
    The content of `metrics.json`; `metrics["test"]["f1"]` is the F1 score.

  Raises:
    UserError: the run or the data cannot be read, the data has a label that the run
      doesn't have, an aim isn't one, the run has no thresholds, the output folder holds
      something else, or another process is writing to it.
  """
  workdir = Path(workdir).expanduser()
  config = run_config.read(workdir)
  parsed = _parse_aims(wanted, workdir, config)
  columns: dict[str, list] = {name: [] for name in slices}
  notes: list[str] = []
  if data is None:
    for flag, value in (("--slices", slices), ("--columns", column_names)):
      if value:
        raise UserError(f"{flag} needs --data: the file that has these columns")
    name, source = "test", f"test of {config['data']}"
    rows, count = _own_test_texts(config, workdir)
    total = f"{len(rows)} of {count} rows (the other splits aren't scored)"
  else:
    data = Path(data).expanduser()
    name = data.name if data.is_dir() else files.stem(data)
    source = str(data.resolve())
    labels = config["resolved"]["labels"]
    rows, notes = mapped.read_labelled(data, labels, column_names)
    total, more = coverage.describe(data, len(rows), config["data"])
    notes = [*more, *notes]
    for path in split_files.find_test_files(data) if slices else ():
      for column, values in schema.read_extra_columns(path, slices).items():
        columns[column] += values
  print(f"{source}: scoring {total}")
  for note in (*notes, *conflicts.describe_conflicts([rows])):
    print(note)
  output = Path(output or workdir / "evaluations" / name).expanduser()
  identity = {"data": source, "workdir": str(workdir.resolve())}
  with lock.exclusive(output, "--output", inside=True):
    return _evaluate(workdir, config, rows, columns, output, identity, parsed)


def _parse_aims(
  wanted: Sequence[str], workdir: Path, config: Mapping[str, Any]
) -> list[aims.Aim]:
  if not wanted:
    return []
  reason = None
  if len(config["resolved"]["labels"]) != 2:
    reason = decisions.TWO_CLASSES_ONLY
  elif not (workdir / "result.json").exists():
    reason = decisions.UNFINISHED
  try:
    if reason is None:
      return [aims.parse(aim) for aim in wanted]
  except ValueError as error:
    reason = str(error)
  raise UserError(f"--aim={','.join(wanted)}: {reason}")


def _evaluate(
  workdir: Path,
  config: Mapping[str, Any],
  rows: Records,
  columns: Mapping[str, list],
  output: Path,
  identity: Mapping[str, str],
  wanted: Sequence[aims.Aim] = (),
) -> dict[str, Any]:
  earlier = _claim(output)
  trained = load_trained(workdir)
  identity = {**identity, "params_sha256": pytrees.sha256(trained.params)}
  if earlier:
    _check_same(output, earlier, identity, rows)
  sweep(output, METRICS_FILE, PREDICTIONS)
  tokens = datasets.eval_set(rows, trained.encoder, config).tokens
  row_lengths = score.choose_row_lengths(config["resolved"]["row_lengths"][-1])
  scorer = score.make_scorer(trained.eval_step, trained.params, row_lengths)
  ids = rows.column("id")
  logits = scorer(tokens, name=lambda i: f"{identity['data']}: id {ids[i]}")
  texts = ScoredTexts.from_records(rows, logits, tokens.truncated, columns)
  rule = decisions.read_rule(workdir, trained.step)
  rule = chosen.apply(workdir, rule, trained.step)
  rule = chosen.with_aims(workdir, rule, wanted)
  predicted = texts.logits.argmax(1)
  metrics = {
    **identity,
    "rows": len(rows),
    "step": trained.step,
    "temperature": rule.temperature,
    "undefined": rule.undefined,
    **evaluation.held_out_metrics(texts, rule),
    "errors": [  # predictions.parquet has the texts
      {"id": ids[i], "label": int(texts.label[i]), "predicted": int(predicted[i])}
      for i in evaluation.most_confident_errors(texts.logits, texts.label)
    ],
  }
  # metrics.json comes first: even after a kill, it says what the folder belongs to.
  write_json(output / METRICS_FILE, metrics)
  write_predictions(output / PREDICTIONS, rows, texts.logits, rule.temperature)
  if (workdir / "result.json").exists():
    try:
      page = run_page.render_evaluation(runs.read_run(workdir), output)
      with lock.exclusive(output / REPORT, "--output"):  # `report` may write it as well
        html.write_report(output / REPORT, page)
    except Exception as error:  # the metrics are already written and remain valid
      if getattr(error, "errno", None) in FULL:
        raise
      print(f"{REPORT} was not written ({error!r})", file=sys.stderr)
  _print_summary(metrics, config["max_length"])
  for aim in map(str, wanted):
    print(_describe(aim, metrics["thresholds"][aim]))
  for column, values in columns.items():
    if reason := skip_reason(values):
      print(f"--slices={column}: the column {reason}, so it is left out")
  print(f"results in {output}")
  return metrics


def _own_test_texts(config: Mapping[str, Any], workdir: Path) -> tuple[Records, int]:
  """The texts that the run was tested on, and the number of rows of all splits.

  Raises:
    UserError: the test texts have changed.
  """
  try:
    splits = read_splits(resolve_data(config["data"]), config["seed"])
  except UserError as error:
    more = ", or set --data to the file to score"
    raise run_config.not_found(workdir, "data", error, more) from None
  same = run_config.same_labels(config["resolved"]["labels"], splits.labels)
  if same and (workdir / "result.json").exists():
    saved = read_predictions(workdir / "predictions" / "test.parquet")
    same = _is_of(saved, splits.test)
  if not same:
    raise UserError(
      f"{config['data']}: its test texts are not those the run was tested on; set "
      "--data to the file to score"
    )
  return splits.test, sum(map(len, splits[:3]))


def _is_of(saved: Predictions, rows: Records) -> bool:
  """Whether predictions are for these rows, whose ids may come from a file's name."""
  return (saved.text, saved.response, saved.label.tolist()) == (
    rows.column("text"),
    rows.column("response"),
    rows.label.tolist(),
  )


def _claim(output: Path) -> dict[str, Any] | None:
  """Creates the output folder, or returns the metrics that it holds.

  Raises:
    UserError: the folder holds something else.
  """
  path = output / METRICS_FILE
  try:
    output.mkdir(parents=True, exist_ok=True)
    if path.exists():
      old = json.loads(path.read_text(encoding="utf-8"))
      if isinstance(old, dict) and {"data", "workdir", "params_sha256"} <= old.keys():
        return old
      raise ValueError(f"its {path.name} does not belong to an evaluation")
    for name in (PREDICTIONS, REPORT):
      if (output / name).exists():
        raise ValueError(f"it contains {name} but no {path.name}")
  except (OSError, ValueError) as error:
    raise _cannot_use(output, str(error)) from error
  return None


def _check_same(
  output: Path, old: Mapping[str, Any], identity: Mapping[str, str], rows: Records
) -> None:
  """Checks that an earlier evaluation has this run and these rows.

  The run and the data may have moved since, or changed in their place.

  Args:
    output: the folder of both evaluations.
    old: the earlier metrics.
    identity: `data`, `workdir` and `params_sha256` as in metrics.json.
    rows: the rows to score.

  Raises:
    UserError: it was another run, or there were other rows.
  """
  same_run = output.resolve().is_relative_to(identity["workdir"]) or any(
    old[name] == identity[name] for name in ("workdir", "params_sha256")
  )
  same_rows = old["data"] == identity["data"]
  # After a kill, the predictions can be missing.
  if same_run and not same_rows and (output / PREDICTIONS).exists():
    with contextlib.suppress(UserError):
      same_rows = _is_of(read_predictions(output / PREDICTIONS), rows)
  if not (same_run and same_rows):
    described = f"{old['data']} by {old['workdir']}"
    raise _cannot_use(output, f"it holds the evaluation of {described}")


def _cannot_use(output: Path, reason: str) -> UserError:
  return UserError(
    f"{output}: cannot be used ({reason}); choose another folder with --output"
  )


def _print_summary(metrics: Mapping[str, Any], max_length: int) -> None:
  test = metrics["test"]
  values = ", ".join(
    f"{name} {test[name]:.3f}"
    for name in METRICS
    if name != "balanced_accuracy" and test[name] is not None
  )
  print(f"{metrics['data']} ({test['rows']} rows, step {metrics['step']}): {values}")
  if warning := ranking_warning(test, "these texts"):
    print(warning)
  if test["truncated"]:
    print(f"{test['truncated']} texts were cut at {max_length} tokens")
  for name, entry in metrics["thresholds"].items():
    if missed := verdict.missed(name, entry):
      print(f"{name}: {missed}")
  if "temperature" in metrics["undefined"]:
    print(f"temperature: {metrics['undefined']['temperature']}")


def _describe(aim: str, entry: Mapping[str, Any]) -> str:
  """How the threshold of an aim does on these texts."""
  if entry["threshold"] is None:
    return f"{aim}: {entry['warning']}"
  rates = (
    f"{name.replace('_', ' ')} {entry[name]:.3f}"
    for name in ("false_positive_rate", "recall", "precision", "flagged")
    if entry[name] is not None
  )
  line = f"{aim}: threshold {entry['threshold']:.4g}; here {', '.join(rates)}"
  return f"{line}; {entry['warning']}" if entry["warning"] else line


def define_flags() -> None:
  flags.DEFINE_string("workdir", None, "folder of a run", required=True)
  flags.DEFINE_string(
    "data",
    None,
    "labelled file, or folder whose test split is scored; default the run's own test "
    "texts",
  )
  flags.DEFINE_string(
    "output", None, "folder to write to; default WORKDIR/evaluations/<name of the data>"
  )
  flags.DEFINE_list("slices", [], "additional columns of --data to slice by")
  flags.DEFINE_multi_string(
    "aim", [], "in addition to the aims of the run: fpr=2%, recall=95%, review=5%, …"
  )
  column_flag.define(convert.COLUMNS)


def main() -> int:
  values = flags.FLAGS
  columns = column_flag.parse(values.columns, convert.COLUMNS)
  data = values.data or None
  evaluate(values.workdir, data, values.output, values.slices, columns, values.aim)
  return 0


if __name__ == "__main__":
  define_flags()
  cli.run(main)
