"""Measures programs in a mount that uploads earlier writes, beside rclone mount and a plain directory.

Our mount sends as fast as 25 calls in ten seconds allow, which is what a new app gets from Procore; rclone sends to a
local directory. Lines and directories take turns in each round, so that all meet the same noise.
"""

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench import work
from scripts.bench.place import MIB, SMALL_FILE_BYTES, Place, Trio
from scripts.bench.results import Figure, median_rate, times_rclone
from scripts.bench.writing import make_files, written

COPIED_FILE_BYTES = 2048
COPIED_FOLDERS = 10
BACKLOG_FILES = 30
"""New before each round: more than the limit sends until the next one."""

PIECE_BYTES = 4096
RANDOM_READS = 2_000


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    what: str
    amount: float
    unit: str
    goal: float
    """How many times rclone's rate."""
    once: Callable[[Path, int], float]
    """Does it in that directory in that round; returns the seconds."""


def busy(place: Place) -> Iterator[Figure]:
    """The first round of each line is not counted."""
    trio, sizes = place.trio, place.sizes
    source = place.new_folder("busy-copied")
    make_files(source, sizes.copied_files, COPIED_FOLDERS, COPIED_FILE_BYTES)
    lines = [*_reading(trio, sizes.entries_beside), *_copying(source, sizes.copied_files)]
    lines[-1:-1] = _one_file(
        sizes.written_bytes, sizes.written_in_small_bytes
    )  # what is copied is removed last
    roots = (trio.ours.path, trio.rclone, trio.plain)
    times_s: dict[tuple[str, Path], list[float]] = {}
    for number in range(sizes.rounds + 1):
        began_s = time.perf_counter()
        for root in roots:
            make_files(root / f"backlog {number}", BACKLOG_FILES, 1, COPIED_FILE_BYTES)
        for line, root in itertools.product(lines, roots):
            took_s = line.once(root, number)
            if number:
                times_s.setdefault((line.what, root), []).append(took_s)
        for root in roots:
            shutil.rmtree(root / f"rsync {number}")
        took_s = time.perf_counter() - began_s
        print(f"        round {number} of {sizes.rounds} took {took_s:.0f} s", file=sys.stderr, flush=True)
    for line in lines:
        ours, theirs, plain = (times_s[line.what, root] for root in roots)
        yield median_rate(line.what, line.amount, line.unit, times_rclone(line.goal), ours, theirs, plain)


def _reading(trio: Trio, entries: int) -> list[Line]:
    def opened(root: Path, _number: int) -> float:
        return work.open_read_close(trio.paths(root), SMALL_FILE_BYTES)

    def opened_cold(root: Path, number: int) -> float:
        work.drop_pages(trio.paths(root))
        return opened(root, number)

    count, what = len(trio.small_files), "busy: open+read+close of 2 KiB files"
    return [
        Line("busy: walk + stat", entries, "entries/s", 10, lambda root, _number: work.walk(root, entries)),
        Line(f"{what}, pages cached", count, "files/s", 4, opened),
        Line(f"{what}, pages dropped", count, "files/s", 3, opened_cold),
    ]


def _copying(source: Path, count: int) -> list[Line]:
    def rsync(root: Path, number: int) -> float:
        return _timed("rsync", "-a", f"{source}/", str(root / f"rsync {number}"))

    of_all = f"{count:,} files"
    return [
        Line(
            f"busy: cp -r of {of_all}",
            count,
            "files/s",
            3,
            lambda root, number: _timed("cp", "-r", str(source), str(root / f"cp {number}")),
        ),
        Line(f"busy: rsync -a of {of_all}", count, "files/s", 2.5, rsync),
        Line(f"busy: rsync -a of {of_all} again", count, "files/s", 3, rsync),
        Line(
            f"busy: rm -r of {of_all}",
            count,
            "files/s",
            2.5,
            lambda root, number: _timed("rm", "-r", str(root / f"cp {number}")),
        ),
    ]


def _one_file(large_bytes: int, small_bytes: int) -> list[Line]:
    """A file that is written, read and removed in each round."""

    def write(root: Path, name: str, piece_bytes: int, size_bytes: int) -> float:
        return written(root / name, os.urandom(piece_bytes), size_bytes // piece_bytes)

    def read(root: Path, _number: int) -> float:
        work.drop_pages([root / "large.bin"])
        return work.read_through(root / "large.bin", large_bytes)

    def read_pieces(root: Path, number: int) -> float:
        work.drop_pages([root / "large.bin"])
        took_s = _random_reads(root / "large.bin", large_bytes // PIECE_BYTES, number)
        for name in ("large.bin", "small.bin"):
            (root / name).unlink()
        return took_s

    megabytes = large_bytes / 1e6
    return [
        Line(
            f"busy: writing {large_bytes // MIB} MiB in pieces of 1 MiB",
            megabytes,
            "MB/s",
            4,
            lambda root, _number: write(root, "large.bin", MIB, large_bytes),
        ),
        Line(
            f"busy: writing {small_bytes // MIB} MiB in pieces of 4 KiB",
            small_bytes / 1e6,
            "MB/s",
            4,
            lambda root, _number: write(root, "small.bin", PIECE_BYTES, small_bytes),
        ),
        Line(
            f"busy: reading {large_bytes // MIB} MiB just written, pages dropped", megabytes, "MB/s", 4, read
        ),
        Line("busy: random reads of 4 KiB of it, pages dropped", RANDOM_READS, "reads/s", 5, read_pieces),
    ]


def _timed(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def _random_reads(file: Path, pieces: int, seed: int) -> float:
    chosen = random.Random(seed)
    offsets: Sequence[int] = [chosen.randrange(pieces) * PIECE_BYTES for _ in range(RANDOM_READS)]
    fd = os.open(file, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    began = time.perf_counter()
    total_bytes = sum(len(os.pread(fd, PIECE_BYTES, offset)) for offset in offsets)
    took_s = time.perf_counter() - began
    os.close(fd)
    if total_bytes != RANDOM_READS * PIECE_BYTES:
        raise work.Incomplete(f"{total_bytes} bytes read of {RANDOM_READS * PIECE_BYTES} in {file}")
    return took_s
