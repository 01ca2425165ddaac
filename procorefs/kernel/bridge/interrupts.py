"""Decides which interrupted requests end with EINTR: those whose caller has a signal pending that ends programs.

The kernel interrupts a waiting request at any signal, but programs do not expect EINTR from stat or close
after an alarm. So an interrupt only starts a check of the caller's pending signals. The kernel sends one
interrupt a request and no second, so after a harmless signal the check is repeated until the request ends:
Ctrl-C may still follow.

    interrupt (bridge, on the loop) -> caller told to stop? -> yes: cancel the request's scope
                                                            -> no: check again every 0.2 s
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio

from procorefs.kernel.bridge.callers import caller_is_told_to_stop
from procorefs.kernel.bridge.native import Request

CHECK_INTERVAL_S = 0.2


def interruptible(
    request: Request | None, *, told_to_stop: Callable[[int], bool] = caller_is_told_to_stop
) -> "Interruptible":
    """Cancel the block of a `with` when the request's caller is told to stop; the code after it raises EINTR:

        with interruptible(bridge.take_request()):
            return await answer()
        raise FUSEError(EINTR)

    None (no request of the kernel) is never interrupted. The request is finished at the end of the block, before the
    reply. A handler that has journaled or sent something calls request.finish() itself: after that nothing interrupts
    it.
    """
    return Interruptible(request, told_to_stop)


class Interruptible:
    """One handler's block, entered once: costs a cancel scope and two calls into the bridge, no task."""

    __slots__ = ("_is_watched", "_request", "_scope", "_told_to_stop")

    def __init__(self, request: Request | None, told_to_stop: Callable[[int], bool]) -> None:
        self._request = request
        self._told_to_stop = told_to_stop
        self._scope = trio.CancelScope()
        self._is_watched = False

    def __enter__(self) -> Self:
        self._scope.__enter__()
        if self._request is not None:
            self._request.on_interrupt(self._interrupted)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._request is not None:
            self._request.finish()
        return bool(self._scope.__exit__(exception_type, exception, traceback))

    def _interrupted(self) -> None:
        """The bridge calls this between two steps of the loop: cancel, or start the repeated check."""
        if not self._check() and not self._is_watched:
            self._is_watched = True
            trio.lowlevel.spawn_system_task(self._watch)

    def _check(self) -> bool:
        """Cancel the block if its caller is told to stop. Returns whether no further check is needed."""
        if self._request is None or self._request.finished:
            return True
        if self._told_to_stop(self._request.tid):
            self._scope.cancel()
            return True
        return False

    async def _watch(self) -> None:
        """Check until the block ends. A system task, because the handler may end at any await."""
        while not self._check():  # noqa: ASYNC110  (a pending signal is no event that one can wait for)
            await trio.sleep(CHECK_INTERVAL_S)
