"""The one error that a user can cause: each line of its text says what is wrong and how to mend it."""


class UserError(Exception):
    """Wrong use or bad input. Commands print each line after `dl-zoo:` and exit with code 2, without a traceback.

    Several mistakes are told together, one a line:

    >>> UserError("a=1: must be 2", "b=1: must be 3").lines
    ('a=1: must be 2', 'b=1: must be 3')
    """

    def __init__(self, *lines: str):
        super().__init__("\n".join(lines))

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(str(self).split("\n"))
