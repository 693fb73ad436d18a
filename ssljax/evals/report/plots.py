"""Draws the plots of a report as SVG for light and dark pages.

Text and axes have the text colour of the page. Colour-blind readers can tell the
colours of the series apart on both backgrounds. The series also differ in line style.
"""

import functools
import html
import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics

INK = "#010203"  # placeholder for the text colour of the page
COLOURS = ("#4a90d9", "#e0752d", "#2fa37c", "#b565a7", "#c2a01e", "#7f8c9b")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = "osD^v<>"
STYLE = {
  **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "grid.color"), INK),
  **dict.fromkeys(("text.color", "xtick.color", "ytick.color"), INK),
  **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
  **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
  "axes.grid": True,
  "font.size": 9,
  "grid.alpha": 0.2,
  "svg.fonttype": "none",  # keep text as text
  "text.parse_math": False,  # class names may contain $
}


def series_style(k: int) -> dict[str, Any]:
  """Colour and line style of series k; no two of 30 series share both."""
  colours = len(COLOURS)
  line = LINES[(k + k // colours) % colours]
  return {"color": COLOURS[k % colours], "linestyle": line}


def svg_plot(
  draw: Callable, width: float = 4.6, height: float = 3.0
) -> Callable[..., tuple[str, str]]:
  """Decorates a function that draws on axes; `width` and `height` are in inches.

  The decorated function takes a caption instead of the axes and returns (SVG, caption).
  """

  @functools.wraps(draw)
  def plot(caption: str, *args: Any, **keywords: Any) -> tuple[str, str]:
    import matplotlib
    from matplotlib.figure import Figure

    salt = {"svg.hashsalt": draw.__name__}  # equal plots have equal bytes
    with matplotlib.rc_context(STYLE | salt):
      figure = Figure((width, height), layout="constrained")
      draw(figure.add_subplot(), *args, **keywords)
      file = io.StringIO()
      figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue(), draw.__name__, caption), caption

  return plot


small_plot = functools.partial(svg_plot, width=3.6, height=3.2)


def _inline(svg: str, name: str, caption: str) -> str:
  """The bare <svg> element, without a size, with ids that are unique on the page."""
  prefix = f"{name}-{zlib.crc32(svg.encode()):x}"
  svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
  svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
  svg = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", svg)
  label = html.escape(caption)
  return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


@svg_plot
def step_curves(
  axes,
  steps: Sequence[int],
  series: Mapping[str, Sequence[float | None]],
  label: str = "",
  ylim: tuple[float | None, float | None] = (None, None),
  chosen: int | None = None,
) -> None:
  """Draws curves over steps; leaves out values that are None.

  Args:
    steps: the step of each value.
    series: name -> values.
    label: label of the y axis.
    ylim: limits of the y axis.
    chosen: step of the chosen checkpoint, which is marked.
  """
  for k, (name, values) in enumerate(series.items()):
    points = [(t, v) for t, v in zip(steps, values, strict=True) if v is not None]
    if points:
      style = {**series_style(k), "marker": "o" if chosen else "", "markersize": 3}
      axes.plot(*zip(*points, strict=True), label=name, **style)
  if chosen:
    axes.axvline(chosen, color=INK, alpha=0.5, linewidth=1)
    corner = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate("chosen", (chosen, 1), (3, -3), **corner, va="top")
  axes.set(xlabel="step", ylabel=label, ylim=ylim)
  axes.legend(fontsize="x-small")


@small_plot
def roc_curve(axes, score: np.ndarray, harmful: np.ndarray, points: Mapping) -> None:
  """Draws the ROC curve; points: name -> (false-positive rate, recall)."""
  false_positive_rate, recall, _ = metrics.roc_curve(harmful, score)
  axes.plot(false_positive_rate, recall, color=COLOURS[0])
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  _draw_points(axes, points)
  axes.set(xlabel="harmless texts flagged", ylabel="harmful texts caught")


@small_plot
def precision_recall_curve(axes, score, harmful, points: Mapping) -> None:
  """Plots precision over recall; points: name -> (recall, precision)."""
  precision, recall, _ = metrics.precision_recall_curve(harmful, score)
  axes.step(recall, precision, where="post", color=COLOURS[0])
  axes.axhline(np.mean(harmful), color=INK, alpha=0.3, linewidth=1)
  _draw_points(axes, points)
  axes.set(xlabel="harmful texts caught", ylabel="precision", ylim=(0, 1.02))


@small_plot
def reliability_diagram(
  axes, before: Sequence[Mapping], after: Sequence[Mapping]
) -> None:
  """Plots the share of positive outcomes in each bin over the bin's mean score."""
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  for k, (name, bins) in enumerate((("before", before), ("after", after))):
    filled = [values for values in bins if values["count"]]
    axes.plot(
      [values["score"] for values in filled],
      [values["share"] for values in filled],
      label=f"{name} calibration",
      marker=MARKERS[k],
      markersize=3,
      **series_style(k),
    )
  axes.set(xlabel="mean score", ylabel="actual share", xlim=(0, 1), ylim=(0, 1))
  axes.legend(loc="upper left")


@small_plot
def score_histogram(axes, score, label, names: Sequence[str]) -> None:
  """Histogram of the score by class."""
  edges = np.linspace(0, 1, 31)
  for c, name in enumerate(names):
    style = {"histtype": "step", "linewidth": 1.5, **series_style(c)}
    axes.hist(score[label == c], edges, label=name, **style)
  axes.set(xlabel="score", ylabel="texts", xlim=(0, 1))
  axes.legend()


@functools.partial(svg_plot, width=5.2, height=2.4)
def interval_plot(axes, names: Sequence[str], values, intervals, label: str) -> None:
  """Draws each value with its interval in a row, the first value at the top."""
  rows = np.arange(len(names))[::-1]
  axes.hlines(rows, *np.transpose(intervals), color=COLOURS[0])
  axes.plot(values, rows, "o", color=COLOURS[0])
  axes.axvline(0, color=INK, alpha=0.6, linewidth=1)
  axes.set_yticks(rows, names)
  axes.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))


@functools.partial(svg_plot, width=5.2, height=3.4)
def budget_curves(
  axes, series: Mapping[str, Sequence], all_labels: Mapping[str, float], label: str
) -> None:
  """Plots a metric over the number of labels.

  Args:
    series: name -> a list of (labels, mean, standard deviation).
    all_labels: name -> value with all labels, drawn as a horizontal line.
    label: name of the metric.
  """
  for k, (name, points) in enumerate(series.items()):
    labels, mean, deviation = (np.array(v, float) for v in zip(*points, strict=True))
    style = {"label": name, "marker": "o", "capsize": 3, **series_style(k)}
    axes.errorbar(labels, mean, deviation, **style)
  for name, value in all_labels.items():
    axes.axhline(value, color=INK, alpha=0.6, linewidth=1)
    axes.annotate(
      name, (1, value), (-2, 2), ("axes fraction", "data"), "offset points", ha="right"
    )
  axes.set(xlabel="labelled texts", ylabel=label, xscale="log")
  budgets = sorted({labels for points in series.values() for labels, *_ in points})
  axes.set_xticks(budgets, map(str, budgets))
  axes.minorticks_off()
  axes.legend()


def _draw_points(axes, points: Mapping[str, tuple[float, float]]) -> None:
  for k, (name, (x, y)) in enumerate(points.items()):
    color, marker = COLOURS[(k + 1) % len(COLOURS)], MARKERS[k % len(MARKERS)]
    axes.plot(x, y, marker, color=color, markersize=5, label=name)
  if points:
    axes.legend(fontsize="x-small", loc="best")
