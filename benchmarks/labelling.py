"""Simulates labelling with the strategies of `ssljax.select`, on labelled data.

  python -m benchmarks.labelling --data=FOLDER --start=100 --number=50 --rounds=4

Each seed starts with random labelled texts of train. In each round, a strategy chooses
more, whose labels are then revealed. The model is a logistic regression on the frozen
embeddings of the encoder; it's scored on the test split. The strategies are the code
that `select` runs, but near-duplicates aren't left out. Prints the means over the
seeds, and how much a strategy is above `random` with the same starting texts (95%
interval, Student's t over seeds).
"""

from collections.abc import Callable

import numpy as np
from absl import app, flags
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from ssljax.assets.encoders import resolve
from ssljax.data.batches import tokenize
from ssljax.data.records.read import read_splits
from ssljax.data.records.records import Records
from ssljax.inference import score
from ssljax.models import load_encoder
from ssljax.models.classifier import Classifier
from ssljax.selection import strategies
from ssljax.selection.choose import BALANCED
from ssljax.selection.confident_learning import STRENGTH
from ssljax.selection.strategies import STRATEGIES, Candidates, State
from ssljax.training import build

FLAGS = flags.FLAGS


def make_embed(name: str, length: int) -> Callable[[Records], np.ndarray]:
  """A function from records to mean-pooled embeddings, f32 [n, D], rows of norm 1."""
  folder = resolve(name)
  encoder, _ = load_encoder(str(folder))
  model = Classifier(encoder, 2, rate=0.0)
  params, _ = build.init_params(model, folder, 0)
  tokenizer = tokenize.load_tokenizer(folder, "transformers")
  step = lambda params, texts: model.apply({"params": params}, (texts,)).features
  scorer = score.make_scorer(step, params, score.choose_row_lengths(length))

  def embed(records: Records) -> np.ndarray:
    texts = records.column("text"), records.column("response")
    vectors = scorer(tokenize.encode(tokenizer, *texts, length))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

  return embed


def simulate(train, test, strategy: str, seed: int) -> np.ndarray:
  """The metrics, f64 [rounds + 1, 2], after each round: average precision and F1.

  Args:
    train: (embeddings, labels); all are labels of 0 or 1.
    test: the same for the test split.
  """
  (vectors, label), (test_vectors, test_label) = train, test
  order = np.random.default_rng(seed).permutation(len(label))
  labelled = order[: FLAGS.start].tolist()
  rng, results = np.random.default_rng([seed, 1]), []
  for _ in range(FLAGS.rounds + 1):
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(vectors[labelled], label[labelled])
    harm = model.predict_proba(test_vectors)[:, 1]
    precision = average_precision_score(test_label, harm)
    results.append((precision, f1_score(test_label, harm >= 0.5)))
    probability = model.predict_proba(vectors)
    votes = probability[:, None]
    candidates = Candidates(probability, votes, vectors, vectors[labelled])
    state = State(rng, np.ones(len(label), bool))
    state.open[labelled] = False
    choose = STRATEGIES[strategy]
    if strategy in BALANCED:
      labelled += strategies.balanced(choose, candidates, FLAGS.number, state)
    else:
      labelled += choose(candidates, FLAGS.number, state)
  return np.array(results)


def interval(differences: np.ndarray) -> str:
  mean, error = differences.mean(), stats.sem(differences)
  half = stats.t.ppf(0.975, len(differences) - 1) * error
  return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def main(_) -> None:
  splits = read_splits(FLAGS.data)
  embed = make_embed(FLAGS.encoder, FLAGS.max_length)
  train, test = ((embed(s), s.label) for s in (splits.train, splits.test))
  results = {
    name: np.array([simulate(train, test, name, seed) for seed in range(FLAGS.seeds)])
    for name in ("random", *FLAGS.strategies)
  }
  budgets = [FLAGS.start + FLAGS.number * k for k in range(FLAGS.rounds + 1)]
  print(f"labels: {budgets}; {FLAGS.seeds} seeds; means")
  for name, values in results.items():
    for k, metric in enumerate(("average precision", "F1 at 0.5")):
      means = " ".join(f"{v:.3f}" for v in values[:, :, k].mean(0))
      gain = interval((values - results["random"])[:, -1, k])
      print(f"{name:12} {metric:18} {means}  last - random: {gain}", flush=True)


if __name__ == "__main__":
  flags.DEFINE_string("data", None, "dataset whose train rows all have a label")
  flags.DEFINE_string("encoder", "sentence-transformers/all-MiniLM-L6-v2", "encoder")
  flags.DEFINE_integer("max_length", 64, "tokens per text")
  flags.DEFINE_integer("start", 100, "labelled texts at the start")
  flags.DEFINE_integer("number", 50, "texts that are chosen in a round")
  flags.DEFINE_integer("rounds", 4, "rounds")
  flags.DEFINE_integer("seeds", 20, "seeds")
  flags.DEFINE_list("strategies", ["mixed", "margin", "badge", "diversity"], "compared")
  app.run(main)
