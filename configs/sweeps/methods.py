"""All methods on one dataset with 200 labels, over three seeds.

  python launch/sweep.py --sweep=configs/sweeps/methods.py --config.data=FOLDER --jobs=2

The settings are those of the comparisons in docs/evaluation.md, which are meant for a
CPU: 300 steps with MiniLM and 64 tokens per text. Without --config.data, the data is
the public dataset PyRIT.
"""

from ssljax import methods


def runs():
  for method in methods.names():
    for seed in range(3):
      yield (
        f"{method}-{seed}",
        method,
        {
          "data": "pyrit",
          "encoder": "sentence-transformers/all-MiniLM-L6-v2",
          "labels": 200,
          "max_length": 64,
          "batch": 8,
          "steps": 300,
          "eval_every": 50,
          "learning_rate": 1e-4,
          "seed": seed,
        },
      )
