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
from tests.support.writing import MountedProject

BEGINNING = "POST */uploads"
TRANSFER = "storage POST"
CREATION = "POST */files*"
UPDATE = "PATCH */files/*"
REMOVAL = "DELETE */files/*"
OLD, NEW, NEWER = b"old" * 1000, b"new and longer" * 1000, b"newer, and longer still" * 1000


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    """Whatever is written goes at once."""
    project = mount_project("write_back=0")
    (project.path / "plan.txt").write_bytes(OLD)
    project.sync()
    return project


@contextmanager
def silent(project: MountedProject, route: str, when: str = "before") -> Iterator[Callable[[], None]]:
    """Within, one call on that route waits, and goes on at the end; yields what waits until it does."""
    project.sandbox.faults(rules=[{"kind": "silence", "route": route, "when": when, "count": 1}])
    yield project.sandbox.wait_for_silent_calls
    project.sandbox.release()


def assert_alone(project: MountedProject, *names: str) -> None:
    """Nothing else is there, in Procore, in the mount, or in the staging folder."""
    assert set(project.files()) == set(os.listdir(project.path)) == set(names)
    project.await_nothing_staged()


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_new_file_is_renamed_onto_another_while_it_is_sent(
    project: MountedProject, route: str, when: str
) -> None:
    before = project.file("plan.txt")
    with silent(project, route, when) as waits:
        (project.path / "other.txt").write_bytes(NEW)
        waits()
        (project.path / "other.txt").rename(project.path / "plan.txt")
    project.sync()
    project.assert_saved("plan.txt", before, NEW)
    assert_alone(project, "plan.txt")


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_another_file_is_renamed_onto_one_that_is_sent(project: MountedProject, route: str) -> None:
    before = project.file("plan.txt")
    (project.path / "other.txt").write_bytes(NEWER)
    project.sync()
    with silent(project, route) as waits:
        (project.path / "plan.txt").write_bytes(NEW)
        waits()
        (project.path / "other.txt").rename(project.path / "plan.txt")
    project.sync()
    project.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(project, "plan.txt")
    assert project.binned() == ["other.txt"]


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_that_is_sent_is_replaced_by_another_new_one(project: MountedProject, route: str) -> None:
    """One document comes of it, whichever call made it."""
    with silent(project, route) as waits:
        (project.path / "fresh.txt").write_bytes(NEW)
        waits()
        (project.path / ".fresh.txt.aB3dE6").write_bytes(NEWER)
        (project.path / ".fresh.txt.aB3dE6").rename(project.path / "fresh.txt")
    project.sync()
    fresh = project.file("fresh.txt")
    assert fresh.numbers == ([1] if route == TRANSFER else [2, 1])
    assert (project.path / "fresh.txt").read_bytes() == NEWER
    assert_alone(project, "fresh.txt", "plan.txt")
    assert project.binned() == []


def test_sync_of_a_file_that_is_open_again_while_it_is_sent(project: MountedProject) -> None:
    """It waits for the bytes of that moment, and not for the writer to close it."""
    path = project.path / "fresh.txt"
    with silent(project, CREATION) as waits:
        path.write_bytes(NEW)
        waits()
        with path.open("r+b", buffering=0) as writer:
            writer.write(NEWER)
            with ThreadOf(project.settle) as syncing:
                state = "user.procore.state"
                wait_until(lambda: os.getxattr(path, state) == b"uploading", "sync to take the bytes")
                project.sandbox.release()
                assert syncing.result() == []
            assert project.file("fresh.txt").sizes == [len(NEWER), len(NEW)]


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_is_removed_while_it_is_sent(project: MountedProject, route: str) -> None:
    with silent(project, route) as waits:
        (project.path / "fresh.txt").write_bytes(NEW)
        waits()
        (project.path / "fresh.txt").unlink()
    project.sync()
    assert_alone(project, "plan.txt")
    assert project.binned() == ([] if route == TRANSFER else ["fresh.txt"])


@pytest.mark.parametrize("route", [TRANSFER, CREATION])
def test_a_new_file_is_removed_and_made_anew_while_it_is_sent(project: MountedProject, route: str) -> None:
    with silent(project, route) as waits:
        (project.path / "fresh.txt").write_bytes(NEW)
        waits()
        (project.path / "fresh.txt").unlink()
        (project.path / "fresh.txt").write_bytes(NEWER)
    project.sync()
    assert project.file("fresh.txt").numbers == ([1] if route == TRANSFER else [2, 1])
    assert (project.path / "fresh.txt").read_bytes() == NEWER
    assert_alone(project, "fresh.txt", "plan.txt")
    assert project.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_a_file_is_removed_and_made_anew_while_it_is_sent(project: MountedProject, route: str) -> None:
    before = project.file("plan.txt")
    with silent(project, route) as waits:
        (project.path / "plan.txt").write_bytes(NEW)
        waits()
        (project.path / "plan.txt").unlink()
        (project.path / "plan.txt").write_bytes(NEWER)
    project.sync()
    project.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(project, "plan.txt")
    assert project.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
def test_a_program_saves_by_way_of_a_backup_while_the_last_save_is_sent(
    project: MountedProject, route: str
) -> None:
    before = project.file("plan.txt")
    with silent(project, route) as waits:
        (project.path / "plan.txt").write_bytes(NEW)
        waits()
        (project.path / "~WRD0001.tmp").write_bytes(NEWER)
        (project.path / "plan.txt").rename(project.path / "plan.bak")
        (project.path / "~WRD0001.tmp").rename(project.path / "plan.txt")
        (project.path / "plan.bak").unlink()
    project.sync()
    project.assert_saved("plan.txt", before, NEWER, versions=1 if route == TRANSFER else 2)
    assert_alone(project, "plan.txt")
    assert project.binned() == []


@pytest.mark.parametrize("route", [TRANSFER, UPDATE])
@pytest.mark.parametrize("reopened", ["r+b", "wb", "ab"])
def test_a_file_is_written_again_while_it_is_sent(project: MountedProject, route: str, reopened: str) -> None:
    before = project.file("plan.txt")
    with silent(project, route) as waits:
        (project.path / "plan.txt").write_bytes(NEW)
        waits()
        with (project.path / "plan.txt").open(reopened) as file:
            file.write(b"HEAD")
    project.sync()
    wanted = {"r+b": b"HEAD" + NEW[4:], "wb": b"HEAD", "ab": NEW + b"HEAD"}[reopened]
    project.assert_saved("plan.txt", before, wanted, versions=1 if route == TRANSFER else 2)
    assert_alone(project, "plan.txt")


def test_a_file_that_is_written_all_the_time_is_sent_now_and_then(project: MountedProject) -> None:
    """An upload gives way to newer bytes three times in a row, then it is let through."""
    before = project.file("plan.txt")
    with project.counted() as calls:
        project.sandbox.faults(rules=[{"kind": "silence", "route": BEGINNING}])
        for turn in range(4):
            (project.path / "plan.txt").write_bytes(b"%d" % turn * 1000)
            wait_until(lambda turn=turn: begun(project) == turn + 1, "the upload to begin")  # type: ignore[misc]
        (project.path / "plan.txt").write_bytes(b"x" * 1000)
        project.sandbox.release()
        project.sync()
    assert calls.uploads == 2
    project.assert_saved("plan.txt", before, b"x" * 1000, versions=2)


def begun(project: MountedProject) -> int:
    routes: dict[str, int] = project.sandbox.calls()["by_route"]
    return sum(count for route, count in routes.items() if fnmatchcase(route, BEGINNING))


def test_what_was_removed_while_it_was_refused_leaves_nothing(project: MountedProject) -> None:
    with silent(project, CREATION) as waits:
        project.sandbox.faults(rules=[{"kind": "error", "route": CREATION, "status": 403, "count": 1}])
        (project.path / "fresh.txt").write_bytes(NEW)
        waits()
        (project.path / "fresh.txt").unlink()
    project.sync()
    assert_alone(project, "plan.txt")


def test_a_moved_folder_takes_along_what_is_just_sent(project: MountedProject) -> None:
    (project.path / "folder").mkdir()
    with silent(project, CREATION) as waits:
        (project.path / "folder" / "fresh.txt").write_bytes(NEW)
        waits()
        (project.path / "folder").rename(project.path / "moved")
    project.sync()
    assert set(project.files()) == {"moved/fresh.txt", "plan.txt"}
    assert project.folders() == {"moved"}
    assert (project.path / "moved" / "fresh.txt").read_bytes() == NEW


def test_a_folder_is_removed_while_it_is_made(project: MountedProject) -> None:
    with silent(project, "POST */folders*") as waits:
        (project.path / "folder").mkdir()
        waits()
        (project.path / "folder").rmdir()
    project.sync()
    assert project.folders() == set()
    assert os.listdir(project.path) == ["plan.txt"]


def test_a_folder_is_removed_and_made_anew_while_it_is_made(project: MountedProject) -> None:
    with silent(project, "POST */folders*") as waits:
        (project.path / "folder").mkdir()
        waits()
        (project.path / "folder").rmdir()
        (project.path / "folder").mkdir()
        (project.path / "folder" / "a.txt").write_bytes(NEW)
    project.sync()
    assert project.folders() == {"folder"}
    assert set(project.files()) == {"folder/a.txt", "plan.txt"}


def test_a_file_is_made_anew_while_it_is_deleted(project: MountedProject) -> None:
    """Too late to keep its document: but nothing is lost."""
    with silent(project, REMOVAL) as waits:
        (project.path / "plan.txt").unlink()
        waits()
        (project.path / "plan.txt").write_bytes(NEW)
    project.sync()
    assert project.file("plan.txt").numbers == [1]
    assert (project.path / "plan.txt").read_bytes() == NEW
    assert_alone(project, "plan.txt")
