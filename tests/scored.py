"""Input files, and an untrained model that scores them, for tests of predict."""

import gzip
import json

import jax
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax import export
from ssljax.inference import exported
from ssljax.models import Encoder, read_config
from ssljax.models.classifier import Classifier
from ssljax.training import build
from tests import tiny

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
SURROGATES = [  # lines of JSONL; all but the first hold an unpaired surrogate
  r'{"text": "calm"}',
  r'{"text": "harm \ud83d", "x": "ä"}',
  r'{"text": "harm", "response": "\ude00 steal"}',
  r'{"text": "harm", "x": {"\udfff": ["\ud800"]}}',
]


def export_model(folder, labels=("0", "1")):
  """Writes a folder as `export` does."""
  tiny.folder_of_encoder(folder)
  config = read_config(folder)
  classifier = Classifier(Encoder(config), len(labels))
  params, _ = build.init_params(classifier, folder, 0)
  head = jax.tree.map(lambda a: a * 40, params["classifier"])  # scores far apart
  export.write_weights(folder, config, params | {"classifier": head}, "mlp", labels, 32)
  card = {"head": "mlp", "voters": 1, "labels": labels, "max_length": 32}
  thresholds = {"fpr=1%": 0.4} if len(labels) == 2 else {}
  exported.seal(folder, card | {"temperature": 1.5, "thresholds": thresholds})
  return folder


def make_rows(count=50):
  """Rows of all kinds; 7 and 8 have no text."""
  rows = [
    {"id": i, "text": f"calm {'harm ' * (i % 5)}{i}", "response": None, "n": [i]}
    for i in range(count)
  ]
  rows[7]["text"], rows[8]["text"] = "  ", None
  rows[9]["response"], rows[10]["text"] = "steal", "kind " * 60
  return rows


def write_file(path, rows):
  """Writes rows, or lines, in the format of the file's suffix."""
  if path.suffix == ".parquet":
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=9)
  else:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "wt") as file:
      file.write("".join(f"{line}\n" for line in lines))
  return str(path)


def read_rows(path):
  if path.suffix.lower() == ".parquet":
    return pq.ParquetFile(path).read().to_pylist()
  return [json.loads(line) for line in path.read_text().splitlines()]


def without_scores(rows):
  return [{k: v for k, v in row.items() if k not in ADDED} for row in rows]


def hidden_files(folder):
  return [path.name for path in folder.iterdir() if path.name.startswith(".")]
