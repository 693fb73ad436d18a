"""MultiMatch: three voters on one encoder, each taught by the other two.

  python -m ssljax.main --config=configs/multimatch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/multimatch.py:response
Run with MiniLM on two CPU cores, by the command in docs/evaluation.md ("Reports"): test
F1 0.548 ± 0.030 on ToxicChat over three seeds, 5 to 7 minutes a run. Not run with the
settings of this file, whose DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("multimatch", task)
