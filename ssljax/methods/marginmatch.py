"""MarginMatch (Sosea & Caragea, CVPR 2023): a label must have led for long enough.

A pseudo-label is used if its confidence passes FlexMatch's threshold of its class and
its average pseudo-margin (`ops.margins`, equations 2 and 3) passes a cut-off:

  loss = CE(x) + scale * mean 1[max q >= T(c)] 1[APM_c >= cut] CE(p(y | strong(u)), c)

Two ways to the cut-off:

* `variant="fixed_cutoff"`: the constant `cut_off`, 0 in the experiments on safety
  texts. (That code overwrites the stored margin of each passing row by 1; not here.)
* `variant="virtual_class"`: the paper's. A small random part of the unlabelled rows
  is declared wrong and given a class of its own, C + 1; the cut-off is the
  `percentile` quantile of the margins which that class reaches on them. Their weight
  is the share of the batch's other rows that passed. Redrawn in turns; `schedule`
  gives the lengths as shares of the run, in the paper's proportions.

Taken otherwise than in the authors' code: the runner-up is the second largest logit
(the code reads 0 where all others are negative); the quantile is the 95th percentile
(there it is divided by 100 twice, about the 99th); the tables are in the state and so
in the checkpoint.

Some 130 lines of code and no 80: these are two methods of one name, and the draws and
the schedule of the virtual class are half of them.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Method,
  Needs,
  Rule,
  Sizes,
  consistency,
)
from ssljax.ops import margins, quantiles, thresholds
from ssljax.options import Amount, Share

Array = jax.Array

RUN = 2**20  # steps of the paper's runs, to which its schedule belongs


class Schedule(NamedTuple):
  """Shares of the run."""

  redraw: float = 50_000 / RUN  # a new set of wrong rows
  warmup: float = 80_000 / RUN  # no cut-off before
  delay: float = 1_000 / RUN  # after a redraw, until the cut-off moves again
  every: float = 200 / RUN  # between two moves of the cut-off
  stop: float = 0.9  # no wrong rows from here on, the cut-off stays


class Wrong(NamedTuple):
  """The n = min(N / 100, N / (C + 1)) rows declared wrong; n = 0 without that class."""

  rows: Array  # i32 [n], ascending; -1 where there is none
  margin: Array  # f32 [n], average margin of the virtual class since the redraw
  visits: Array  # i32 [n], since the redraw


class State(NamedTuple):
  margin: Array  # f32 [N, C], average pseudo-margins; [N, C + 1] with a virtual class
  visits: Array  # i32 [N]
  learned: thresholds.Learned  # FlexMatch's memory, over the real classes
  wrong: Wrong
  cut: Array  # f32 []
  steps: Array  # i32 [], of the whole run


def make(
  variant: Literal["fixed_cutoff", "virtual_class"] = "fixed_cutoff",
  threshold: Share = 0.95,
  cut_off: float = 0.0,
  smoothness: Share = 0.997,
  percentile: Share = 0.95,
  scale: Amount = 1.0,
  clock: Literal["visits", "epoch"] = "visits",
) -> Method:
  """Keywords as above; `cut_off` is read by fixed_cutoff, `percentile` by the other."""
  virtual = variant == "virtual_class"
  ages, schedule = clock, Schedule()

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
      place, wrong = found(state.wrong.rows, index)
    else:
      wrong = jnp.zeros(index.shape, bool)

    q = jax.nn.softmax(logits[:, :classes])
    label = q.argmax(-1)
    own = jnp.take_along_axis(margin, label[:, None], axis=1)[:, 0]
    level = thresholds.learned_threshold(state.learned, threshold)
    sure = (q.max(-1) >= level[label]) & (own >= state.cut)
    weight = sure.astype(jnp.float32)
    target = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    if virtual:
      others = jnp.maximum((~wrong).sum(dtype=jnp.float32), 1.0)
      passed = jnp.where(wrong, 0.0, weight).sum() / others
      weight = jnp.where(wrong, passed, weight)
      last = jax.nn.one_hot(classes, classes + 1, dtype=jnp.float32)
      target = jnp.where(wrong[:, None], last, target)

    cut_off = jnp.where(jnp.isfinite(state.cut), state.cut, 0.0)
    scalars = {"cut_off": cut_off, "margin": own.mean()}
    state = state._replace(
      margin=state.margin.at[index].set(margin),
      # Not `.add(1)`: written before it is read, XLA would copy the table.
      visits=state.visits.at[index].set(visits + 1),
      learned=thresholds.learned_update(state.learned, index, q, threshold, ~wrong),
    )
    if virtual:
      state = recut(state, place, wrong, logits, clock)
    return Assignment(target, weight, scalars), state

  def turns(state, share):
    """A share of the run in whole steps, at least one; i32 []."""
    return jnp.maximum(jnp.round(share * state.steps).astype(jnp.int32), 1)

  def redraw(state, clock):
    """At the start of a turn other rows become the wrong ones; at the end none."""
    most = state.visits.shape[0]
    over = clock.step >= turns(state, schedule.stop)

    def fresh(wrong):
      order = jax.random.permutation(jax.random.fold_in(clock.key, 7), most)
      rows = jnp.sort(order[: wrong.rows.shape[0]]).astype(jnp.int32)
      return jax.tree.map(jnp.zeros_like, wrong)._replace(rows=rows)

    starts = (clock.step % turns(state, schedule.redraw) == 0) & ~over
    wrong = jax.lax.cond(starts, fresh, lambda wrong: wrong, state.wrong)
    return state._replace(wrong=wrong._replace(rows=jnp.where(over, -1, wrong.rows)))

  def found(rows, index):
    """Where each of `index` stands in `rows`, i32 [U], and if it does, bool [U]."""
    place = jnp.searchsorted(rows, index)
    return place, rows[jnp.minimum(place, rows.shape[0] - 1)] == index

  def recut(state, place, wrong, logits, clock):
    """The virtual class's margins on the wrong rows, and now and then the cut-off."""
    table = state.wrong
    before, age = table.margin[place][:, None], table.visits[place]
    last = margins.pseudo_margin(logits)[:, -1:]
    newest = margins.averaged(before, last, age, smoothness)[:, 0]
    place = jnp.where(wrong, place, table.rows.shape[0])  # others write nowhere
    state = state._replace(
      wrong=table._replace(
        margin=table.margin.at[place].set(newest, mode="drop"),
        visits=table.visits.at[place].set(age + 1, mode="drop"),
      )
    )
    warmup = turns(state, schedule.warmup)
    turn = turns(state, schedule.redraw)
    # Within a turn, however short: else a short run would never have a cut-off.
    delay = jnp.minimum(turns(state, schedule.delay), turn - 1)
    moves = (
      (clock.step > warmup)
      & (clock.step < turns(state, schedule.stop))
      & (clock.step % turn >= delay)
      & (clock.step % turns(state, schedule.every) == 0)
    )

    def quantile(state):
      seen = jnp.where(state.wrong.visits > 0, 0, -1)
      cut, count = quantiles.class_quantiles(state.wrong.margin, seen, 1, percentile)
      return jnp.where(count[0] > 0, cut[0], state.cut)

    cut = jnp.where(clock.step == warmup, 0.0, state.cut)
    state = state._replace(cut=cut)
    return state._replace(
      cut=jax.lax.cond(moves, quantile, lambda state: state.cut, state)
    )

  return consistency(
    Rule(init, assign), scale, Needs(virtual_classes=1 if virtual else 0)
  )
