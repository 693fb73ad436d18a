"""Mean Teacher: an average of the model's parameters gives the targets.

  python -m ssljax.main --config=configs/mean_teacher.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/mean_teacher.py:response
docs/methods.md has results with MiniLM on a CPU (test F1 and the time of a step), and
the commands for them. These defaults are untested, since DeBERTa-v3-base needs an
accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  config = base.get_config("mean_teacher", task)
  # The teacher averages over about 100 steps, as in the paper's ramp-up. The paper's
  # later 0.999 averages over 1,000 steps, which is most of a run with few labels.
  config.ema = 0.99
  return config
