"""MultiMatch: three heads on one encoder, each trained by the other two.

  python -m ssljax.main --config=configs/multimatch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/multimatch.py:response
With MiniLM on two CPU cores, the test F1 on ToxicChat is 0.548 ± 0.030 over three
seeds, and a run takes 5 to 7 minutes; the command is in docs/evaluation.md, "Reports".
These defaults are untested: DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("multimatch", task)
