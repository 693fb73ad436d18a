"""Pi-Model (Laine & Aila 2017, arXiv 1610.02242): two looks at a text must agree.

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - sg p_c(weak(u)))^2

The paper's stochastic looks are dropout and the augmentation, so they are the two views
here; `--config.strong=self` leaves dropout alone, as published text code has it. Only
the second look takes a gradient, as in that code. The paper has labelled texts agree,
too (`--config.include_labelled=true`). The ramp is linear over the first 40% of the run
(the paper's is Gaussian over the first 80 epochs of 300). The paper has mean_c of the
squares; `scale` is 5 for the 10 of published text code with two classes, in units which
do not hang on C (`ops.agreement.square`).
"""

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Share


def make(scale: Amount = 5.0, ramp: Share = 0.4) -> Method:
  """Args: `scale` at the end of the ramp, `ramp` as a share of the run."""
  return agreement(teacher=False, scale=scale, ramp=ramp)
