"""Decides whether a version in Procore is ours, after the answer to the call that makes it was lost.

It is ours if our user made it, and its size and SHA-256 are ours. Size and author alone prove nothing: another
user's file may have the same size. The newest version may be one that was known before: Procore may have had these
bytes already, or a power cut lost the journal's record of our call. An older version must be newer than the known
one: another user may have added a version before our second try.
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
"""By how many seconds Procore's clock may be behind what its answers told."""


class VersionMatcher:
    """Compares versions by downloading them, which costs no API call; needed only after a lost answer."""

    def __init__(self, content: ContentReader, client: Client, me: UserId) -> None:
        self._content = content
        self._client = client
        self._me = me

    async def find_ours(self, document: Document, upload: Upload) -> Version | None:
        """The version that an earlier call made of the upload; None if it made none.

        Costs a call if the newest version is another one. Raises ProcoreError if it cannot be known now.
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

    async def find_made(
        self, documents: Iterable[Document], upload: Upload
    ) -> tuple[Document, Version] | None:
        """The first of some new files that an earlier call has made of the upload, with its version.

        Raises ProcoreError when it can't be known now.
        """
        for document in documents:
            if document.version is not None and await self._is_ours(document.version, upload):
                return document, document.version
        return None

    def is_by_us(self, by: Person | None) -> bool:
        """Whether that user is ours."""
        return by is not None and by.id == self._me

    async def has_made(self, upload: Upload, version: Version) -> bool:
        """Whether the version is that of the upload. Raises ProcoreError if it cannot be known now."""
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
    """The versions that were made after the upload had begun, the newest first."""
    begun = upload.whole or upload.segmented
    begun_s = server_s(clocks.past_s(begun.created_at_s)) if begun is not None else float("inf")
    for version in reversed(versions):
        if version.id == upload.before:
            return
        if version.created_at_s >= begun_s - CLOCKS_S:
            yield version
