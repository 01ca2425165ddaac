"""Whether a version in Procore is the one that a lost answer was about: nothing is doubled, and nobody else's is taken.

It is ours when it was made by us, has our size, was unknown before we asked, and its bytes have our SHA-256. Size and
author alone prove nothing: a colleague's file of the same size must not pass for ours.
"""

import hashlib

from procorefs.content.reader import ContentReader
from procorefs.outbox.change import Change, Upload
from procorefs.procore.models import Document, UserId, Version

_PIECE_BYTES = 1 << 20


class Verifier:
    """Compares by downloading; costs no API call, and is needed only after an answer was lost."""

    def __init__(self, content: ContentReader, me: UserId) -> None:
        self._content = content
        self._me = me

    async def is_ours(self, document: Document, upload: Upload, change: Change) -> bool:
        """Raises ProcoreError when the bytes can't be read now: then nothing is known yet."""
        version = document.version
        if version is None or change.staged is None:
            return False
        if version.id == upload.before or version.size_bytes != change.staged.size_bytes:
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
