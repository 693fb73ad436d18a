"""Mean Teacher: the average teaches.

  python -m ssljax.main --config=configs/mean_teacher.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/mean_teacher.py:response
Not run with these settings (DeBERTa-v3-base needs an accelerator).
"""

from configs import base


def get_config(task: str = "prompt"):
  config = base.get_config("mean_teacher", task)
  config.ema = 0.999  # the teacher
  return config
