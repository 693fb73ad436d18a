"""Writes the report of a run, or of several against each other, as one HTML file.

  python -m ssljax.report DIR                     # DIR/report.html
  python -m ssljax.report DIR DIR … --output=comparison.html
  python -m ssljax.report SWEEP                   # all finished runs below SWEEP

Nothing is trained or loaded: all comes from what the runs left in their folders. Runs
that are not finished are named, on the page and on stderr.
"""

import sys
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.errors import UserError
from ssljax.evals import runs
from ssljax.evals.report import html, page

COMPARISON = "comparison.html"


def define_flags() -> None:
  flags.DEFINE_string("output", "", f"default DIR/report.html, or {COMPARISON}")
  flags.DEFINE_enum(
    "metric",
    "f1",
    ["f1", "macro_f1", "accuracy", "balanced_accuracy", "auroc", "auprc"],
    "by which methods are compared",
  )


def main(places: list[str]) -> int:
  report(places, flags.FLAGS.output, flags.FLAGS.metric)
  return 0


def report(places: list[str], output: str | Path = "", metric: str = "f1") -> None:
  """Writes the page; see the flags.

  Raises:
    UserError: no run, none that is finished, or an output that cannot be written: it
      ends in `.html`, and only a report is replaced.
  """
  if not places:
    raise UserError("no run given: python -m ssljax.report DIR [DIR …]")
  found, unfinished = runs.find(places), runs.unfinished(places)
  for workdir in unfinished:
    print(f"not finished, so left out: {workdir}", file=sys.stderr)
  one = len(found) == 1 and not unfinished
  output = Path(output or (found[0].workdir / "report.html" if one else COMPARISON))
  try:
    html.check(output.expanduser())  # before minutes of work
    content = (
      page.of_run(found[0], unfinished)
      if one
      else page.of_comparison(found, metric, unfinished)
    )
    html.write(output.expanduser(), content)
  except OSError as error:
    raise UserError(
      f"--output={output}: cannot be written ({error}); name another file"
    ) from None
  print(f"{len(found)} runs: {output}")


if __name__ == "__main__":
  define_flags()
  cli.run(main, positional=True)
