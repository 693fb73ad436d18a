"""MarginMatch (Sosea & Caragea, CVPR 2023): pseudo-labels with a lasting margin.

A pseudo-label c is used if two conditions hold. Its confidence must reach FlexMatch's
threshold T(c), and its average pseudo-margin APM_c (`ops.margins`, equations 2 and 3)
must reach a cut-off:

  loss = CE(x) + scale * mean 1[max q >= T(c)] 1[APM_c >= cut] CE(p(y | strong(u)), c)

There are two ways to set the cut-off:

* `variant="fixed_cutoff"`: the cut-off is the constant `cut_off`. With two classes, a
  margin of 2.9 is a confidence of 0.95. In the experiments on safety texts, the cut-off
  is 0, which every text passes at its first visit, and the age of a margin is counted
  in epochs. Set both: with `clock="epoch"`, the margin of a first visit in epoch e is
  divided by 1 + e, so that hardly any text reaches 2.9 later. (The code of these
  experiments sets the stored margin of each row that passes to 1; we don't.)
* `variant="virtual_class"`, as in the paper: at most 1% of the unlabelled rows, drawn
  at random, are declared wrong. Their target is an extra class, C + 1. The cut-off is
  the `percentile` quantile of the wrong rows' margins for this class. The weight of
  each wrong row is the share of passing rows among the batch's other rows (in the
  authors' code, among all rows). The run is divided into turns, and each turn draws new
  wrong rows. All intervals are shares of the run, the same as in the paper. There are
  no wrong rows during the warm-up. While a row is declared wrong, its own margins stay
  as they are. With `declare="always"`, as in version 0.1.0, there are wrong rows from
  the start, and they update their own margins.

Differences from the authors' code: the runner-up is the second largest logit (their
code uses 0 if all others are negative); the quantile is the 95th percentile (their code
divides by 100 twice, which gives about the 99th); the tables are in the state, so
checkpoints contain them.
"""

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Needs, Rule, Sizes, consistency
from ssljax.ops import margins, quantiles, thresholds
from ssljax.options import Absent, Amount, Published, Share

Array = jax.Array

PAPER_STEPS = 2**20  # length of the paper's runs
WRONG_ROWS = 7  # folded into the step's key to draw the wrong rows


# Shares of the run.
REDRAW = 50_000 / PAPER_STEPS  # between two draws of the wrong rows
WARMUP = 80_000 / PAPER_STEPS  # there is no cut-off before this
DELAY = 1_000 / PAPER_STEPS  # from a redraw to the next update of the cut-off
EVERY = 200 / PAPER_STEPS  # between two updates of the cut-off
STOP = 0.9  # after this there are no wrong rows, and the cut-off is fixed


class Wrong(NamedTuple):
  """The n rows declared wrong, n = min(N / 100, N / (C + 1)); 0 for a fixed cut-off."""

  rows: Array  # i32 [n], ascending; all -1 if no rows are declared wrong
  margin: Array  # f32 [n], average margin of the virtual class since the redraw
  visits: Array  # i32 [n], number of visits since the redraw


class State(NamedTuple):
  margin: Array  # f32 [N, C], average pseudo-margins; [N, C + 1] with a virtual class
  visits: Array  # i32 [N]
  learned: thresholds.Learned  # FlexMatch's state, for the real classes
  wrong: Wrong
  cut: Array  # f32 []
  steps: Array  # i32 [], number of steps of the whole run


def make(
  variant: Annotated[
    Literal["fixed_cutoff", "virtual_class"], "how the cut-off of the margins is set"
  ] = "fixed_cutoff",
  threshold: Annotated[
    Share, "FlexMatch's threshold, for the class learned best"
  ] = 0.95,
  cut_off: Annotated[
    float,
    "minimum average margin (fixed_cutoff only); use 0 with clock=epoch",
    Absent(0.0),
    Published(0.0),
  ] = 2.9,
  smoothness: margins.Smoothness = 0.997,
  percentile: Annotated[Share, "quantile that sets the cut-off (virtual_class)"] = 0.95,
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  warmup_ends: thresholds.WarmupEnds = thresholds.WARMUP_ENDS,
  declare: Annotated[
    Literal["after_warmup", "always"],
    "when rows are declared wrong; always: as in version 0.1.0 (virtual_class)",
    Absent("always"),
  ] = "after_warmup",
  clock: Annotated[
    margins.Age, Published("epoch", only={"variant": "fixed_cutoff"})
  ] = "visits",
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  virtual = variant == "virtual_class"
  after_warmup = declare == "after_warmup"
  ages = clock

  def init(sizes: Sizes) -> State:
    rows, classes = sizes.unlabelled, sizes.classes
    count = max(1, min(rows // 100, rows // (classes + 1))) if virtual else 0
    return State(
      jnp.zeros((rows, classes + virtual), jnp.float32),
      jnp.zeros(rows, jnp.int32),
      thresholds.learned_init(sizes),
      Wrong(
        jnp.full(count, -1, jnp.int32),
        jnp.zeros(count, jnp.float32),
        jnp.zeros(count, jnp.int32),
      ),
      jnp.array(-jnp.inf if virtual else cut_off, jnp.float32),
      jnp.array(sizes.steps, jnp.int32),
    )

  def assign(state, evidence, clock):
    index, logits = evidence.index, evidence.logits
    classes = logits.shape[-1] - virtual
    visits = state.visits[index]
    age = visits if ages == "visits" else clock.epoch
    margin = margins.averaged(
      state.margin[index], margins.pseudo_margin(logits), age, smoothness
    )
    if virtual:
      state = redraw(state, clock)
      rows = state.wrong.rows
      position = jnp.searchsorted(rows, index)
      wrong = rows[jnp.minimum(position, rows.shape[0] - 1)] == index
    else:
      wrong = jnp.zeros(index.shape, bool)

    q = jax.nn.softmax(logits[:, :classes])
    label = q.argmax(-1)
    label_margin = jnp.take_along_axis(margin, label[:, None], axis=1)[:, 0]
    warming = thresholds.is_warming(clock, True, warmup_ends)
    cutoff = thresholds.learned_threshold(state.learned, threshold, warming)
    use = (q.max(-1) >= cutoff[label]) & (label_margin >= state.cut)
    weight = use.astype(jnp.float32)
    target = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    if virtual:
      others = jnp.maximum((~wrong).sum(dtype=jnp.float32), 1.0)
      passed = jnp.where(wrong, 0.0, weight).sum() / others
      weight = jnp.where(wrong, passed, weight)
      virtual_class = jax.nn.one_hot(classes, classes + 1, dtype=jnp.float32)
      target = jnp.where(wrong[:, None], virtual_class, target)
    visited = visits + 1
    if virtual and after_warmup:
      margin = jnp.where(wrong[:, None], state.margin[index], margin)
      visited = jnp.where(wrong, visits, visited)

    cut_off = jnp.where(jnp.isfinite(state.cut), state.cut, 0.0)
    scalars = {"cut_off": cut_off, "margin": label_margin.mean()}
    state = state._replace(
      margin=state.margin.at[index].set(margin),
      # With `.add(1)`, XLA would copy the table, which is still read afterwards.
      visits=state.visits.at[index].set(visited),
      learned=thresholds.learned_update(state.learned, index, q, threshold, ~wrong),
    )
    if virtual:
      state = update_cut(state, position, wrong, logits, clock)
    return Assignment(target, weight, scalars), state

  def steps_of(state, share):
    """Converts a share of the run to a number of steps, at least 1; i32 []."""
    return jnp.maximum(jnp.round(share * state.steps).astype(jnp.int32), 1)

  def since_draw(state, clock):
    """Steps since rows were last declared wrong, or below 0 in the warm-up; i32 []."""
    since = clock.step % steps_of(state, REDRAW)
    if after_warmup:  # the first turn starts at its end
      since = jnp.minimum(since, clock.step - steps_of(state, WARMUP))
    return since

  def redraw(state, clock):
    """Draws new wrong rows at the start of each turn; none after the last turn."""
    rows = state.visits.shape[0]
    over = clock.step >= steps_of(state, STOP)

    def draw(wrong):
      key = jax.random.fold_in(clock.key, WRONG_ROWS)
      drawn = jax.random.permutation(key, rows)[: wrong.rows.shape[0]]
      drawn = jnp.sort(drawn).astype(jnp.int32)
      return jax.tree.map(jnp.zeros_like, wrong)._replace(rows=drawn)

    starts = (since_draw(state, clock) == 0) & ~over
    wrong = jax.lax.cond(starts, draw, lambda wrong: wrong, state.wrong)
    return state._replace(wrong=wrong._replace(rows=jnp.where(over, -1, wrong.rows)))

  def update_cut(state, position, wrong, logits, clock):
    """Updates the wrong rows' margins for the virtual class, and the cut-off if due."""
    table = state.wrong
    old, age = table.margin[position][:, None], table.visits[position]
    margin = margins.pseudo_margin(logits)[:, -1:]
    average = margins.averaged(old, margin, age, smoothness)[:, 0]
    position = jnp.where(wrong, position, table.rows.shape[0])  # others are dropped
    wrong_rows = table._replace(
      margin=table.margin.at[position].set(average, mode="drop"),
      visits=table.visits.at[position].set(age + 1, mode="drop"),
    )
    warmup = steps_of(state, WARMUP)
    turn = steps_of(state, REDRAW)
    # Must be shorter than a turn: otherwise a short run would never have a cut-off.
    delay = jnp.minimum(steps_of(state, DELAY), turn - 1)
    due = (
      (clock.step > warmup)
      & (clock.step < steps_of(state, STOP))
      & (since_draw(state, clock) >= delay)
      & (clock.step % steps_of(state, EVERY) == 0)
    )

    def quantile(cut):
      visited = jnp.where(wrong_rows.visits > 0, 0, -1)
      new, count = quantiles.class_quantiles(wrong_rows.margin, visited, 1, percentile)
      return jnp.where(count[0] > 0, new[0], cut)

    cut = jnp.where(clock.step == warmup, 0.0, state.cut)
    cut = jax.lax.cond(due, quantile, lambda cut: cut, cut)
    return state._replace(wrong=wrong_rows, cut=cut)

  return consistency(
    Rule(init, assign), scale, Needs(virtual_classes=int(virtual), filters=True)
  )
