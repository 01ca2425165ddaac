"""What programs do to a mount, timed from outside: seconds, a round at a time."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

READ_BYTES = 1 << 20


class Incomplete(Exception):
    """A round did not do the work that it was timed for."""


def walk(path: Path, entries: int) -> float:
    """find with the size of everything, which costs a stat each."""
    began = time.perf_counter()
    found = subprocess.run(["find", path, "-printf", "%s\\n"], stdout=subprocess.PIPE, check=True).stdout
    took_s = time.perf_counter() - began
    lines = found.count(b"\n")
    if lines < entries:
        raise Incomplete(f"find met {lines} of {entries} entries in {path}")
    return took_s


def open_read_close(files: Sequence[str], size_bytes: int) -> float:
    """Each file opened, read whole and closed."""
    total_bytes = 0
    began = time.perf_counter()
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        total_bytes += len(os.read(fd, size_bytes + 1))
        os.close(fd)
    took_s = time.perf_counter() - began
    if total_bytes != size_bytes * len(files):
        raise Incomplete(f"{total_bytes} bytes read of {size_bytes * len(files)}")
    return took_s


def read_through(file: Path, size_bytes: int) -> float:
    """One file from its beginning to its end."""
    buffer = bytearray(READ_BYTES)
    total_bytes = 0
    began = time.perf_counter()
    fd = os.open(file, os.O_RDONLY)
    while count := os.readv(fd, [buffer]):
        total_bytes += count
    os.close(fd)
    took_s = time.perf_counter() - began
    if total_bytes != size_bytes:
        raise Incomplete(f"{total_bytes} bytes read of {size_bytes} in {file}")
    return took_s


def drop_pages(files: Sequence[str | Path]) -> None:
    """Have the kernel forget the bytes of these files, so that the next read reaches the daemon."""
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
