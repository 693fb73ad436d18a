"""Describes a run on the console before it starts; a dry run does only this."""

import collections
from typing import Any

import jax
import numpy as np

from ssljax import config as configuration
from ssljax import wrappers
from ssljax.batch import Batch, Rows, RowsOf
from ssljax.data.datasets import Sets
from ssljax.training.assemble import TrainingJob

DRY_RUN_STEPS = 20  # a dry run builds the batches of this many steps


def summary(job: TrainingJob) -> list[str]:
  """Lines with the splits, steps, devices and row lengths of a run."""
  config, data, steps = job.config, job.data, job.steps
  unused = [f"unused tensors: {', '.join(job.unused)}"] if job.unused else []
  counts, wrapper = set(job.sizes.labelled_counts), config["wrapper"]["name"]
  even = []
  if wrapper and len(counts) == 1 and (does := wrappers.of_even_classes(wrapper)):
    hint = " (--config.balance=stratified keeps the class proportions of the data)"
    even.append(
      f"each class has {counts.pop()} labelled texts: {wrapper} {does}"
      f"{hint if config['balance'] == 'balanced' else ''}"
    )
  cut = ", ".join(
    f"{share:.1%} of {name}" for name, share in truncated_shares(data).items()
  )
  kernel = []
  if job.kernel:
    passes = "training and scoring"
    if config["dropout"]:
      weak = "" if config["weak_dropout"] else " and passes without gradient"
      passes = f"scoring{weak} (with dropout, attention is plain)"
    kernel.append(f"attention by a kernel for {job.kernel.platform.upper()}s: {passes}")
  lengths = ", ".join(map(str, job.batches.rows.row_lengths))
  return [
    *unused,
    *even,
    f"{configuration.method_name(config)}: {job.sizes.labelled} labelled and "
    f"{job.sizes.unlabelled} unlabelled texts, {len(data.validation.label)} "
    f"validation, {len(data.test.label)} test; classes {', '.join(data.labels)}",
    f"{steps['steps']} steps on {job.devices.shards} x {jax.devices()[0].device_kind} "
    f"({config['parallel']}); rows of {lengths} tokens; "
    f"cut at {config['max_length']} tokens: {cut}",
    *kernel,
  ]


def dry_run(job: TrainingJob) -> list[str]:
  """Lines with the share of real tokens, the shapes of steps, and the memory."""
  shapes: dict[str, Any] = {}
  tokens = np.zeros(2, int)  # real, all
  for t in range(min(DRY_RUN_STEPS, job.steps["steps"])):
    batch, hidden = job.batches.batch(t, job.devices.mine)
    tokens += real_tokens(batch)
    shapes.setdefault(shape_of(batch), (batch, hidden))
  lines = [f"real tokens in the rows of {t + 1} steps: {tokens[0] / tokens[1]:.1%}"]
  lines += [f"step shape: {shape}" for shape in shapes]
  size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(job.state))
  lines.append(f"state: {size / 2**20:.0f} MiB")
  largest = max(shapes.values(), key=lambda arguments: real_tokens(arguments[0])[1])
  step = job.train_step.lower(job.state, *job.put(*largest)).compile()
  temporary = step.memory_analysis().temp_size_in_bytes / 2**20
  return [*lines, f"largest step: {temporary:.0f} MiB more per device"]


def real_tokens(batch: Batch) -> tuple[int, int]:
  """(tokens of texts, tokens including padding) of a batch with NumPy leaves."""
  rows = [r for _, rows in _rows_by_view(batch) for r in rows]
  real = sum(int(np.count_nonzero(r.segment)) for r in rows)
  return real, sum(r.segment.size for r in rows)


def shape_of(batch: Batch) -> str:
  """Shards x rows x tokens of each view, such as `weak 1x4x128 + 1x2x344, …`.

  Views that share rows are joined, as in `weak & strong 1x9x192 + 1x4x512`.
  """
  return ", ".join(
    f"{name} {' + '.join('x'.join(map(str, r.ids.shape)) for r in rows)}"
    for name, rows in _rows_by_view(batch)
  )


def _rows_by_view(batch: Batch) -> list[tuple[str, tuple[Rows, ...]]]:
  """Lists (name, rows); the names of views that share rows are joined."""
  names: dict[RowsOf, list[str]] = collections.defaultdict(list)
  rows: dict[RowsOf, tuple[Rows, ...]] = {}
  for part, half in (("labelled", batch.labelled), ("unlabelled", batch.unlabelled)):
    for name, view in half.views.items():
      owner = view.rows if isinstance(view.rows, RowsOf) else RowsOf(part, name)
      names[owner].append(name)
      if not isinstance(view.rows, RowsOf):
        rows[owner] = view.rows
  return [(" & ".join(names[owner]), rows[owner]) for owner in rows]


def truncated_shares(data: Sets) -> dict[str, float]:
  """For each view, the share of truncated texts; averages a text's candidates first."""
  train = collections.defaultdict(list)
  for views in (data.train.labelled, data.train.unlabelled):
    for name, view in views.items():
      train[f"train ({name})"].append(view.cut)
  shares = {
    **train,
    "validation": [data.validation.tokens.truncated],
    "test": [data.test.tokens.truncated],
  }
  return {
    name: float(sum(map(np.sum, parts)) / sum(map(len, parts)))
    for name, parts in shares.items()
  }
