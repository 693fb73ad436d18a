"""Divides the GPUs and CPU cores of this machine among the runs of a sweep."""

import os
import subprocess
from typing import NamedTuple

from ssljax.errors import UserError

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Share(NamedTuple):
  """What one run may use."""

  variables: dict[str, str]  # of the environment
  cores: tuple[int, ...]  # (): the system can't restrict a process to cores


def divide(jobs: int = 0) -> list[Share]:
  """Returns the share of each of the runs that train at the same time.

  Each run has one GPU, if there are any, and the same number of CPU cores. A run has
  as many cores when it's continued as before, since rounding depends on their number.

  Args:
    jobs: runs at a time; 0: one for each GPU, or one if there are none.

  Raises:
    UserError: there are GPUs, but fewer than `jobs`.
  """
  gpus = visible_gpus()
  if jobs > len(gpus) > 0:
    raise UserError(
      f"--jobs={jobs}: each run needs a GPU, and there are {len(gpus)} "
      f"({', '.join(gpus)}); lower --jobs, or set JAX_PLATFORMS=cpu to train without"
    )
  jobs = jobs or len(gpus) or 1
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
  size = max(1, len(cores) // jobs)
  shares = []
  for i in range(jobs):
    variables = {}
    if gpus:
      flags = os.environ.get("XLA_FLAGS", "")
      variables["CUDA_VISIBLE_DEVICES"] = gpus[i]
      variables["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    # With more runs than cores, several runs share a core.
    mine = tuple(
      cores[(i * size + k) % len(cores)] for k in range(size if cores else 0)
    )
    shares.append(Share(variables, mine))
  return shares


def visible_gpus() -> list[str]:
  """The NVIDIA GPUs that JAX would use, as in CUDA_VISIBLE_DEVICES."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
    return []
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    names = [name.strip() for name in visible.split(",")]
    return [name for name in names if name not in ("", "-1", "NoDevFiles")]
  try:  # not through JAX, which would take the memory of the GPUs
    listed = subprocess.run(
      ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
    ).stdout
  except (OSError, subprocess.CalledProcessError):
    return []
  count = sum(line.startswith("GPU ") for line in listed.splitlines())
  return [str(i) for i in range(count)]
