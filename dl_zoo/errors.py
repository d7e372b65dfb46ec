"""The one error that a user can cause: its text is one line that says what is wrong and how to mend it."""


class UserError(Exception):
    """Wrong use or bad input. Commands print the text after `dl-zoo:` and exit with code 2, without a traceback."""
