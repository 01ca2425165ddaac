"""Decides which interrupted requests end with EINTR: those whose caller is being told to stop.

The kernel interrupts a waiting request at any signal, but programs do not expect EINTR from stat or close
after an alarm. So an interrupt only makes us look at the caller's pending signals. The kernel sends one
interrupt a request and no second, so a request that was interrupted by a harmless signal is looked at
again and again until it ends: Ctrl-C may still follow. (design.md, The native bridge)

    interrupt (bridge, on the loop) -> caller told to stop? -> yes: cancel the request's scope
                                                            -> no: look again every 0.2 s
"""

import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from procorefs.kernel.bridge.native import Request

LOOK_AGAIN_S = 0.2

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_ENDING_MASK = sum(1 << (number - 1) for number in _ENDING)


def is_told_to_stop(status: bytes) -> bool:
    """Say of a thread's /proc/TID/status whether a signal that ends programs is pending and not blocked."""
    masks = {b"SigPnd": 0, b"ShdPnd": 0, b"SigBlk": 0}
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name in masks:
            masks[name] = int(value, 16)
    pending = masks[b"SigPnd"] | masks[b"ShdPnd"]
    return bool(pending & ~masks[b"SigBlk"] & _ENDING_MASK)


_EXITING = 0x4  # PF_EXITING of proc_pid_stat(5), flags


def is_exiting(tid: int) -> bool:
    """Whether a thread is on its way out and closes what it left open: no signal reaches it any more."""
    try:
        fields = Path(f"/proc/{tid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return True
    return bool(int(fields[6]) & _EXITING)


def caller_is_told_to_stop(tid: int) -> bool:
    """Look at a live thread. One that cannot be seen (gone, another PID namespace) counts as told to stop.

    The choice for the unseen: Ctrl-C in a container must not hang, and EINTR there is the lesser evil.
    """
    try:
        return is_told_to_stop(Path(f"/proc/{tid}/status").read_bytes())
    except OSError:
        return True


def interruptible(
    request: Request | None, *, told_to_stop: Callable[[int], bool] = caller_is_told_to_stop
) -> "Interruptible":
    """Make the block of a `with` end quietly when the request's caller gives up; what follows is EINTR:

        with interruptible(bridge.take_request()):
            return await answer()
        raise FUSEError(EINTR)

    None (no request of the kernel's own) is never interrupted. The request is finished at the end of the
    block, before the reply. A handler that has journaled or sent something calls request.finish() itself:
    from there on nothing interrupts it any more.
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
        """The bridge's callback, between two steps of the loop: it looks, and cancels or starts the watch."""
        if not self._look() and not self._is_watched:
            self._is_watched = True
            trio.lowlevel.spawn_system_task(self._watch)

    def _look(self) -> bool:
        """Cancel the block if its caller is told to stop. Returns whether looking is over."""
        if self._request is None or self._request.finished:
            return True
        if self._told_to_stop(self._request.tid):
            self._scope.cancel()
            return True
        return False

    async def _watch(self) -> None:
        """Look again until the block ends. Its owner is the loop: the handler may end at any await."""
        while not self._look():  # noqa: ASYNC110  (a pending signal is no event that one can wait for)
            await trio.sleep(LOOK_AGAIN_S)
