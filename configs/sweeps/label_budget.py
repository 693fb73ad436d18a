"""How results depend on the number of labels: three methods, four budgets, all labels.

  python launch/sweep.py --sweep=configs/sweeps/label_budget.py --config.data=FOLDER \\
    --jobs=2

Each method trains with 50, 100, 200 and 400 labels over three seeds; `supervised` also
trains with all labels. The report draws the curves. The settings are meant for a CPU.
Without --config.data, the data is the public dataset PyRIT.
"""


def runs():
  budgets = (50, 100, 200, 400)
  for method in ("supervised", "fixmatch", "multimatch"):
    for labels in (*budgets, 0) if method == "supervised" else budgets:
      for seed in range(3):
        yield (
          f"{method}-{labels or 'all'}-{seed}",
          method,
          {
            "data": "pyrit",
            "encoder": "sentence-transformers/all-MiniLM-L6-v2",
            "labels": labels,
            "max_length": 64,
            "batch": 8,
            "steps": 300,
            "eval_every": 50,
            "learning_rate": 1e-4,
            "seed": seed,
          },
        )
