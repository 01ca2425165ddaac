"""Handles the requests of the control socket: calls the part that has the answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import trio

from procorefs.journal.states import STAYING, STUCK, ChangeState
from procorefs.service import control_socket
from procorefs.service.details import MountDetails
from procorefs.service.file_facts import FileFactsReader
from procorefs.service.running_settings import RunningSettings
from procorefs.service.status import MountStatus
from procorefs.upload.commands import Commands
from procorefs.upload.items import Counts, Item


@dataclass(frozen=True, slots=True)
class RequestHandler:
    """Handles the requests to one mount."""

    status: Callable[[], Awaitable[MountStatus]]
    details: Callable[[], Awaitable[MountDetails]]
    stop: Callable[[], None]
    unmounting: Callable[[bool], None]
    """Sets whether the daemon continues to send after the unmount."""
    outbox: Commands | None
    """None: the mount sends nothing."""
    settings: RunningSettings
    files: FileFactsReader

    async def __call__(self, request: control_socket.Request) -> object:
        """The answer, as the request's description says."""
        match request:
            case control_socket.StatusRequest():
                return await self.status()
            case control_socket.DetailsRequest():
                return await self.details()
            case control_socket.StopRequest():
                self.stop()
                return None
            case control_socket.UnmountingRequest(continues):
                self.unmounting(continues)
                return None
            case control_socket.SetRequest(words):
                return self.settings.change(words)
            case control_socket.AccessRequest(read_only):
                return self.settings.set_read_only(read_only)
            case control_socket.DetailRequest():
                return await self._log_all_messages()
            case control_socket.FilesRequest(paths, folder):
                return await self.files.answer(paths, folder)
            case _:
                return await self._of_the_outbox(request)

    async def _of_the_outbox(self, request: control_socket.OutboxRequest) -> object:
        match request:
            case control_socket.DrainRequest(paths):
                return self._drain(paths)
            case control_socket.SyncRequest(paths):
                return _left(await self.outbox.settled(paths) if self.outbox else [])
            case control_socket.WaitingRequest(paths):
                return _left(self.outbox.waiting(paths) if self.outbox else [])
            case control_socket.RetryRequest(paths):
                return _remaining(await self.outbox.retry(paths) if self.outbox else [])
            case control_socket.DiscardRequest(paths):
                return _remaining(await self.outbox.discard(paths) if self.outbox else [])

    async def _log_all_messages(self) -> NoReturn:
        with self.settings.log_detail.all_messages():
            await trio.sleep_forever()
        raise AssertionError("it ends by cancellation")

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
    # Items that need a person come first, so that the limit does not cut them off; of what the delete guard holds,
    # commands show only the number.
    ordered = sorted(items, key=lambda item: (item.state not in STUCK, item.state is ChangeState.GUARDED))
    return control_socket.Remaining(ordered[: control_socket.MAX_ITEMS], len(items))
