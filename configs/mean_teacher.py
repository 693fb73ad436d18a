"""Mean Teacher: an average of the model's parameters gives the targets.

  python -m ssljax.main --config=configs/mean_teacher.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/mean_teacher.py:response
docs/methods.md has the test F1 and the cost of a step with MiniLM on a CPU, and the
command. The defaults here (DeBERTa-v3-base) need an accelerator and were not run.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  config = base.get_config("mean_teacher", task)
  # The teacher averages over about 100 steps, as in the paper's ramp-up. The paper's
  # later 0.999 averages over 1,000 steps, which is most of a run with few labels.
  config.ema = 0.99
  return config
