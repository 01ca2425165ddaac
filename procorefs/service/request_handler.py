"""Handles the requests of the control socket: each becomes one call to the part that owns the answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from procorefs.service import control_socket
from procorefs.service.status import MountStatus
from procorefs.upload.commands import Commands
from procorefs.upload.items import STAYING, STUCK, Counts, Item


@dataclass(frozen=True, slots=True)
class RequestHandler:
    """The handler of one mount's control socket."""

    status: Callable[[], Awaitable[MountStatus]]
    stop: Callable[[], None]
    unmounting: Callable[[bool], None]
    """Told whether the daemon goes on when its mount point is taken away."""
    outbox: Commands | None
    """None: a mount that has nothing to send."""

    async def __call__(
        self, request: control_socket.Request
    ) -> MountStatus | Counts | control_socket.Remaining | None:
        match request:
            case control_socket.StatusRequest():
                return await self.status()
            case control_socket.StopRequest():
                self.stop()
                return None
            case control_socket.UnmountingRequest(goes_on):
                self.unmounting(goes_on)
                return None
            case control_socket.DrainRequest(paths):
                return self._drain(paths)
            case control_socket.SyncRequest(paths):
                return _left(await self.outbox.settled(paths) if self.outbox else [])
            case control_socket.WaitingRequest(paths):
                return _left(self.outbox.waiting(paths) if self.outbox else [])
            case control_socket.RetryRequest(paths):
                return _remaining(self.outbox.retry(paths) if self.outbox else [])
            case control_socket.DiscardRequest(paths):
                return _remaining(self.outbox.discard(paths) if self.outbox else [])

    def _drain(self, paths: Sequence[str]) -> Counts:
        if self.outbox is None:
            return Counts()
        self.outbox.hurry(paths)
        return self.outbox.counts()


def _left(items: Sequence[Item]) -> control_socket.Left:
    remaining = _remaining([item for item in items if item.state not in STAYING])
    staying = sorted((item for item in items if item.state in STAYING), key=lambda item: item.since)
    size_bytes = sum(item.bytes for item in staying)
    return control_socket.Left(
        remaining.items,
        remaining.total,
        control_socket.Staying(staying[: control_socket.MAX_STAYING], len(staying), size_bytes),
    )


def _remaining(items: Sequence[Item]) -> control_socket.Remaining:
    # what a person has to do something about comes first, and so is not cut off
    ordered = sorted(items, key=lambda item: item.state not in STUCK)
    return control_socket.Remaining(ordered[: control_socket.MAX_ITEMS], len(items))
