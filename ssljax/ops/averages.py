"""Running averages whose memory fits the length of the run."""

from typing import Annotated

import jax
import jax.numpy as jnp

from ssljax.method import Clock
from ssljax.options import Absent, Published, Share

Array = jax.Array
# Keywords of methods.
Momentum = Annotated[Share, "momentum of the running averages in a long run"]
TimeConstant = Annotated[
  Share,
  "limits the memory of the running averages to this share of the run; 0: no limit",
  Absent(0.0),
  Published(0.0),
]
TIME_CONSTANT = 0.05  # the default
Start = Annotated[
  Share,
  "what needs a first epoch starts no later than after this share of the run",
  Absent(1.0),
  Published(1.0),
]
START = 0.05  # the default


def share_of_newest(
  clock: Clock, momentum: float, time_constant: float
) -> Array | float:
  """The weight of the newest value in a running average, f32 [] or float.

    m_t = (1 - w_t) m_(t-1) + w_t x_t

  With a momentum of 0.999, an average remembers about 1,000 steps. A run of 300 steps
  would end before the average has left its initial value. Therefore the average
  remembers K = min(1 / (1 - momentum), time_constant * steps) steps, and

    w_t = (1 / K) / (1 - (1 - 1 / K)^(t + 1))

  This removes the bias of the initial value, as in Adam (arXiv 1412.6980, section 3):
  w_0 is 1, and early averages are about the mean of all values so far.

  With `time_constant` 0, w_t is 1 - momentum, as in published code.
  """
  if time_constant == 0:
    return 1.0 - momentum
  memory = jnp.maximum(time_constant * jnp.float32(clock.steps), 1.0)
  if momentum < 1:
    memory = jnp.minimum(memory, 1.0 / (1.0 - momentum))
  t = clock.step.astype(jnp.float32)
  # 1 - (1 - 1 / K)^(t + 1), without a difference of numbers close to 1.
  weights = -jnp.expm1((t + 1.0) * jnp.log1p(-1.0 / memory))
  return 1.0 / memory / weights


def updated(old: Array, new: Array, share: Array | float) -> Array:
  """(1 - share) * old + share * new."""
  return (1.0 - share) * old + share * new


def has_started(clock: Clock, start: float) -> Array:
  """bool [], whether an epoch or the share `start` of the run is over."""
  return (clock.epoch > 0) | (clock.step >= steps_before(clock, start))


def is_due(clock: Clock, epoch_steps: Array, start: float) -> Array:
  """bool [], true in the last step of each epoch, and of the share `start` of the run.

  The latter counts only in the first epoch, and not if it's the end of the run.
  """
  done = clock.step + 1
  ends = done % epoch_steps == 0
  if start == 1:
    return ends
  early = (done == steps_before(clock, start)) & (clock.epoch == 0)
  return ends | (early & (done < clock.steps))


def steps_before(clock: Clock, start: float) -> Array:
  """i32 [], the number of steps in the share `start` of the run, at least 1."""
  steps = jnp.round(start * jnp.float32(clock.steps)).astype(jnp.int32)
  return jnp.maximum(steps, 1)
