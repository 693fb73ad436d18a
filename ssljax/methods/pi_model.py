"""Pi-Model (Laine & Aila 2017, arXiv 1610.02242): two passes over a text must agree.

  loss = CE(x)
       + scale * ramp(t) * mean_u (C / 2) sum_c (p_c(strong(u)) - sg p_c(weak(u)))^2

sg stops the gradient, so only the pass over the strong view has one, as in published
code. In the paper, the two passes differ in dropout and augmentation, so here they use
different views. With `--config.strong=self` they differ only in dropout, as in
published code for text. The paper also applies the loss to labelled texts; to do so,
set `--config.include_labelled=true`. Our ramp is linear over the first 40% of the run;
the paper's is Gaussian over the first 80 of 300 epochs. The paper averages the squares
over c. With two classes, the weight 10 of published code for text is the same as our
`scale` of 5, which suits any number of classes (see `ops.agreement.square`). The
paper's weight is 100 M / N, for M labelled ones of N texts; its labelled loss is a mean
over all texts, so the ratio of the two is 100. With ten classes, this is our `scale` of
2.
"""

from typing import Annotated

from ssljax.method import Method
from ssljax.ops.agreement import agreement
from ssljax.options import Amount, Published, Share


def make(
  scale: Annotated[
    Amount, "weight of the unlabelled loss after the ramp", Published(2.0)
  ] = 5.0,
  ramp: Annotated[
    Share, "share of the run over which scale rises from 0", Published(80 / 300)
  ] = 0.4,
) -> Method:
  """Creates the method; see the module docstring for its equations."""
  return agreement(teacher=False, scale=scale, ramp=ramp)
