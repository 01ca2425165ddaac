"""One save is one version, however its bytes come: by several descriptors, mappings, truncations, or as a database."""

import mmap
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.patterns import pattern
from tests.support.writing import MountedProject

OLD = pattern(1, 300_000)


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    """`plan.bin` in Procore, of somebody else's making, so that none of its bytes are here."""
    return mount_project(prepare=lambda sandbox: sandbox.act("put", path="/plan.bin", text=OLD.decode()))


Change = Callable[[Path, bytearray], None]
"""Changes the file, and the bytes that it is to have then."""


def several_descriptors(path: Path, wanted: bytearray) -> None:
    handles = [os.open(path, os.O_RDWR) for _ in range(3)]
    for number, handle in enumerate(handles):
        os.pwrite(handle, b"%d" % number * 100, 1000 * number)
        os.close(handle)
        wanted[1000 * number : 1000 * number + 100] = b"%d" % number * 100


def duplicated_descriptor(path: Path, wanted: bytearray) -> None:
    handle = os.open(path, os.O_WRONLY)
    other = os.dup(handle)
    os.pwrite(handle, b"a" * 10, 5000)
    os.close(handle)
    os.pwrite(other, b"b" * 10, 5010)
    os.close(other)
    wanted[5000:5020] = b"a" * 10 + b"b" * 10


def mapped_after_close(path: Path, wanted: bytearray) -> None:
    handle = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(handle, len(wanted))
    os.close(handle)
    mapped[70_000:70_003] = b"MAP"
    mapped.close()
    wanted[70_000:70_003] = b"MAP"


def cut_without_open(path: Path, wanted: bytearray) -> None:
    os.truncate(path, 200_000)
    del wanted[200_000:]


def grown_without_open(path: Path, wanted: bytearray) -> None:
    os.truncate(path, 250_000)
    wanted.extend(bytes(50_000))


def appended(path: Path, wanted: bytearray) -> None:
    with path.open("ab") as file:
        file.write(b"appended")
    wanted.extend(b"appended")


def written_beyond_the_end(path: Path, wanted: bytearray) -> None:
    with path.open("r+b") as file:
        file.seek(len(wanted) + 10_000)
        file.write(b"far")
    wanted.extend(bytes(10_000) + b"far")


def made_larger_and_cut(path: Path, wanted: bytearray) -> None:
    """As those do who reserve room first."""
    with path.open("r+b") as file:
        file.truncate(500_000)
        file.seek(100)
        file.write(b"room")
        file.truncate(len(wanted))
    wanted[100:104] = b"room"


def appended_by_a_shell(path: Path, wanted: bytearray) -> None:
    run("sh", "-c", 'for n in 1 2 3; do echo $n >> "$0"; done', path)
    wanted.extend(b"1\n2\n3\n")


def emptied(path: Path, wanted: bytearray) -> None:
    path.write_bytes(b"")
    wanted.clear()


def made_anew(path: Path, wanted: bytearray) -> None:
    path.write_bytes(b"anew")
    wanted[:] = b"anew"


CHANGES: list[Change] = [
    several_descriptors,
    duplicated_descriptor,
    mapped_after_close,
    cut_without_open,
    grown_without_open,
    appended,
    written_beyond_the_end,
    made_larger_and_cut,
    appended_by_a_shell,
    emptied,
    made_anew,
]


def test_a_save_in_pieces_is_one_version(project: MountedProject) -> None:
    """Each way to change bytes is done once; the document has one version more after each, for two calls."""
    path, wanted = project.path / "plan.bin", bytearray(OLD)
    for change in CHANGES:
        before = project.file("plan.bin")
        with project.counted() as calls:
            change(path, wanted)
            assert path.read_bytes() == wanted, change.__name__
            project.sync()
        project.assert_saved("plan.bin", before, bytes(wanted))
        assert calls.writes == 2, (change.__name__, calls.by_route)


def test_truncating_fetches_nothing(project: MountedProject) -> None:
    with project.counted() as calls:
        (project.path / "plan.bin").write_bytes(b"new")
        project.sync()
    assert calls.bytes_read == 0
    with project.counted() as calls:
        os.truncate(project.path / "plan.bin", 0)
        project.sync()
    assert calls.bytes_read == 0
    assert project.file("plan.bin").sizes == [0, 3, len(OLD)]


def test_opening_for_writing_alone_changes_nothing(project: MountedProject) -> None:
    before = project.file("plan.bin")
    with project.counted() as calls:
        os.close(os.open(project.path / "plan.bin", os.O_RDWR))
        with (project.path / "plan.bin").open("ab"):
            pass
        project.sync()
    assert calls.writes == 0
    assert calls.bytes_read == 0
    assert project.file("plan.bin") == before
    project.await_nothing_staged()


def test_the_same_bytes_again_are_no_version(project: MountedProject) -> None:
    (project.path / "plan.bin").write_bytes(b"same")
    project.sync()
    before = project.file("plan.bin")
    with project.counted() as calls:
        (project.path / "plan.bin").write_bytes(b"same")
        project.sync()
    assert calls.writes == 0
    assert project.file("plan.bin") == before


def test_nothing_is_sent_while_somebody_writes(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    with (project.path / "log.txt").open("wb", buffering=0) as file, project.counted() as calls:
        for number in range(3):
            file.write(b"line %d\n" % number)
            assert (project.path / "log.txt").read_bytes().endswith(b"line %d\n" % number)
            (project.path / f"other {number}.txt").write_bytes(b"x")
            project.sync(f"other {number}.txt")
        assert "log.txt" not in project.files()
    project.sync()
    assert project.file("log.txt").numbers == [1]
    assert calls.uploads == 3


def test_what_is_removed_while_open_is_read_and_written_on(project: MountedProject) -> None:
    """As long as somebody is inside; nothing of it is sent."""
    with (
        (project.path / "scratch.bin").open("w+b", buffering=0) as fresh,
        (project.path / "plan.bin").open("r+b") as old,
    ):
        fresh.write(b"fresh")
        (project.path / "scratch.bin").unlink()
        (project.path / "plan.bin").unlink()
        fresh.write(b" and more")
        old.seek(10)
        old.write(b"NEW")
        old.flush()
        assert os.fstat(fresh.fileno()).st_nlink == 0
        assert os.pread(fresh.fileno(), 100, 0) == b"fresh and more"
        assert os.pread(old.fileno(), 20, 0) == OLD[:10] + b"NEW" + OLD[13:20]
    with project.counted() as calls:
        project.sync()
    assert calls.uploads == 0
    assert project.files() == {}
    assert project.binned() == ["plan.bin"]
    assert os.listdir(project.path) == []


def test_a_database_in_the_mount(project: MountedProject) -> None:
    path = project.path / "records.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, text TEXT)")
        for turn in range(5):
            with db:
                db.executemany("INSERT INTO record (text) VALUES (?)", [(f"{turn}",)] * 100)
    project.sync()
    assert set(project.files()) == {"plan.bin", "records.sqlite"}
    assert project.file("records.sqlite").numbers == [1]
    before = project.file("records.sqlite")
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM record")
        db.rollback()
        with db:
            db.execute("UPDATE record SET text = 'changed' WHERE id = 7")
        assert db.execute("SELECT count(*) FROM record").fetchone() == (500,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    project.sync()
    project.assert_saved("records.sqlite", before, path.read_bytes())
    assert set(project.files()) == {"plan.bin", "records.sqlite"}
    assert project.binned() == []


def test_a_repository_in_the_mount(project: MountedProject, tmp_path: Path) -> None:
    """Made, filled, packed, and cloned from another mount that has only what Procore has."""
    repository = project.path / "repository"
    home = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str | Path) -> str:
        return run("git", "-c", "user.name=A", "-c", "user.email=a@example.com", *words, env=home)

    git("init", "-q", "-b", "main", repository)
    for number in range(12):
        (repository / f"file {number}.txt").write_text(f"{number}\n" * 50)
        if number % 4 == 3:
            git("-C", repository, "add", "-A")
            git("-C", repository, "commit", "-q", "-m", f"up to {number}")
    git("-C", repository, "gc", "-q", "--prune=now")
    git("-C", repository, "fsck", "--strict")
    assert git("-C", repository, "status", "--porcelain") == ""
    project.sync()
    project.assert_same(repository, "repository")
    assert all(
        file.numbers == [1]
        for path, file in project.files().items()
        if path.startswith("repository/.git/objects")
    )

    project.remount()
    subprocess.run(["git", "clone", "-q", repository, tmp_path / "clone"], check=True, env=os.environ | home)
    assert (tmp_path / "clone" / "file 11.txt").read_text() == "11\n" * 50
