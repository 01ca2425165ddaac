"""Decides whether programs may change the mount, and whether what waits is sent; `mount -o remount` changes it."""

import trio

from procorefs.storage.events import EventSource


class MountAccess:
    """The access of one mount; `set_read_only` is its only setter."""

    def __init__(self, *, is_read_only: bool) -> None:
        self.is_read_only = is_read_only
        """Whether changes by programs are refused with EROFS."""
        self.sends = not is_read_only
        """Whether waiting changes are sent: on a mount that was writable once, they are, even if it is read-only."""
        self.changed = EventSource[bool]()
        """Emits `is_read_only` when it has changed."""
        self._was_writable = trio.Event()

    def set_read_only(self, is_read_only: bool) -> None:
        """Refuse changes from now on, or accept them. What waits continues to be sent."""
        if is_read_only == self.is_read_only:
            return
        self.is_read_only = is_read_only
        if not is_read_only:
            self.sends = True
            self._was_writable.set()
        self.changed.emit(is_read_only)

    async def writable(self) -> None:
        """Wait until a mount that began read-only becomes writable."""
        await self._was_writable.wait()
