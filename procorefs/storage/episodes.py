"""Trouble that refuses many calls alike: the log says when it begins and when it is over, not each time."""

import logging
from collections.abc import Callable

import trio

QUIET_S = 10.0
"""It is over when something goes well and nothing was refused for so long: a full disk still takes a small write."""


class Episode:
    """One kind of trouble. `sentence` says that it is over."""

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
