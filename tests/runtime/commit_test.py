"""Which code runs: the commit of a checkout and whether its files have changed."""

import shutil
import subprocess

import pytest

from ssljax.runtime import commit


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A repository with a package, its configs and results."""
  for name in ("ssljax", "configs", "results"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
  git(tmp_path, "init", "-q")
  git(tmp_path, "add", ".")
  author = ("-c", "user.name=a", "-c", "user.email=a@b")
  git(tmp_path, *author, "commit", "-qm", "first")
  monkeypatch.setattr(commit, "PACKAGE", tmp_path / "ssljax")
  return tmp_path


def git(folder, *arguments):
  done = subprocess.run(
    ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
  )
  return done.stdout.strip()


def test_the_commit_of_a_checkout(checkout):
  head = git(checkout, "rev-parse", "HEAD")
  assert commit.current_commit() == head
  (checkout / "results" / "sweep.jsonl").write_text("a line of a sweep")
  (checkout / "results" / "__init__.py").write_text("changed")
  assert commit.current_commit() == head
  for name in ("ssljax/new.py", "configs/new.py", "ssljax/__init__.py"):
    path = checkout / name
    before = path.read_text() if path.exists() else None
    path.write_text("changed = True")
    assert commit.current_commit() == f"{head}-dirty"
    path.unlink() if before is None else path.write_text(before)
  assert commit.current_commit() == head


def test_the_version_where_there_is_no_checkout(checkout, tmp_path, monkeypatch):
  # A package in an environment that lies in the repository of another project.
  (checkout / ".gitignore").write_text("venv\n")
  shutil.copytree(checkout / "ssljax", checkout / "venv" / "ssljax")
  monkeypatch.setattr(commit, "PACKAGE", checkout / "venv" / "ssljax")
  assert commit.current_commit() == "ssljax 0.1.0"
  monkeypatch.setattr(commit, "PACKAGE", checkout / "ssljax")
  monkeypatch.setenv("PATH", str(tmp_path / "empty"))  # no git
  assert commit.current_commit() == "ssljax 0.1.0"
