"""DeFixMatch: FixMatch, and a term on labelled texts that removes its bias.

  python -m ssljax.main --config=configs/defixmatch.py --workdir=DIR \\
    --config.data=FOLDER_OR_FILES --config.labels=200 --config.seed=0

For the response task: --config=configs/defixmatch.py:response
docs/methods.md has results with MiniLM on a CPU (test F1 and the time of a step), and
the commands for them. These defaults are untested, since DeBERTa-v3-base needs an
accelerator.
"""

from ssljax.configs import base


def get_config(task: str = "prompt"):
  return base.get_config("defixmatch", task)
