"""What bringing files into a project costs: calls, memory of large uploads, looking before, and waiting in numbers."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.bench import work
from scripts.bench.mounts import Mount
from scripts.bench.place import MIB, Place
from scripts.bench.results import Figure, at_most

FEW_FILES, FEW_FOLDERS = 500, 40
SURPLUS = 5
LARGE_FILES = 2
FOLDER_FILES = 200
WAITING_WRITE_BACK_S = 36_000

Tool = Callable[[Path, Path], None]


def migrate(place: Place) -> Iterator[Figure]:
    """The same tree by four programs, each into a folder of its own; then again by rsync."""
    source = place.new_folder("to migrate")
    _make_tree(source, FEW_FILES, FEW_FOLDERS)
    sandbox = place.new_sandbox("migrated")
    mount = place.new_mount("migrated", sandbox)
    mount.mount()
    mount.wait_until_listed()
    most = at_most(2 * FEW_FILES + FEW_FOLDERS + 1 + SURPLUS)
    for name, copy in _TOOLS.items():
        sandbox.reset_calls()
        began = time.perf_counter()
        copy(source, mount.path / name)
        copied_s = time.perf_counter() - began
        mount.sync()
        note = f"copied in {copied_s:.1f} s, in Procore after {time.perf_counter() - began:.1f} s"
        what = f"{FEW_FILES} new files in {FEW_FOLDERS + 1} new folders by {name}"
        yield Figure(what, sandbox.calls(), "calls", most, note=note)
    sandbox.reset_calls()
    said = subprocess.run(
        ["rsync", "-a", "--stats", f"{source}/", mount.path / "rsync -a"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    mount.sync()
    moved = re.search(r"Literal data: ([\d,.]+) bytes", said)
    note = f"{moved[1] if moved else '?'} bytes moved"
    yield Figure("the same once more by rsync -a", sandbox.calls(), "calls", at_most(2), note=note)
    mount.unmount()


def _make_tree(root: Path, count: int, folders: int) -> None:
    noise = random.Random(2)
    for number in range(count):
        folder = root / f"Folder {number % folders:02d}"
        folder.mkdir(exist_ok=True)
        (folder / f"Report {number:03d}.pdf").write_bytes(noise.randbytes(noise.randint(1 << 10, 200 << 10)))


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)


def _rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", target], check=True)


def _tar(source: Path, target: Path) -> None:
    target.mkdir()
    with subprocess.Popen(["tar", "-cf", "-", "-C", source, "."], stdout=subprocess.PIPE) as packing:
        subprocess.run(["tar", "-xf", "-", "-C", target], stdin=packing.stdout, check=True)


def _rclone(source: Path, target: Path) -> None:
    subprocess.run(
        ["rclone", "copy", "--config", "/dev/null", source, target], check=True, capture_output=True
    )


_TOOLS: dict[str, Tool] = {"cp -r": _cp, "rsync -a": _rsync, "tar x": _tar, "rclone copy": _rclone}


def upload(place: Place) -> Iterator[Figure]:
    """Large files at the same time, from the first byte written to the last one in Procore."""
    mount = place.new_mount("uploading", place.new_sandbox("uploading"))
    mount.mount("write_back=0")
    mount.wait_until_listed()
    size_bytes = place.sizes.uploaded_bytes
    piece = os.urandom(MIB)
    began = time.perf_counter()
    for number in range(LARGE_FILES):
        with (mount.path / f"large {number}.bin").open("wb", buffering=0) as file:
            for block in range(size_bytes // MIB):
                file.write(block.to_bytes(8, "big") + piece[8:])
    mount.sync()
    took_s = time.perf_counter() - began
    what = f"daemon's VmHWM over {LARGE_FILES} uploads of {size_bytes // MIB} MiB at a time"
    rate = LARGE_FILES * size_bytes / 1e6 / took_s
    note = f"{rate:.0f} MB/s from the first write to the last answer, the sandbox on the same cores"
    yield Figure(what, mount.most_resident_bytes() / 1e6, "MB", at_most(200, "MB"), note=note)
    mount.unmount()


def check(place: Place) -> Iterator[Figure]:
    """Names only: no file is opened."""
    count = place.sizes.waiting_files
    tree = place.new_folder("to check")
    for number in range(count):
        folder = tree / f"Folder {number // FOLDER_FILES:04d}"
        if number % FOLDER_FILES == 0:
            folder.mkdir()
        (folder / f"Report {number:06d}.pdf").touch()
    took_s = []
    for _ in range(place.sizes.rounds):
        began = time.perf_counter()
        subprocess.run(
            [Path(sys.executable).with_name("procorefs"), "check", tree],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        took_s.append(time.perf_counter() - began)
    what = f"procorefs check of {count:,} files"
    yield Figure(what, min(took_s), "s", at_most(5, "s"), rounds_s=tuple(took_s))


def waiting(place: Place) -> Iterator[Figure]:
    """Half of them in one folder; nothing goes meanwhile."""
    count = place.sizes.waiting_files
    mount = place.new_mount("waiting", place.new_sandbox("waiting"))
    option = f"write_back={WAITING_WRITE_BACK_S}"
    mount.mount(option)
    mount.wait_until_listed()
    one = mount.path / "One folder"
    one.mkdir()
    yield _making(mount, one, count)
    yield Figure(
        f"daemon's VmRSS with {count:,} files waiting", mount.resident_bytes() / 1e6, "MB", at_most(300, "MB")
    )
    mount.stop()
    began = time.perf_counter()
    mount.mount(option)
    yield Figure(f"mount with {count:,} files waiting", time.perf_counter() - began, "s", at_most(2, "s"))
    yield Figure(f"status with {count:,} files waiting", _fastest(place, mount.status), "s", at_most(1, "s"))
    what = f"ls of a folder with {count // 2:,} waiting files"
    yield Figure(what, _fastest(place, lambda: _list(one, count // 2)), "s", at_most(1, "s"))
    mount.stop()


def _making(mount: Mount, one: Path, count: int) -> Figure:
    """Whether the last ones cost what the first ones did."""
    costs_s = []
    tenth = count // 10
    for number in range(count):
        if number % tenth == 0:
            costs_s.append(mount.cpu_s())
        folder = one if number % 2 else mount.path / f"Folder {number // FOLDER_FILES:04d}"
        folder.mkdir(exist_ok=True)
        (folder / f"Report {number:06d}.pdf").write_bytes(b"%d" % number)
    costs_s.append(mount.cpu_s())
    first, last = costs_s[1] - costs_s[0], costs_s[-1] - costs_s[-2]
    what = f"the last tenth of {count:,} waiting files against the first, by the daemon's time"
    return Figure(what, last / first, "x", at_most(2, "x"), note=f"{last / tenth * 1e6:.0f} µs a file")


def _fastest(place: Place, once: Callable[[], object]) -> float:
    took_s = []
    for _ in range(place.sizes.rounds):
        began = time.perf_counter()
        once()
        took_s.append(time.perf_counter() - began)
    return min(took_s)


def _list(folder: Path, entries: int) -> None:
    found = subprocess.run(["ls", folder], stdout=subprocess.PIPE, check=True).stdout.count(b"\n")
    if found != entries:
        raise work.Incomplete(f"ls met {found} of {entries} entries")
