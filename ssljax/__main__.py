"""The console script `ssljax`, with a sub-command for each program.

  ssljax train --config=fixmatch --config.data=FOLDER

does the same as `python -m ssljax.main --config=fixmatch --config.data=FOLDER`.
"""

import os
import runpy
import sys

from ssljax import cli
from ssljax.errors import MISTAKE
from ssljax.options import nearest

COMMANDS = {
  "prepare": ("ssljax.data.prepare", "writes a dataset folder"),
  "contamination": ("ssljax.data.contamination", "finds test texts in training data"),
  "augment": ("ssljax.augment", "adds views to a dataset folder"),
  "tokenize": ("ssljax.data.tokenize", "makes the tokens that training reads"),
  "train": ("ssljax.main", "trains a classifier"),
  "self_train": ("ssljax.self_train", "trains again with labels for unlabelled texts"),
  "evaluate": ("ssljax.evaluate", "scores a trained classifier on labelled texts"),
  "thresholds": ("ssljax.thresholds", "chooses thresholds on fresh labelled texts"),
  "decide": ("ssljax.decide", "trains, and says whether the classifier can be shipped"),
  "report": ("ssljax.report", "writes the report of a run, or compares runs"),
  "select": ("ssljax.select", "chooses texts to label next, lists doubtful labels"),
  "export": ("ssljax.export", "writes a folder that other libraries load"),
  "predict": ("ssljax.predict", "scores a file of texts"),
  "convert": ("ssljax.models.convert", "converts pickled weights to safetensors"),
}


def main() -> None:
  """Runs the command in sys.argv[1]."""
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name in ("--help", "-h", "help"):
    return cli.guarded(_print_help, sys.argv[:1])
  if name not in COMMANDS:
    print(f"error: no command {name!r}{nearest(name, COMMANDS)}", file=sys.stderr)
    sys.exit(MISTAKE)
  del sys.argv[1]
  sys.path.append(os.getcwd())  # as python -m does, to find the user's modules
  module = COMMANDS[name][0]
  runpy.run_module(
    f"{module}.__main__" if module == "ssljax.augment" else module,
    run_name="__main__",
    alter_sys=True,
  )


def _print_help() -> None:
  print("usage: ssljax COMMAND [flags]; ssljax COMMAND --help lists the flags\n")
  print("\n".join(f"  {name:14} {what}" for name, (_, what) in COMMANDS.items()))


if __name__ == "__main__":
  main()
