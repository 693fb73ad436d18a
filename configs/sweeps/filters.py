"""Filters that fit the length of the run, and those of version 0.1.0, on one dataset.

  python launch/sweep.py --sweep=configs/sweeps/filters.py --config.data=FOLDER

`METHOD-old` has the values of version 0.1.0, with which its filter hardly filters in a
run of 300 steps; see "Length of the run" in docs/methods.md. The settings are meant for
a CPU.
"""

OLD = {
  "freematch": {"time_constant": 0},
  "marginmatch": {"warmup_ends": 1, "cut_off": 0},
  "multimatch": {"time_constant": 0, "start": 1},
}


def runs():
  for method, old in OLD.items():
    for suffix, keywords in (("", {}), ("-old", old)):
      yield (
        method + suffix,
        method,
        {
          "encoder": "sentence-transformers/all-MiniLM-L6-v2",
          "strong": "words",
          "labels": 200,
          "max_length": 128,
          "batch": 8,
          "steps": 300,
          "eval_every": 50,
          "log_every": 10,
          "learning_rate": 1e-4,
          **{f"method.{key}": value for key, value in keywords.items()},
        },
      )
