"""The one exception for mistakes of the user: shown as one line, exit code 2."""

FINISHED, MISTAKE, INTERRUPTED, TERMINATED = 0, 2, 130, 143  # exit codes
CUT_OFF = 141  # nobody reads what is printed


class UserError(Exception):
  """Input that the user can mend. The message is one line: what, where, the way out."""

  code = MISTAKE

  def __init__(self, message: str):
    super().__init__(" ".join(str(message).split()))


class RunError(UserError):
  """A run that cannot go on though its input was in order: exit code 1."""

  code = 1
