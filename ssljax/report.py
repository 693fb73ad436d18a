"""Writes a report of one run, or a comparison of several, as a single HTML file.

  python -m ssljax.report DIR                     # writes DIR/report.html
  python -m ssljax.report DIR DIR … --output=comparison.html
  python -m ssljax.report SWEEP                   # all finished runs below SWEEP

The command reads the files of the runs and loads no model. It leaves out unfinished
runs, but lists them on the page and on stderr.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.errors import UserError
from ssljax.evals import evaluation, runs, verdict
from ssljax.evals.report import comparison_page, html, run_page
from ssljax.runtime import lock
from ssljax.runtime.atomic import cannot_write

COMPARISON = "comparison.html"
METRICS = ("f1", "macro_f1", "accuracy", "balanced_accuracy", "auroc", "auprc")


def report(
  paths: Sequence[str],
  output: str | Path | None = None,
  metric: str = "f1",
  wait: float = 0.0,
) -> Path:
  """Writes the report of the finished runs in some folders, and returns its path.

    >>> report(["runs/fixmatch-0", "runs/multimatch-0"], "comparison.html")

  Args:
    paths: folders of runs, or folders with runs at any depth.
    output: file to write, ending in .html; by default `report.html` in the folder of a
      single run, or `comparison.html` in the current folder. An existing file is
      replaced only if it is a report.
    metric: metric to compare methods by; one of METRICS.
    wait: seconds to wait for another process that writes the same file.

  Raises:
    UserError: no run is finished, or the output cannot be written.
    RunError: the disk is full.
  """
  if not paths:
    raise UserError("no run given: python -m ssljax.report DIR [DIR …]")
  finished, unfinished = runs.find_runs(paths), runs.find_unfinished(paths)
  for workdir in unfinished:
    print(f"left out, not finished: {workdir}", file=sys.stderr)
  single = len(finished) == 1 and not unfinished
  default = finished[0].workdir / "report.html" if single else COMPARISON
  output = Path(output or default).expanduser()
  try:
    with lock.exclusive(output, "--output", wait=wait):
      html.check_report_path(output)  # fails before minutes of work
      if single:
        page = run_page.render_run(finished[0])
      else:
        page = comparison_page.render_comparison(finished, metric, unfinished)
      html.write_report(output, page)
  except OSError as error:
    raise cannot_write(f"--output={output}", error, "name another file") from None
  if single:
    predictions = finished[0].predictions()
    result = evaluation.with_chosen(finished[0], predictions)
    on = f"the {len(predictions.label):,} texts of the test set"
    for sentence in verdict.verdict(result, on):
      print(sentence.text)
  print(f"{len(finished)} {'run' if len(finished) == 1 else 'runs'}: {output}")
  return output


def define_flags() -> None:
  flags.DEFINE_string(
    "output", None, f"file to write; default DIR/report.html, or {COMPARISON}"
  )
  flags.DEFINE_enum("metric", "f1", METRICS, "metric to compare methods by")


def main(paths: list[str]) -> int:
  report(paths, flags.FLAGS.output, flags.FLAGS.metric)
  return 0


if __name__ == "__main__":
  define_flags()
  cli.run(main, positional=True)
