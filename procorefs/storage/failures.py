"""Failures for people: the exceptions of commands, the cause in a group, log lines of long trouble."""

import logging
from collections.abc import Callable

import trio

QUIET_S = 10.0
"""Trouble is over when a call succeeds this long after the last refused one: a full disk still takes a small write."""


class Failure(Exception):
    """One sentence: what happened, to what, what to do. Commands print it and end with `exit_status`."""

    exit_status = 1


class ConfigError(Failure):
    """A setting, from the file, the environment or the command line, that cannot be used."""


def first_cause(error: BaseException) -> BaseException:
    """The error itself; of a group, which a nursery makes of every error, the first one in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Episode:
    """One kind of trouble that refuses many calls: the log says when it begins and when it ends, not each time.

    `sentence` says that it is over.
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
    def goes_on(self) -> bool:
        return self._count > 0

    def refused(self, level: int, message: str, *args: object) -> None:
        """Once more; only the first time is told."""
        self._last_s = self._now_s()
        if not self._count:
            self._began_s = self._last_s
            self._log.log(level, message, *args)
        self._count += 1

    def went_well(self) -> None:
        """Something that may be refused was not."""
        now_s = self._now_s()
        if not self._count or now_s - self._last_s < QUIET_S:
            return
        self._log.info(
            "%s: %d were refused within %.0f s.", self._sentence, self._count, self._last_s - self._began_s
        )
        self._count = 0
