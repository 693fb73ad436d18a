"""Loads the trained model of a run from its best checkpoint."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from ssljax import run_config
from ssljax.assets.encoders import resolve
from ssljax.inference.score import EvalStep
from ssljax.method import Method
from ssljax.models.classifier import Classifier
from ssljax.training import build, checkpoint
from ssljax.training.step import make_eval_step


class TrainedModel(NamedTuple):
  """The model of a run, ready for evaluation."""

  workdir: Path
  config: dict[str, Any]  # config.json
  labels: tuple[str, ...]  # class names by id
  step: int  # step of the checkpoint
  params: Any  # NumPy arrays; the moving average, if the run keeps one
  model: Classifier
  method: Method
  encoder: Path  # folder with the encoder's config.json and tokenizer

  @property
  def eval_step(self) -> EvalStep:
    """Maps (params, texts) to logits f32 [n, C]; not compiled yet."""
    return make_eval_step(model=self.model, method=self.method)


def load_trained(workdir: str | Path, dtype: str | None = None) -> TrainedModel:
  """Loads the best checkpoint of a run, or the newest one if none was evaluated yet.

  Reads only the parameters, not the optimiser state or the method's tables. Reports
  skipped checkpoints, which are damaged, on standard error.

    trained = load_trained("runs/demo")
    logits = jax.jit(trained.eval_step)(trained.params, texts)

  `dtype` replaces the config's dtype of the computation.

  Raises:
    UserError: the folder holds no run, the run has no checkpoint yet, or its encoder
      can't be found.
  """
  workdir = Path(workdir).expanduser()
  config = run_config.read(workdir)
  config["dtype"] = dtype or config["dtype"]
  step, params, notes = checkpoint.restore_params(workdir / "checkpoints")
  labels = tuple(config["resolved"]["labels"])
  encoder = resolve(config["encoder"])
  method = build.make_method(config)
  model = build.make_classifier(config, method, encoder, len(labels))
  for note in notes:
    print(note, file=sys.stderr)  # predict writes its rows to standard output
  return TrainedModel(workdir, config, labels, step, params, model, method, encoder)
