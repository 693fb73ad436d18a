"""Which strong view works best: three kinds of views, two methods, three seeds.

  python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER
  python -m ssljax.augment --config=configs/augment/backtranslation.py --data=FOLDER
  python launch/sweep.py --sweep=configs/sweeps/views.py --config.data=FOLDER --jobs=2

The first two commands store the views `eda` and `backtranslation`; `words` needs no
command. `supervised` reads no views and is the baseline. The settings are meant for a
CPU.
"""

SETTINGS = {
  "encoder": "sentence-transformers/all-MiniLM-L6-v2",
  "labels": 200,
  "max_length": 64,
  "batch": 8,
  "steps": 300,
  "eval_every": 50,
  "learning_rate": 1e-4,
}


def runs():
  for seed in range(3):
    yield f"supervised-{seed}", "supervised", {**SETTINGS, "seed": seed}
  for method in ("fixmatch", "multimatch"):
    for kind in ("words", "eda", "backtranslation"):
      for seed in range(3):
        changes = {**SETTINGS, "strong": (kind,), "seed": seed}
        yield f"{method}-{kind}-{seed}", method, changes
