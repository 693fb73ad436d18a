"""A trained classifier in use: texts in, calibrated scores out.

from ssljax import SafetyClassifier
classifier = SafetyClassifier.load("runs/…")          # a run, or an exported folder
classifier(["a prompt", ("a prompt", "its response")])  # f64 [2], in [0, 1]
"""

import hashlib
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ssljax import config as configuration
from ssljax import sharding
from ssljax.data.batches import tokenize
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.evals import evaluation
from ssljax.evals import thresholds as operating
from ssljax.evals.classification import softmax
from ssljax.evals.predictions import score_of
from ssljax.inference import load as trained
from ssljax.inference import score
from ssljax.method import Head
from ssljax.models import Encoder, load_params, read_config, resolve
from ssljax.models.classifier import Classifier
from ssljax.training import pytrees, step

CARD = "ssljax.json"  # in an exported folder: what transformers has no place for
VOTERS = "voters"
Text = str | tuple[str, str | None]


class Scored(NamedTuple):
  logits: np.ndarray  # f32 [n, C]
  truncated: np.ndarray  # bool [n]


class SafetyClassifier:
  """Scores texts; may be called by several threads."""

  def __init__(
    self,
    tokenizer,
    eval_step,
    params,
    max_length: int,
    labels: Sequence[str],
    temperature: float,
    thresholds: Mapping[str, float | None],
  ):
    """See `load`. `eval_step(params, texts)` gives f32 [n, C]."""
    self.labels, self.temperature = tuple(labels), temperature
    self.thresholds, self.max_length = dict(thresholds), max_length
    self._tokenizer, self._lock = tokenizer, threading.Lock()
    # Of all that scores depend on, to tell one classifier from another.
    facts = [pytrees.sha256(params), self.labels, temperature, max_length]
    self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    self._devices = sharding.make_devices()
    self._params = sharding.put(params, sharding.state_shardings(params, self._devices))
    self._step = jax.jit(eval_step, out_shardings=self._devices.replicated)
    self._lengths = score.choose_row_lengths(min(max_length, LONGEST), score.MANY_SHORTER)

  @classmethod
  def load(cls, folder: str | Path) -> "SafetyClassifier":
    """Reads a run's folder (its chosen checkpoint), or one that `export` wrote.

    Raises:
      UserError: it is neither, or what it holds cannot be read.
    """
    folder = Path(folder).expanduser()
    if (folder / CARD).is_file():
      return cls(**_exported(folder))
    if not (folder / "checkpoints").is_dir():
      raise UserError(
        f"{folder}: neither a run of ssljax nor a folder of `python -m ssljax.export`"
      )
    return cls.of_run(folder, configuration.read(folder))

  @classmethod
  def of_run(cls, folder: Path, config: Mapping[str, Any]) -> "SafetyClassifier":
    """The chosen checkpoint of a run; its config may name another `dtype`."""
    encoder = resolve(config["encoder"])
    chosen, params, model, method = trained.load(folder, config, encoder)
    decision = evaluation.decision_of(folder, chosen)
    if not (folder / "result.json").exists():
      print(f"{folder}: {evaluation.UNFINISHED}", file=sys.stderr)
    return cls(
      tokenize.load_tokenizer(encoder),
      step.make_eval_step(model=model, method=method),
      params,
      config["max_length"],
      config["resolved"]["labels"],
      decision.temperature,
      {name: found["threshold"] for name, found in decision.thresholds.items()},
    )

  def __call__(self, texts: Sequence[Text]) -> np.ndarray:
    """Calibrated scores, f64 [n].

    With two classes the probability of the second, harmful one, else that of the
    predicted class. A text that is empty or white space alone has no score: NaN, which
    no threshold flags; so has a pair with such a prompt, whatever its response.

    Args:
      texts: prompts, or pairs of prompt and response.

    Raises:
      TypeError: one of them is neither, such as None.
    """
    return score_of(self.logits(texts).logits, self.temperature)

  def logits(self, texts: Sequence[Text]) -> Scored:
    """What the model says before calibration; texts are packed inside.

    Half a surrogate pair, as the JSON "\\ud83d", is read as U+FFFD. Where there is no
    content there are NaNs; for that, and for errors, see the call.
    """
    if isinstance(texts, str):
      raise TypeError("give a list of texts, not one text")
    pairs = [_pair(text, f"texts[{i}]") for i, text in enumerate(texts)]
    shape = (len(pairs), len(self.labels))
    found = Scored(np.full(shape, np.nan, np.float32), np.zeros(len(pairs), bool))
    full = [i for i, (text, _) in enumerate(pairs) if has_content(text)]
    if not full:
      return found
    first, second = ([_valid(pairs[i][side]) for i in full] for side in (0, 1))
    tokens = tokenize.encode(self._tokenizer, first, second, self.max_length)
    with self._lock:  # more at once would only share the same cores
      found.logits[full] = score.score(
        self._step, self._params, tokens, self._lengths, self._devices, fit=True
      )
    found.truncated[full] = tokens.truncated
    return found

  def judged(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(calibrated scores f64 [n], classes i64 [n]) of logits f32 [n, C]."""
    return score_of(logits, self.temperature), logits.argmax(-1)

  def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
    """Calibrated probabilities of all classes, f64 [n, C]."""
    return softmax(self.logits(texts).logits, self.temperature)

  def threshold(self, name: str | float) -> float:
    """The value of a threshold: one by its name, such as "fpr_1%", or a number itself.

    Raises:
      UserError: a name that was not saved, or a number outside of 0 to 1.
    """
    if len(self.labels) != 2:
      raise UserError("thresholds are for two classes; leave --threshold out")
    try:
      value = float(name)
    except ValueError:
      found = self.thresholds.get(str(name))
      if found is None:
        known = [n for n, value in self.thresholds.items() if value is not None]
        why = "validation had none for it"
        if str(name) not in operating.NAMES:
          why = "no such threshold"
        elif not self.thresholds:
          why = "the run has saved none"
        raise UserError(
          f"--threshold={name}: {why}; give a number from 0 to 1, or one of "
          f"{', '.join(known) or 'none'}"
        ) from None
      return found
    if not 0 <= value <= 1:
      raise UserError(f"--threshold={name}: a score lies between 0 and 1")
    return value

  def moderate(
    self, conversations: Sequence[Sequence[Mapping[str, str]]], **_: Any
  ) -> list[float]:
    """Scores of conversations, as GuardBench's `benchmark(moderate=…)` asks for them.

    Args:
      conversations: each a list of {"role": "user" | "assistant", "content": …}. What
        is judged is the last user's turn, with the answer to it where there is one.

    Returns:
      The probability of harm of each; 0 where that turn has no content, for the
      benchmark's metrics take no NaN.
    """
    if len(self.labels) != 2:
      raise UserError("moderate: the classifier has more than two classes")
    scores = self([_turn(some) for some in conversations])
    return np.nan_to_num(scores, nan=0.0).tolist()


LONGEST = 512  # tokens of a row; a longer text gets one of its own length


def has_content(text: str) -> bool:
  """Whether there is anything to judge; of a pair it is asked of the prompt."""
  return bool(text.strip())


def _pair(given: Text, place: str) -> tuple[str, str | None]:
  pair = (given, None) if isinstance(given, str) else given
  if isinstance(pair, tuple | list) and len(pair) == 2:
    text, response = pair
    if isinstance(text, str) and isinstance(response, str | None):
      return text, response
  raise TypeError(
    f"{place}: {files.short(given)}; give a text, or a pair of prompt and response"
  )


def _valid(text: str | None) -> str | None:
  """The text as a tokenizer takes it, which knows valid Unicode only."""
  if text is None:
    return None
  return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _turn(conversation: Sequence[Mapping[str, str]]) -> Text:
  response = None
  for turn in reversed(conversation):
    if turn["role"] == "user":
      return turn["content"], response
    if turn["role"] == "assistant" and response is None:
      response = turn["content"]
  raise ValueError("a conversation without a turn of the user")


def _exported(folder: Path) -> dict[str, Any]:
  """The arguments of SafetyClassifier, from a folder that `export` wrote."""
  try:
    return _read(folder, json.loads((folder / CARD).read_text(encoding="utf-8")))
  except UserError as error:  # its way out, behind the semicolon, is for an encoder
    what = str(error).rpartition("; ")[0] or str(error)
  except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
    what = repr(error)
  raise UserError(
    f"{folder}: cannot be read as an exported folder ({what}); export it again"
  )


def _read(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
  head, voters, labels = card["head"], card["voters"], card["labels"]
  rest = {name: card[name] for name in ("max_length", "temperature", "thresholds")}
  config = read_config(folder)
  heads = {VOTERS: Head("classifier", voters)} if voters > 1 else None
  model = Classifier(Encoder(config), len(labels), head, heads, 0.0)
  if head == "hf":
    params, _ = load_params(folder, config, with_head=True)
  else:
    encoder, _ = load_params(folder, config)
    params = {"encoder": encoder, **_unfolded(folder, voters)}
  return {
    "tokenizer": tokenize.load_tokenizer(folder),
    "eval_step": lambda params, texts: model.apply({"params": params}, (texts,)).logits,
    "params": params,
    "labels": labels,
    **rest,
  }


def _unfolded(folder: Path, voters: int) -> dict[str, dict[str, np.ndarray]]:
  """The two dense layers of the mlp head, voters side by side again."""
  layers = []
  for name in ("2_Dense", "3_Dense"):
    found = load_file(folder / name / "model.safetensors")
    layers.append((found["linear.weight"].T, found["linear.bias"]))
  (up, up_bias), (down, down_bias) = layers
  if voters == 1:
    return {
      "dense": {"kernel": up, "bias": up_bias},
      "classifier": {"kernel": down, "bias": down_bias},
    }
  width, classes = up.shape[0], down.shape[1]
  return {
    "dense": {
      "kernel": up.reshape(width, voters, -1).transpose(1, 0, 2),
      "bias": up_bias.reshape(voters, -1),
    },
    "classifier": {
      "kernel": down.reshape(voters, -1, classes) * voters,
      "bias": np.tile(down_bias, (voters, 1)),
    },
  }
