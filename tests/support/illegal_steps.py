"""Makes a test fail at a step between the states of a change that is not legal; the product only logs it."""

import logging

from procorefs.journal import states


class IllegalStep(Exception):
    """A change went from one state to another, and STEPS does not have that."""


class _Raises(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise IllegalStep(record.getMessage())


def raise_illegal_steps() -> None:
    """Raise IllegalStep where the product logs one, in this process."""
    if not any(isinstance(handler, _Raises) for handler in states.log.handlers):
        states.log.addHandler(_Raises(logging.ERROR))
