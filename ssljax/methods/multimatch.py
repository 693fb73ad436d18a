"""MultiMatch (Sirbu et al. 2025, arXiv 2506.07801): three voters teach one another.

One encoder, three heads h. For head h the label, the weight and the mask come from
its two peers i, j alone:

  L = sum_h CE(z_h(x), y) + scale * (1/3) sum_h mean_b w_hb m_hb CE(z_h(s(u_b)), y_hb)

* Margins. A_i[u, c] averages the pseudo-margins of head i (`ops.margins`), updated
  before labels are chosen.
* Cut-offs. g_h[c], at each epoch's end: the `percentile` quantile of A_i[., c] and
  A_j[., c] over the texts that both peers last called c; at least 0 unless `no_low`.
  A class that nobody agrees on gets 0. In the first epoch there is none: all is
  rejected, and training is supervised.
* Weight w. Peer i passes if A_i[u, y_i] >= g_h[y_i]. Peers agree: both pass 1, one
  `difficult_weight`, none 0. They disagree: exactly one passes `difficult_weight`,
  with that peer's label; else 0.
* Mask m: the confidence of one of the peers passes its FreeMatch threshold.

Prediction is the mean of the three heads' logits.

Taken otherwise than in the authors' code: FreeMatch's averages move once a step and
head, not once for each peer that asks; a class without samples does not end the
update of the classes after it; margins age by visits of the row (`clock="epoch"`
counts epochs as the code does); margins, votes and cut-offs are carried in the state
and so in the checkpoint.

Some 125 lines of code and no 80: MarginMatch's margins and FreeMatch's thresholds for
three heads at once, and the peers' table between them.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ssljax.method import (
  Assignment,
  Head,
  Method,
  Needs,
  Sizes,
  Term,
  cross_entropy,
)
from ssljax.ops import margins, quantiles, thresholds
from ssljax.options import Amount, Share

Array = jax.Array
PEERS = ((1, 2), (0, 2), (0, 1))  # of each head


class State(NamedTuple):
  margin: Array  # f32 [H, N, C], A
  vote: Array  # i32 [H, N], last weak label, -1 before the first visit
  visits: Array  # i32 [N]
  cut: Array  # f32 [H, C], g; inf until the first epoch has ended
  confidence: thresholds.Adaptive  # FreeMatch's averages, leaves [H, ...]
  epoch_steps: Array  # i32 []


class Taught(NamedTuple):
  label: Array  # i32 [U, H]
  weight: Array  # f32 [U, H], w m


def make(
  scale: Amount = 1.0,
  smoothness: Share = 0.997,
  percentile: Share = 0.05,
  difficult_weight: Amount = 3.0,
  no_low: bool = False,
  momentum: Share = 0.999,
  clock: Literal["visits", "epoch"] = "visits",
) -> Method:
  """Keywords as above; `momentum` is FreeMatch's, `smoothness` the margins' d."""
  ages = clock

  def init(sizes: Sizes) -> State:
    heads = len(PEERS)
    one = thresholds.adaptive_init(sizes.classes)
    return State(
      jnp.zeros((heads, sizes.unlabelled, sizes.classes), jnp.float32),
      jnp.full((heads, sizes.unlabelled), -1, jnp.int32),
      jnp.zeros(sizes.unlabelled, jnp.int32),
      jnp.full((heads, sizes.classes), jnp.inf, jnp.float32),
      jax.tree.map(lambda a: jnp.stack([a] * heads), one),
      jnp.array(sizes.epoch_steps, jnp.int32),
    )

  def look(state, logits, index, epoch):
    """The state after weak logits [H, U, C]; margins [H, U, C] and votes [H, U]."""
    visits = state.visits[index]
    age = visits if ages == "visits" else epoch
    margin = margins.averaged(
      state.margin[:, index], margins.pseudo_margin(logits), age, smoothness
    )
    vote = logits.argmax(-1).astype(jnp.int32)
    confidence = jax.vmap(thresholds.adaptive_update, (0, 0, None))(
      state.confidence, jax.nn.softmax(logits), momentum
    )
    state = state._replace(
      margin=state.margin.at[:, index].set(margin),
      vote=state.vote.at[:, index].set(vote),
      # Not `.add(1)`: written before it is read, XLA would copy the table.
      visits=state.visits.at[index].set(visits + 1),
      confidence=confidence,
    )
    return state, margin, vote

  def teach(margin, vote, confident, cut):
    """Two peers ([2, U, ...]) teach a head of cut-offs [C]: label, weight [U]."""
    own = jnp.take_along_axis(margin, vote[..., None], axis=-1)[..., 0]
    first, second = own >= cut[vote]  # passes
    agree = vote[0] == vote[1]
    easy = agree & first & second
    difficult = first ^ second  # exactly one passes, whether they agree or not
    weight = jnp.where(easy, 1.0, jnp.where(difficult, difficult_weight, 0.0))
    label = jnp.where(first, vote[0], vote[1])
    return label, weight * confident.any(0)

  def recut(state: State) -> Array:
    """g [H, C] from the margins and votes of all rows."""

    def head(pair):
      i, j = pair
      both = jnp.where(state.vote[i] == state.vote[j], state.vote[i], -1)  # [N]
      column = jnp.maximum(both, 0)[:, None]
      values = [jnp.take_along_axis(state.margin[k], column, 1)[:, 0] for k in pair]
      cut, _ = quantiles.class_quantiles(
        jnp.concatenate(values),
        jnp.concatenate([both, both]),
        state.cut.shape[-1],
        percentile,
      )
      return cut if no_low else jnp.maximum(cut, 0.0)

    return jnp.stack([head(pair) for pair in PEERS])

  def choose(state, weak, index, clock):
    logits = weak.heads["voters"].swapaxes(0, 1)  # [H, U, C]
    state, margin, vote = look(state, logits, index, clock.epoch)
    q = jax.nn.softmax(logits)
    level = jax.vmap(thresholds.adaptive_threshold)(state.confidence)  # [H, C]
    confident = q.max(-1) >= jnp.take_along_axis(level, vote, axis=1)  # [H, U]
    peers = jnp.array(PEERS)
    label, weight = jax.vmap(teach)(
      margin[peers], vote[peers], confident[peers], state.cut
    )
    more = Taught(label.T, weight.T)
    # Reported as one label a text: the heads' labels by their weights, and their
    # plain mean where no head learns from the text.
    votes = jax.nn.one_hot(more.label, logits.shape[-1], dtype=jnp.float32)  # [U, H, C]
    share = jnp.where(weight.sum(0)[:, None] > 0, more.weight, 1.0)
    target = (share[..., None] * votes).sum(1) / share.sum(1)[:, None]
    ends = (clock.step + 1) % state.epoch_steps == 0
    cut = jax.lax.cond(ends, recut, lambda state: state.cut, state)
    scalars = {
      "cut_off": jnp.where(jnp.isfinite(state.cut), state.cut, 0.0).mean(),
      "margin": jnp.take_along_axis(margin, vote[..., None], axis=-1).mean(),
      "agreement": (vote[0] == vote[1]).mean(dtype=jnp.float32),
    }
    assigned = Assignment(target, more.weight.mean(1), scalars, more)
    return jax.lax.stop_gradient((assigned, state._replace(cut=cut)))

  def assign(forward, batch, state, clock):
    weak = forward(batch.unlabelled.views["weak"], key=clock.key, gradient=False)
    return choose(state, weak, batch.unlabelled.index, clock)

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"],
      batch.unlabelled.views["strong"],
      key=jax.random.fold_in(clock.key, 1),
    )
    label = batch.labelled.label[:, None]  # [B, 1, C]
    taught = assigned.more
    target = jax.nn.one_hot(taught.label, label.shape[-1], dtype=jnp.float32)
    error = cross_entropy(strong.heads["voters"], target)  # [U, H]
    return {
      "labelled": Term(cross_entropy(labelled.heads["voters"], label).sum(1)),
      "unlabelled": Term((taught.weight * error).mean(1), 1.0, scale),
    }

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(
    Needs(heads={"voters": Head("classifier", count=len(PEERS))}),
    init,
    loss,
    predict=lambda outputs: outputs.heads["voters"].mean(1),
    assign=assign,
    learn=learn,
  )
