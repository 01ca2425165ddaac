"""Knows whether Procore can be reached, from the calls that are being tried again.

A call that gives up raises its error. Until then only its tries show that Procore does not answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from procorefs.procore.errors import ProcoreError, Unavailable
from procorefs.storage import clocks

AWAY_AFTER_S = 2.0


class Tries:
    """One call, from its first try to its last."""

    __slots__ = ("_connectivity", "why")

    def __init__(self, connectivity: "Connectivity") -> None:
        self._connectivity = connectivity
        self.why = ""
        """Why the last try failed; empty: none has."""

    def failed(self, error: ProcoreError) -> None:
        """Note how a try ended; only a missing answer and 5xx make a warning."""
        if isinstance(error, Unavailable):
            self.why = str(error)
            self._connectivity.failed()


class Connectivity:
    """Of one account, over Procore, its login service and its storage."""

    def __init__(self) -> None:
        self._rows: list[Tries] = []
        self.since_s: float | None = None
        """Wall time, Unix seconds, of the first failure since a call got through."""
        self._failed_at_s: float | None = None
        """The same by `boot_s`."""

    @property
    def warning(self) -> str:
        """Why the oldest call under way gets no answer; empty: all do, or there are none."""
        return next((row.why for row in self._rows if row.why), "")

    @property
    def is_away(self) -> bool:
        """Whether there was no answer for a while: a single failure may pass at once."""
        return self._failed_at_s is not None and clocks.boot_s() - self._failed_at_s >= AWAY_AFTER_S

    @contextmanager
    def tries(self) -> Iterator[Tries]:
        """Enter around all tries of one call. A refusal is an answer, too."""
        row = Tries(self)
        self._rows.append(row)
        try:
            yield row
        except Unavailable:
            raise
        except ProcoreError:
            self._got_through()
            raise
        else:
            self._got_through()
        finally:
            self._rows.remove(row)

    def failed(self) -> None:
        if self.since_s is None:
            self.since_s, self._failed_at_s = clocks.wall_s(), clocks.boot_s()

    def _got_through(self) -> None:
        self.since_s = self._failed_at_s = None
