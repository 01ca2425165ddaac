"""What the daemon answers to the other commands: each request becomes one call into a room."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from procorefs import control
from procorefs.outbox.face import STAYING, STUCK, Counts, Item, Outbox
from procorefs.status import MountStatus


@dataclass(frozen=True, slots=True)
class Answers:
    """The handler of one mount's control socket."""

    status: Callable[[], Awaitable[MountStatus]]
    stop: Callable[[], None]
    #: told whether the daemon goes on when its mount point is taken away
    unmounting: Callable[[bool], None]
    #: None: a mount that has nothing to send
    outbox: Outbox | None

    async def __call__(self, request: control.Request) -> MountStatus | Counts | control.Remaining | None:
        match request:
            case control.StatusRequest():
                return await self.status()
            case control.StopRequest():
                self.stop()
                return None
            case control.UnmountingRequest(goes_on):
                self.unmounting(goes_on)
                return None
            case control.DrainRequest(paths):
                return self._drain(paths)
            case control.SyncRequest(paths):
                return _left(await self.outbox.settled(paths) if self.outbox else [])
            case control.WaitingRequest(paths):
                return _left(self.outbox.waiting(paths) if self.outbox else [])
            case control.RetryRequest(paths):
                return _remaining(self.outbox.retry(paths) if self.outbox else [])
            case control.DiscardRequest(paths):
                return _remaining(self.outbox.discard(paths) if self.outbox else [])

    def _drain(self, paths: Sequence[str]) -> Counts:
        if self.outbox is None:
            return Counts()
        self.outbox.hurry(paths)
        return self.outbox.counts()


def _left(items: Sequence[Item]) -> control.Left:
    remaining = _remaining([item for item in items if item.state not in STAYING])
    staying = sorted((item for item in items if item.state in STAYING), key=lambda item: item.since)
    size_bytes = sum(item.bytes for item in staying)
    return control.Left(
        remaining.items,
        remaining.total,
        control.Staying(staying[: control.MAX_STAYING], len(staying), size_bytes),
    )


def _remaining(items: Sequence[Item]) -> control.Remaining:
    # what a person has to do something about comes first, and so is not cut off
    ordered = sorted(items, key=lambda item: item.state not in STUCK)
    return control.Remaining(ordered[: control.MAX_ITEMS], len(items))
