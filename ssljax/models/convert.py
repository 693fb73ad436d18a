"""Converts a pickled checkpoint, pytorch_model.bin, to a folder with safetensors.

    python -m ssljax.models.convert microsoft/deberta-v3-base encoders/deberta-v3-base

Training never unpickles a file. This command does so once, with torch's option
`weights_only=True`, which runs no code from the file. The command needs torch (the
extra `parity`).
"""

import argparse
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ssljax import cli
from ssljax.assets.encoders import TOKENIZER, resolve
from ssljax.errors import UserError
from ssljax.models import hf
from ssljax.models.keys import modern_name
from ssljax.runtime import lock
from ssljax.runtime.atomic import FULL, atomic_folder


def convert(folder_or_name: str, target: str | Path) -> tuple[str, ...]:
  """Writes model.safetensors, config.json and the tokenizer files to `target`.

  Tensors that share memory are copied, as safetensors requires. Old checkpoints have
  LayerNorms with gamma and beta; these are renamed to weight and bias.

  Args:
    folder_or_name: a folder with config.json and pytorch_model.bin (or its shards), or
      the name of an encoder on the Hugging Face Hub.
    target: a new or empty folder.

  Returns:
    The names of the tensors that the encoder does not use.

  Raises:
    UserError: torch is missing, there is nothing to convert, a file is unreadable, the
      weights do not match the config, or the target is not empty.
    OSError: the target cannot be written, because the disk is full, for example.
  """
  try:
    import torch
    from safetensors.torch import save_file
  except ImportError:
    raise UserError(
      "converting pytorch_model.bin needs torch; run pip install -e '.[parity]'"
    ) from None
  target = Path(target)
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise UserError(f"{target}: exists and is not empty; give a new folder")
  source = resolve(folder_or_name, pickled=True)
  config = hf.read_config(source)
  files = hf.weight_files(source, *hf.PICKLED)
  if not files:
    raise UserError(
      f"{source}: no {hf.PICKLED[0]} to convert; use a folder with safetensors as it is"
    )
  tensors = {}
  for file in files:
    try:
      _check_archive(file)
      content = torch.load(file, map_location="cpu", weights_only=True)
      for name, value in content.items():
        if torch.is_tensor(value):
          tensors[modern_name(name)] = value.detach().clone().contiguous()
    except Exception as error:  # each kind of damage raises a different type
      reason = str(error).strip().split("\n")[0]
      raise UserError(
        f"{file}: damaged, or contains more than weights ({reason}); download it again"
      ) from None

  try:
    with atomic_folder(target) as folder:
      hf.write_tensors(folder / hf.WEIGHTS, tensors, save_file)
      for pattern in ("config.json", *TOKENIZER):
        for file in source.glob(pattern):
          shutil.copyfile(file, folder / file.name)
      _, ignored = hf.load_params(folder, config)  # checks the weights
  except OSError as error:
    if error.errno in FULL:
      error.filename, error.filename2 = str(target), None  # not the temporary or source
    raise
  return ignored


def _check_archive(file: Path) -> None:
  """Compares the file with its checksums, which torch doesn't.

  Files of torch before 1.6 aren't archives, and have none. A file that was written
  without checksums (`torch.serialization.set_crc32_options(False)`) is refused.
  """
  if zipfile.is_zipfile(file):
    with zipfile.ZipFile(file) as archive:
      if damaged := archive.testzip():
        raise ValueError(f"{damaged} doesn't match its checksum")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code, 0."""
  parser = argparse.ArgumentParser(prog="ssljax.models.convert", description=__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("source", metavar="NAME_OR_FOLDER")
  parser.add_argument("target", metavar="FOLDER")
  arguments = parser.parse_args(argv)
  with lock.exclusive(arguments.target, "FOLDER"):
    ignored = convert(arguments.source, arguments.target)
  print(f"wrote {arguments.target}; use it as --config.encoder={arguments.target}")
  if ignored:
    print(f"unused tensors: {', '.join(ignored)}")
  return 0


if __name__ == "__main__":
  sys.exit(cli.guarded(main, sys.argv, positional=True))
