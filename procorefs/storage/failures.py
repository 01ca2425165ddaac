"""Exceptions whose text is a sentence for people, the first cause of a group, and log lines for repeated errors."""

import logging
from collections.abc import Callable

import msgspec
import trio

QUIET_S = 10.0
"""An episode ends when a call succeeds this long after the last refused one: a full disk still takes a small write."""


UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes of another format, texts that are no Unicode, and values that are nested too deeply."""


class Failure(Exception):
    """The text is one sentence: what happened, to what, what to do. Commands print it and exit with `exit_status`."""

    exit_status = 1


class ConfigError(Failure):
    """A setting in the file, the environment or the command line cannot be used."""


def first_cause(error: BaseException) -> BaseException:
    """The error, or the first error in a group: a nursery wraps each error in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Episode:
    """One cause that makes many calls fail: logs the first failure and the end, not each failure.

    `sentence` is the log line for the end.
    """

    def __init__(
        self, log: logging.Logger, sentence: str, now_s: Callable[[], float] = trio.current_time
    ) -> None:
        self._log = log
        self._sentence = sentence
        self._now_s = now_s
        self._began_s = self._last_s = 0.0
        self._count = 0

    @property
    def is_active(self) -> bool:
        return self._count > 0

    def refused(self, level: int, message: str, *args: object) -> None:
        """Count a refused call; log the first."""
        self._last_s = self._now_s()
        if not self._count:
            self._began_s = self._last_s
            self._log.log(level, message, *args)
        self._count += 1

    def went_well(self) -> None:
        """A call of that kind succeeded."""
        now_s = self._now_s()
        if not self._count or now_s - self._last_s < QUIET_S:
            return
        self._log.info(
            "%s: %d were refused within %.0f s.", self._sentence, self._count, self._last_s - self._began_s
        )
        self._count = 0
