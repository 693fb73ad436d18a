"""Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780): an averaged model teaches.

The teacher is the exponential moving average of the parameters (`--config.ema`), the
student is the model:

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - p'_c(weak(u)))^2

p' is the teacher's, without gradient; p is the student's. (Some published code took
both from the teacher, or used the student as the teacher: the loss was 0.) Like the
student, the teacher runs with dropout unless `--config.weak_dropout=false`. The teacher
is what is evaluated, as in the paper. The paper also applies the loss to labelled texts
(`--config.include_labelled=true`), and has a sigmoid-shaped ramp; here it is linear
over the first 40% of the run.

The paper has mean_c of the squares: its weight 100 for ten classes is 2 in these units,
which do not depend on C (`ops.agreement.square`). The 50 of published code for text
would be 25 with two classes.
"""

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Share


def make(scale: Amount = 2.0, ramp: Share = 0.4) -> Method:
  """Args: `scale` at the end of the ramp, `ramp` as a share of the run."""
  return agreement(teacher=True, scale=scale, ramp=ramp)
