"""The Ray runner gives the rows of the local one."""

import pytest

from ssljax.augment.run import run
from tests.augment import places
from tests.augment.folders import config

ray = pytest.importorskip("ray", reason="pip install -e '.[ray]'")
pytestmark = [
  pytest.mark.slow,
  # Ray's own: sockets and files that it leaves to the garbage collector.
  pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("stored", [False, True])
def test_rows_counts_and_dropped_views_are_those_of_the_local_run(
  tmp_path, monkeypatch, stored
):
  monkeypatch.setenv("PYTHONPATH", str(places.ROOT))
  monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
  found = {}
  for runner in ("local", "ray"):
    monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / f"cache-{runner}"))
    data = places.folder(tmp_path / runner, 40)
    made = config("stubborn", stored=stored, workers=0, fallback="words")
    counts = run(made, data, runner=runner)["counts"]
    counts.pop("answers of the engine", None)
    rows = places.read(data)  # in their order: labelled rows are drawn by place
    lost = sorted(places.dropped(data), key=lambda row: row["id"])
    found[runner] = (rows, lost, counts)
    assert sorted(p.name for p in (data / "train").iterdir()) == [
      "part-0.parquet",
      "part-1.parquet",
    ]
  assert found["local"] == found["ray"]
