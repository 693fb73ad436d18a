"""A sweep that only shows that everything works: two methods, two seeds, 20 steps.

  python launch/sweep.py --sweep=configs/sweeps/smoke.py --jobs=2

It's meant for a laptop and takes a few minutes. The first run downloads the data
(responses that people rated for harm) and the encoder.
"""

SETTINGS = {
  "data": "pyrit",
  "encoder": "sentence-transformers/all-MiniLM-L6-v2",
  "labels": 100,
  "max_length": 32,
  "batch": 8,
  "steps": 20,
  "eval_every": 10,
  "checkpoint_every": 5,
  "log_every": 5,
  "learning_rate": 1e-4,
}


def runs():
  for seed in range(2):
    yield f"supervised-{seed}", "supervised", {**SETTINGS, "seed": seed}
    # After a few steps, few texts reach the default threshold.
    changes = {**SETTINGS, "method.threshold": 0.6, "seed": seed}
    yield f"fixmatch-{seed}", "fixmatch", changes
