"""Dash: the threshold on the loss comes down.

  python -m ssljax.main --config=configs/dash.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/dash.py:response
With MiniLM on a CPU: docs/methods.md has command, test F1 and cost of a step. Not run
with the settings of this file, whose DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("dash", task)
