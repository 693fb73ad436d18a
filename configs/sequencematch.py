"""SequenceMatch: consistency from weak to medium to strong view.

  python -m ssljax.main --config=configs/sequencematch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/sequencematch.py:response
docs/methods.md has the test F1 and the cost of a step with MiniLM on a CPU, and the
command. The defaults here (DeBERTa-v3-base) need an accelerator and were not run.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("sequencematch", task)
