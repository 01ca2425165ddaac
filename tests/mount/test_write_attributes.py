"""What Procore has no place for is kept here: times, modes and owners, over uploads and remounts."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounting import wait_until
from tests.writing import Desk, run

LONG_AGO_NS = 1_500_000_000_123_456_789


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    return write_desk()


def attributes(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns


def test_rsync_brings_times_modes_and_owners(desk: Desk, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for number, name in enumerate(("a.txt", "folder/b.txt", "folder/empty")):
        (source / name).write_bytes(b"x" * number)
        os.chmod(source / name, 0o640 + number)
        os.chown(source / name, 1000 + number, 2000 + number)
        os.utime(source / name, ns=(LONG_AGO_NS + number, LONG_AGO_NS - number))
    os.chmod(source / "folder", 0o750)
    os.chown(source / "folder", 1234, 4321)
    os.utime(source / "folder", ns=(LONG_AGO_NS, LONG_AGO_NS))
    run("rsync", "-a", f"{source}/", desk.path)

    names = ("a.txt", "folder/b.txt", "folder/empty", "folder")
    wanted = {name: attributes(source / name)[1:4] + attributes(source / name)[5:] for name in names}
    shown = {name: attributes(desk.path / name) for name in names}
    assert {name: found[1:4] + found[5:] for name, found in shown.items()} == wanted
    desk.sync()
    assert {name: attributes(desk.path / name) for name in names} == shown
    desk.remount()
    assert {name: attributes(desk.path / name) for name in names} == shown
    assert run("rsync", "-ai", f"{source}/", desk.path) == ""


def test_a_time_does_not_jump_when_its_bytes_arrive(desk: Desk) -> None:
    before_ns = time.time_ns()
    (desk.path / "a.txt").write_bytes(b"one")
    written = (desk.path / "a.txt").stat()
    assert before_ns <= written.st_mtime_ns <= time.time_ns()
    desk.sync()
    assert (desk.path / "a.txt").stat().st_mtime_ns == written.st_mtime_ns
    assert (desk.path / "a.txt").stat().st_ctime_ns >= written.st_mtime_ns
    desk.remount()
    assert (desk.path / "a.txt").stat().st_mtime_ns == written.st_mtime_ns
    with (desk.path / "a.txt").open("ab") as file:
        file.write(b"two")
    assert (desk.path / "a.txt").stat().st_mtime_ns > written.st_mtime_ns


def test_times_belong_to_a_version_and_modes_to_the_document(desk: Desk) -> None:
    """A newer version of somebody else drops the times that were set here; it does not change the mode."""
    (desk.path / "a.txt").write_bytes(b"one")
    os.chmod(desk.path / "a.txt", 0o755)
    os.utime(desk.path / "a.txt", ns=(LONG_AGO_NS, LONG_AGO_NS))
    desk.sync()
    assert (desk.path / "a.txt").stat().st_mtime_ns == LONG_AGO_NS
    desk.sandbox.act("put", path="/a.txt", text="theirs")
    desk.remount("freshness=0")
    wait_until(lambda: (desk.path / "a.txt").read_bytes() == b"theirs", "the newer version to be seen")
    found = (desk.path / "a.txt").stat()
    assert found.st_mtime_ns != LONG_AGO_NS
    assert found.st_mode & 0o777 == 0o755


def test_attributes_cost_nothing(desk: Desk) -> None:
    (desk.path / "a.txt").write_bytes(b"one")
    (desk.path / "folder").mkdir()
    desk.sync()
    with desk.counted() as calls:
        for name in ("a.txt", "folder"):
            os.chmod(desk.path / name, 0o700)
            os.chown(desk.path / name, 7, 8)
            os.utime(desk.path / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
        desk.sync()
    assert calls.total == 0
    assert desk.waiting() == []
    assert (desk.path / "a.txt").stat().st_mtime_ns == LONG_AGO_NS


def test_a_folder_changes_its_time_with_its_entries(desk: Desk) -> None:
    folder = desk.path / "folder"
    folder.mkdir()
    for change in (
        lambda: (folder / "a.txt").write_bytes(b"x"),
        lambda: (folder / "a.txt").rename(folder / "b.txt"),
        lambda: (folder / "b.txt").unlink(),
        lambda: (folder / "below").mkdir(),
        lambda: (folder / "below").rmdir(),
    ):
        os.utime(folder, ns=(LONG_AGO_NS, LONG_AGO_NS))
        assert folder.stat().st_mtime_ns == LONG_AGO_NS
        change()
        assert folder.stat().st_mtime_ns > LONG_AGO_NS


def test_sizes_and_room(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("staging_size=64M")
    before = os.statvfs(desk.path)
    assert before.f_namemax == 255
    assert 0 < before.f_bavail * before.f_frsize <= 64 << 20
    for size in (0, 1, 512, 513, 100_000):
        (desk.path / "a.bin").write_bytes(bytes(size))
        found = (desk.path / "a.bin").stat()
        assert (found.st_size, found.st_blocks) == (size, -(-size // 512))
    (desk.path / "b.bin").write_bytes(bytes(10 << 20))
    assert os.statvfs(desk.path).f_bavail <= before.f_bavail - (10 << 20) // before.f_frsize
    desk.sync()
    found = (desk.path / "a.bin").stat()
    assert (found.st_size, found.st_blocks) == (100_000, 196)
    wait_until(lambda: os.statvfs(desk.path).f_bavail == before.f_bavail, "the room to be free again")
