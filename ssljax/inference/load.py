"""The model that a run has trained: the checkpoint that was chosen, read again."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ssljax.errors import UserError
from ssljax.method import Sizes
from ssljax.training import build, checkpoint


def load(workdir: Path, config: dict[str, Any], folder: Path):
  """The chosen checkpoint of a run.

  Returns:
    (step, parameters as NumPy arrays, classifier, method).

  Raises:
    UserError: no checkpoint yet.
  """
  if not (workdir / "checkpoints").is_dir():
    raise UserError(f"{workdir}: no checkpoint yet; let the run reach its first one")
  resolved = config["resolved"]
  method = build.make_method(config)
  model = build.make_classifier(config, method, folder, len(resolved["labels"]))
  params, _ = build.init_params(model, folder, config["seed"])
  sizes = Sizes(**resolved["sizes"])
  parts = build.Components(
    model, method, build.make_optimizer(config, params, resolved), sizes
  )
  abstract = jax.eval_shape(lambda p: build.first_state(config, parts, p), params)
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  placed = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), abstract
  )
  saved = checkpoint.Checkpoints(workdir / "checkpoints")
  state, chosen = saved.restore_best(placed)
  for line in saved.notes:
    print(line, file=sys.stderr)  # standard output may be scored rows
  saved.close()
  params = state.params if state.ema is None else state.ema
  return chosen, jax.tree.map(np.asarray, params), model, method
