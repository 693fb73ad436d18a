"""A config that augments a folder, and what lies in and beside it."""

import hashlib

TEXTS = 40


def config(function="backwards", **more):
  """What configs/augment/custom.py says, changed."""
  from configs.augment import custom

  found = custom.get_config()
  found.update({"function": f"tests.augment.doubles:{function}", "kind": "mine"})
  found.update({"shard": 8, "batch": 1, **more})
  return found.to_dict()


def state(folder):
  """The bytes of all files."""
  return {
    str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }


def beside(data):
  """What lies beside the folder, without what is meant to be there."""
  known = {"data", "cache", "note", ".data.lock"}
  return {p.name for p in data.parent.iterdir()} - known


def backwards(text):
  return " ".join(text.split()[::-1])
