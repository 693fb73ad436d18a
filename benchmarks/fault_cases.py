"""The commands that benchmarks.faults disturbs, and the small files that they use."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from tests import runs

PATIENCE = 300.0  # seconds that a command may take


class Case(NamedTuple):
  """A command and its files, as patterns relative to the working directory."""

  module: str
  arguments: tuple[str, ...]
  results: tuple[str, ...]  # what it writes
  reads: tuple[str, ...] = ()  # what it must verify; damaged by "corrupt"


TRAIN = (
  *("--config.data=set", "--config.encoder=encoder", "--config.strong=adversarial"),
  *("--config.labels=16", "--config.batch=8", "--config.steps=12"),
  *("--config.max_length=32", "--config.learning_rate=0.003"),
  *("--config.eval_every=4", "--config.checkpoint_every=2", "--config.log_every=5"),
  f"--config={runs.ROOT}/configs/fixmatch.py",
)
VIEWS = f"--config={runs.ROOT}/configs/augment/adversarial.py"
SET, TOKENIZER = "set/*/*.parquet", "encoder/vocab.txt"
RUN = ("run/checkpoints/**/*", "run/predictions/*.parquet")
TRAINED = ("result.json", "predictions/*.parquet")
CASES = {
  "prepare": Case(
    "ssljax.data.prepare", ("--source=set", "--output=out/set"), ("out/**/*",), (SET,)
  ),
  "contamination": Case(
    "ssljax.data.contamination",
    ("--data=set", "--output=out/overlaps.json"),
    ("out/*",),
    (SET,),
  ),
  "augment": Case(
    "ssljax.augment", (VIEWS, "--data=set", "--config.kind=more"), (SET,), (SET,)
  ),
  "inspect": Case(
    "ssljax.augment",
    ("inspect", "--data=set", "--output=out/page.html"),
    ("out/*",),
    ("set/train/*.parquet",),
  ),
  "main": Case(
    "ssljax.main",
    (*TRAIN, "--workdir=out"),
    tuple(f"out/{name}" for name in TRAINED),
    (SET,),
  ),
  "resume": Case(
    "ssljax.main",
    (*TRAIN, "--workdir=half"),
    tuple(f"half/{name}" for name in TRAINED),
    (SET, TOKENIZER, "half/checkpoints/**/*"),
  ),
  "evaluate": Case(
    "ssljax.evaluate",
    ("--workdir=run", "--output=out"),
    ("out/metrics.json", "out/*.parquet"),
    (SET, TOKENIZER, "cache/tokens/*/*.npy", *RUN),
  ),
  "export": Case(
    "ssljax.export", ("--workdir=run", "--output=out/model"), ("out/**/*",), RUN
  ),
  "report": Case(
    "ssljax.report", ("run", "--output=out/report.html"), ("out/*",), RUN[1:]
  ),
  "predict": Case(
    "ssljax.predict",
    ("--model=model", "--input=set/test/part-0.parquet", "--output=out/scores.jsonl"),
    ("out/*",),
    ("model/**/*.json", "model/**/*.safetensors", "model/vocab.txt", "set/test/*"),
  ),
}


class Place:
  """The working directory of all commands; `reset` restores its files."""

  def __init__(self, folder: Path):
    self.path, self._template, self._cache = (
      folder / name for name in ("place", "template", "cache")
    )
    self.path.mkdir()
    self._cache.mkdir()
    self.expected: dict[str, tuple[int, dict[str, str]]] = {}
    self.seconds: dict[str, float] = {}

  def start(self, case: Case) -> runs.Command:
    environment = runs.environment(self.path)
    environment["SSLJAX_CACHE"] = str(self.path / "cache")
    arguments = {"cwd": self.path, "env": environment, "merge": True}
    return runs.Command(case.module, *case.arguments, **arguments)

  def run(self, case: Case) -> tuple[int | None, str]:
    return finish(self.start(case))

  def make_files(self) -> None:
    """Writes what the commands read: a dataset, an encoder, runs, an exported model."""
    runs.folder(self.path)
    (self.path / "cache").mkdir()
    (self.path / "cache" / "xla").symlink_to(self._cache)
    for module, *arguments in (
      ("ssljax.data.prepare", "--source=data", "--output=set"),
      ("ssljax.augment", VIEWS, "--data=set"),
      ("ssljax.main", *TRAIN, "--workdir=run"),
      ("ssljax.export", "--workdir=run", "--output=model"),
    ):
      code, output = self.run(Case(module, tuple(arguments), ()))
      if code != 0:
        raise SystemExit(f"{module} failed: {output}")
    # A run that was killed before its last steps.
    half = self.path / "half"
    shutil.copytree(self.path / "run", half)
    for name in ("result.json", "report.html"):
      (half / name).unlink()
    steps = (half / "checkpoints").glob("[0-9]*")
    shutil.rmtree(max(steps, key=lambda path: int(path.name)))
    shutil.copytree(self.path, self._template, symlinks=True)

  def reset(self) -> None:
    shutil.rmtree(self.path)
    shutil.copytree(self._template, self.path, symlinks=True)

  def measure(self, name: str) -> None:
    """Runs a command undisturbed, twice: the first time compiles its programs."""
    for _ in range(2):
      self.reset()
      began = time.monotonic()
      code, output = self.run(CASES[name])
      self.seconds[name] = time.monotonic() - began
      results = self.results(CASES[name])
      if "Traceback" in output or not results:
        raise SystemExit(f"{name} fails without a fault: {output}")
      before = self.expected.setdefault(name, (code or 0, results))
      if before != (code, results):
        raise SystemExit(f"{name} has other results the second time")

  def results(self, case: Case) -> dict[str, str]:
    """Hashes of what a command has written."""
    return {
      str(path.relative_to(self.path)): _hash(path) for path in self.files(case.results)
    }

  def files(self, patterns: tuple[str, ...]) -> list[Path]:
    """The files that match, without hidden ones."""
    found = {path for pattern in patterns for path in self.path.glob(pattern)}
    hidden = lambda path: any(
      part.startswith(".") for part in path.relative_to(self.path).parts
    )
    return sorted(path for path in found if path.is_file() and not hidden(path))

  def left(self) -> set[str]:
    """Hidden files and folders that weren't there at the start."""
    old, new = (
      {str(path.relative_to(top)) for path in top.rglob(".*")}
      for top in (self._template, self.path)
    )
    return {name for name in new - old if not name.endswith(".lock")}


def _hash(path: Path) -> str:
  content = path.read_bytes()
  if path.name == "result.json":  # without the times
    names = ("params_sha256", "state_sha256", "step", "validation", "test")
    saved = json.loads(content)
    content = json.dumps([saved[name] for name in names]).encode()
  return hashlib.sha256(content).hexdigest()


def finish(process: runs.Command) -> tuple[int | None, str]:
  """Waits for a process; returns its exit code (None: it hangs) and its output."""
  try:
    output, _ = process.communicate(PATIENCE)
  except TimeoutError as error:
    return None, str(error)
  return process.returncode, output
