"""Where bytes come from when the cache does not have them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from procorefs.procore.wire.models import Version


class ByteSource(Protocol):
    """Streams ranges of versions; continues broken bodies by itself."""

    def stream(
        self, version: Version, start: int, end: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield exactly the bytes [start, end) in pieces, or raise ProcoreError."""
        ...

    def ignores_ranges(self, version: Version) -> bool:
        """Whether the storage was seen to send whole bodies: a stream then costs all that lies before its start."""
        ...

    def waits_for_budget(self, version: Version) -> bool:
        """Whether a download of it waits until the call budget allows a call: that is no silence."""
        ...
