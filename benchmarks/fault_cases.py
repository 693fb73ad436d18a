"""The commands that benchmarks.faults disturbs, and the folder in which they run.

Half of this file, which is over 350 lines long, is the table CASES.
"""

import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.fault_processes import End, Process
from benchmarks.fault_results import results

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0  # seconds that a command may take
COMMON_FAULTS = ("kill", "signal", "corrupt", "disk", "twice")


class Case(NamedTuple):
  """A command and its files, as patterns relative to the working directory."""

  module: str
  arguments: tuple[str, ...]
  writes: tuple[str, ...]
  reads: tuple[str, ...] = ()  # what it must verify; damaged by "corrupt"
  once: bool = False  # whether it refuses to replace its output
  faults: tuple[str, ...] = COMMON_FAULTS
  processes: int = 1
  other: str = ""  # another case, which runs at the same time
  again: bool = False  # whether the other case then runs again, before the comparison


VIEWS = f"--config={ROOT}/configs/augment/adversarial.py"
TRAIN = (
  *("--config.data=set", "--config.encoder=encoder", "--config.strong=adversarial"),
  *("--config.labels=16", "--config.batch=8", "--config.steps=12"),
  *("--config.max_length=32", "--config.learning_rate=0.003"),
  *("--config.eval_every=4", "--config.checkpoint_every=2", "--config.log_every=1"),
  f"--config={ROOT}/configs/fixmatch.py",
)
LAUNCH = ("--processes=2", "--devices=1", "--", *TRAIN)
SPLITS = tuple(f"set/{split}/*.parquet" for split in ("train", "validation", "test"))
SETS, TOKENIZER = "set/*/*.parquet", "encoder/vocab.txt"
EXPORTED = ("model/**/*.json", "model/**/*.safetensors", "model/vocab.txt")
EVALUATION = ("metrics.json", "predictions.parquet")


def _in(folder: str, *names: str) -> tuple[str, ...]:
  return tuple(f"{folder}/{name}" for name in names)


def _checkpoint(folder: str, step: int) -> tuple[str, ...]:
  """The files of a checkpoint whose content is read."""
  state = ("_METADATA", "manifest.ocdbt", "d/*", "ocdbt.process_0/d/*")
  names = ("meta/metadata", *(f"state/{name}" for name in state))
  return _in(f"{folder}/checkpoints/{step}", *names)


def _trained(folder: str) -> tuple[str, ...]:
  names = ("result.json", "predictions/*.parquet", "metrics.jsonl", "tensorboard/*")
  return _in(folder, *names)


CASES = {
  "prepare": Case(
    "ssljax.data.prepare",
    ("--source=set", "--output=out/set"),
    ("out/**/*",),
    SPLITS,
    once=True,
  ),
  "contamination": Case(
    "ssljax.data.contamination",
    ("--data=set", "--output=out/overlaps.json"),
    ("out/*",),
    SPLITS,
  ),
  "augment": Case(
    "ssljax.augment",
    (VIEWS, "--data=set", "--config.kind=more"),
    (SETS,),
    ("set/train/*.parquet",),  # it reads no others
  ),
  "augment-workers": Case(
    "ssljax.augment",
    (
      *(VIEWS, "--data=set", "--config.kind=more"),
      *("--config.workers=2", "--config.shard=20"),
    ),
    (SETS,),
    faults=("kill", "signal", "disk", "twice"),
  ),
  "inspect": Case(
    "ssljax.augment",
    ("inspect", "--data=set", "--output=out/page.html"),
    ("out/*",),
    ("set/train/*.parquet",),
  ),
  "main": Case("ssljax.main", (*TRAIN, "--workdir=out"), _trained("out"), SPLITS),
  "resume": Case(
    "ssljax.main",
    (*TRAIN, "--workdir=half"),
    _trained("half"),
    (*SPLITS, TOKENIZER, "cache/pools/*/*/*.npy", *_checkpoint("half", 10)),
  ),
  "self_train": Case(
    "ssljax.self_train",
    (
      *(*TRAIN[:-1], f"--config={ROOT}/configs/supervised.py", "--generations=2"),
      *("--config.method.view=strong", "--floor=0.5", "--workdir=out"),
    ),
    ("out/*.json", "out/*.jsonl", *_trained("out/generation-*")),
    SPLITS,
    faults=("kill", "signal", "disk", "twice"),
  ),
  "launch": Case(
    f"{ROOT}/launch/local.py",
    (*LAUNCH, "--workdir=out"),
    _trained("out"),
    faults=("kill", "rank", "disk"),
    processes=2,
  ),
  "evaluate": Case(
    "ssljax.evaluate",
    ("--workdir=run", "--output=out"),
    _in("out", *EVALUATION),
    (
      *(SPLITS[2], TOKENIZER, "cache/tokens/*/*.npy"),
      *("run/predictions/test.parquet", *_checkpoint("run", 12)),
    ),
  ),
  "export": Case(
    "ssljax.export",
    ("--workdir=run", "--output=out/model"),
    ("out/model/**/*",),
    ("run/predictions/validation.parquet", *_checkpoint("run", 12)),
    once=True,
  ),
  "report": Case(
    "ssljax.report",
    ("run", "--output=out/page.html"),
    ("out/*",),
    ("run/predictions/test.parquet",),
  ),
  "predict": Case(
    "ssljax.predict",
    ("--model=model", "--input=texts.jsonl", "--output=out/scores.jsonl"),
    ("out/*",),
    EXPORTED,
    once=True,
  ),
  "select": Case(
    "ssljax.select",
    ("--model=run", "--doubts=out/doubts.csv"),
    ("out/*",),
    (*SPLITS, TOKENIZER, "run/predictions/*.parquet", *_checkpoint("run", 12)),
    once=True,
  ),
  "convert": Case(
    "ssljax.models.convert",
    ("pickled", "out/converted"),
    ("out/**/*",),
    ("pickled/pytorch_model.bin",),
    once=True,
  ),
  # Different commands that want the same place:
  "export+evaluate": Case(
    "ssljax.export",
    ("--workdir=run", "--output=out/model"),
    ("out/model/*",),
    faults=("pair",),
    other="evaluate-model",
  ),
  "evaluate-model": Case(
    "ssljax.evaluate", ("--workdir=run", "--output=out/model"), (), faults=()
  ),
  "report+inspect": Case(
    "ssljax.report",
    ("run", "--output=out/page.html"),
    ("out/*",),
    faults=("pair",),
    other="inspect",
  ),
  "resume+augment": Case(
    "ssljax.main",
    (*TRAIN, "--workdir=half"),
    (SETS, *_trained("half")),
    faults=("pair",),
    other="augment",
  ),
  "resume+evaluate": Case(
    "ssljax.main",
    (*TRAIN, "--workdir=half"),
    (*_trained("half"), *_in("half/evaluations/test", *EVALUATION)),
    faults=("pair",),
    other="evaluate-half",
    again=True,  # evaluate may come at any step of the training
  ),
  "evaluate-half": Case("ssljax.evaluate", ("--workdir=half",), (), faults=()),
}
REPORT = re.compile(r"out/model/report\.html")  # contains times


class Expected(NamedTuple):
  """How a command ends without a fault."""

  code: int
  results: dict[str, str]
  before: dict[str, str]  # what of the results exists before it starts


class Place:
  """The working directory of all commands; `reset` restores its files."""

  def __init__(self, folder: Path):
    self.path, self._template = folder / "place", folder / "template"
    self._cache = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", folder / "compiled"))
    self.path.mkdir()
    self._cache.mkdir(exist_ok=True)
    self.expected: dict[str, Expected] = {}
    self.seconds: dict[str, float] = {}
    self.quiet: dict[str, float] = {}  # seconds before a command writes
    self.sizes: dict[str, list[int]] = {}  # of the files that a command writes
    # Of a pair: the exit codes of both, and the right results by which of them finish.
    self.pairs: dict[str, tuple[list[int], dict[str, list[dict[str, str]]]]] = {}
    self._stats: dict[str, tuple[int, int]] = {}

  def start(self, case: Case, limit: int | None = None) -> Process:
    flags = re.sub(
      r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    environment = {
      **os.environ,
      "SSLJAX_CACHE": str(self.path / "cache"),
      "JAX_COMPILATION_CACHE_DIR": str(self._cache),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "XLA_FLAGS": flags,
      "PYTHONPATH": str(ROOT),
    }
    return Process(case.module, case.arguments, self.path, environment, limit)

  def run(self, case: Case) -> End:
    return self.start(case).finish(PATIENCE)

  def make_files(self) -> None:
    """Writes what the commands read: a dataset, an encoder, runs, an exported model."""
    (self.path / "cache").mkdir()
    # Compiled programs stay, so that later commands compile almost nothing.
    (self.path / "cache" / "xla").symlink_to(self._cache)
    for module, *arguments in (
      ("benchmarks.fault_inputs",),
      ("ssljax.data.prepare", "--source=data", "--output=set"),
      ("ssljax.augment", VIEWS, "--data=set"),
      ("ssljax.main", *TRAIN, "--workdir=run"),
      ("ssljax.export", "--workdir=run", "--output=model"),
    ):
      end = self.run(Case(module, tuple(arguments), ()))
      if end.code != 0:
        raise SystemExit(f"{module} failed: {end.output}")
    # A run that was killed before its last steps.
    half = self.path / "half"
    shutil.copytree(self.path / "run", half)
    for name in ("result.json", "report.html"):
      (half / name).unlink()
    shutil.rmtree(half / "predictions")
    steps = (half / "checkpoints").glob("[0-9]*")
    shutil.rmtree(max(steps, key=lambda path: int(path.name)))
    shutil.copytree(self.path, self._template, symlinks=True)
    self._stats = _stats(self._template)

  def reset(self) -> None:
    shutil.rmtree(self.path)
    shutil.copytree(self._template, self.path, symlinks=True)

  def measure(self, name: str) -> None:
    """Runs a command undisturbed, twice: the first time compiles its programs."""
    case = CASES[name]
    for _ in range(2):
      self.reset()
      before = self.results(case)
      began, clock = time.monotonic(), time.time()
      end = self.run(case)
      seconds = time.monotonic() - began
      self.seconds[name] = min(seconds, self.seconds.get(name, seconds))
      written = [self.path / path for path in self.changed()]
      found = self.results(case)
      if "Traceback" in end.output or end.code not in (0, 1) or not found:
        raise SystemExit(f"{name} fails without a fault: {end.output}")
      expected = Expected(end.code, found, before)
      if self.expected.setdefault(name, expected) != expected:
        raise SystemExit(f"{name} has other results the second time")
    self.sizes[name] = [size for p in written if (size := p.stat().st_size)]
    # A folder that a command creates has the time of its last new file.
    first = min(path.stat().st_mtime for path in written) - clock
    self.quiet[name] = min(max(first, 0.0), self.seconds[name])
    if case.other:
      self._measure_pair(name)

  def _measure_pair(self, name: str) -> None:
    """Runs two commands in each order, and each one alone."""
    case = CASES[name]
    cases = (case, CASES[case.other])
    codes: list[int] = []
    allowed: dict[str, list[dict[str, str]]] = {"first": [], "second": [], "both": []}
    for order in ((0,), (1,), (0, 1), (1, 0)):
      self.reset()
      done = set()
      for i in order + ((1,) if case.again and 0 in order else ()):
        end = self.run(cases[i])
        if len(order) == 1 and len(codes) == i:
          codes.append(end.code or 0)
        if end.code == codes[i]:
          done.add(i)
      which = "both" if len(done) == 2 else "second" if done == {1} else "first"
      allowed[which].append(self.results(case))
    self.pairs[name] = (codes, allowed)

  def results(self, case: Case) -> dict[str, str]:
    """Hashes of what a command has written."""
    return results(self.path, self.files(case.writes))

  def files(self, patterns: tuple[str, ...]) -> list[Path]:
    """The files that match, without hidden ones."""
    found = {path for pattern in patterns for path in self.path.glob(pattern)}
    names = lambda path: path.relative_to(self.path).parts
    hidden = lambda path: any(name.startswith(".") for name in names(path))
    return sorted(
      path
      for path in found
      if path.is_file() and not hidden(path) and not REPORT.search(str(path))
    )

  def changed(self) -> list[str]:
    """The files, also hidden ones, that are new or changed; without caches."""
    new = _stats(self.path)
    return [name for name, stat in new.items() if self._stats.get(name) != stat]

  def is_written(self) -> bool:
    """Whether a command has written something, such as the text in its lock file."""
    new = _stats(self.path)
    return any(stat[0] and self._stats.get(n) != stat for n, stat in new.items())

  def left(self) -> set[str]:
    """Hidden files and folders that weren't there at the start, except lock files."""
    old, new = (
      {str(path.relative_to(top)) for path in top.rglob(".*")}
      for top in (self._template, self.path)
    )
    return {name for name in new - old if not name.endswith(".lock")}


def _stats(top: Path) -> dict[str, tuple[int, int]]:
  """Sizes and times of files by their relative paths."""
  found = {}
  for root, folders, names in os.walk(top):
    if root == str(top):
      folders.remove("cache")
    for name in names:
      try:
        stat = os.stat(os.path.join(root, name))
      except FileNotFoundError:
        continue
      path = os.path.relpath(os.path.join(root, name), top)
      found[path] = (stat.st_size, stat.st_mtime_ns)
  return found
