"""Pi-Model (Laine & Aila 2017, arXiv 1610.02242): two passes over a text must agree.

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - sg p_c(weak(u)))^2

In the paper the passes differ by dropout and augmentation, so here they use the two
views. `--config.strong=self` leaves only dropout, as in published code for text. As in
that code, only the second pass has a gradient. The paper also applies the loss to
labelled texts (`--config.include_labelled=true`). The ramp is linear over the first 40%
of the run (the paper's is Gaussian over the first 80 epochs of 300). The paper has
mean_c of the squares; `scale` 5 is the 10 of published code for text with two classes,
in units that do not depend on C (`ops.agreement.square`).
"""

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Share


def make(scale: Amount = 5.0, ramp: Share = 0.4) -> Method:
  """Args: `scale` at the end of the ramp, `ramp` as a share of the run."""
  return agreement(teacher=False, scale=scale, ramp=ramp)
