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
from tests.support.writing import Desk

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


def test_a_document_that_was_being_written(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    names = ["anew.dwg", "in place.dwg", "cut.dwg", "only opened.dwg", "removed.dwg"]
    desk = write_desk("write_back=0", prepare=documents(tmp_path, *names))
    before = desk.files()
    with ExitStack() as open_files:
        anew, in_place, cut, _, removed = (
            open_files.enter_context(writing(desk.path / name, os.O_TRUNC if name == "anew.dwg" else 0))
            for name in names
        )
        os.write(anew, b"half of the ne")
        for offset, piece in SCATTERED:
            os.pwrite(in_place, piece, offset)
        os.ftruncate(cut, 100)
        os.ftruncate(cut, 5_000)
        os.pwrite(removed, b"for those inside", 5)
        (desk.path / "removed.dwg").unlink()
        crash(desk)
    shown = {
        "anew.dwg": b"half of the ne",
        "in place.dwg": patched(*SCATTERED),
        "cut.dwg": OLD[:100] + bytes(4_900),
    }
    assert {item.path: item.state for item in desk.settle()} == dict.fromkeys(shown, "incomplete")
    assert {name: (desk.path / name).read_bytes() for name in shown} == shown
    assert os.getxattr(desk.path / "cut.dwg", "user.procore.state") == b"incomplete"
    assert (desk.path / "only opened.dwg").read_bytes() == OLD
    kept = {name: before[name] for name in names[:4]}
    assert desk.files() == kept
    assert desk.mounted.home.procorefs("discard", desk.path / "cut.dwg").returncode == 0
    assert (desk.path / "cut.dwg").read_bytes() == OLD
    for name in ("anew.dwg", "in place.dwg"):
        assert desk.mounted.home.procorefs("retry", desk.path / name).returncode == 0
    desk.sync()
    for name in ("anew.dwg", "in place.dwg"):
        desk.assert_saved(name, before[name], shown[name])
    assert desk.file("cut.dwg") == before["cut.dwg"]


def test_what_comes_after_bytes_that_are_being_sent(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    """The closed state arrives; what was begun on top of it is kept."""
    names = ["anew.dwg", "in place.dwg", "sent.dwg"]
    desk = write_desk("write_back=0", prepare=documents(tmp_path, *names))
    before = desk.files()
    with ExitStack() as open_files:
        sent = open_files.enter_context(writing(desk.path / "sent.dwg"))
        os.pwrite(sent, b"first", 10)
        desk.sync()
        os.pwrite(sent, b"second", 20)
        desk.sandbox.faults(rules=[{"kind": "silence", "route": "storage POST", "count": 2}])
        for name in names[:2]:
            (desk.path / name).write_bytes(b"the closed state")
        desk.sandbox.wait_for_silent_calls(2)
        anew = open_files.enter_context(writing(desk.path / "anew.dwg", os.O_TRUNC))
        os.write(anew, b"half a")
        in_place = open_files.enter_context(writing(desk.path / "in place.dwg"))
        os.pwrite(in_place, b"CLOSED", 4)
        crash(desk)
    assert {item.path: item.state for item in desk.settle()} == dict.fromkeys(names, "incomplete")
    for name in names[:2]:
        now = desk.file(name)
        assert (now.id, now.numbers, now.sizes[0]) == (before[name].id, [2, 1], 16), name
    shown = [b"half a", b"the CLOSED state", patched((10, b"first"), (20, b"second"))]
    assert [(desk.path / name).read_bytes() for name in names] == shown
    assert desk.mounted.home.procorefs("discard", desk.path / "anew.dwg").returncode == 0
    assert desk.mounted.home.procorefs("retry", desk.path / "in place.dwg").returncode == 0
    assert desk.mounted.home.procorefs("retry", desk.path / "sent.dwg").returncode == 0
    desk.sync()
    desk.assert_saved("anew.dwg", before["anew.dwg"], b"the closed state")
    desk.assert_saved("in place.dwg", before["in place.dwg"], shown[1], versions=2)
    desk.assert_saved("sent.dwg", before["sent.dwg"], shown[2], versions=2)


def test_what_was_added_behind_closed_bytes(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    """As a log that is synced now and then: what was closed arrives, and what came behind it is kept."""
    desk = write_desk("write_back=600")
    with ExitStack() as open_files:
        log = open_files.enter_context(writing(desk.path / "log.txt", os.O_CREAT | os.O_APPEND))
        os.write(log, b"first line\n")
        os.fsync(log)
        os.write(log, b"second li")
        crash(desk)
    [item] = desk.settle()
    assert (item.path, item.state) == ("log.txt", "incomplete")
    assert desk.file("log.txt").sizes == [11]
    assert (desk.path / "log.txt").read_bytes() == b"first line\nsecond li"
    assert desk.mounted.home.procorefs("retry", desk.path / "log.txt").returncode == 0
    desk.sync()
    assert (desk.file("log.txt").sizes, desk.file("log.txt").numbers) == ([20, 11], [2, 1])


@pytest.mark.parametrize("then", ["written to", "left open", "closed"])
def test_a_descriptor_that_several_programs_share(write_desk: Callable[..., Desk], then: str) -> None:
    """`{ a; b; } > report.csv`: each program's end is a FLUSH, and only the last one of them a RELEASE."""
    desk = write_desk("write_back=600")
    report = desk.path / "report.csv"
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
            crash(desk)
    if then == "closed":
        crash(desk)
        desk.sync()
        assert desk.file("report.csv").sizes == [13]
        return
    [item] = desk.settle()
    assert (item.path, item.state) == ("report.csv", "incomplete")
    assert desk.files() == {}
    assert report.read_bytes().startswith(b"what a wrote\n")


def test_sync_sends_what_stays_open(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=600")
    with writing(desk.path / "log.txt", os.O_CREAT) as log:
        os.write(log, b"first line\n")
        os.close(os.dup(log))
        os.write(log, b"second line\n")
        desk.sync()
        assert desk.file("log.txt").sizes == [23]
        os.write(log, b"third line\n")
    desk.sync()
    assert desk.file("log.txt").sizes == [34, 23]
