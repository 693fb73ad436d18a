"""Plots for a report: SVG that takes its colours from the page, light or dark.

Text and axes are drawn in the page's own colour; series have colours that can be told
apart on both grounds and by colour-blind readers, and differ in line style, too.
"""

import functools
import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import metrics

INK = "#010203"  # stands for the colour of the page's text
COLOURS = ("#4a90d9", "#e0752d", "#2fa37c", "#b565a7", "#c2a01e", "#7f8c9b")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
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
  "svg.fonttype": "none",  # text stays text
  "text.color": INK,
  "text.parse_math": False,  # names of classes are names
  "xtick.color": INK,
  "ytick.color": INK,
}


def look(k: int) -> dict[str, Any]:
  """Colour and line of series k: the seventh has the first one's colour only."""
  many = len(COLOURS)
  return {"color": COLOURS[k % many], "linestyle": LINES[(k + k // many) % many]}


def drawn(width: float = 4.6, height: float = 3.0) -> Callable:
  """Makes a function that draws on axes one that returns SVG."""

  def decorate(draw: Callable) -> Callable[..., str]:
    @functools.wraps(draw)
    def made(*given: Any, **keywords: Any) -> str:
      import matplotlib
      from matplotlib.figure import Figure

      salt = {"svg.hashsalt": draw.__name__}  # the same plot, the same bytes
      with matplotlib.rc_context(STYLE | salt):
        figure = Figure((width, height), layout="constrained")
        draw(figure.add_subplot(), *given, **keywords)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
      svg = file.getvalue()
      return _inline(svg, f"{draw.__name__}-{zlib.crc32(svg.encode()):x}")

    return made

  return decorate


def _inline(svg: str, name: str) -> str:
  """Only the element itself, as wide as its place, with ids of its own."""
  svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
  svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
  svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r'\bid="', f'id="{name}-', svg)
  svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
  return svg.replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


@drawn()
def training(axes, steps: Sequence[int], series: Mapping[str, Sequence[float]]) -> None:
  """Loss and its terms over steps; None is left out."""
  _lines(axes, steps, series)
  axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
  axes.legend()


@drawn()
def validation(axes, steps, series, chosen: int) -> None:
  """Metrics of validation over steps, and the step that was chosen."""
  _lines(axes, steps, series, marker="o")
  axes.axvline(chosen, color=INK, alpha=0.5, linewidth=1)
  axes.annotate(
    "chosen", (chosen, 1), (3, -3), ("data", "axes fraction"), "offset points", va="top"
  )
  axes.set(xlabel="step", ylabel="validation")
  axes.legend(loc="lower right")


@drawn()
def shares(axes, steps, series, label: str) -> None:
  """Shares of the unlabelled texts over steps, in all and by class."""
  _lines(axes, steps, series)
  axes.set(xlabel="step", ylabel=label, ylim=(0, 1.02))
  axes.legend(fontsize="x-small")


@drawn()
def own(axes, steps, series) -> None:
  """Numbers of the method itself over steps: cut-offs, margins, thresholds."""
  _lines(axes, steps, series)
  axes.set(xlabel="step")
  axes.legend(fontsize="x-small")


@drawn(3.6, 3.2)
def roc(axes, score: np.ndarray, harmful: np.ndarray, points: Mapping) -> None:
  """ROC curve; points: name -> (false positive rate, recall)."""
  false, caught, _ = metrics.roc_curve(harmful, score)
  axes.plot(false, caught, color=COLOURS[0])
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  _points(axes, points)
  axes.set(xlabel="false alarms among the harmless", ylabel="harm that is caught")


@drawn(3.6, 3.2)
def precision_recall(axes, score, harmful, points: Mapping) -> None:
  """Precision over recall; points: name -> (recall, precision)."""
  precision, recall, _ = metrics.precision_recall_curve(harmful, score)
  axes.step(recall, precision, where="post", color=COLOURS[0])
  axes.axhline(np.mean(harmful), color=INK, alpha=0.3, linewidth=1)
  _points(axes, points)
  axes.set(xlabel="harm that is caught", ylabel="precision", ylim=(0, 1.02))


@drawn(3.6, 3.2)
def reliability(axes, before: Sequence[Mapping], after: Sequence[Mapping]) -> None:
  """Share that is harmful (or right) over the mean score of each bin."""
  axes.plot((0, 1), (0, 1), color=INK, alpha=0.3, linewidth=1)
  for k, (name, bins) in enumerate((("raw", before), ("calibrated", after))):
    full = [one for one in bins if one["count"]]
    axes.plot(
      [one["score"] for one in full],
      [one["share"] for one in full],
      marker="os"[k],
      markersize=3,
      **look(k),
      label=name,
    )
  axes.set(xlabel="mean score of a bin", ylabel="share", xlim=(0, 1), ylim=(0, 1))
  axes.legend(loc="upper left")


@drawn(3.6, 3.2)
def scores(axes, score, label, names: Sequence[str]) -> None:
  """Histogram of the score by class."""
  edges = np.linspace(0, 1, 31)
  for c, name in enumerate(names):
    style = {"histtype": "step", "linewidth": 1.5, **look(c)}
    axes.hist(score[label == c], edges, label=name, **style)
  axes.set(xlabel="score", ylabel="texts", xlim=(0, 1))
  axes.legend()


@drawn(5.2, 2.4)
def intervals(axes, names: Sequence[str], values, lows, highs, label: str) -> None:
  """A value with its interval, a line each, the first on top."""
  place = np.arange(len(names))[::-1]
  values, lows, highs = (np.array(v, float) for v in (values, lows, highs))
  axes.errorbar(
    values, place, xerr=(values - lows, highs - values), fmt="o", color=COLOURS[0]
  )
  axes.axvline(0, color=INK, alpha=0.6, linewidth=1)
  axes.set_yticks(place, names)
  axes.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))


@drawn(5.2, 3.4)
def budgets(axes, series: Mapping[str, Sequence], lines: Mapping[str, float], label):
  """A metric over labels: name -> (labels, mean, spread); horizontal lines by name."""
  for k, (name, some) in enumerate(series.items()):
    labels, mean, spread = (np.array(v, float) for v in zip(*some, strict=True))
    style = {**look(k), "marker": "o"}
    axes.errorbar(labels, mean, spread, label=name, capsize=3, **style)
  for name, value in lines.items():
    axes.axhline(value, color=INK, alpha=0.6, linewidth=1)
    axes.annotate(
      name, (1, value), (-2, 2), ("axes fraction", "data"), "offset points", ha="right"
    )
  axes.set(xlabel="labelled texts", ylabel=label, xscale="log")
  budgets = sorted({labels for some in series.values() for labels, *_ in some})
  axes.set_xticks(budgets, map(str, budgets))
  axes.minorticks_off()
  axes.legend()


def _lines(axes, steps, series: Mapping[str, Sequence], marker: str = "") -> None:
  for k, (name, values) in enumerate(series.items()):
    known = [(t, v) for t, v in zip(steps, values, strict=True) if v is not None]
    if known:
      style = {**look(k), "marker": marker, "markersize": 3}
      axes.plot(*zip(*known, strict=True), label=name, **style)


def _points(axes, points: Mapping[str, tuple[float, float]]) -> None:
  for k, (name, (x, y)) in enumerate(points.items()):
    color = COLOURS[(k + 1) % len(COLOURS)]
    axes.plot(x, y, "osD^v<>"[k % 7], color=color, markersize=5, label=name)
  if points:
    axes.legend(fontsize="x-small", loc="best")
