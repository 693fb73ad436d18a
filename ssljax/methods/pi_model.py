"""Pi-Model (Laine & Aila 2017, arXiv 1610.02242): two passes over a text must agree.

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - sg p_c(weak(u)))^2

In the paper the passes differ by dropout and augmentation, so here they use the two
views. `--config.strong=self` leaves only dropout, as in published code for text. As in
published code, only the second pass has a gradient. The paper also applies the loss to
labelled texts (`--config.include_labelled=true`). The ramp is linear over the first 40%
of the run (in the paper, Gaussian over the first 80 epochs of 300). The paper averages
the squares over c. Published code for text has the weight 10; for two classes this is
`scale` 5 in our units, which don't depend on C (`ops.agreement.square`).
"""

from typing import Annotated

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Share


def make(
  scale: Annotated[Amount, "weight of the unlabelled loss after the ramp"] = 5.0,
  ramp: Annotated[Share, "share of the run over which scale rises from 0"] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  return agreement(teacher=False, scale=scale, ramp=ramp)
