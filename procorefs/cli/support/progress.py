"""Shows the progress of a command that waits for the outbox: a changing line on a terminal, else a line at intervals.

It prints to stderr, because stdout is for results.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from procorefs.cli.support.formatting import shown_counts
from procorefs.cli.support.terminal import console, say
from procorefs.storage.printable import printable
from procorefs.upload.items import Counts

if TYPE_CHECKING:
    from rich.text import Text

_FIRST_LINE_S = 2.0
"""Between two lines without a terminal; a shorter wait prints none."""
_EVERY_S = 30.0


class _Line(Protocol):
    """A line of the terminal: rich.status.Status."""

    def update(self, status: "Text") -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Progress:
    """Shows counts as they change; restores the terminal at the end."""

    def __init__(self, what: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock_s = clock_s
        self._next_s = clock_s() + _FIRST_LINE_S
        self._line = _terminal_line() if sys.stderr.isatty() else None

    def show(self, counts: Counts) -> None:
        """Show the present counts."""
        text = f"{self._what}: {shown_counts(counts)}"
        if self._line is not None:
            from rich.text import Text  # slow to import

            self._line.update(Text(printable(text)))  # a str would be read as markup
        elif self._clock_s() >= self._next_s:
            self._next_s = self._clock_s() + _EVERY_S
            say(text, to_stderr=True)

    def __enter__(self) -> Self:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()


def _terminal_line() -> _Line:
    from rich.status import Status  # slow to import

    return Status("", console=console(to_stderr=True, breaks_pipes=True))
