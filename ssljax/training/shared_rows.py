"""Finds the views that share rows: those that always go through the model together.

Texts of several views leave less padding in common rows than in separate ones.
"""

import collections

from ssljax.method import Method, Sizes
from ssljax.models.classifier import Classifier
from ssljax.training.passes import ViewName, record_passes


def find_groups(
  method: Method, model: Classifier, sizes: Sizes, micro: int = 1
) -> tuple[tuple[ViewName, ...], ...]:
  """Groups the views of a batch.

  Args:
    micro: number of micro-batches.

  Returns:
    All views of a batch. Two views are in the same group if every pass over one of them
    is also over the other. A view that is embedded or mixed shares no rows, since this
    would be done with the other texts as well.
  """
  numbers: dict[ViewName, tuple[int, ...]] = {
    **{("labelled", name): () for name in method.needs.labelled_views},
    **{("unlabelled", name): () for name in method.needs.views},
  }
  alone = set()
  for number, call in enumerate(record_passes(method, model, sizes, micro)):
    for view in filter(None, call.views):
      numbers[view] += (number,)
      if call.kind in ("embed", "mix"):
        alone.add(view)
  groups = collections.defaultdict(list)
  for view, passes in numbers.items():
    apart = view in alone or not passes
    groups[view if apart else passes].append(view)
  return tuple(map(tuple, groups.values()))
