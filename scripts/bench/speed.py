"""How fast a mount is for programs, beside rclone: rounds take turns, so that both meet the same noise."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench import work
from scripts.bench.place import MIB, SMALL_FILE_BYTES, Place
from scripts.bench.results import Figure, at_least, rate, times_rclone

WARM = "page cache warm"
COLD = "pages of the mount dropped"
WALK_PAUSE_S = 2.0


def walk(place: Place) -> Iterator[Figure]:
    """Both mounts were walked before, so both know everything; rclone lets the kernel use that for a second."""
    entries = place.sizes.entries

    def work_once(root: Path) -> float:
        return work.walk(root, entries)

    def pause(_root: Path) -> None:
        time.sleep(WALK_PAUSE_S)

    ours, theirs = _in_turns(place, work_once, warm=work_once, before_each=pause, times=2)
    what, note = f"warm walk with stat of {entries:,} entries", f"{WALK_PAUSE_S:g} s after the last"
    yield rate(what, entries, "entries/s", times_rclone(10), ours, theirs, note)


def open_files(place: Place) -> Iterator[Figure]:
    """Every file was read through the same mount once before, so both caches have its bytes."""
    pair = place.pair
    count = len(pair.small_files)

    def work_once(root: Path) -> float:
        return work.open_read_close(pair.paths(root), SMALL_FILE_BYTES)

    def drop(root: Path) -> None:
        work.drop_pages(pair.paths(root))

    what = "open+read+close of cached 2 KiB files"
    ours, theirs = _in_turns(place, work_once, warm=work_once)
    goal = times_rclone(3)
    yield rate(what, count, "files/s", goal, ours, theirs, WARM)
    ours, theirs = _in_turns(place, work_once, before_each=drop)
    yield rate(what, count, "files/s", goal, ours, theirs, COLD)


def read_cached(place: Place) -> Iterator[Figure]:
    """The file was read through the same mount once before, so both caches have its bytes."""
    pair, size_bytes = place.pair, place.sizes.big_file_bytes

    def work_once(root: Path) -> float:
        return work.read_through(root / pair.big_file, size_bytes)

    def drop(root: Path) -> None:
        work.drop_pages([root / pair.big_file])

    what = f"sequential read of a cached {size_bytes // MIB} MiB file"
    megabytes = size_bytes / 1e6
    ours, theirs = _in_turns(place, work_once, warm=work_once)
    goal = times_rclone(5)
    yield rate(what, megabytes, "MB/s", goal, ours, theirs, WARM)
    ours, theirs = _in_turns(place, work_once, before_each=drop)
    yield rate(what, megabytes, "MB/s", goal, ours, theirs, COLD)


def read_uncached(place: Place) -> Iterator[Figure]:
    """A new mount with an empty chunk cache each time; the sandbox works on the same cores."""
    mount, big_file = place.distant
    size_bytes = place.sizes.big_file_bytes
    times_s = []
    for _ in range(place.sizes.rounds):
        mount.unmount()
        mount.forget_content()
        mount.mount()
        big_file.stat()
        times_s.append(work.read_through(big_file, size_bytes))
    mount.unmount()
    what = f"sequential read of an uncached {size_bytes // MIB} MiB file"
    yield rate(what, size_bytes / 1e6, "MB/s", at_least(200, "MB/s"), times_s)


def _in_turns(
    place: Place,
    once: Callable[[Path], float],
    *,
    warm: Callable[[Path], object] = lambda _root: None,
    before_each: Callable[[Path], object] = lambda _root: None,
    times: int = 1,
) -> tuple[list[float], list[float]]:
    """Seconds of each round, ours and rclone's; short work has several times as many."""
    roots = (place.pair.ours.path, place.pair.rclone)
    times_s: tuple[list[float], list[float]] = ([], [])
    for root in roots:
        warm(root)
    for _ in range(times * place.sizes.rounds):
        for root, rounds_s in zip(roots, times_s, strict=True):
            before_each(root)
            rounds_s.append(once(root))
    return times_s
