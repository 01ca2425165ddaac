"""The interface of the budget: the classes of calls, what every API call waits for, and what `status` shows."""

import enum
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec


class Priority(enum.IntEnum):
    """Which calls go first when calls are scarce."""

    INTERACTIVE = 0
    """A person waits for it: lookup, open, read, lock."""
    WRITING = 1
    """It sends changes."""
    REFRESH = 2
    """It looks for changes, or lists in the background."""


class WindowStatus(msgspec.Struct, frozen=True):
    """One window as it is known; `reset` is Unix seconds, None while the window is not running."""

    limit: int
    remaining: int
    reset: float | None


class LimiterStatus(msgspec.Struct, frozen=True):
    """What `status` shows; times are Unix seconds, None when nothing is paused and nobody waits."""

    hourly: WindowStatus
    spike: WindowStatus
    waiting: int
    """Calls that wait, in every process that shares the budget."""
    paused_until: float | None
    waiting_by_class: dict[str, int] = {}
    """The same by class: interactive, writing, refresh."""
    next_at: float | None = None
    """When the first of those who wait may go."""
    shared_by: str = "process"
    """With whom the budget is shared: `process`, `user`, `redis`, or `user` with "(redis is away)"."""
    share: float = 1.0
    """The part of the budget that is used: all of it, or less while those it is shared with can't be asked."""
    source: Literal["told", "configured", "assumed"] = "assumed"
    """Where the hourly limit comes from: Procore's answers, `calls_per_hour`, or neither."""
    used_by_people: int = 0
    """Calls of the last 60 minutes that a person waited for."""
    used_by_background: int = 0
    """Calls of the last 60 minutes for writing and refreshing."""
    used_by_others: int = 0
    """Calls of the last 60 minutes by other programs with the same client id, as answers revealed them."""
    kept_for_people: int = 0
    """Calls that people may need in the next 60 minutes, by the forecast."""


class Limiter(Protocol):
    """What every API call waits for; the caller then reports the answer, or that none came."""

    async def acquire(self, priority: Priority) -> None:
        """Wait for one call and take it; cancelled while waiting, nothing is taken."""

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from the answer to a call that was taken; once for each. Status 0: no answer came."""

    def server_unix_s(self) -> float:
        """Procore's Unix time now, as its answers tell it; ours before the first one."""

    def would_wait(self, priority: Priority) -> bool:
        """Would `acquire` have to wait now?"""

    async def look(self) -> None:
        """See to it that `snapshot` tells of this moment; waits a second or two where it is shared, no longer."""

    def snapshot(self) -> LimiterStatus:
        """What is known now."""
