"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780): an averaged model teaches.

The teacher is the exponential moving average of the parameters (`--config.ema`), the
student is the model:

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - p'_c(weak(u)))^2

p' is the teacher's prediction, without gradient; p is the student's. (Some published
code took both predictions from the teacher, or used the student as the teacher: the
loss was 0.) Like the student, the teacher runs with dropout unless
`--config.weak_dropout=false`. As in the paper, the teacher is evaluated. The paper also
applies the loss to labelled texts (`--config.include_labelled=true`), and its ramp is a
sigmoid. Our ramp is linear over the first 40% of the run.

The paper averages the squares over c: its weight of 100 for ten classes is 2 in our
units, which don't depend on C (`ops.agreement.square`). The weight 50 of published code
for text would be 25 with two classes.
"""

from typing import Annotated

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Share


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss after the ramp"] = 2.0,
  ramp: Annotated[Share, "share of the run over which scale rises from 0"] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  return agreement(teacher=True, scale=scale, ramp=ramp)
