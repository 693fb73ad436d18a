"""Parses `--columns=OURS=THEIRS`, which says how a file names the columns.

Commands that read a user's file share the flag and its meaning.
"""

from collections.abc import Sequence

from absl import flags

from ssljax.errors import UserError


def define(accepted: Sequence[str], more: str = "") -> None:
  """Defines the flag `--columns`.

  Args:
    accepted: our names of columns.
    more: what else the help text says.
  """
  flags.DEFINE_list(
    "columns",
    [],
    f"OURS=THEIRS, such as text=prompt; OURS is {', '.join(accepted)}; OURS= leaves "
    f"the column out{more}",
    allow_override=True,
  )


def parse(values: Sequence[str], accepted: Sequence[str]) -> dict[str, str]:
  """Maps our names to those of the file; "" leaves a column out.

    parse(["text=prompt", "response="], ["text", "response"])

  Raises:
    UserError: a value isn't OURS=THEIRS or has an unknown name, or a name is given
      twice.
  """
  columns = parse_pairs("columns", values)
  for name in columns:
    if name not in accepted:
      raise UserError(f"--columns: unknown name {name!r}; use {', '.join(accepted)}")
  if columns.get("text") == "":
    raise UserError("--columns=text=: the text cannot be left out; name its column")
  return columns


def parse_pairs(flag: str, values: Sequence[str]) -> dict[str, str]:
  """Parses OURS=THEIRS. Only in `columns`, THEIRS may be empty."""
  pairs = {}
  for value in values:
    ours, equals, theirs = value.partition("=")
    if not (ours and equals and (theirs or flag == "columns")):
      raise UserError(f"--{flag}: {value!r} should be OURS=THEIRS, such as text=prompt")
    if ours.strip() in pairs:
      raise UserError(
        f"--{flag}: {ours.strip()} is given twice ({pairs[ours.strip()] or 'left out'} "
        f"and {theirs.strip() or 'left out'}); keep one of them"
      )
    pairs[ours.strip()] = theirs.strip()
  return pairs
