"""The Ray runner gives the rows of the local one, and its mistakes are as clear."""

import signal
import time

import pytest

from ssljax.augment.run import run
from ssljax.errors import RunError, UserError
from tests.augment import places
from tests.augment.folders import beside, config, state

ray = pytest.importorskip("ray", reason="pip install -e '.[ray]'")
pytestmark = [
  pytest.mark.slow,
  # Ray's own: sockets and files that it leaves to the garbage collector.
  pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  """Ray, with workers whose cache is their own."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PYTHONPATH", str(places.ROOT))
    patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    patch.setenv("SSLJAX_CACHE", str(tmp_path_factory.mktemp("ray")))
    ray.init(num_cpus=3, log_to_driver=False, logging_level="warning")
  yield
  ray.shutdown()


@pytest.mark.parametrize("stored", [False, True])
def test_rows_counts_and_dropped_views_are_those_of_the_local_run(
  tmp_path, monkeypatch, cluster, stored
):
  found = {}
  for runner in ("local", "ray"):
    monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
    data = places.folder(tmp_path / runner, 200)
    places.empty_part(data / "train" / "part-2.parquet")
    made = config("stubborn", stored=stored, workers=0, fallback="words", shard=4)
    counts = run(made, data, runner=runner)["counts"]
    counts.pop("answers of the engine", None)
    rows = places.read(data)  # in their order: labelled rows are drawn by place
    lost = sorted(places.dropped(data), key=lambda row: row["id"])
    found[runner] = (rows, lost, counts)
    assert sorted(p.name for p in (data / "train").iterdir()) == [
      f"part-{i}.parquet" for i in range(3)
    ]
  assert found["local"] == found["ray"]


@pytest.mark.parametrize(
  ("more", "kind", "said"),
  [
    ({"function": "down", "stored": True}, RunError, "20 problems one after another"),
    ({"label_check": "/nowhere"}, UserError, "/nowhere"),
  ],
)
def test_what_a_worker_cannot_do_is_said_as_by_the_local_run(
  tmp_path, cluster, more, kind, said
):
  data = places.folder(tmp_path / "data", 60)
  before = state(data)
  with pytest.raises(UserError, match=said) as found:
    run(config(**{"shard": 30, **more}), data, runner="ray")
  assert type(found.value) is kind
  assert state(data) == before
  assert beside(data) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_two_lines_and_with_its_code(tmp_path, number):
  data, note = places.folder(tmp_path / "data", 40), tmp_path / "note"
  before = state(data)
  process = places.start(
    data,
    "backwards",
    *("--runner=ray", "--config.workers=1"),
    SLOW="0.5",
    PYTHONPATH=str(places.ROOT),
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
  )
  while not note.exists() and process.poll() is None:
    time.sleep(0.2)
  process.send_signal(number)
  printed, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + number, printed
  # Ray's own processes may say a line of theirs, which begins with a bracket.
  lines = [line for line in printed.splitlines() if not line.startswith("[")]
  assert [line.split()[0] for line in lines[-2:]] == ["stopping", "stopped:"], printed
  assert "Traceback" not in printed
  assert state(data) == before
  assert beside(data) == set()
