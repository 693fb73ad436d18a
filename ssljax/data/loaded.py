"""What the two ways of loading the data of a run return: `text_sets` and `pool`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssljax.data.batches.loader import TrainSet
from ssljax.data.records.records import Records


class Loaded(NamedTuple):
  train: TrainSet
  validation: Records
  test: Records
  labels: tuple[str, ...]  # class names by id
  notes: tuple[str, ...]  # for the log
  content: Sequence[np.ndarray]  # determines the train set; for hashes
  encoder: Path  # folder of the encoder
