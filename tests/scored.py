"""Files of texts, and an untrained model that scores them, for tests of predict."""

import gzip
import json

import jax
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax import export
from ssljax.inference.classifier import CARD
from ssljax.models import Encoder, read_config
from ssljax.models.classifier import Classifier
from ssljax.runtime import json_files
from ssljax.training import build
from tests import tiny

ADDED = {"score": pa.float64(), "flagged": pa.bool_(), "label_name": pa.string()}
HALVES = [
  r'{"text": "calm"}',
  r'{"text": "harm \ud83d", "x": "ä"}',
  r'{"text": "harm", "response": "\ude00 steal"}',
  r'{"text": "harm", "x": {"\udfff": ["\ud800"]}}',
]


def export_model(folder, labels=("0", "1")):
  """Leaves a folder as `export` does."""
  tiny.folder_of_encoder(folder)
  config = read_config(folder)
  classifier = Classifier(Encoder(config), len(labels))
  params, _ = build.init_params(classifier, folder, 0)
  head = jax.tree.map(lambda a: a * 40, params["classifier"])  # scores far apart
  export.write_weights(folder, config, params | {"classifier": head}, "mlp", labels, 32)
  card = {"head": "mlp", "voters": 1, "labels": labels, "max_length": 32}
  thresholds = {"fpr_1%": 0.4} if len(labels) == 2 else {}
  more = {"temperature": 1.5, "thresholds": thresholds}
  json_files.write_json(folder / CARD, card | more)
  return folder


def texts(count=50):
  """Rows of all sorts; 7 and 8 have no text."""
  some = [
    {"id": i, "text": f"calm {'harm ' * (i % 5)}{i}", "response": None, "n": [i]}
    for i in range(count)
  ]
  some[7]["text"], some[8]["text"] = "  ", None
  some[9]["response"], some[10]["text"] = "steal", "kind " * 60
  return some


def write(path, given):
  """Rows, or lines, in the format that the name of the file says."""
  if path.suffix == ".parquet":
    pq.write_table(pa.Table.from_pylist(given), path, row_group_size=9)
  else:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in given]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
      file.write("".join(f"{line}\n" for line in lines))
  return str(path)


def rows(path):
  if path.suffix.lower() == ".parquet":
    return pq.ParquetFile(path).read().to_pylist()
  return [json.loads(line) for line in path.read_text().splitlines()]


def without(found, names=tuple(ADDED)):
  return [{k: v for k, v in row.items() if k not in names} for row in found]


def hidden(folder):
  return [path.name for path in folder.iterdir() if path.name.startswith(".")]
