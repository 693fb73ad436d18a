"""The interface of a semi-supervised method: the types it reads and returns.

A method is a `Method`: its static needs and some pure functions, like an optax
transformation. The functions see the *global* batch, however many devices there are.
They call the model through `Forward`, and never get its parameters. `consistency`
builds a `Method` from a `Rule`; `assign_then_learn` builds one from two functions.

Axis letters, here and everywhere: B labelled batch, U unlabelled batch, N unlabelled
set, L tokens, D width, C classes (including any virtual class), H heads.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ssljax.batch import Batch, Texts

Array = jax.Array
State = Any  # a pytree of strongly typed arrays, saved in the checkpoint


class Outputs(NamedTuple):
  """Model outputs for n texts."""

  logits: Array  # f32 [n, C]
  features: Array  # f32 [n, D], the input of the classifier head
  heads: Mapping[str, Array]  # extra heads named in Needs, e.g. "voters" f32 [n, H, C]


class Forward(Protocol):
  """The model, with its parameters bound."""

  def __call__(
    self, *texts: Texts, key: Array, teacher: bool = False, gradient: bool = True
  ) -> Outputs | tuple[Outputs, ...]:
    """Runs one or more views in a single pass.

    Args:
      *texts: the views.
      key: typed PRNG key for dropout.
      teacher: use the EMA of the parameters, without gradient; requires
        `Needs.teacher`.
      gradient: if False, the parameters get no gradient, so there is no backward pass.

    Returns:
      The outputs of the view, or a tuple of outputs if there are several views.
    """

  def embed(self, texts: Texts) -> Texts:
    """Returns the texts with their word embeddings (f32) filled in; for VAT."""

  def classify(self, features: Array) -> Outputs:
    """Runs only the heads, on features f32 [n, D]; used on mixed features."""

  def mix(
    self,
    a: Texts | tuple[Texts, ...],
    b: Array,
    share: Array,
    layer: Array,
    key: Array,
  ) -> Outputs:
    """Mixes the hidden states of each text i with the states of text b[i].

    The layout must be padded. If there are several views, texts are numbered view by
    view. `share`, f32 [] or [n], is the weight of text i. `layer`, i32 [], is the layer
    whose outputs are mixed, from 0 (the embeddings) to `depth`.
    """

  @property
  def depth(self) -> int:
    """Number of encoder layers."""


class Clock(NamedTuple):
  step: Array  # i32 [], 0 at the first step
  progress: Array  # f32 [], step / total steps
  epoch: Array  # i32 [], step // ceil(labelled / batch)
  key: Array  # typed PRNG key of this step
  steps: Array | int  # i32 [], steps of the whole run

  @property
  def assign_key(self) -> Array:
    """The key for passes of the model in `assign`, if `learn` follows."""
    return jax.random.fold_in(self.key, 0)

  @property
  def learn_key(self) -> Array:
    """The key for the pass of the model in `learn`."""
    return jax.random.fold_in(self.key, 1)


class Sizes(NamedTuple):
  classes: int  # C without virtual classes
  labelled: int
  unlabelled: int  # N
  batch: int  # B
  unlabelled_batch: int  # U
  steps: int = 0  # in the whole run
  epoch_steps: int = 1  # ceil(labelled / batch)
  labelled_counts: tuple[int, ...] = ()  # labelled texts in each class
  width: int = 0  # D


class Head(NamedTuple):
  """An extra head. Voters replace the classifier; other kinds are added beside it.

  Networks are H whole classifiers. They start from the same pretrained encoder, but
  each has its own parameters and dropout. The model is the first of them, and makes the
  features and all other heads. `Forward.embed` and `mix` don't support networks.
  """

  kind: str  # "classifier" (voters) | "network" | "projection" | "linear"
  count: int = 1
  width: int = 0  # 0 means D for a projection, and C for a linear head


class Needs(NamedTuple):
  """What a method requires of the data loader and the model. Static."""

  views: tuple[str, ...] = ("weak", "strong")  # see also `SecondCandidate`
  heads: Mapping[str, Head] = {}
  virtual_classes: int = 0
  teacher: bool = False
  labelled_views: tuple[str, ...] = ("weak",)
  layout: str = ""  # "padded" if hidden states are mixed position by position
  predicts: str = "classifier"  # the head that `Method.predict` reads
  least: int = 1  # smallest U that the method works with
  filters: bool = False  # weights are (near) 0 for texts whose label is doubtful
  # Wrappers read the remaining fields, and refuse methods that they would break.
  mixes: bool = False  # loss terms use mixed texts, which have no single label
  votes: tuple[str, ...] = ("weak",)  # views from which targets are computed
  relative: bool = False  # targets depend on the predictions on labelled texts
  soft: bool = False  # at least one target is a distribution that the model predicts


class Term(NamedTuple):
  """One loss term; it adds scale * mean(weight * loss) to the total loss."""

  loss: Array  # f32 [n] or []
  weight: Array | float = 1.0
  scale: Array | float = 1.0


class Assignment(NamedTuple):
  """The pseudo-labels of a batch, their weights, and values for the log."""

  target: Array  # f32 [U, C], rows sum to 1
  weight: Array  # f32 [U], 0 for texts that aren't used
  scalars: Mapping[str, Array] = {}  # more values for metrics.jsonl
  more: Any = ()  # anything else that `learn` needs; axis 0 of each leaf is U or B

  def term(self, logits: Array, scale: Array | float = 1.0) -> Term:
    """The loss term that trains logits, f32 [U, C], on the targets."""
    return Term(cross_entropy(logits, self.target), self.weight, scale)


Assign = Callable[[Forward, Batch, State, Clock], tuple[Assignment, State]]
Learn = Callable[[Forward, Batch, Assignment, Clock], dict[str, Term]]
Predict = Callable[[Outputs], Array]  # -> logits f32 [n, C] without virtual classes


def classifier_logits(outputs: Outputs) -> Array:
  """The default `Method.predict`."""
  return outputs.logits


class Method(NamedTuple):
  """A semi-supervised method. `make(**hyperparameters)` in its module returns one.

  A method whose loss is a mean over texts, given the targets, has `assign` and `learn`.
  Gradient accumulation is then exact: targets are computed from the whole batch, and
  gradients from one micro-batch at a time. Other methods refuse it.
  """

  needs: Needs
  init: Callable[[Sizes], State]
  loss: Callable[
    [Forward, Batch, State, Clock], tuple[dict[str, Term], State, Assignment]
  ]
  predict: Predict = classifier_logits
  assign: Assign | None = None
  learn: Learn | None = None


class Evidence(NamedTuple):
  """The inputs of a rule; none of them has a gradient."""

  logits: Array  # f32 [U, C], weak view
  labelled_logits: Array  # f32 [B, C]
  label: Array  # f32 [B, C]
  index: Array  # i32 [U]


class Rule(NamedTuple):
  """Computes pseudo-labels from evidence and state, without access to the model."""

  init: Callable[[Sizes], State]
  assign: Callable[[State, Evidence, Clock], tuple[Assignment, State]]
  # Returns further loss terms on the strong view, such as FreeMatch's fairness. Since
  # they may contain means over the batch, the method refuses gradient accumulation.
  extra: Callable[[State, Assignment, Outputs], dict[str, Term]] | None = None
  # Returns a weight for each labelled text, f32 [B], as in UDA's signal annealing.
  labelled_weight: Callable[[Evidence, Clock], Array] | None = None


def cross_entropy(logits: Array, target: Array) -> Array:
  """H(target, softmax(logits)), f32 [...]; both arguments are f32 [..., C]."""
  return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def stateless(sizes: Sizes) -> State:
  """The `init` of a method that carries no state."""
  return ()


def assign_then_learn(
  needs: Needs,
  init: Callable[[Sizes], State],
  assign: Assign,
  learn: Learn,
  predict: Predict = classifier_logits,
) -> Method:
  """A method of two functions: `assign` computes targets, and `learn` computes losses.

  The targets must not have a gradient. Each text must have its own loss, so that
  `learn` can run on micro-batches.
  """

  def loss(forward, batch, state, clock):
    assigned, state = assign(forward, batch, state, clock)
    return learn(forward, batch, assigned, clock), state, assigned

  return Method(needs, init, loss, predict, assign, learn)


def consistency(rule: Rule, scale: float = 1.0, needs: Needs = Needs()) -> Method:  # noqa: B008
  """A method that trains the strong view on the weak view's pseudo-labels.

  loss = mean CE(x, y) + scale * mean(weight * CE(strong(u), target))

  The second mean is over the whole unlabelled batch: its denominator includes texts
  with weight 0.

  For example, this is FixMatch with a threshold of 0.95:

    def assign(state, evidence, clock):
      q = jax.nn.softmax(evidence.logits)
      target = jax.nn.one_hot(q.argmax(-1), q.shape[-1])
      return Assignment(target, (q.max(-1) >= 0.95).astype(jnp.float32)), state

    method = consistency(Rule(stateless, assign), needs=Needs(filters=True))
  """

  def evidence(weak, labelled, batch):
    label, index = batch.labelled.label, batch.unlabelled.index
    return jax.lax.stop_gradient(Evidence(weak.logits, labelled.logits, label, index))

  def terms(labelled, strong, batch, assigned, labelled_weight=1.0):
    labelled_error = cross_entropy(labelled.logits, batch.labelled.label)
    return {
      "labelled": Term(labelled_error, labelled_weight),
      "unlabelled": assigned.term(strong.logits, scale),
    }

  def loss(forward, batch, state, clock):
    weak_key, key = jax.random.split(clock.key)
    weak = forward(batch.unlabelled.views["weak"], key=weak_key, gradient=False)
    labelled, strong = forward(*batch.labelled_and("strong"), key=key)
    seen = evidence(weak, labelled, batch)
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
    return rule.assign(state, evidence(weak, labelled, batch), clock)

  def learn(forward, batch, assigned, clock):
    labelled, strong = forward(*batch.labelled_and("strong"), key=clock.key)
    return terms(labelled, strong, batch, assigned)

  per_text = rule.extra is None and rule.labelled_weight is None
  return Method(
    needs,
    rule.init,
    loss,
    predict=lambda outputs: real_classes(outputs.logits, needs.virtual_classes),
    assign=assign if per_text else None,
    learn=learn if per_text else None,
  )


def real_classes(logits: Array, virtual_classes: int) -> Array:
  """Logits without the virtual classes, which come last."""
  return logits[..., : logits.shape[-1] - virtual_classes]
