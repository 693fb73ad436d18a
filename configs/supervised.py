"""Supervised training on only the labelled texts: the baseline.

  python -m ssljax.main --config=configs/supervised.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/supervised.py:response
To use every label: --config.labels=0 --config.passes=3
With MiniLM on two CPU cores, the test F1 on ToxicChat is 0.479 ± 0.034 over three
seeds, and a run takes 2 minutes; the command is in docs/evaluation.md, "Reports".
These defaults are untested: DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("supervised", task)
