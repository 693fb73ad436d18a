"""MultiMatch (Sirbu et al. 2025, arXiv 2506.07801): three heads teach one another.

One encoder has three classifier heads. The other two heads, i and j, are the peers of
head h. They alone determine the label, the weight and the mask that h learns from:

  L = sum_h CE(z_h(x), y) + scale * (1/3) sum_h mean_b w_hb m_hb CE(z_h(s(u_b)), y_hb)

* Margins: A_i[u, c] is the average pseudo-margin of head i (`ops.margins`). Each step
  updates it before it chooses labels.
* Cut-offs: g_h[c] is the `percentile` quantile of A_i[u, c] and A_j[u, c] over the
  texts u that both peers last labelled c. It is 0 if there are no such texts, and at
  least 0 unless `no_low` is set. Cut-offs are computed at the end of each epoch, and
  for the first time after the share `start` of the run, if that is earlier. Before,
  every text is rejected, so training is supervised.
* Weight w: peer i passes if A_i[u, y_i] >= g_h[y_i], where y_i is its label. If both
  peers pass and agree, w is 1. If exactly one passes, w is `difficult_weight`, and h
  learns the label of that peer. In all other cases, w is 0.
* Mask m is 1 if the confidence of at least one peer reaches its FreeMatch threshold,
  whose averages remember a share of the run (`ops.averages`).

The predicted logits are the mean over the three heads.

Differences from the authors' code:

* Each head's FreeMatch averages are updated once per step (authors: each time that a
  peer uses them).
* If a class has no samples, the classes after it are still updated.
* The age of a margin is the number of visits of its text. (`clock="epoch"` counts
  epochs, as the authors do.)
* Margins, votes and cut-offs are in the state, so checkpoints contain them.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import Assignment, Method, Sizes
from ssljax.ops import averages, margins, quantiles, thresholds, voters
from ssljax.ops.voters import PEERS
from ssljax.options import Amount, Published, Share

Array = jax.Array


class State(NamedTuple):
  margin: Array  # f32 [H, N, C], A
  vote: Array  # i32 [H, N], last weak label, -1 before the first visit
  visits: Array  # i32 [N]
  cut: Array  # f32 [H, C], g; inf during the first epoch
  confidence: thresholds.Adaptive  # FreeMatch's averages, leaves [H, ...]
  epoch_steps: Array  # i32 []


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss"] = 1.0,
  smoothness: margins.Smoothness = 0.997,
  percentile: Annotated[
    Share, "quantile of the peers' margins that is the cut-off of a class"
  ] = 0.05,
  difficult_weight: Annotated[
    Amount, "weight of texts for which only one peer passes"
  ] = 3.0,
  no_low: Annotated[bool, "allow cut-offs below 0"] = False,
  momentum: averages.Momentum = 0.999,
  time_constant: averages.TimeConstant = averages.TIME_CONSTANT,
  start: averages.Start = averages.START,
  clock: Annotated[margins.Age, Published("epoch")] = "visits",
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  ages = clock

  def init(sizes: Sizes) -> State:
    heads = len(PEERS)
    confidence = thresholds.adaptive_init(sizes)
    return State(
      jnp.zeros((heads, sizes.unlabelled, sizes.classes), jnp.float32),
      jnp.full((heads, sizes.unlabelled), -1, jnp.int32),
      jnp.zeros(sizes.unlabelled, jnp.int32),
      jnp.full((heads, sizes.classes), jnp.inf, jnp.float32),
      jax.tree.map(lambda a: jnp.stack([a] * heads), confidence),
      jnp.array(sizes.epoch_steps, jnp.int32),
    )

  def observe(state, logits, index, clock):
    """Updates the state with the logits of the weak view, [H, U, C].

    Returns:
      (state, margins [H, U, C], votes [H, U]).
    """
    visits = state.visits[index]
    age = visits if ages == "visits" else clock.epoch
    margin = margins.averaged(
      state.margin[:, index], margins.pseudo_margin(logits), age, smoothness
    )
    vote = logits.argmax(-1).astype(jnp.int32)
    confidence = jax.vmap(thresholds.adaptive_update, (0, 0, None))(
      state.confidence,
      jax.nn.softmax(logits),
      averages.share_of_newest(clock, momentum, time_constant),
    )
    state = state._replace(
      margin=state.margin.at[:, index].set(margin),
      vote=state.vote.at[:, index].set(vote),
      # With `.add(1)`, XLA would copy the table, which is still read afterwards.
      visits=state.visits.at[index].set(visits + 1),
      confidence=confidence,
    )
    return state, margin, vote

  def teach(margin, vote, confident, cut):
    """A head's label and weight [U], from its peers [2, U, ...] and cut-offs [C]."""
    vote_margin = jnp.take_along_axis(margin, vote[..., None], axis=-1)[..., 0]
    first_passes, second_passes = vote_margin >= cut[vote]
    agree = vote[0] == vote[1]
    easy = agree & first_passes & second_passes
    difficult = first_passes ^ second_passes  # whether the peers agree or not
    weight = jnp.where(easy, 1.0, jnp.where(difficult, difficult_weight, 0.0))
    label = jnp.where(first_passes, vote[0], vote[1])
    return label, weight * confident.any(0)

  def new_cut(state: State) -> Array:
    """g [H, C] from the margins and votes of all rows."""

    def head(pair):
      i, j = pair
      agreed = jnp.where(state.vote[i] == state.vote[j], state.vote[i], -1)  # [N]
      column = jnp.maximum(agreed, 0)[:, None]
      values = [jnp.take_along_axis(state.margin[k], column, 1)[:, 0] for k in pair]
      cut, _ = quantiles.class_quantiles(
        jnp.concatenate(values),
        jnp.concatenate([agreed, agreed]),
        state.cut.shape[-1],
        percentile,
      )
      return cut if no_low else jnp.maximum(cut, 0.0)

    return jnp.stack([head(pair) for pair in PEERS])

  def assign(forward, batch, state, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.key, gradient=False)
    logits = weak.heads["voters"].swapaxes(0, 1)  # [H, U, C]
    state, margin, vote = observe(state, logits, batch.unlabelled.index, clock)
    q = jax.nn.softmax(logits)
    cutoff = jax.vmap(thresholds.adaptive_threshold)(state.confidence)  # [H, C]
    confident = q.max(-1) >= jnp.take_along_axis(cutoff, vote, axis=1)  # [H, U]
    peers = jnp.array(PEERS)
    label, weight = jax.vmap(teach)(
      margin[peers], vote[peers], confident[peers], state.cut
    )
    label, weight = label.T, weight.T  # [U, H]
    one_hot = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)  # [U, H, C]
    target = voters.mean_target(one_hot, weight)
    due = averages.is_due(clock, state.epoch_steps, start)
    cut = jax.lax.cond(due, new_cut, lambda state: state.cut, state)
    scalars = {
      "cut_off": jnp.where(jnp.isfinite(state.cut), state.cut, 0.0).mean(),
      "margin": jnp.take_along_axis(margin, vote[..., None], axis=-1).mean(),
      "agreement": (vote[0] == vote[1]).mean(dtype=jnp.float32),
    }
    assigned = Assignment(target, weight.mean(1), scalars, (one_hot, weight))
    return jax.lax.stop_gradient((assigned, state._replace(cut=cut)))

  return voters.voting_method(init, assign, scale)
