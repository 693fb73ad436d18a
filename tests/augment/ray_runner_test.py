"""The Ray runner: the same rows and errors as the local runner, and signals."""

import signal
import time

import pytest

from ssljax.augment.run import run
from ssljax.errors import RunError, UserError
from tests.augment import command, folders
from tests.augment.command import make_config
from tests.augment.folders import hash_files, leftovers

ray = pytest.importorskip("ray", reason="pip install -e '.[ray]'")
pytestmark = [
  pytest.mark.slow,
  # Ray leaves sockets and files to the garbage collector.
  pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  """Starts Ray; its workers have a separate cache."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PYTHONPATH", str(command.ROOT))
    patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    patch.setenv("SSLJAX_CACHE", str(tmp_path_factory.mktemp("ray")))
    ray.init(num_cpus=3, log_to_driver=False, logging_level="warning")
  yield
  ray.shutdown()


@pytest.mark.parametrize("stored", [False, True])
def test_rows_counts_and_dropped_candidates_equal_those_of_a_local_run(
  tmp_path, monkeypatch, cluster, stored
):
  results = {}
  for runner in ("local", "ray"):
    monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
    data = folders.make_folder(tmp_path / runner, 200)
    folders.write_part(data / "train" / "part-2.parquet", [])
    config = make_config(
      "refuse_even", stored=stored, workers=0, fallback="words", shard=4
    )
    counts = run(config, data, runner=runner)["counts"]
    dropped = sorted(folders.read_dropped(data), key=lambda row: row["id"])
    # The order of rows counts, because training draws them by position.
    results[runner] = (folders.read_train(data), dropped, counts)
    parts = sorted(p.name for p in (data / "train").iterdir())
    assert parts == [f"part-{i}.parquet" for i in range(3)]
  assert results["local"] == results["ray"]


@pytest.mark.parametrize(
  ("changes", "kind", "message"),
  [
    ({"function": "unreachable", "stored": True}, RunError, "20 problems in a row"),
    ({"label_check": "/nowhere"}, UserError, "/nowhere"),
  ],
)
def test_errors_of_workers_equal_those_of_a_local_run(
  tmp_path, cluster, changes, kind, message
):
  data = folders.make_folder(tmp_path / "data", 60)
  before = hash_files(data)
  with pytest.raises(UserError, match=message) as caught:
    run(make_config(**{"shard": 30, **changes}), data, runner="ray")
  assert type(caught.value) is kind
  assert hash_files(data) == before
  assert leftovers(data) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_with_its_code_and_two_lines(tmp_path, number):
  data = folders.make_folder(tmp_path / "data")
  before = hash_files(data)
  process = command.start(
    data,
    "reverse",
    *("--runner=ray", "--config.workers=1"),
    SLOW="0.5",
    PYTHONPATH=str(command.ROOT),
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
  )
  while not command.queries(data) and process.poll() is None:
    time.sleep(0.2)
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + number, output
  # Processes of Ray may print lines, which begin with a bracket.
  lines = [line for line in output.splitlines() if not line.startswith("[")]
  assert [line.split()[0] for line in lines[-2:]] == ["stopping", "stopped:"], output
  assert "Traceback" not in output
  assert hash_files(data) == before
  assert leftovers(data) == set()
