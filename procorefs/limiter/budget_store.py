"""Where a budget is kept: one interface, and the place that is this process's own memory.

A step is a pure function of (state, now): a store runs it on the newest state and keeps what it changed, all or
nothing, and may have to run it again. What a step returns belongs to the run that was kept.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from procorefs.limiter.budget_state import State, fresh

T = TypeVar("T")
Step = Callable[[State, float], T]


class StoreAway(Exception):
    """The place cannot be reached now; nothing was changed, as far as is known."""


class Store(Protocol):
    """A budget that is shared with whoever uses the same place."""

    @property
    def shared_by(self) -> str:
        """Who shares it, as `status` says it."""

    async def change(self, step: Step[T]) -> T:
        """Run a step; not torn by cancellation. Raises StoreAway."""

    def change_now(self, step: Step[T]) -> T:
        """The same without waiting. Raises StoreAway, also when only waiting would help."""

    def peek(self) -> tuple[State, float]:
        """The newest state at hand and the time on its clock; not to be changed."""

    def is_current(self) -> bool:
        """Does `peek` show what others have done in the last second?"""


class MemoryStore:
    """A budget of this process alone, or of all gates that are given the same store."""

    shared_by = "process"

    def __init__(self, state: State | None = None) -> None:
        self._state = fresh() if state is None else state

    async def change(self, step: Step[T]) -> T:
        return step(self._state, trio.current_time())

    def change_now(self, step: Step[T]) -> T:
        return step(self._state, trio.current_time())

    def peek(self) -> tuple[State, float]:
        return self._state, trio.current_time()

    def is_current(self) -> bool:
        return True
