"""Copies and hashes whole staged files in threads, while their bytes do not change."""

import os
from collections.abc import Callable, Iterator

from procorefs.staging import staged_bytes
from procorefs.staging.missing_ranges import Range
from procorefs.staging.staged_bytes import SLICE_BYTES
from procorefs.staging.staged_file import StagedFile
from procorefs.staging.staged_record import StagedIncomplete, StagedRecord


async def freeze_copy(file: StagedFile, create: Callable[[], StagedFile]) -> StagedFile:
    """A new working file with the same bytes; missing bytes stay missing. Waits for quota.

    Raises StagingFull, StagedIncomplete, OSError.
    """
    with file.held():
        taken = await file.take_quota(lambda: file.stored_bytes)
        # No await before `exclusive`: the quota that was taken is what the copy needs.
        try:
            copy = create()
        except BaseException:
            file.give_back(taken)
            raise
        try:
            with copy.held(), file.exclusive():
                record = file.record()
                await _copy_to(file, copy, record.missing)
                copy.set_base(record.base, file.size_bytes, record.missing)
        except BaseException:
            file.give_back(taken)
            copy.delete()
            raise
        return copy


async def save_tail(file: StagedFile, create: Callable[[], StagedFile]) -> StagedRecord | None:
    """Copy a file together with the bytes beyond its recorded end; None: it has no such bytes.

    Returns the copy's record, for `Staging.adopt`. Raises StagingFull, OSError.
    """
    with file.held():
        size_bytes = os.fstat(file.fd).st_size
        if size_bytes <= file.size_bytes:
            return None
        copy = create()
        try:
            with copy.held():
                await file.in_thread(staged_bytes.copy_all, file.fd, copy.fd, size_bytes)
        except BaseException:
            copy.delete()
            raise
        record = file.record()
        copy.set_base(record.base, size_bytes, record.missing)
        return copy.record()


async def _copy_to(file: StagedFile, copy: StagedFile, missing: tuple[Range, ...]) -> None:
    found = os.fstat(file.fd).st_size
    if found != file.size_bytes:  # lost bytes must not become a hole in the copy
        raise StagedIncomplete(file.number, f"has {found} bytes and not {file.size_bytes}")
    if await file.in_thread(staged_bytes.clone, file.fd, copy.fd):
        return
    for batch in staged_bytes.batches(_between(missing, file.size_bytes)):
        await file.in_thread(staged_bytes.copy, file.fd, copy.fd, batch)
    os.ftruncate(copy.fd, file.size_bytes)


async def digest(file: StagedFile) -> bytes:
    """Complete the file and return its SHA-256. Raises StagedIncomplete, and as `StagedFile.complete`."""
    if file.known_digest is None or file.known_digest[0] != file.changed:
        [(_, found)] = await _hash(file, None)
        file.known_digest = (file.changed, found)
    return file.known_digest[1]


async def segment_digests(file: StagedFile, segment_bytes: int) -> list[tuple[int, str]]:
    """Size and SHA-256 (hex) of each segment; the last one may be shorter. Raises as `digest`."""
    return [(size_bytes, found.hex()) for size_bytes, found in await _hash(file, segment_bytes)]


async def _hash(file: StagedFile, segment_bytes: int | None) -> list[tuple[int, bytes]]:
    """The digests of the segments; None: one digest of the file. Starts again if the file is written meanwhile."""
    with file.held():
        while True:
            await file.complete()
            changed, size_bytes = file.changed, file.size_bytes
            step = segment_bytes or max(size_bytes, 1)
            segments = range(0, size_bytes, step) if segment_bytes else range(1)
            digests = [await _hash_of(file, low, min(low + step, size_bytes)) for low in segments]
            if file.changed == changed:
                return [
                    (min(step, size_bytes - low), found) for low, found in zip(segments, digests, strict=True)
                ]


async def _hash_of(file: StagedFile, low: int, high: int) -> bytes:
    part = staged_bytes.Hash()
    for start in range(low, high, SLICE_BYTES):
        await file.in_thread(part.feed, file.fd, start, min(start + SLICE_BYTES, high))
    return part.digest()


def _between(missing: tuple[Range, ...], size_bytes: int) -> Iterator[Range]:
    """The ranges of a file of that size that are not missing."""
    low = 0
    for start, stop in missing:
        if low < start:
            yield low, start
        low = stop
    if low < size_bytes:
        yield low, size_bytes
