"""SafetyClassifier: maps texts to calibrated scores with a trained model."""

import functools
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax import aims
from ssljax.data.batches import tokenize
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.evals import chosen, decisions
from ssljax.evals.classification import score_of, softmax
from ssljax.inference import score
from ssljax.inference.exported import CARD, load_exported
from ssljax.inference.load import load_trained
from ssljax.inference.outputs import TextOutputs, split, step_of
from ssljax.training import pytrees

LONGEST_ROW = 512  # tokens; a longer text gets a row of exactly its length

Text = str | tuple[str, str | None]  # a prompt, or a prompt and its response


class ClassifierOutput(NamedTuple):
  """Model outputs for n texts."""

  logits: np.ndarray  # f32 [n, C], before calibration; NaN for texts without content
  truncated: np.ndarray  # bool [n], whether the text was cut to `max_length` tokens
  unreadable: np.ndarray  # bool [n], whether a text with content has no known token


class SafetyClassifier:
  """Scores texts with a trained model. Safe to share between threads.

  >>> from ssljax import SafetyClassifier
  >>> classifier = SafetyClassifier.load("runs/demo")  # a run or an exported folder
  >>> scores = classifier(["a prompt", ("a prompt", "its response")])  # f64 [2], 0 to 1
  >>> flagged = scores >= classifier.threshold(0.5)  # or a name, such as "fpr=1%"
  >>> flagged.shape
  (2,)

  Attributes:
    labels: class names by id. With two classes, the second class is the harmful one.
    temperature: the logits are divided by it, which calibrates the scores.
    thresholds: by aim, such as "fpr=1%". A threshold is None if the data didn't allow
      it.
    warnings: by aim, why its threshold promises nothing; see docs/decisions.md.
    max_length: maximum number of tokens; longer texts lose their beginning.
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
    outputs_step: score.EvalStep | None = None,
    warnings: Mapping[str, str | None] | None = None,
    choose: Callable[[aims.Aim], Mapping[str, Any]] | None = None,
  ):
    """Use `load` instead. `eval_step(params, texts)` returns logits f32 [n, C].

    `outputs_step` is the step of the method `outputs`; see `inference.outputs`.
    `choose` chooses thresholds for further aims; see `chosen.for_aim`.
    """
    self._choose = choose
    self.labels, self.temperature = tuple(labels), temperature
    self.thresholds, self.max_length = dict(thresholds), max_length
    self.warnings = {name: why for name, why in (warnings or {}).items() if why}
    facts = [pytrees.sha256(params), self.labels, temperature, max_length]
    self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    longest = min(max_length, LONGEST_ROW)
    row_lengths = score.choose_row_lengths(longest, score.MANY_SHORTER)
    self._score = score.make_scorer(eval_step, params, row_lengths, fit=True)
    self._score_all = outputs_step and score.with_step(self._score, outputs_step)
    self._tokenizer, self._lock = tokenizer, threading.Lock()
    self._embeddings = len(params["encoder"]["embeddings"]["word"]["embedding"])

  @classmethod
  def load(cls, folder: str | Path) -> "SafetyClassifier":
    """Loads a run's best checkpoint, or a folder that `python -m ssljax.export` wrote.

      classifier = SafetyClassifier.load("runs/demo")

    Raises:
      UserError: the folder is neither a run nor an exported folder, or can't be read.
    """
    folder = Path(folder).expanduser()
    if (folder / CARD).is_file():
      return cls(**load_exported(folder))
    if not (folder / "checkpoints").is_dir():
      raise UserError(
        f"{folder}: neither a run nor a folder that `python -m ssljax.export` wrote"
      )
    return cls.of_run(folder)

  @classmethod
  def of_run(cls, workdir: str | Path) -> "SafetyClassifier":
    """Loads the best checkpoint of a run.

    If the run is unfinished, prints a note: it has no temperature or thresholds yet.

    Raises:
      UserError: the folder holds no run, or can't be read.
    """
    trained = load_trained(workdir)
    rule = decisions.read_rule(trained.workdir, trained.step)
    rule = chosen.apply(trained.workdir, rule, trained.step)
    if not (trained.workdir / "result.json").exists():
      print(f"{workdir}: {decisions.UNFINISHED}", file=sys.stderr)
    return cls(
      tokenize.load_tokenizer(trained.encoder, trained.config["tokenization"]),
      trained.eval_step,
      trained.params,
      trained.config["max_length"],
      trained.labels,
      rule.temperature,
      {name: point["threshold"] for name, point in rule.thresholds.items()},
      step_of(trained),
      {name: point["warning"] for name, point in rule.thresholds.items()},
      functools.partial(chosen.for_aim, trained.workdir, rule.temperature)
      if rule.thresholds
      else None,
    )

  def __call__(self, texts: Sequence[Text]) -> np.ndarray:
    """Computes calibrated scores, f64 [n], of prompts or (prompt, response) pairs.

    With two classes, the score is the probability of the harmful class. With more
    classes, it is the probability of the predicted class. If a prompt is empty or only
    white space, the score is NaN, even if there is a response. NaN is never flagged.

      scores = classifier(["a prompt", ("a prompt", "its response")])

    Raises:
      TypeError: an element, such as None, is neither a prompt nor a pair.
      UserError: the tokenizer gives a text an id that the encoder has no embedding for.
      RunError: the score of a text with content is not finite.
    """
    return score_of(self.probabilities(texts))

  def logits(
    self, texts: Sequence[Text], name: Callable[[int], str] = "texts[{}]".format
  ) -> ClassifierOutput:
    """Computes the model's logits; arguments and errors are as for `__call__`.

    Unpaired surrogates, such as the JSON string "\\ud83d", are read as U+FFFD. `name`
    maps the index of a text to the place that an error message names.
    """
    result, truncated, unreadable = self._run(texts, name, self._score)
    logits = np.full((len(texts), len(self.labels)), np.nan, np.float32)
    if result is not None:
      logits[:] = result
    return ClassifierOutput(logits, truncated, unreadable)

  def outputs(
    self, texts: Sequence[Text], name: Callable[[int], str] = "texts[{}]".format
  ) -> TextOutputs:
    """Computes logits, the logits of each voter, and embeddings.

      classifier.outputs(["a prompt"]).embeddings  # f32 [1, D]

    Arguments and errors are as for `logits`; rows without content hold NaN.
    """
    assert self._score_all is not None, "use SafetyClassifier.load"
    result, _, unreadable = self._run(texts, name, self._score_all)
    return split(result, unreadable, len(self.labels))

  def _run(
    self, texts: Sequence[Text], name: Callable[[int], str], scorer: score.Scorer
  ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Scores texts; returns (result, truncated, unreadable), the latter two bool [n].

    The result is f32 [n, K], or None if no text has content.
    """
    if isinstance(texts, str):
      raise TypeError("give a list of texts, not a single text")
    pairs = [_as_pair(text, name(i)) for i, text in enumerate(texts)]
    result = None
    truncated, unreadable = np.zeros((2, len(pairs)), bool)
    scored = [i for i, (prompt, _) in enumerate(pairs) if has_content(prompt)]
    if scored:
      prompts, responses = zip(*(pairs[i] for i in scored), strict=True)
      tokens = tokenize.encode(self._tokenizer, prompts, responses, self.max_length)
      place = lambda i: name(scored[i])
      tokenize.check_ids(tokens, self._embeddings, self._tokenizer, place)
      with self._lock:  # concurrent calls would only compete for the same cores
        values = scorer(tokens, name=place)
      result = np.full((len(pairs), values.shape[1]), np.nan, np.float32)
      result[scored] = values
      truncated[scored] = tokens.truncated
      unreadable[scored] = tokenize.are_unreadable(tokens, self._tokenizer)
    return result, truncated, unreadable

  def warmup(self, texts: int = 1) -> None:
    """Compiles the model, so that the first request doesn't wait for it.

    It covers all lengths up to 512 tokens, for calls with up to `texts` texts. (Longer
    texts are compiled for each length.) A larger call may compile more. Each length
    has a few batch sizes, the powers of two, so large values of `texts` take longer.

      classifier = SafetyClassifier.load("exported")
      classifier.warmup()  # for single texts; takes seconds to minutes

    Raises:
      ValueError: `texts` isn't at least 1.
    """
    if texts < 1:
      raise ValueError(f"texts={texts}: it must be at least 1")
    tokenize.encode(self._tokenizer, ["warm up"], [None], self.max_length)
    with self._lock:
      self._score.warm_up(texts)

  @property
  def block_tokens(self) -> int:
    """How many tokens are scored in at most a few seconds, roughly."""
    return self._score.block_tokens()

  def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
    """Computes the calibrated probabilities of all classes, f64 [n, C]."""
    return softmax(self.logits(texts).logits, self.temperature)

  def threshold(self, name: str | float) -> float:
    """Returns the threshold that has this name; a number is checked and returned.

      classifier.threshold("fpr=1%")  # such as 0.83
      classifier.threshold(0.5)  # 0.5

    If a run doesn't have the aim, its threshold is chosen now, on the run's validation
    texts, and added to `thresholds` and `warnings`.

    Raises:
      UserError: the name is unknown, validation didn't define the threshold, the
        number isn't from 0 to 1, or the classifier has more than two classes.
    """
    if len(self.labels) != 2:
      raise UserError(f"{decisions.TWO_CLASSES_ONLY}; leave --threshold out")
    try:
      value = float(name)
    except ValueError:
      pass  # a name
    else:
      if 0 <= value <= 1:
        return value
      raise UserError(f"--threshold={name}: a number must be from 0 to 1")
    name = aims.canonical(str(name))
    if name not in self.thresholds and aims.is_aim(name) and self._choose:
      entry = self._choose(aims.parse(name))
      self.thresholds[name] = entry["threshold"]
      if entry["warning"]:
        self.warnings[name] = entry["warning"]
    defined = {n: value for n, value in self.thresholds.items() if value is not None}
    if name in defined:
      return defined[name]
    problem = "no such threshold"
    if aims.is_aim(name):
      problem += f"; choose it with python -m ssljax.thresholds --aim={name}"
    if name in self.thresholds:
      problem = "the validation data didn't allow this threshold"
    elif not self.thresholds:
      problem = "the run isn't finished, so it has no thresholds"
    names = f", or one of {', '.join(defined)}" if defined else ""
    raise UserError(f"--threshold={name}: {problem}; give a number from 0 to 1{names}")

  def moderate(
    self, conversations: Sequence[Sequence[Mapping[str, str]]], **_: Any
  ) -> list[float]:
    """Computes probabilities of harm, for GuardBench's `benchmark(moderate=...)`.

    A conversation is a list of {"role": "user" | "assistant", "content": text}. Its
    last user turn is scored, with the answer if it has one. An empty user turn gets 0,
    since GuardBench's metrics don't accept NaN.

    Raises:
      UserError: the classifier has more than two classes, or as for `__call__`.
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
      return _replace_surrogates(prompt), response and _replace_surrogates(response)
  raise TypeError(
    f"{where}: {files.shorten(text)}; give a text, or a pair of prompt and response"
  )


def _replace_surrogates(text: str) -> str:
  """Replaces unpaired surrogates, which tokenizers reject, with U+FFFD."""
  return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _last_turn(conversation: Sequence[Mapping[str, str]]) -> Text:
  response = None
  for turn in reversed(conversation):
    if turn["role"] == "user":
      return turn["content"], response
    if turn["role"] == "assistant" and response is None:
      response = turn["content"]
  raise ValueError("the conversation has no user turn")
