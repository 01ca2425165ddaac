"""Files change hands, or bytes, in the middle of their upload: the names keep their documents and the last bytes win.

The sandbox holds a call silent: `TRANSFER` the bytes on their way to the storage, `CREATION` and `UPDATE` the last one,
which makes the version.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import pytest

from tests.support.mounting import ThreadOf, wait_until
from tests.support.writing import Desk

BEGINNING = "POST */uploads"
TRANSFER = "storage POST"
CREATION = "POST */files*"
UPDATE = "PATCH */files/*"
REMOVAL = "DELETE */files/*"
OLD, NEW, NEWER = b"old" * 1000, b"new and longer" * 1000, b"newer, and longer still" * 1000


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    """Whatever is written goes at once."""
    desk = write_desk("write_back=0")
    (desk.path / "plan.txt").write_bytes(OLD)
    desk.sync()
    return desk


@contextmanager
def silent(desk: Desk, route: str, when: str = "before") -> Iterator[Callable[[], None]]:
    """Within, one call on that route waits, and goes on at the end; yields what waits until it does."""
    desk.sandbox.faults(rules=[{"kind": "silence", "route": route, "when": when, "count": 1}])
    yield desk.sandbox.wait_for_silent_calls
    desk.sandbox.release()


def assert_alone(desk: Desk, *names: str) -> None:
    """Nothing else is there, in Procore, in the mount, or in the staging folder."""
    assert set(desk.files()) == set(os.listdir(desk.path)) == set(names)
    desk.await_nothing_staged()


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_new_file_is_renamed_onto_another_while_it_is_sent(desk: Desk, route: str, when: str) -> None:
    before = desk.file("plan.txt")
    with silent(desk, route, when) as waits:
        (desk.path / "other.txt").write_bytes(NEW)
        waits()
        (desk.path / "other.txt").rename(desk.path / "plan.txt")
    desk.sync()
    desk.assert_saved("plan.txt", before, NEW)
    assert_alone(desk, "plan.txt")


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_another_file_is_renamed_onto_one_that_is_sent(desk: Desk, route: str) -> None:
    before = desk.file("plan.txt")
    (desk.path / "other.txt").write_bytes(NEWER)
    desk.sync()
    with silent(desk, route) as waits:
        (desk.path / "plan.txt").write_bytes(NEW)
        waits()
        (desk.path / "other.txt").rename(desk.path / "plan.txt")
    desk.sync()
    desk.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(desk, "plan.txt")
    assert desk.binned() == ["other.txt"]


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_that_is_sent_is_replaced_by_another_new_one(desk: Desk, route: str) -> None:
    """One document comes of it, whichever call made it."""
    with silent(desk, route) as waits:
        (desk.path / "fresh.txt").write_bytes(NEW)
        waits()
        (desk.path / ".fresh.txt.aB3dE6").write_bytes(NEWER)
        (desk.path / ".fresh.txt.aB3dE6").rename(desk.path / "fresh.txt")
    desk.sync()
    fresh = desk.file("fresh.txt")
    assert fresh.numbers == ([1] if route == TRANSFER else [2, 1])
    assert (desk.path / "fresh.txt").read_bytes() == NEWER
    assert_alone(desk, "fresh.txt", "plan.txt")
    assert desk.binned() == []


def test_sync_of_a_file_that_is_open_again_while_it_is_sent(desk: Desk) -> None:
    """It waits for the bytes of that moment, and not for the writer to close it."""
    path = desk.path / "fresh.txt"
    with silent(desk, CREATION) as waits:
        path.write_bytes(NEW)
        waits()
        with path.open("r+b", buffering=0) as writer:
            writer.write(NEWER)
            with ThreadOf(desk.settle) as syncing:
                state = "user.procore.state"
                wait_until(lambda: os.getxattr(path, state) == b"uploading", "sync to take the bytes")
                desk.sandbox.release()
                assert syncing.result() == []
            assert desk.file("fresh.txt").sizes == [len(NEWER), len(NEW)]


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_is_removed_while_it_is_sent(desk: Desk, route: str) -> None:
    with silent(desk, route) as waits:
        (desk.path / "fresh.txt").write_bytes(NEW)
        waits()
        (desk.path / "fresh.txt").unlink()
    desk.sync()
    assert_alone(desk, "plan.txt")
    assert desk.binned() == ([] if route == TRANSFER else ["fresh.txt"])


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_is_removed_and_made_anew_while_it_is_sent(desk: Desk, route: str) -> None:
    with silent(desk, route) as waits:
        (desk.path / "fresh.txt").write_bytes(NEW)
        waits()
        (desk.path / "fresh.txt").unlink()
        (desk.path / "fresh.txt").write_bytes(NEWER)
    desk.sync()
    assert desk.file("fresh.txt").numbers == ([1] if route == TRANSFER else [2, 1])
    assert (desk.path / "fresh.txt").read_bytes() == NEWER
    assert_alone(desk, "fresh.txt", "plan.txt")
    assert desk.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_a_file_is_removed_and_made_anew_while_it_is_sent(desk: Desk, route: str) -> None:
    before = desk.file("plan.txt")
    with silent(desk, route) as waits:
        (desk.path / "plan.txt").write_bytes(NEW)
        waits()
        (desk.path / "plan.txt").unlink()
        (desk.path / "plan.txt").write_bytes(NEWER)
    desk.sync()
    desk.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(desk, "plan.txt")
    assert desk.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_a_program_saves_by_way_of_a_backup_while_the_last_save_is_sent(desk: Desk, route: str) -> None:
    before = desk.file("plan.txt")
    with silent(desk, route) as waits:
        (desk.path / "plan.txt").write_bytes(NEW)
        waits()
        (desk.path / "~WRD0001.tmp").write_bytes(NEWER)
        (desk.path / "plan.txt").rename(desk.path / "plan.bak")
        (desk.path / "~WRD0001.tmp").rename(desk.path / "plan.txt")
        (desk.path / "plan.bak").unlink()
    desk.sync()
    desk.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(desk, "plan.txt")
    assert desk.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
@pytest.mark.parametrize("reopened", ["r+b", "wb", "ab"])
def test_a_file_is_written_again_while_it_is_sent(desk: Desk, route: str, reopened: str) -> None:
    before = desk.file("plan.txt")
    with silent(desk, route) as waits:
        (desk.path / "plan.txt").write_bytes(NEW)
        waits()
        with (desk.path / "plan.txt").open(reopened) as file:
            file.write(b"HEAD")
    desk.sync()
    wanted = {"r+b": b"HEAD" + NEW[4:], "wb": b"HEAD", "ab": NEW + b"HEAD"}[reopened]
    desk.assert_saved("plan.txt", before, wanted, versions=1 if route == TRANSFER else 2)
    assert_alone(desk, "plan.txt")


def test_a_file_that_is_written_all_the_time_is_sent_now_and_then(desk: Desk) -> None:
    """An upload gives way to newer bytes three times in a row, then it is let through."""
    before = desk.file("plan.txt")
    with desk.counted() as calls:
        desk.sandbox.faults(rules=[{"kind": "silence", "route": BEGINNING}])
        for turn in range(4):
            (desk.path / "plan.txt").write_bytes(b"%d" % turn * 1000)
            wait_until(lambda turn=turn: begun(desk) == turn + 1, "the upload to begin")  # type: ignore[misc]
        (desk.path / "plan.txt").write_bytes(b"x" * 1000)
        desk.sandbox.release()
        desk.sync()
    assert calls.uploads == 2
    desk.assert_saved("plan.txt", before, b"x" * 1000, versions=2)


def begun(desk: Desk) -> int:
    routes: dict[str, int] = desk.sandbox.calls()["by_route"]
    return sum(count for route, count in routes.items() if fnmatchcase(route, BEGINNING))


def test_what_was_removed_while_it_was_refused_leaves_nothing(desk: Desk) -> None:
    with silent(desk, CREATION) as waits:
        desk.sandbox.faults(rules=[{"kind": "error", "route": CREATION, "status": 403, "count": 1}])
        (desk.path / "fresh.txt").write_bytes(NEW)
        waits()
        (desk.path / "fresh.txt").unlink()
    desk.sync()
    assert_alone(desk, "plan.txt")


def test_a_moved_folder_takes_along_what_is_just_sent(desk: Desk) -> None:
    (desk.path / "folder").mkdir()
    with silent(desk, CREATION) as waits:
        (desk.path / "folder" / "fresh.txt").write_bytes(NEW)
        waits()
        (desk.path / "folder").rename(desk.path / "moved")
    desk.sync()
    assert set(desk.files()) == {"moved/fresh.txt", "plan.txt"}
    assert desk.folders() == {"moved"}
    assert (desk.path / "moved" / "fresh.txt").read_bytes() == NEW


def test_a_folder_is_removed_while_it_is_made(desk: Desk) -> None:
    with silent(desk, "POST */folders*") as waits:
        (desk.path / "folder").mkdir()
        waits()
        (desk.path / "folder").rmdir()
    desk.sync()
    assert desk.folders() == set()
    assert os.listdir(desk.path) == ["plan.txt"]


def test_a_folder_is_removed_and_made_anew_while_it_is_made(desk: Desk) -> None:
    with silent(desk, "POST */folders*") as waits:
        (desk.path / "folder").mkdir()
        waits()
        (desk.path / "folder").rmdir()
        (desk.path / "folder").mkdir()
        (desk.path / "folder" / "a.txt").write_bytes(NEW)
    desk.sync()
    assert desk.folders() == {"folder"}
    assert set(desk.files()) == {"folder/a.txt", "plan.txt"}


def test_a_file_is_made_anew_while_it_is_deleted(desk: Desk) -> None:
    """Too late to keep its document: but nothing is lost."""
    with silent(desk, REMOVAL) as waits:
        (desk.path / "plan.txt").unlink()
        waits()
        (desk.path / "plan.txt").write_bytes(NEW)
    desk.sync()
    assert desk.file("plan.txt").numbers == [1]
    assert (desk.path / "plan.txt").read_bytes() == NEW
    assert_alone(desk, "plan.txt")
