"""Decides which messages are logged: the level of `log_level=`, or all while somebody asks for debug detail."""

import contextlib
import logging
from collections.abc import Iterator

from procorefs.config.options import LOG_LEVELS

log = logging.getLogger(__name__)


class LogDetail:
    """The level of the root logger; no other code of a running mount sets it."""

    def __init__(self, level: str, root: logging.Logger | None = None) -> None:
        self._root = root or logging.getLogger()
        self.level = level
        """The name of the level without debug detail."""
        self._is_toggled = False
        self._readers = 0
        self._apply()

    def set_level(self, level: str) -> None:
        """Log messages of this level and above."""
        self.level = level
        self._apply()

    def toggle(self) -> None:
        """Begin or end debug detail (SIGUSR1)."""
        self._is_toggled = not self._is_toggled
        log.info("Debug detail is %s (SIGUSR1).", "on" if self._is_toggled else "off")
        self._apply()

    @contextlib.contextmanager
    def all_messages(self) -> Iterator[None]:
        """Log debug detail for the block of a `with`, for one reader of the log."""
        self._readers += 1
        self._apply()
        try:
            yield
        finally:
            self._readers -= 1
            self._apply()

    def _apply(self) -> None:
        is_asked_for = self._is_toggled or self._readers > 0
        self._root.setLevel(logging.DEBUG if is_asked_for else LOG_LEVELS[self.level])
