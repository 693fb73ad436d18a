"""Mean Teacher: the average teaches.

  python -m ssljax.main --config=configs/mean_teacher.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/mean_teacher.py:response
With MiniLM on a CPU: docs/methods.md has command, test F1 and cost of a step. Not run
with the settings of this file, whose DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  config = base.get_config("mean_teacher", task)
  # The teacher: a mean over some 100 steps, as in the paper's ramp-up. Its later 0.999
  # would be one over 1,000, most of a run with few labels.
  config.ema = 0.99
  return config
