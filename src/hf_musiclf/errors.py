"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """A mistake in the input: its message is one line with the value, the limit and the way out.

    Scripts print the message without a traceback and exit with code 2; any other exception is a defect and keeps its
    traceback.
    """
