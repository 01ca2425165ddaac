"""How fast programs write, beside rclone: rounds take turns, and nothing is sent before all of them are over."""

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench import work
from scripts.bench.place import MIB, Place
from scripts.bench.results import Figure, rate, times_rclone

LARGE_WRITE_BYTES = MIB
SMALL_WRITE_BYTES = 4096
COPIED_FILE_BYTES = 4096
COPIED_FOLDERS = 10


def write(place: Place) -> Iterator[Figure]:
    """Nothing is sent meanwhile: both sides keep what they got for longer than this takes."""
    large_bytes, small_bytes = place.sizes.written_bytes, place.sizes.written_in_small_bytes
    yield _sequential(place, large_bytes, LARGE_WRITE_BYTES, "1 MiB", goal=3)
    yield _sequential(place, small_bytes, SMALL_WRITE_BYTES, "4 KiB", goal=1.5)
    yield _copy(place)


def _sequential(place: Place, size_bytes: int, write_bytes: int, shown: str, goal: float) -> Figure:
    piece = os.urandom(write_bytes)

    def once(root: Path) -> float:
        file = root / "written.bin"
        took_s = written(file, piece, size_bytes // write_bytes)
        file.unlink()
        return took_s

    ours, theirs = _in_turns(place, once)
    what = f"writing a {size_bytes // MIB} MiB file in pieces of {shown}"
    return rate(what, size_bytes / 1e6, "MB/s", times_rclone(goal), ours, theirs, "open to close")


def written(file: Path, piece: bytes, count: int) -> float:
    """Seconds from open to the end of close."""
    began = time.perf_counter()
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for _ in range(count):
        os.write(fd, piece)
    os.close(fd)
    took_s = time.perf_counter() - began
    if file.stat().st_size != count * len(piece):
        raise work.Incomplete(f"{file} has {file.stat().st_size} bytes of {count * len(piece)}")
    return took_s


def _copy(place: Place) -> Figure:
    count = place.sizes.copied_files
    source = place.new_folder("copied")
    make_files(source, count, COPIED_FOLDERS, COPIED_FILE_BYTES)

    rounds = itertools.count()

    def once(root: Path) -> float:
        # trees stay: ext4 is slow to make files just after it has removed as many, and that is not what is measured
        target = root / f"copied {next(rounds)}"
        began = time.perf_counter()
        subprocess.run(["cp", "-r", source, target], check=True)
        took_s = time.perf_counter() - began
        copied = sum(1 for path in target.rglob("*") if path.is_file())
        if copied != count:
            raise work.Incomplete(f"{copied} of {count} files arrived in {target}")
        return took_s

    ours, theirs = _in_turns(place, once)
    return rate(f"cp -r of {count:,} files of 4 KiB", count, "files/s", times_rclone(2), ours, theirs)


def make_files(root: Path, count: int, folders: int, size_bytes: int) -> None:
    """So many files, evenly in so many folders."""
    for number in range(count):
        folder = root / f"Folder {number % folders:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"Report {number:06d}.pdf").write_bytes(os.urandom(size_bytes))


def _in_turns(place: Place, once: Callable[[Path], float]) -> tuple[list[float], list[float]]:
    """Seconds of each round, ours and rclone's; a first one of each is not counted."""
    roots = (place.written_pair.ours.path, place.written_pair.rclone)
    times_s: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * place.sizes.rounds + 1):
        for root, rounds_s in zip(roots, times_s, strict=True):
            took_s = once(root)
            if number:
                rounds_s.append(took_s)
    return times_s
