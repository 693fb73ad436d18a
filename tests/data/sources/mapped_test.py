"""Files with other names of columns are read as `prepare` would read them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.sources import mapped
from ssljax.errors import UserError

LABELS = ("unharmful", "harmful")
COLUMNS = {"text": "prompt", "response": "answer", "label": "verdict", "id": "key"}


def write(path, *rows, header="key,prompt,answer,verdict"):
  separator = "\t" if path.suffix == ".tsv" else ","
  lines = (header, *rows)
  path.write_text("".join(line.replace(",", separator) + "\n" for line in lines))
  return path


@pytest.mark.parametrize("name", ["new.csv", "new.tsv"])
def test_labelled_rows(tmp_path, name):
  path = write(tmp_path / name, "a,one,,harmful", "b,two,yes,0", "c,three,, Unharmful ")
  records, notes = mapped.read_labelled(path, LABELS, COLUMNS)
  assert records.column("id") == ["a", "b", "c"]
  assert records.column("text") == ["one", "two", "three"]
  assert records.column("response") == [None, "yes", None]
  assert records.label.tolist() == [1, 0, 0]
  assert notes == []


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("d,four,,", "line 3: .*evaluation needs a label in every row"),
    ("d,four,,spam", "verdict is 'spam', which is not one of the model's classes"),
    ("d,four,,2", "line 3: verdict is '2', which is not one of the model's classes"),
    ("d, ,,harmful", "line 3: the row has no text"),
    ("a,four,,harmful", "id"),
  ],
)
def test_bad_rows(tmp_path, row, message):
  path = write(tmp_path / "new.csv", "a,one,,harmful", row)
  with pytest.raises(UserError, match=f"new.csv.*{message}"):
    mapped.read_labelled(path, LABELS, COLUMNS)


def test_missing_columns(tmp_path):
  path = write(tmp_path / "new.csv", "a,one,,harmful")
  for ours in ("text", "label", "category"):
    with pytest.raises(UserError, match=f"no column 'x'.*--columns={ours}=NAME"):
      mapped.read_labelled(path, LABELS, {**COLUMNS, ours: "x"})
  with pytest.raises(UserError, match="labels are needed here"):
    mapped.read_labelled(path, LABELS, {**COLUMNS, "label": ""})
  with pytest.raises(UserError, match="no column 'label'"):
    mapped.read_labelled(path, LABELS, {"text": "prompt"})


def test_names_that_mean_another_class(tmp_path):
  columns = {"text": "prompt"}
  header = "prompt,label,label_name"
  path = write(tmp_path / "new.csv", "one,1,unharmful", "two,0,harmful", header=header)
  with pytest.raises(UserError, match="label_name"):
    mapped.read_labelled(path, LABELS, columns)
  columns["label_name"] = ""
  assert mapped.read_labelled(path, LABELS, columns)[0].label.tolist() == [1, 0]


def test_declared_names_that_mean_another_class(tmp_path):
  names = '{"info":{"features":{"verdict":{"names":["harmful","unharmful"],'
  metadata = {"huggingface": names + '"_type":"ClassLabel"}}}}'}
  table = pa.table({"prompt": ["a", "b"], "verdict": [0, 1]})
  path = tmp_path / "new.parquet"
  pq.write_table(table.replace_schema_metadata(metadata), path)
  columns = {"text": "prompt", "label": "verdict"}
  with pytest.raises(UserError, match="harmful"):
    mapped.read_labelled(path, LABELS, columns)
  records, _ = mapped.read_labelled(path, LABELS[::-1], columns)
  assert records.label.tolist() == [0, 1]


def test_texts_without_labels(tmp_path):
  path = write(tmp_path / "new.csv", "a,one,x,?", "a,two,,!")
  with pytest.raises(UserError, match="id"):
    mapped.read_texts(path, {"text": "prompt", "id": "key"})
  records = mapped.read_texts(path, {"text": "prompt"})
  assert records.column("text") == ["one", "two"]
  assert records.column("id") == ["new:1", "new:2"]
  assert set(records.label) == {-1}
