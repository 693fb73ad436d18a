"""JointMatch: two networks, each with its own encoder, teach each other.

  python -m ssljax.main --config=configs/jointmatch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/jointmatch.py:response
Two encoders take twice the memory: with MiniLM, 128 tokens and a batch of 8, the dry
run (--config.dry_run=true) shows a state of 520 MiB and 2391 MiB more for a step
(FixMatch: 260 and 1237 MiB). The run can't be exported, but `evaluate` and `predict`
use it. These defaults are untested, since DeBERTa-v3-base needs an accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("jointmatch", task)
