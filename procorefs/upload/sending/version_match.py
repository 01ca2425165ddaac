"""Decides whether a version in Procore is ours, after the answer to the call that makes it was lost.

It is ours when it was made by us, has our size, and its bytes have our SHA-256. Size and author alone prove nothing: a
colleague's file of the same size must not pass for ours. The newest version may be one that was known before we asked:
a power cut can take along what the journal knew of our call, or Procore has these bytes anyway. An older one must be
newer than that: a colleague who was faster than our second try has put another version on top.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from procorefs.cache.reader import ContentReader
from procorefs.journal.change import Upload
from procorefs.limiter import Priority
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import Document, Person, UserId, Version
from procorefs.storage import clocks

_PIECE_BYTES = 1 << 20

CLOCKS_S = 600
"""So far Procore's clock may be behind what its answers told of it."""


class VersionMatcher:
    """Compares by downloading, which costs no API call; all of it is needed only after an answer was lost."""

    def __init__(self, content: ContentReader, client: Client, me: UserId) -> None:
        self._content = content
        self._client = client
        self._me = me

    async def find_ours(self, document: Document, upload: Upload) -> Version | None:
        """The version that an earlier call has made of the upload; None: it has made none.

        Costs a call if the newest one is another's. Raises ProcoreError when it can't be known now.
        """
        newest = document.version
        if newest is None:
            return None
        if await self._is_ours(newest, upload):
            return newest
        if newest.number == 1 or newest.id == upload.before:
            return None
        versions = await self._client.versions(document.id, priority=Priority.WRITING)
        for version in _made_since(versions, upload, self._client.server_s):
            if version.id != newest.id and await self._is_ours(version, upload):
                return version
        return None

    def is_by_us(self, by: Person | None) -> bool:
        """Whether we are that user."""
        return by is not None and by.id == self._me

    async def has_made(self, upload: Upload, version: Version) -> bool:
        """Whether that is the version of the upload. Raises ProcoreError when it can't be known now."""
        return await self._is_ours(version, upload)

    async def _is_ours(self, version: Version, upload: Upload) -> bool:
        if version.size_bytes != upload.size_bytes:
            return False
        if version.created_by is not None and version.created_by.id != self._me:
            return False
        return await self.digest(version) == upload.sha256

    async def digest(self, version: Version) -> bytes:
        """The SHA-256 of a version, downloaded. Raises ProcoreError."""
        digest = hashlib.sha256()
        reader = self._content.open(version)
        try:
            for offset in range(0, version.size_bytes, _PIECE_BYTES):
                digest.update(await reader.read(offset, _PIECE_BYTES))
        finally:
            reader.close()
        return digest.digest()


def _made_since(
    versions: Sequence[Version], upload: Upload, server_s: Callable[[float], float]
) -> Iterable[Version]:
    """Those that were made after the upload had begun, newest first."""
    begun = upload.whole or upload.segmented
    begun_s = server_s(clocks.past_s(begun.created_at_s)) if begun is not None else float("inf")
    for version in reversed(versions):
        if version.id == upload.before:
            return
        if version.created_at_s >= begun_s - CLOCKS_S:
            yield version
