"""Supervised training on the labelled texts alone: the line to beat.

  python -m ssljax.main --config=configs/supervised.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/supervised.py:response
Every label instead of 200: --config.labels=0 --config.passes=3
Run with MiniLM on two CPU cores, by the command in docs/evaluation.md ("Reports"): test
F1 0.479 ± 0.034 on ToxicChat over three seeds, 2 minutes a run. Not run with the
settings of this file, whose DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("supervised", task)
