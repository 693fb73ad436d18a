"""What a semi-supervised method reads and returns: types, and one lift, `consistency`.

A method is a `Method`: static needs and two pure functions, like an optax
transformation. It sees the *global* batch, whatever the number of devices, and gets
the model closed over its parameters (`Forward`), never the parameters themselves.

Axis letters, here and everywhere: B labelled batch, U unlabelled batch, N unlabelled
set, L tokens, D width, C classes (with any virtual class), H heads.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ssljax.batch import Batch, Texts

Array = jax.Array
State = Any  # any pytree of strongly typed arrays; it is saved in the checkpoint


class Outputs(NamedTuple):
  """What the model says of n texts."""

  logits: Array  # f32 [n, C]
  features: Array  # f32 [n, D], what the classifier head reads
  heads: Mapping[str, Array]  # extra heads named in Needs, e.g. "voters" f32 [n, H, C]


class Forward(Protocol):
  """The model closed over its parameters."""

  def __call__(
    self, *texts: Texts, key: Array, teacher: bool = False, gradient: bool = True
  ) -> Outputs | tuple[Outputs, ...]:
    """Runs all `texts` in one pass; one `Outputs` for each (a tuple if several).

    Args:
      *texts: one or more views.
      key: typed PRNG key for dropout.
      teacher: use the EMA of the parameters (`Needs.teacher`), without gradient.
      gradient: False stops gradients at the parameters: the pass costs no backward.
    """

  def embed(self, texts: Texts) -> Texts:
    """The same texts with their word embeddings, f32, filled in; for VAT."""

  def classify(self, features: Array) -> Outputs:
    """Heads only, f32 [n, D] -> Outputs; for mixing features."""

  def mix(
    self,
    a: Texts | tuple[Texts, ...],
    b: Array,
    share: Array,
    layer: Array,
    key: Array,
  ) -> Outputs:
    """Hidden states of text i mixed with those of text b[i] after a layer.

    Padded layout only. Texts of several views are counted one view after another.
    share f32 [] or [n] is the part of text i; layer i32 [], 0 to `depth`.
    """

  @property
  def depth(self) -> int:
    """Layers of the encoder."""


class Clock(NamedTuple):
  step: Array  # i32 [], 0 at the first step
  progress: Array  # f32 [], step / total steps
  epoch: Array  # i32 [], step // ceil(labelled / batch)
  key: Array  # typed PRNG key of this step


class Sizes(NamedTuple):
  classes: int  # C without virtual classes
  labelled: int
  unlabelled: int  # N
  batch: int  # B
  unlabelled_batch: int  # U
  steps: int = 0  # of the whole run
  epoch_steps: int = 1  # ceil(labelled / batch)
  labelled_counts: tuple[int, ...] = ()  # labelled texts of each class
  width: int = 0  # D, of the features


class Head(NamedTuple):
  """An extra head: voters take the place of the classifier, the others stand beside."""

  kind: str  # "classifier" (H voters) | "projection" | "linear"
  count: int = 1
  width: int = 0  # 0: D for a projection, C for a linear head


class Needs(NamedTuple):
  """What a method asks of the data loader and the model builder. Static."""

  views: tuple[str, ...] = ("weak", "strong")
  heads: Mapping[str, Head] = {}
  virtual_classes: int = 0
  teacher: bool = False
  labelled_views: tuple[str, ...] = ("weak",)
  layout: str = ""  # "padded" if hidden states are mixed position by position
  mixes: bool = False  # terms are of mixed texts, which have no label of their own
  votes: tuple[str, ...] = ("weak",)  # views that targets are made of
  relative: bool = False  # votes are held against what is said of labelled texts
  soft: bool = False  # some target is a distribution that the model itself said
  least: int = 1  # U that it can work with


class Term(NamedTuple):
  """One loss term. The step takes scale * mean(weight * loss)."""

  loss: Array  # f32 [n] or []
  weight: Array | float = 1.0
  scale: Array | float = 1.0


class Assignment(NamedTuple):
  """Who was labelled what, and how much it counts; also what is reported."""

  target: Array  # f32 [U, C], rows sum to 1
  weight: Array  # f32 [U], 0 where the text is not used
  scalars: Mapping[str, Array] = {}
  more: Any = ()  # what else the method's `learn` needs; leaves have axis 0 of U or B


Assign = Callable[[Forward, Batch, State, Clock], tuple[Assignment, State]]
Learn = Callable[[Forward, Batch, Assignment, Clock], dict[str, Term]]


class Method(NamedTuple):
  """A semi-supervised method. `make(**hyperparameters)` of its module returns one.

  `assign` and `learn` are given by methods whose loss is per text once the targets
  are fixed: with them gradient accumulation is exact (targets from the whole batch,
  gradients from one micro-batch after another). A method without them refuses it.
  """

  needs: Needs
  init: Callable[[Sizes], State]
  loss: Callable[
    [Forward, Batch, State, Clock], tuple[dict[str, Term], State, Assignment]
  ]
  predict: Callable[[Outputs], Array] = lambda outputs: outputs.logits  # f32 [n, C]
  assign: Assign | None = None
  learn: Learn | None = None


class Evidence(NamedTuple):
  """What a rule may look at; gradients are stopped."""

  logits: Array  # f32 [U, C], weak view
  labelled_logits: Array  # f32 [B, C]
  label: Array  # f32 [B, C]
  index: Array  # i32 [U]


class Rule(NamedTuple):
  """From evidence and carried state to an assignment; never sees the model."""

  init: Callable[[Sizes], State]
  assign: Callable[[State, Evidence, Clock], tuple[Assignment, State]]
  # Further terms on the strong view, e.g. FreeMatch's fairness: they may hold means
  # over the batch, so a rule that has one refuses gradient accumulation.
  extra: Callable[[State, Assignment, Outputs], dict[str, Term]] | None = None
  # Weight f32 [B] of each labelled text, e.g. UDA's signal annealing.
  labelled_weight: Callable[[Evidence, Clock], Array] | None = None


def cross_entropy(logits: Array, target: Array) -> Array:
  """H(target, softmax(logits)), f32 [...]; both f32 [..., C]."""
  return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def consistency(rule: Rule, scale: float = 1.0, needs: Needs = Needs()) -> Method:  # noqa: B008
  """The weak view votes, the strong view learns.

  loss = mean CE(x, y) + scale * mean(weight * CE(strong(u), target)), the mean over
  the whole unlabelled batch: texts with weight 0 count in the denominator.
  """

  def evidence(labelled_logits, weak, batch):
    return jax.lax.stop_gradient(
      Evidence(
        weak.logits, labelled_logits, batch.labelled.label, batch.unlabelled.index
      )
    )

  def terms(labelled, strong, batch, assigned, labelled_weight):
    return {
      "labelled": Term(
        cross_entropy(labelled.logits, batch.labelled.label), labelled_weight
      ),
      "unlabelled": Term(
        cross_entropy(strong.logits, assigned.target), assigned.weight, scale
      ),
    }

  def loss(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong = forward(
      batch.labelled.views["weak"], batch.unlabelled.views["strong"], key=key
    )
    seen = evidence(labelled.logits, weak, batch)
    assigned, state = rule.assign(state, seen, clock)
    assigned = jax.lax.stop_gradient(assigned)
    weight = rule.labelled_weight(seen, clock) if rule.labelled_weight else 1.0
    losses = terms(labelled, strong, batch, assigned, weight)
    if rule.extra:
      losses |= rule.extra(state, assigned, strong)
    return losses, state, assigned

  def assign(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled = forward(batch.labelled.views["weak"], key=key, gradient=False)
    return rule.assign(state, evidence(labelled.logits, weak, batch), clock)

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(
      batch.labelled.views["weak"], batch.unlabelled.views["strong"], key=clock.key
    )
    return terms(labelled, strong, batch, assigned, 1.0)

  separable = rule.extra is None and rule.labelled_weight is None
  return Method(
    needs,
    rule.init,
    loss,
    predict=lambda outputs: real_classes(outputs.logits, needs.virtual_classes),
    assign=assign if separable else None,
    learn=learn if separable else None,
  )


def real_classes(logits: Array, virtual_classes: int) -> Array:
  """Logits without the virtual classes, which stand last."""
  return logits[..., : logits.shape[-1] - virtual_classes]
