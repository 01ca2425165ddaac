"""What is known of a staged file beside its bytes: its record in the journal, and which rows on disk promise it.

    row: closed ─▶ sync ─▶ (on disk) ─▶ row: written over ─▶ sync ─▶ bytes may change

Rows reach the disk in order, up to a second late; bytes may reach it at any time. A row on disk that promises bytes
must be replaced there before these bytes change: after a power cut nothing would show that half of them are others. A
row that no sync has brought to disk is doubted after a power cut anyway.
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
    """What the journal keeps of a staged file, to find it again after a crash."""

    number: int
    size_bytes: int
    base: Version | None  # None: nothing is missing
    missing: tuple[Range, ...]  # whose bytes are still only in `base`


class StagedIncomplete(Exception):
    """The file on disk is not what was staged; the text says what is wrong."""

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
    """What all staged files of an area share."""

    directory: str  # absolute
    quota: Quota
    open_version: Callable[[Version], BaseReader]
    disk: Disk
    remover: Remover
    threads: trio.CapacityLimiter


class Promises:
    """Counts rows that promise the file, and remembers which of them no power cut can bring back."""

    __slots__ = ("_made", "_since", "_withdrawn")

    def __init__(self) -> None:
        self._made = self._withdrawn = 0
        self._since = 0  # the sequence of the first that is not withdrawn

    def make(self, sequence: int) -> None:
        """A row with that sequence says that the file is closed; 0: an earlier run wrote it."""
        if self._made == self._withdrawn:
            self._since = sequence
        self._made += 1

    @property
    def made(self) -> int:
        """How many there were, for `withdraw`."""
        return self._made

    def withdraw(self, made: int) -> None:
        """A later row than the first `made` ones is on disk, and says that the file is being written."""
        self._withdrawn = max(self._withdrawn, made)

    def is_on_disk(self, synced: int) -> bool:
        """Whether a power cut may bring a row that promises the file; `synced`: up to there rows are on disk."""
        return self._made > self._withdrawn and self._since <= synced
