"""Runs whole commands, such as `python -m ssljax.main`, as separate processes.

A short command spends most of its time on imports. A fork server therefore imports the
package once per pytest process and forks for each command. What is tested is a real
process all the same, with its own pid, signals, exit code and output. Pass `fresh=True`
to start a new interpreter instead, as a user does.
"""

import atexit
import json
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax

from tests import tiny

ROOT = Path(__file__).parent.parent
STEPS = 24
TIMEOUT = 600  # seconds

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
  [
    "tests.runs",
    "ssljax.train",
    "ssljax.predict",
    "ssljax.configs.base",
    "ssljax.augment.run",
    "ssljax.data.dedup.near",
    "ssljax.evals.report.run_page",
    # Imported only when they are needed.
    "jinja2",
    "matplotlib.backends.backend_svg",
    "pyarrow.parquet",
    "tokenizers",
    "transformers.models.auto.tokenization_auto",
  ]
)


class Command:
  """A command in a separate process, with the interface of `subprocess.Popen`.

  Output goes to files, so that the process can't block on a full pipe.
  """

  def __init__(
    self,
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    merge: bool = False,
    fresh: bool = False,
  ):
    """Starts `python -m module arguments`.

    Args:
      merge: write standard error to the same file as standard output.
    """
    self._folder = tempfile.TemporaryDirectory(prefix="command-")
    self._stdout = Path(self._folder.name) / "stdout"
    self._stderr = self._stdout if merge else self._stdout.with_name("stderr")
    self._output: tuple[str, str] | None = None
    env = dict(os.environ if env is None else env)
    files = (self._stdout, self._stderr)
    if fresh:
      with open(files[0], "ab") as out, open(files[1], "ab") as err:
        self._process = subprocess.Popen(
          [sys.executable, "-m", module, *arguments],
          cwd=cwd,
          env=env,
          stdout=out,
          stderr=err,
        )
    else:
      self._process = FORK.Process(
        target=_run_module, args=(module, arguments, env, cwd, files), daemon=True
      )
      self._process.start()
    self.pid = self._process.pid

  def poll(self) -> int | None:
    """Exit code, negative for a signal; None while the process runs."""
    if isinstance(self._process, subprocess.Popen):
      return self._process.poll()
    return self._process.exitcode

  @property
  def returncode(self) -> int | None:
    return self.poll()

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self.pid, number)

  def terminate(self) -> None:
    self.send_signal(signal.SIGTERM)

  def communicate(self, timeout: float = TIMEOUT) -> tuple[str, str]:
    """Waits for the end; returns what was written to standard output and error."""
    if isinstance(self._process, subprocess.Popen):
      self._process.wait(timeout)
    else:
      self._process.join(timeout)
    if self.poll() is None:
      self.send_signal(signal.SIGKILL)
      raise TimeoutError(f"still running after {timeout} s: {self._stdout.read_text()}")
    if self._output is None:
      self._output = (self._stdout.read_text(), self._stderr.read_text())
      self._folder.cleanup()
    return self._output


def _run_module(module, arguments, env, cwd, files) -> None:
  """Becomes the command, in the process that the fork server has started."""
  os.chdir(cwd)
  os.environ.clear()
  os.environ.update(env)
  for descriptor, path in zip((1, 2), files, strict=True):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, descriptor)
    os.close(file)
  # The fork server has read the environment of pytest.
  seconds = float(env.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", 0))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
  sys.modules.pop(module, None)  # runpy warns about a module that is loaded already
  sys.argv = [module, *arguments]
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
  finally:
    atexit._run_exitfuncs()  # multiprocessing leaves them out


def command(module: str, *arguments: str, **options) -> subprocess.CompletedProcess:
  """Runs a command to its end; see `Command` for the options."""
  process = Command(module, *arguments, **options)
  stdout, stderr = process.communicate()
  return subprocess.CompletedProcess(module, process.returncode, stdout, stderr)


def folder(path: Path, **options) -> Path:
  """Writes data/ and encoder/ into `path`; see `tiny.write_rows` for the options."""
  (path / "data").mkdir()
  (path / "encoder").mkdir()
  for seed, (name, rows) in enumerate({"train": 120, "val": 40, "test": 40}.items()):
    tiny.write_rows(path / "data" / f"{name}.jsonl", rows, seed, **options)
  tiny.folder_of_encoder(path / "encoder")
  return path


def environment(place: Path) -> dict[str, str]:
  """Environment of a command: one device, and caches that all commands share."""
  devices = r"--xla_force_host_platform_device_count=\d+"
  flags = re.sub(devices, "", os.environ.get("XLA_FLAGS", "")).strip()
  return {
    **os.environ,
    "SSLJAX_CACHE": str(place.parent / "cache"),
    # Caches small programs as well: later commands compile almost nothing.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "XLA_FLAGS": flags,
  }


def arguments(place: Path, name: str, workdir: Path, *more: str) -> list[str]:
  """Arguments of ssljax.main for a short run on the files of `folder`."""
  return [
    f"--config={ROOT}/configs/{name}.py",
    f"--workdir={workdir}",
    f"--config.data={place}/data",
    f"--config.encoder={place}/encoder",
    "--config.labels=16",
    "--config.batch=8",
    f"--config.steps={STEPS}",
    "--config.max_length=32",
    "--config.learning_rate=0.003",
    "--config.eval_every=8",
    "--config.checkpoint_every=4",
    "--config.log_every=5",
    *more,
  ]


def start(name: str, workdir: Path, *more: str, place: Path, fresh=False) -> Command:
  """Starts a training run."""
  return Command(
    "ssljax.main",
    *arguments(place, name, workdir, *more),
    env=environment(place),
    merge=True,
    fresh=fresh,
  )


def run(
  name: str, workdir: Path, *more: str, place: Path, fresh=False
) -> tuple[int, str]:
  """Trains; returns the exit code and the output."""
  process = start(name, workdir, *more, place=place, fresh=fresh)
  printed, _ = process.communicate()
  return process.returncode, printed


def evaluate(place: Path, workdir: Path, data: Path | None, *more: str):
  """Runs `ssljax.evaluate`."""
  options = [f"--workdir={workdir}", *more]
  options += [f"--data={data}"] if data else []
  return command("ssljax.evaluate", *options, env=environment(place))


def result(workdir: Path) -> dict:
  return json.loads((workdir / "result.json").read_text())
