"""The rows of a batch: drawn once, and the shuffle's own."""

import grain
import numpy as np
import pytest

from ssljax.data.batches import order


@pytest.mark.parametrize(("rows", "size"), [(30, 8), (3, 8)])
def test_a_batch_is_a_slice_of_the_epochs_shuffle(rows, size):
  taken = order.batch_rows(rows, size, 5)
  forever = iter(grain.MapDataset.range(rows).shuffle(seed=5).repeat())
  whole = rows // size * size or rows  # what an epoch gives, the rest left out
  passes = [[next(forever) for _ in range(rows)][:whole] for _ in range(9 * size)]
  found = np.concatenate([taken(t)[0] for t in range(9)])
  np.testing.assert_array_equal(found, np.concatenate(passes)[: len(found)])
  epochs = np.concatenate([taken(t)[1] for t in range(9)])
  np.testing.assert_array_equal(epochs, np.arange(len(found)) // whole)


def test_it_is_drawn_once_and_nobody_changes_it():
  first = order.batch_rows(30, 8, 5)(2)
  again = order.batch_rows(30, 8, 5)(2)
  assert all(a is b for a, b in zip(first, again, strict=True))
  with pytest.raises(ValueError, match="read-only"):
    first[0][0] = 7
