"""Batches follow the shuffled epochs and are cached."""

import grain
import numpy as np
import pytest

from ssljax.data.batches import order


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "size"), [(30, 8), (3, 8)])
def test_batches_are_slices_of_shuffled_epochs(rows, size):
  batch = order.batch_rows(rows, size, 5)
  used = rows // size * size or rows  # rows used per epoch
  epochs = -(-9 * size // used)
  shuffled = iter(grain.MapDataset.range(rows).shuffle(seed=5).repeat())
  expected = [[next(shuffled) for _ in range(rows)][:used] for _ in range(epochs)]
  drawn = np.concatenate([batch(t)[0] for t in range(9)])
  np.testing.assert_array_equal(drawn, np.concatenate(expected)[: len(drawn)])
  epoch = np.concatenate([batch(t)[1] for t in range(9)])
  np.testing.assert_array_equal(epoch, np.arange(len(drawn)) // used)


def test_batches_are_cached_and_read_only():
  first = order.batch_rows(30, 8, 5)(2)
  again = order.batch_rows(30, 8, 5)(2)
  assert all(a is b for a, b in zip(first, again, strict=True))
  with pytest.raises(ValueError, match="read-only"):
    first[0][0] = 7
