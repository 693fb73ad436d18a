"""Supervised training on the labelled texts only: the baseline.

  python -m ssljax.main --config=configs/supervised.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/supervised.py:response
To use every label: --config.labels=0 --config.passes=3
With MiniLM on two CPU cores (docs/evaluation.md, "Reports", has the command): test F1
0.479 ± 0.034 on ToxicChat over three seeds, 2 minutes per run. The defaults here
(DeBERTa-v3-base) need an accelerator and were not run.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("supervised", task)
