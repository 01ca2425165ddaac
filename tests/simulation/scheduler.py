"""The order in which ready tasks run, and threads that are none: both follow from the seed.

trio can sort the ready tasks and shuffle them with a generator of its own; here that generator is seeded. What the
product does in threads runs on the loop, after a turn that others may use, as a thread would let them.
"""

from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import outcome
import trio
from trio._core import _run

from procorefs.staging import spare_files
from procorefs.storage.blocking_work import WorkerThread

T = TypeVar("T")
Args = TypeVarTuple("Args")

SPARE_FILES = 4
"""Staged files made ahead: the product's 256 would take longer than the history itself."""


def reseed(seed: int | str) -> None:
    """From here on ready tasks run in an order that follows from this seed."""
    _run._r.seed(seed)


async def _run_sync(
    work: Callable[[*Args], T],
    *args: *Args,
    thread_name: str | None = None,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """As trio.to_thread.run_sync, in no thread: others get a turn before and after."""
    await trio.lowlevel.checkpoint_if_cancelled()
    async with limiter or _no_limit():
        await trio.lowlevel.cancel_shielded_checkpoint()
        try:
            return work(*args)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()


class _no_limit:  # noqa: N801 - used like a function
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


def _start_thread_soon(
    work: Callable[[], T], deliver: Callable[[outcome.Outcome[T]], object], _name: str = ""
) -> None:
    deliver(outcome.capture(work))


async def _do(_clerk: WorkerThread, work: Callable[..., Any], *args: Any) -> Any:
    await trio.lowlevel.cancel_shielded_checkpoint()
    try:
        return work(*args)
    finally:
        await trio.lowlevel.cancel_shielded_checkpoint()


def _install() -> None:
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio.to_thread.run_sync = _run_sync  # type: ignore[assignment]
    trio.lowlevel.start_thread_soon = _start_thread_soon  # type: ignore[assignment]
    WorkerThread.do = _do  # type: ignore[assignment, method-assign]
    spare_files.SPARE_FILES, spare_files._FEW = SPARE_FILES, SPARE_FILES // 2


_install()
