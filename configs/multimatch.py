"""MultiMatch: three heads on one encoder, each trained by the other two.

  python -m ssljax.main --config=configs/multimatch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/multimatch.py:response
With MiniLM on two CPU cores (docs/evaluation.md, "Reports", has the command): test F1
0.548 ± 0.030 on ToxicChat over three seeds, 5 to 7 minutes per run. The defaults here
(DeBERTa-v3-base) need an accelerator and were not run.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("multimatch", task)
