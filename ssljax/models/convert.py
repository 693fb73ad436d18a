"""Turns a pickled checkpoint, pytorch_model.bin, into a folder with safetensors.

    python -m ssljax.models.convert microsoft/deberta-v3-base encoders/deberta-v3-base

Training never unpickles; this does so once, with torch's `weights_only`, which builds
tensors and runs no code of the file. Needs torch (the extra `parity`).
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ssljax.assets.encoders import TOKENIZER, resolve
from ssljax.errors import MISTAKE, UserError
from ssljax.models import hf
from ssljax.models.keys import modern


def convert(folder_or_name: str, target: str | Path) -> tuple[str, ...]:
  """Writes `target` with model.safetensors, config.json and the tokenizer's files.

  Tensors that share memory are written apart, as safetensors demands, and LayerNorms
  of the old spelling (gamma, beta) get the newer one.

  Args:
    folder_or_name: a folder with config.json and pytorch_model.bin (or its shards), or
      a name of the hub.
    target: made; must not exist or be empty.

  Returns:
    Names of the tensors that an encoder leaves aside.

  Raises:
    UserError: no torch, nothing to convert, an unreadable file, weights that do not
      fit the config, or a target that holds something.
  """
  try:
    import torch
    from safetensors.torch import save_file
  except ImportError:
    raise UserError(
      "converting pytorch_model.bin needs torch; run: pip install -e '.[parity]'"
    ) from None
  target = Path(target)
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise UserError(f"{target}: holds something already; give a new folder")
  source = resolve(folder_or_name, pickled=True)
  config = hf.read_config(source)
  tensors = {}
  for file in _pickles(source):
    try:
      part = torch.load(file, map_location="cpu", weights_only=True)
      named = {name: value for name, value in part.items() if torch.is_tensor(value)}
    except Exception as error:  # each kind of damage raises a type of its own
      reason = str(error).strip().split("\n")[0]
      raise UserError(
        f"{file}: truncated, or not a file of weights alone ({reason}); fetch it again"
      ) from None
    for name, value in named.items():
      tensors[modern(name)] = value.detach().clone().contiguous()

  target.parent.mkdir(parents=True, exist_ok=True)
  # Beside the target, then renamed: a half-written folder never has its name.
  with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
    made = Path(scratch) / "folder"
    made.mkdir()
    save_file(tensors, made / hf.WEIGHTS, metadata={"format": "pt"})
    for pattern in ("config.json", *TOKENIZER):
      for file in source.glob(pattern):
        shutil.copyfile(file, made / file.name)
    _, ignored = hf.load_params(made, config)
    if target.exists():
      target.rmdir()
    os.replace(made, target)
  return ignored


def _pickles(folder: Path) -> list[Path]:
  whole, index = (folder / name for name in hf.PICKLED)
  if whole.is_file():
    return [whole]
  if index.is_file():
    try:
      names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError):
      raise UserError(f"{index}: not an index of shards; fetch it again") from None
    return [folder / Path(name).name for name in sorted(set(names))]
  if (folder / hf.WEIGHTS).is_file() or (folder / hf.INDEX).is_file():
    raise UserError(f"{folder}: has safetensors already; use this folder as it is")
  raise UserError(f"{folder}: no {whole.name} to convert")


def main(argv: Sequence[str] | None = None) -> int:
  """The command line. Returns the exit code."""
  parser = argparse.ArgumentParser(prog="ssljax.models.convert", description=__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("source", metavar="NAME_OR_FOLDER")
  parser.add_argument("target", metavar="FOLDER")
  arguments = parser.parse_args(argv)
  try:
    ignored = convert(arguments.source, arguments.target)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return MISTAKE
  print(f"wrote {arguments.target}; use it as --config.encoder={arguments.target}")
  if ignored:
    print(f"of no use to an encoder: {', '.join(ignored)}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
