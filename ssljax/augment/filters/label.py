"""Whether a trained run says of a view what it says of the text."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ssljax import config as configuration
from ssljax import sharding
from ssljax.augment.engine import Candidate, Source
from ssljax.data.batches import tokenize
from ssljax.inference import load, score
from ssljax.models import resolve
from ssljax.training import step


class Verdict:
  """Calls give bool [n]: whether the model's class of view and source agree."""

  def __init__(self, workdir: str | Path):
    """Loads the chosen checkpoint of a run.

    Raises:
      UserError: the folder holds no run, or the run has no checkpoint yet.
    """
    workdir = Path(workdir).expanduser()
    config = configuration.read(workdir)
    folder = resolve(config["encoder"])
    _, params, model, method = load.load(workdir, config, folder)
    self._tokenizer = tokenize.load_tokenizer(folder)
    self._max_length = config["max_length"]
    self._lengths = score.choose_row_lengths(config["resolved"]["row_lengths"][-1])
    self._devices = sharding.make_devices()
    placed = sharding.state_shardings(params, self._devices)
    self._params = sharding.put(params, placed)
    self._step = jax.jit(
      step.make_eval_step(model=model, method=method),
      out_shardings=self._devices.replicated,
    )

  def __call__(self, pairs: Sequence[tuple[Source, Candidate]]) -> np.ndarray:
    texts = [(s.text, s.response) for s, _ in pairs]
    texts += [(v.text, v.response) for _, v in pairs]
    unique = list(dict.fromkeys(texts))
    tokens = tokenize.encode(
      self._tokenizer, *zip(*unique, strict=True), self._max_length
    )
    logits = score.score(self._step, self._params, tokens, self._lengths, self._devices)
    label = dict(zip(unique, logits.argmax(axis=1), strict=True))
    return np.array(
      [label[s.text, s.response] == label[v.text, v.response] for s, v in pairs]
    )
