"""What a command has written, without times, so that two runs can be compared."""

import collections
import hashlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path

BOARD = "events.out.tfevents"
LOGS = ("metrics.jsonl", BOARD)  # a command that fails may have written a part of them
TIMES = ("seconds", "_seconds", "_per_second", "host_share", "mfu")  # ends of keys


def results(top: Path, files: Iterable[Path]) -> dict[str, str]:
  """Hashes of files by their relative paths. TensorBoard's files of a run are one."""
  hashes, boards = {}, collections.defaultdict(list)
  for path in files:
    if path.name.startswith(BOARD):
      boards[str(path.parent.relative_to(top) / BOARD)].append(path)
    else:
      hashes[str(path.relative_to(top))] = _sha256(_without_times(path))
  for name, paths in boards.items():
    hashes[name] = _sha256(json.dumps(scalars(paths)).encode())
  return hashes


def scalars(boards: Iterable[Path]) -> list[tuple[int, str, float]]:
  """What TensorBoard shows: it hides what came before a restart at the same step."""
  from tensorboardX.proto.event_pb2 import Event, SessionLog

  shown: list[tuple[int, str, float]] = []
  for path in sorted(boards):  # the names begin with the times
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
      length = struct.unpack_from("<Q", content, at)[0]
      if at + 16 + length > len(content):
        break  # a kill has cut the record off
      event = Event.FromString(content[at + 12 : at + 12 + length])
      at += 16 + length
      if event.session_log.status == SessionLog.START:
        shown = [row for row in shown if row[0] < event.step]
      shown += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
  return [row for row in shown if not row[1].endswith(TIMES)]


def _without_times(path: Path) -> bytes:
  content = path.read_bytes()
  try:
    if path.name == "result.json":
      return _dump(json.loads(content))
    if path.name == "metrics.jsonl":
      return b"\n".join(_dump(json.loads(line)) for line in content.splitlines())
  except (ValueError, AttributeError):
    pass  # damaged, so it is compared as it is
  return content


def _dump(values: dict) -> bytes:
  kept = {key: value for key, value in values.items() if not key.endswith(TIMES)}
  return json.dumps(kept).encode()


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()
