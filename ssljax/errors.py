"""Exit codes, and the exceptions that end a command with a one-line message."""

FINISHED, MISTAKE, INTERRUPTED, TERMINATED = 0, 2, 130, 143  # exit codes
CUT_OFF = 141  # the reader of the output has closed the pipe


class UserError(Exception):
  """An error in the input. One line says what is wrong, where, and how to fix it."""

  code = MISTAKE

  def __init__(self, message: str):
    super().__init__(" ".join(str(message).split()))


class RunError(UserError):
  """A run can't continue although its input was valid. The exit code is 1."""

  code = 1
