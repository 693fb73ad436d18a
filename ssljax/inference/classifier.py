"""SafetyClassifier: maps texts to calibrated scores with a trained model."""

import hashlib
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.batches import tokenize
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.evals import evaluation, thresholds
from ssljax.evals.classification import softmax
from ssljax.evals.predictions import score_of
from ssljax.inference import score
from ssljax.inference.exported import CARD, load_exported
from ssljax.inference.load import load_trained
from ssljax.training import pytrees

LONGEST_ROW = 512  # tokens; a longer text gets a row of exactly its length

Text = str | tuple[str, str | None]  # a prompt, or a prompt and its response


class ClassifierOutput(NamedTuple):
  """Model outputs for n texts, before calibration."""

  logits: np.ndarray  # f32 [n, C]; NaN for texts without content
  truncated: np.ndarray  # bool [n], whether the text was cut at `max_length` tokens


class SafetyClassifier:
  """Scores texts with a trained model. Safe to share between threads.

    from ssljax import SafetyClassifier

    classifier = SafetyClassifier.load("runs/demo")  # a run or an exported folder
    scores = classifier(["a prompt", ("a prompt", "its response")])  # f64 [2], 0 to 1
    flagged = scores >= classifier.threshold("fpr_1%")

  Attributes:
    labels: class names by id. With two classes, the second one is the harmful one.
    temperature: logits are divided by it to calibrate the scores.
    thresholds: operating points chosen on validation data, by name, such as "fpr_1%";
      None where the data didn't allow one.
    max_length: tokens after which a text is cut.
    identity: SHA-256 of everything that scores depend on.
  """

  def __init__(
    self,
    tokenizer: Any,
    eval_step: score.EvalStep,
    params: Any,
    max_length: int,
    labels: Sequence[str],
    temperature: float,
    thresholds: Mapping[str, float | None],
  ):
    """Called by `load`. `eval_step(params, texts)` returns logits f32 [n, C]."""
    self.labels, self.temperature = tuple(labels), temperature
    self.thresholds, self.max_length = dict(thresholds), max_length
    facts = [pytrees.sha256(params), self.labels, temperature, max_length]
    self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    longest = min(max_length, LONGEST_ROW)
    row_lengths = score.choose_row_lengths(longest, score.MANY_SHORTER)
    self._score = score.make_scorer(eval_step, params, row_lengths, fit=True)
    self._tokenizer, self._lock = tokenizer, threading.Lock()

  @classmethod
  def load(cls, folder: str | Path) -> "SafetyClassifier":
    """Loads a run (its best checkpoint) or a folder of `python -m ssljax.export`.

      classifier = SafetyClassifier.load("runs/demo")

    Raises:
      UserError: the folder is neither, or can't be read.
    """
    folder = Path(folder).expanduser()
    if (folder / CARD).is_file():
      return cls(*load_exported(folder))
    if not (folder / "checkpoints").is_dir():
      raise UserError(
        f"{folder}: neither a run of ssljax nor a folder of `python -m ssljax.export`"
      )
    return cls.of_run(folder)

  @classmethod
  def of_run(cls, workdir: str | Path, dtype: str | None = None) -> "SafetyClassifier":
    """Loads the best checkpoint of a run.

    An unfinished run has no temperature or thresholds yet; a note on standard error
    says so.

    Args:
      workdir: folder of the run.
      dtype: dtype of the computation; by default that of the run.

    Raises:
      UserError: the folder holds no run, or can't be read.
    """
    trained = load_trained(workdir, dtype)
    rule = evaluation.read_decision_rule(trained.workdir, trained.step)
    if not (trained.workdir / "result.json").exists():
      print(f"{workdir}: {evaluation.UNFINISHED}", file=sys.stderr)
    return cls(
      tokenize.load_tokenizer(trained.encoder),
      trained.eval_step,
      trained.params,
      trained.config["max_length"],
      trained.labels,
      rule.temperature,
      {name: point["threshold"] for name, point in rule.thresholds.items()},
    )

  def __call__(self, texts: Sequence[Text]) -> np.ndarray:
    """Computes calibrated scores, f64 [n].

    With two classes, the score is the probability of the harmful one; with more, that
    of the predicted class. A text that is empty or only white space has no score: it
    gets NaN, which no threshold flags. So does a pair with such a prompt, whatever the
    response.

      scores = classifier(["a prompt", ("a prompt", "its response")])

    Args:
      texts: prompts, or pairs of prompt and response.

    Raises:
      TypeError: an element is neither, such as None.
    """
    return score_of(self.logits(texts).logits, self.temperature)

  def logits(self, texts: Sequence[Text]) -> ClassifierOutput:
    """Computes the model's logits, before calibration.

    Unpaired surrogates, such as the JSON string "\\ud83d", are read as U+FFFD. See
    `__call__` for the arguments, errors and texts without content.
    """
    if isinstance(texts, str):
      raise TypeError("give a list of texts, not a single text")
    pairs = [_as_pair(text, f"texts[{i}]") for i, text in enumerate(texts)]
    logits = np.full((len(pairs), len(self.labels)), np.nan, np.float32)
    truncated = np.zeros(len(pairs), bool)
    scored = [i for i, (prompt, _) in enumerate(pairs) if has_content(prompt)]
    if scored:
      prompts = [_valid(pairs[i][0]) for i in scored]
      responses = [text and _valid(text) for text in (pairs[i][1] for i in scored)]
      tokens = tokenize.encode(self._tokenizer, prompts, responses, self.max_length)
      with self._lock:  # concurrent calls would only compete for the same cores
        logits[scored] = self._score(tokens)
      truncated[scored] = tokens.truncated
    return ClassifierOutput(logits, truncated)

  def scores_and_classes(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps logits f32 [n, C] to calibrated scores f64 [n] and classes i64 [n]."""
    return score_of(logits, self.temperature), logits.argmax(-1)

  def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
    """Computes the calibrated probabilities of all classes, f64 [n, C]."""
    return softmax(self.logits(texts).logits, self.temperature)

  def threshold(self, name: str | float) -> float:
    """Looks up a threshold by its name, or checks one that is given as a number.

      classifier.threshold("fpr_1%")  # such as 0.83
      classifier.threshold(0.5)  # 0.5

    Raises:
      UserError: an unknown name, a threshold that validation didn't define, a number
        outside 0 to 1, or a classifier with more than two classes.
    """
    if len(self.labels) != 2:
      raise UserError(f"{evaluation.TWO_CLASSES_ONLY}; leave --threshold out")
    try:
      value = float(name)
    except ValueError:
      return self._named_threshold(str(name))
    if not 0 <= value <= 1:
      raise UserError(f"--threshold={name}: give a number from 0 to 1")
    return value

  def _named_threshold(self, name: str) -> float:
    value = self.thresholds.get(name)
    if value is not None:
      return value
    if name not in thresholds.TARGETS:
      problem = "no such threshold"
    elif not self.thresholds:
      problem = "the run isn't finished, so it has no thresholds"
    else:
      problem = "the validation data didn't allow this threshold"
    defined = [name for name, value in self.thresholds.items() if value is not None]
    accepted = f"a number from 0 to 1, or one of {', '.join(defined)}"
    if not defined:
      accepted = "a number from 0 to 1"
    raise UserError(f"--threshold={name}: {problem}; give {accepted}")

  def moderate(
    self, conversations: Sequence[Sequence[Mapping[str, str]]], **_: Any
  ) -> list[float]:
    """Scores conversations, as GuardBench's `benchmark(moderate=...)` expects.

    Args:
      conversations: lists of {"role": "user" | "assistant", "content": text}. The last
        user turn is scored, together with the answer if there is one.

    Returns:
      The probability of harm of each conversation. It is 0 for an empty user turn,
      since GuardBench's metrics don't accept NaN.

    Raises:
      UserError: the classifier has more than two classes.
      ValueError: a conversation has no user turn.
    """
    if len(self.labels) != 2:
      raise UserError("moderate() needs a classifier of two classes")
    scores = self([_last_turn(conversation) for conversation in conversations])
    return np.nan_to_num(scores, nan=0.0).tolist()


def has_content(prompt: str) -> bool:
  """Whether a prompt is more than white space."""
  return bool(prompt.strip())


def _as_pair(text: Text, where: str) -> tuple[str, str | None]:
  pair = (text, None) if isinstance(text, str) else text
  if isinstance(pair, tuple | list) and len(pair) == 2:
    prompt, response = pair
    if isinstance(prompt, str) and isinstance(response, str | None):
      return prompt, response
  raise TypeError(
    f"{where}: {files.shorten(text)}; give a text, or a pair of prompt and response"
  )


def _valid(text: str) -> str:
  """Replaces unpaired surrogates, which tokenizers reject."""
  return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _last_turn(conversation: Sequence[Mapping[str, str]]) -> Text:
  response = None
  for turn in reversed(conversation):
    if turn["role"] == "user":
      return turn["content"], response
    if turn["role"] == "assistant" and response is None:
      response = turn["content"]
  raise ValueError("the conversation has no user turn")
