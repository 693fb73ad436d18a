"""Draws the plots of a report as SVG that adapts to the page, light or dark.

Text and axes take the page's own colour. Series have colours that can be told apart on
both backgrounds and by colour-blind readers, and they also differ in line style.
"""

import functools
import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics

INK = "#010203"  # placeholder for the text colour of the page
COLOURS = ("#4a90d9", "#e0752d", "#2fa37c", "#b565a7", "#c2a01e", "#7f8c9b")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = "osD^v<>"
STYLE = {
  "axes.edgecolor": INK,
  "axes.facecolor": "none",
  "axes.grid": True,
  "axes.labelcolor": INK,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlecolor": INK,
  "axes.titlesize": "medium",
  "figure.facecolor": "none",
  "font.family": "sans-serif",
  "font.size": 9,
  "grid.alpha": 0.2,
  "grid.color": INK,
  "legend.frameon": False,
  "legend.labelcolor": INK,
  "savefig.facecolor": "none",
  "svg.fonttype": "none",  # keep text as text
  "text.color": INK,
  "text.parse_math": False,  # class names may contain $
  "xtick.color": INK,
  "ytick.color": INK,
}


class Plot(NamedTuple):
  """A drawing with its caption."""

  svg: str
  caption: str


def series_style(k: int) -> dict[str, Any]:
  """Colour and line style of series k; both repeat, but not in the same rhythm."""
  colours = len(COLOURS)
  line = LINES[(k + k // colours) % colours]
  return {"color": COLOURS[k % colours], "linestyle": line}


def svg_plot(width: float = 4.6, height: float = 3.0) -> Callable:
  """Decorates a function that draws on axes; it then returns SVG.

  Args:
    width: inches.
    height: inches.
  """

  def decorate(draw: Callable) -> Callable[..., str]:
    @functools.wraps(draw)
    def plot(*args: Any, **keywords: Any) -> str:
      import matplotlib
      from matplotlib.figure import Figure

      salt = {"svg.hashsalt": draw.__name__}  # equal plots have equal bytes
      with matplotlib.rc_context(STYLE | salt):
        figure = Figure((width, height), layout="constrained")
        draw(figure.add_subplot(), *args, **keywords)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
      return _inline(file.getvalue(), draw.__name__)

    return plot

  return decorate


def _inline(svg: str, name: str) -> str:
  """The bare <svg> element, sized by the page, with ids that are unique on it."""
  prefix = f"{name}-{zlib.crc32(svg.encode()):x}"
  svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
  svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
  svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
  svg = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", svg)
  label = name.replace("_", " ")
  return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


@svg_plot()
def loss_curves(
  axes, steps: Sequence[int], series: Mapping[str, Sequence[float | None]]
) -> None:
  """The loss and its terms over steps."""
  _draw_lines(axes, steps, series)
  axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
  axes.legend()


@svg_plot()
def validation_curves(axes, steps, series, chosen: int) -> None:
  """Metrics on validation over steps, with the step of the chosen checkpoint."""
  _draw_lines(axes, steps, series, marker="o")
  axes.axvline(chosen, color=INK, alpha=0.5, linewidth=1)
  axes.annotate(
    "chosen", (chosen, 1), (3, -3), ("data", "axes fraction"), "offset points", va="top"
  )
  axes.set(xlabel="step", ylabel="validation")
  axes.legend(loc="lower right")


@svg_plot()
def share_curves(axes, steps, series, label: str) -> None:
  """Shares of the unlabelled texts over steps, overall and by class."""
  _draw_lines(axes, steps, series)
  axes.set(xlabel="step", ylabel=label, ylim=(0, 1.02))
  axes.legend(fontsize="x-small")


@svg_plot()
def method_curves(axes, steps, series) -> None:
  """Values reported by the method over steps, such as thresholds and margins."""
  _draw_lines(axes, steps, series)
  axes.set(xlabel="step")
  axes.legend(fontsize="x-small")


@svg_plot(3.6, 3.2)
def roc_curve(axes, score: np.ndarray, harmful: np.ndarray, points: Mapping) -> None:
  """ROC curve; points: name -> (false-positive rate, recall)."""
  false_positive_rate, recall, _ = metrics.roc_curve(harmful, score)
  axes.plot(false_positive_rate, recall, color=COLOURS[0])
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  _draw_points(axes, points)
  axes.set(xlabel="harmless texts flagged", ylabel="harmful texts caught")


@svg_plot(3.6, 3.2)
def precision_recall_curve(axes, score, harmful, points: Mapping) -> None:
  """Precision over recall; points: name -> (recall, precision)."""
  precision, recall, _ = metrics.precision_recall_curve(harmful, score)
  axes.step(recall, precision, where="post", color=COLOURS[0])
  axes.axhline(np.mean(harmful), color=INK, alpha=0.3, linewidth=1)
  _draw_points(axes, points)
  axes.set(xlabel="harmful texts caught", ylabel="precision", ylim=(0, 1.02))


@svg_plot(3.6, 3.2)
def reliability_diagram(
  axes, before: Sequence[Mapping], after: Sequence[Mapping]
) -> None:
  """The share of positive outcomes over the mean score of each bin."""
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  for k, (name, bins) in enumerate((("before", before), ("after", after))):
    filled = [values for values in bins if values["count"]]
    axes.plot(
      [values["score"] for values in filled],
      [values["share"] for values in filled],
      marker=MARKERS[k],
      markersize=3,
      **series_style(k),
      label=f"{name} calibration",
    )
  axes.set(xlabel="mean score", ylabel="actual share", xlim=(0, 1), ylim=(0, 1))
  axes.legend(loc="upper left")


@svg_plot(3.6, 3.2)
def score_histogram(axes, score, label, names: Sequence[str]) -> None:
  """Histogram of the score by class."""
  edges = np.linspace(0, 1, 31)
  for c, name in enumerate(names):
    style = {"histtype": "step", "linewidth": 1.5, **series_style(c)}
    axes.hist(score[label == c], edges, label=name, **style)
  axes.set(xlabel="score", ylabel="texts", xlim=(0, 1))
  axes.legend()


@svg_plot(5.2, 2.4)
def interval_plot(axes, names: Sequence[str], values, lows, highs, label: str) -> None:
  """Values with their intervals, a row each, the first at the top."""
  rows = np.arange(len(names))[::-1]
  values, lows, highs = (np.array(v, float) for v in (values, lows, highs))
  axes.errorbar(
    values, rows, xerr=(values - lows, highs - values), fmt="o", color=COLOURS[0]
  )
  axes.axvline(0, color=INK, alpha=0.6, linewidth=1)
  axes.set_yticks(rows, names)
  axes.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))


@svg_plot(5.2, 3.4)
def budget_curves(
  axes, series: Mapping[str, Sequence], all_labels: Mapping[str, float], label: str
) -> None:
  """A metric over the number of labels.

  Args:
    series: name -> (labels, mean, standard deviation) for each budget.
    all_labels: name -> value, drawn as horizontal lines.
    label: of the metric.
  """
  for k, (name, points) in enumerate(series.items()):
    labels, mean, deviation = (np.array(v, float) for v in zip(*points, strict=True))
    style = {**series_style(k), "marker": "o"}
    axes.errorbar(labels, mean, deviation, label=name, capsize=3, **style)
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


def _draw_lines(axes, steps, series: Mapping[str, Sequence], marker: str = "") -> None:
  """A line for each series; None is left out."""
  for k, (name, values) in enumerate(series.items()):
    points = [(t, v) for t, v in zip(steps, values, strict=True) if v is not None]
    if points:
      style = {**series_style(k), "marker": marker, "markersize": 3}
      axes.plot(*zip(*points, strict=True), label=name, **style)


def _draw_points(axes, points: Mapping[str, tuple[float, float]]) -> None:
  for k, (name, (x, y)) in enumerate(points.items()):
    color, marker = COLOURS[(k + 1) % len(COLOURS)], MARKERS[k % len(MARKERS)]
    axes.plot(x, y, marker, color=color, markersize=5, label=name)
  if points:
    axes.legend(fontsize="x-small", loc="best")
