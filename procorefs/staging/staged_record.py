"""The journal's record of a staged file, and which journal rows on disk promise its bytes.

    row: closed ─▶ sync ─▶ (on disk) ─▶ row: overwritten ─▶ sync ─▶ bytes may change

Rows reach the disk in order, up to a second late; bytes may reach it at any time. A row on disk that promises bytes
must be replaced on disk before these bytes change: otherwise nothing would show after a power cut that half of them are
newer. A row that no sync has brought to disk is not trusted after a power cut in any case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import trio

from procorefs.cache.chunk_cache import Chunk
from procorefs.procore.wire.models import Version
from procorefs.staging.missing_ranges import Range
from procorefs.staging.quota import Quota
from procorefs.staging.staged_bytes import Disk, Remover


class StagedRecord(msgspec.Struct, frozen=True, gc=False):
    """What the journal stores of a staged file, to find it again after a crash."""

    number: int
    size_bytes: int
    base: Version | None
    """None: no bytes are missing."""
    missing: tuple[Range, ...]
    """Ranges whose bytes exist only in `base`."""


class StagedIncomplete(Exception):
    """The file on disk differs from what was staged; the text says how."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"Staged file {number} {what}")
        self.number = number


class StagedFrozen(Exception):
    """The file was frozen while a write waited: nothing was written."""


class BaseReader(Protocol):
    """Reads one version of Procore's."""

    async def read(self, offset: int, size_bytes: int, /) -> Chunk:
        """Exactly the bytes asked for. Raises ProcoreError."""

    def close(self) -> None: ...


@dataclass(slots=True, frozen=True)
class StagedFileContext:
    """What all files of a staging area share."""

    directory: str
    """Absolute."""
    quota: Quota
    open_version: Callable[[Version], BaseReader]
    disk: Disk
    remover: Remover
    threads: trio.CapacityLimiter


class Promises(msgspec.Struct, eq=False, gc=False):
    """Counts the journal rows that promise the file's bytes, and which of them are withdrawn on disk."""

    _made: int = 0
    _withdrawn: int = 0
    _since: int = 0
    """The sequence of the first row that is not withdrawn."""

    def make(self, sequence: int) -> None:
        """Count a row with that sequence, which says that the file is closed; 0: an earlier run wrote it."""
        if self._made == self._withdrawn:
            self._since = sequence
        self._made += 1

    @property
    def made(self) -> int:
        """The number of rows so far, for `withdraw`."""
        return self._made

    def withdraw(self, made: int) -> None:
        """Withdraw the first `made` rows: a later row on disk says that the file is being written."""
        self._withdrawn = max(self._withdrawn, made)

    def is_on_disk(self, synced: int) -> bool:
        """Whether a row that promises the file may be on disk; `synced`: the last sequence on disk."""
        return self._made > self._withdrawn and self._since <= synced
