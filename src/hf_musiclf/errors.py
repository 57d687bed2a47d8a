"""The exceptions that are told in one line: a user's mistake, and what the Hub would not do."""


class UserError(ValueError):
    """A mistake in the input: its message is one line with the value, the limit and the way out.

    Scripts print the message without a traceback and exit with `exit_code`; any other exception is a defect and keeps
    its traceback.
    """

    exit_code = 2


class PublishError(UserError):
    """The Hub cannot be asked, or did not take what is whole here; the message ends in how to try again."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Of the message of another library's error; its type's name where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
