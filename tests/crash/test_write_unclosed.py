"""kill -9 while documents of Procore are being written: what was written is kept and shown, and not sent by itself."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.crash.test_write_crash import crash
from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

OLD = random.Random(3).randbytes(300_000)


@contextmanager
def writing(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor that is open while the daemon dies; the close can only fail."""
    descriptor = os.open(path, os.O_RDWR | flags)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


def documents(tmp_path: Path, *names: str) -> Callable[[SandboxHandle], None]:
    """Puts documents of these names into the project, before it is mounted."""
    place = tmp_path / "documents"
    place.mkdir()
    for name in names:
        (place / name).write_bytes(OLD)

    def prepare(sandbox: SandboxHandle) -> None:
        sandbox.import_tree(place)

    return prepare


def patched(*writes: tuple[int, bytes]) -> bytes:
    data = bytearray(OLD)
    for offset, piece in writes:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


SCATTERED = [
    (1_001, b"seven b"),
    (70_000, b"page" * 1024),
    (299_990, b"over the end of it"),
    (1_008, b"adjoining"),
]


def test_a_document_that_was_being_written(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    names = ["anew.dwg", "in place.dwg", "cut.dwg", "only opened.dwg", "removed.dwg"]
    project = mount_project("write_back=0", prepare=documents(tmp_path, *names))
    before = project.files()
    with ExitStack() as open_files:
        anew, in_place, cut, _, removed = (
            open_files.enter_context(writing(project.path / name, os.O_TRUNC if name == "anew.dwg" else 0))
            for name in names
        )
        os.write(anew, b"half of the ne")
        for offset, piece in SCATTERED:
            os.pwrite(in_place, piece, offset)
        os.ftruncate(cut, 100)
        os.ftruncate(cut, 5_000)
        os.pwrite(removed, b"for those inside", 5)
        (project.path / "removed.dwg").unlink()
        crash(project)
    shown = {
        "anew.dwg": b"half of the ne",
        "in place.dwg": patched(*SCATTERED),
        "cut.dwg": OLD[:100] + bytes(4_900),
    }
    assert {item.path: item.state for item in project.settle()} == dict.fromkeys(shown, "incomplete")
    assert {name: (project.path / name).read_bytes() for name in shown} == shown
    assert os.getxattr(project.path / "cut.dwg", "user.procore.state") == b"incomplete"
    assert (project.path / "only opened.dwg").read_bytes() == OLD
    kept = {name: before[name] for name in names[:4]}
    assert project.files() == kept
    assert project.mounted.home.procorefs("discard", project.path / "cut.dwg").returncode == 0
    assert (project.path / "cut.dwg").read_bytes() == OLD
    for name in ("anew.dwg", "in place.dwg"):
        assert project.mounted.home.procorefs("retry", project.path / name).returncode == 0
    project.sync()
    for name in ("anew.dwg", "in place.dwg"):
        project.assert_saved(name, before[name], shown[name])
    assert project.file("cut.dwg") == before["cut.dwg"]


def test_what_comes_after_bytes_that_are_being_sent(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    """The closed state arrives; what was begun on top of it is kept."""
    names = ["anew.dwg", "in place.dwg", "sent.dwg"]
    project = mount_project("write_back=0", prepare=documents(tmp_path, *names))
    before = project.files()
    with ExitStack() as open_files:
        sent = open_files.enter_context(writing(project.path / "sent.dwg"))
        os.pwrite(sent, b"first", 10)
        project.sync()
        os.pwrite(sent, b"second", 20)
        project.sandbox.faults(rules=[{"kind": "silence", "route": "storage POST", "count": 2}])
        for name in names[:2]:
            (project.path / name).write_bytes(b"the closed state")
        project.sandbox.wait_for_silent_calls(2)
        anew = open_files.enter_context(writing(project.path / "anew.dwg", os.O_TRUNC))
        os.write(anew, b"half a")
        in_place = open_files.enter_context(writing(project.path / "in place.dwg"))
        os.pwrite(in_place, b"CLOSED", 4)
        crash(project)
    assert {item.path: item.state for item in project.settle()} == dict.fromkeys(names, "incomplete")
    for name in names[:2]:
        now = project.file(name)
        assert (now.id, now.numbers, now.sizes[0]) == (before[name].id, [2, 1], 16), name
    shown = [b"half a", b"the CLOSED state", patched((10, b"first"), (20, b"second"))]
    assert [(project.path / name).read_bytes() for name in names] == shown
    assert project.mounted.home.procorefs("discard", project.path / "anew.dwg").returncode == 0
    assert project.mounted.home.procorefs("retry", project.path / "in place.dwg").returncode == 0
    assert project.mounted.home.procorefs("retry", project.path / "sent.dwg").returncode == 0
    project.sync()
    project.assert_saved("anew.dwg", before["anew.dwg"], b"the closed state")
    project.assert_saved("in place.dwg", before["in place.dwg"], shown[1], versions=2)
    project.assert_saved("sent.dwg", before["sent.dwg"], shown[2], versions=2)


def test_what_was_added_behind_closed_bytes(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    """As a log that is synced now and then: what was closed arrives, and what came behind it is kept."""
    project = mount_project("write_back=600")
    with ExitStack() as open_files:
        log = open_files.enter_context(writing(project.path / "log.txt", os.O_CREAT | os.O_APPEND))
        os.write(log, b"first line\n")
        os.fsync(log)
        os.write(log, b"second li")
        crash(project)
    [item] = project.settle()
    assert (item.path, item.state) == ("log.txt", "incomplete")
    assert project.file("log.txt").sizes == [11]
    assert (project.path / "log.txt").read_bytes() == b"first line\nsecond li"
    assert project.mounted.home.procorefs("retry", project.path / "log.txt").returncode == 0
    project.sync()
    assert (project.file("log.txt").sizes, project.file("log.txt").numbers) == ([20, 11], [2, 1])


@pytest.mark.parametrize("then", ["written to", "left open", "closed"])
def test_a_descriptor_that_several_programs_share(
    mount_project: Callable[..., MountedProject], then: str
) -> None:
    """`{ a; b; } > report.csv`: each program's end is a FLUSH, and only the last one of them a RELEASE."""
    project = mount_project("write_back=600")
    report = project.path / "report.csv"
    with writing(report, os.O_CREAT) as shared:
        os.close(os.dup(shared))
        os.write(shared, b"what a wrote\n")
        os.close(os.dup(shared))
        if then == "written to":
            os.write(shared, b"what b wrote\n")
            os.close(os.dup(shared))
        if then == "closed":
            os.close(os.dup(shared))
        else:
            state = "user.procore.state"
            wait_until(lambda: os.getxattr(report, state) == b"dirty", "the daemon to see that it stays open")
            crash(project)
    if then == "closed":
        crash(project)
        project.sync()
        assert project.file("report.csv").sizes == [13]
        return
    [item] = project.settle()
    assert (item.path, item.state) == ("report.csv", "incomplete")
    assert project.files() == {}
    assert report.read_bytes().startswith(b"what a wrote\n")


def test_sync_sends_what_stays_open(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=600")
    with writing(project.path / "log.txt", os.O_CREAT) as log:
        os.write(log, b"first line\n")
        os.close(os.dup(log))
        os.write(log, b"second line\n")
        project.sync()
        assert project.file("log.txt").sizes == [23]
        os.write(log, b"third line\n")
    project.sync()
    assert project.file("log.txt").sizes == [34, 23]
