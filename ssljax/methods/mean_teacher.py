"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780): an averaged model teaches.

The student is the model itself. The teacher is the same model with an exponential
moving average of the parameters (`--config.ema`):

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - p'_c(weak(u)))^2

p' is the teacher's prediction, without gradient; p is the student's. (Some published
code took both predictions from the teacher, or used the student as the teacher, so the
loss was 0.) Like the student, the teacher runs with dropout, unless you set
`--config.weak_dropout=false`. As in the paper, evaluation uses the teacher. The paper
also applies the loss to labelled texts; to do so, set `--config.include_labelled=true`.
The paper's ramp is a sigmoid over the first 40,000 of 150,000 steps; ours is linear
over the first 40% of the run.

The paper averages the squares over c. Its weight of 100 for ten classes is the same as
our `scale` of 2, which suits any number of classes (see `ops.agreement.square`). With
two classes, the weight 50 of published code for text would be a `scale` of 25.
"""

from typing import Annotated

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Published, Share


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss after the ramp"] = 2.0,
  ramp: Annotated[
    Share, "share of the run over which scale rises from 0", Published(40 / 150)
  ] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  return agreement(teacher=True, scale=scale, ramp=ramp)
