"""Writes the small dataset and encoder of benchmarks.faults to the current folder."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np

from ssljax import cli
from ssljax.models import Encoder, save_params
from ssljax.testing.tiny import CONFIG

GOOD, BAD = ("kind", "calm", "help", "bread", "bake"), ("harm", "hurt", "steal")
COMMON = ("a", "the")
ROWS = {"data/train": 120, "data/val": 40, "data/test": 40}
TEXTS = 20_000  # of `predict`: three of its chunks


def main() -> None:
  for folder in ("data", "encoder"):
    Path(folder).mkdir()
  for seed, (name, rows) in enumerate({**ROWS, "texts": TEXTS}.items()):
    write_rows(Path(f"{name}.jsonl"), rows, seed)
  ids = np.zeros((1, 4), np.int32)
  params = Encoder(CONFIG).init(jax.random.key(0), ids, ids + 1)["params"]
  save_params(Path("encoder"), CONFIG, params)
  words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *COMMON)
  Path("encoder/vocab.txt").write_text("\n".join(words) + "\n")
  settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
  Path("encoder/tokenizer_config.json").write_text(json.dumps(settings))
  if importlib.util.find_spec("torch"):
    pickle_weights()


def pickle_weights() -> None:
  """Copies the encoder to `pickled`, with a pytorch_model.bin of torch."""
  import torch
  from safetensors.torch import load_file

  shutil.copytree("encoder", "pickled")
  weights = Path("pickled/model.safetensors")
  torch.save(load_file(weights), "pickled/pytorch_model.bin")
  weights.unlink()


def write_rows(path: Path, rows: int, seed: int) -> None:
  """Writes texts of six words, which give the label away."""
  generator = np.random.default_rng(seed)
  with open(path, "w") as file:
    for i in range(rows):
      words = generator.choice([*(BAD if i % 2 else GOOD), *COMMON], 6)
      row = {"id": f"{path.stem}-{i}", "text": " ".join(words), "label": i % 2}
      file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
  cli.run(main)
