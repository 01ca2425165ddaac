"""Rows that were appended beside the journal's database: none is lost, and no older one comes back."""

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from procorefs.journal import row_log
from procorefs.journal.change import Change, Location
from procorefs.journal.journal import Journal, JournalDamaged, open_journal
from procorefs.journal.row_log import SUFFIXES
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.nodes import ROOT, Inode
from tests.support.changes import make_change


def row(inode: int, name: str) -> Change:
    return make_change(Inode(inode), Kind.FILE, Location(ROOT, name))


def names(journal: Journal) -> dict[int, str]:
    """What the journal has, by inode."""
    return {change.inode: change.location.name for change in journal.load() if change.location is not None}


@contextmanager
def journal_at(path: Path) -> Iterator[Journal]:
    with closing(open_journal(path)) as journal:
        yield journal


def killed(path: Path) -> Path:
    """The files as a daemon leaves them that is killed just now, elsewhere."""
    elsewhere = path.parent / f"killed {len(list(path.parent.iterdir()))}"
    elsewhere.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, elsewhere)
    return elsewhere / path.name


def row_files(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in SUFFIXES]


def in_database(path: Path) -> int:
    """Rows that others than the daemon can see."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM change").fetchone()[0])


def test_only_the_first_sync_that_succeeds_waits_for_more_than_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sync waits for the disk, and a program's fsync for all of them."""
    synced: list[str] = []
    refused: set[str] = {tmp_path.name}

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name in refused:
            raise OSError(errno.EIO, "the disk refuses")
        synced.append(name)

    with journal_at(tmp_path / "journal") as journal:
        monkeypatch.setattr(os, "fsync", fsync)
        journal.put(row(2, "a"))
        with pytest.raises(OSError, match="refuses"):
            journal.sync(journal.begin_sync(1))
        refused.clear()
        synced.clear()
        journal.sync(journal.begin_sync(2))
        assert synced == ["journal-wal", "journal", tmp_path.name]
        journal.put(row(3, "b"))
        journal.sync(journal.begin_sync(3))
        assert synced[3:] == ["journal-wal"]


def test_a_row_by_itself_is_appended_and_outlives_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        journal.put(row(3, "b"))
        journal.put(row(2, "c"))
        assert names(journal) == {2: "c", 3: "b"}
        assert in_database(path) == 0
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "c", 3: "b"}
            assert [file.stat().st_size for file in row_files(tmp_path / "killed 5" / "journal")] == [0, 0]


def test_rows_of_one_moment_take_over_what_was_appended_before(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "old"))
        with journal.transaction():
            journal.put(row(2, "new"))
            journal.put(row(3, "b"))
        assert in_database(path) == 2
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "new", 3: "b"}
        journal.put(row(3, "later"))
        journal.drop(Inode(2))
        with journal_at(killed(path)) as found:
            assert names(found) == {3: "later"}


def test_a_moment_of_one_row_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        with journal.transaction():
            journal.put(row(2, "a"))
            with journal.transaction():
                journal.put(row(2, "b"))
            with journal_at(killed(path)) as found:
                assert names(found) == {}  # not before the end
        assert in_database(path) == 0
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "b"}


def test_a_row_and_an_attribute_are_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        with journal.transaction():
            journal.put(row(2, "a"))
            journal.attributed.put(Inode(2), b"user.color", b"red")
            with journal_at(killed(path)) as found:
                assert names(found) == {}
                assert found.attributed.of(Inode(2)) == {}
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a"}
            assert found.attributed.of(Inode(2)) == {b"user.color": b"red"}


def row_that_fails(journal: Journal) -> None:
    with journal.transaction():
        journal.put(row(2, "never"))
        raise sqlite3.IntegrityError


def test_a_moment_of_one_row_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        with pytest.raises(sqlite3.IntegrityError):
            row_that_fails(journal)
        journal.put(row(3, "b"))
        assert names(journal) == {2: "a", 3: "b"}


def half_done(journal: Journal) -> None:
    with journal.transaction():
        journal.put(row(2, "never"))
        journal.put(row(3, "never"))
        raise sqlite3.IntegrityError


def test_a_moment_that_fails_leaves_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        with pytest.raises(sqlite3.IntegrityError):
            half_done(journal)
        assert names(journal) == {2: "a"}
        journal.put(row(4, "d"))
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a", 4: "d"}


def test_after_a_sync_the_files_are_empty_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        for turn in range(4):
            journal.put(row(2 + turn, "a"))
            spent = journal.begin_sync(turn)
            journal.put(row(2, f"while {turn}"))  # goes to the other file
            journal.sync(spent)
            assert sorted(file.stat().st_size > 0 for file in row_files(path)) == [False, True]
            with journal_at(killed(path)) as found:
                assert names(found)[2] == f"while {turn}"
                assert len(names(found)) == turn + 1


def test_a_moment_without_rows_takes_nothing_over(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        with journal.transaction():
            journal.note_folder(ROOT, DocumentId(7))
        assert names(journal) == {2: "a"}
        journal.sync(journal.begin_sync(1))
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a"}


def test_a_sync_clears_nothing_that_came_after_it_began(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        first = journal.begin_sync(1)
        journal.put(row(3, "b"))
        second = journal.begin_sync(2)
        journal.put(row(4, "c"))
        journal.sync(first)
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a", 3: "b", 4: "c"}
        assert second is None  # the file of the first one is still needed


def test_one_refusal_of_the_disk_does_not_let_the_rows_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        journal.begin_sync(1)  # and fsync(2) says EIO
        journal.sync_failed()
        for turn in range(4):
            journal.put(row(3, f"b{turn}"))
            with journal_at(killed(path)) as found:
                assert names(found) == {2: "a", 3: f"b{turn}"}
            journal.sync(journal.begin_sync(2 + turn))
        assert [file.stat().st_size for file in row_files(path)] == [0, 0]
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a", 3: "b3"}


def test_what_was_taken_over_stays_until_the_database_is_on_disk(tmp_path: Path) -> None:
    """A power cut takes the database's last commits along; then the rows are needed again."""
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        before = killed(path)  # what the disk has of the database
        spent = journal.begin_sync(1)
        journal.put(row(3, "b"))
        for file in row_files(path):
            shutil.copy(file, before.parent)
        with journal_at(before) as found:
            assert names(found) == {2: "a", 3: "b"}
        journal.sync(spent)


def test_an_older_file_never_brings_older_rows_back(tmp_path: Path) -> None:
    """A power cut may leave a file as it was before it was emptied."""
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "old"))
        journal.put(row(3, "dropped"))
        old = {file.name: file.read_bytes() for file in row_files(path)}
        journal.sync(journal.begin_sync(1))
        with journal.transaction():
            journal.put(row(2, "new"))
            journal.drop(Inode(3))
        cut = killed(path)
    for name, content in old.items():
        (cut.parent / name).write_bytes(content)
    with journal_at(cut) as found:
        assert names(found) == {2: "new"}


def test_rows_count_only_with_all_that_was_written_before_them(tmp_path: Path) -> None:
    """A power cut takes the database's last moment along, and leaves a row that was appended after it."""
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        journal.sync(journal.begin_sync(1))
        before = killed(path)  # what the disk has of the database
        with journal.transaction():
            journal.put(row(2, "b"))
            journal.put(row(5, "e"))
        journal.put(row(3, "a"))  # whose name has just become free
        journal.put_call(1, b"{}")
        journal.put(row(4, "c"))
        for file in row_files(path):
            shutil.copy(file, before.parent)
    with journal_at(before) as found:
        assert names(found) == {2: "a"}


def test_a_row_that_did_not_count_never_counts(tmp_path: Path) -> None:
    """Its file is emptied at the next start, which a power cut may undo."""
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        before = killed(path)
        with journal.transaction():
            journal.put(row(2, "a"))
            journal.put(row(5, "e"))
        journal.put(row(3, "b"))
        left = {file.name: file.read_bytes() for file in row_files(path)}
    for name, content in left.items():
        (before.parent / name).write_bytes(content)
    with journal_at(before) as found:
        assert names(found) == {}
        found.put(row(4, "c"))
        cut = killed(before)
    for name, content in left.items():
        with (cut.parent / name).open("ab") as file:
            file.write(content)
    with journal_at(cut) as found:
        assert names(found) == {4: "c"}


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\x40\0\0\0", b"\xff" * 200], ids=["zeros", "half", "noise"])
def test_a_torn_end_is_no_row(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        cut = killed(path)
    with row_files(cut)[0].open("ab") as file:
        file.write(tail)
    with journal_at(cut) as found:
        assert names(found) == {2: "a"}
        found.put(row(3, "b"))
        with journal_at(killed(cut)) as again:
            assert names(again) == {2: "a", 3: "b"}


def test_a_row_that_the_disk_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        size_bytes = row_files(path)[0].stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + 20, limits[1]))
        try:
            with pytest.raises(OSError) as refused:  # noqa: PT011 - its errno is looked at below
                journal.put(row(3, "b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert refused.value.errno == errno.ENOSPC
        assert row_files(path)[0].stat().st_size == size_bytes
        assert names(journal) == {2: "a"}
        journal.put(row(4, "d"))
        with journal_at(killed(path)) as found:
            assert names(found) == {2: "a", 4: "d"}


def test_a_lost_database_does_not_get_the_rows_of_the_former_one(tmp_path: Path) -> None:
    """Their staged files are moved aside, and what an inode's number means is lost with the database."""
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
        lost = killed(path)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{lost}{suffix}").unlink(missing_ok=True)
    with journal_at(lost) as found:
        assert names(found) == {}
        assert found.is_new


def test_a_journal_of_the_format_before_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path) as journal:
        journal.put(row(2, "a"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with journal_at(path) as journal:
        assert names(journal) == {2: "a"}
    record = row_log.CHECKED.pack(7, 3) + msgspec.json.encode(row(3, "b"))
    header = row_log.HEADER.pack(len(record), crc32(record))
    with closing(sqlite3.connect(path)) as db:  # one that numbered moments, not entries
        db.executescript(
            "PRAGMA user_version = 3; DELETE FROM fact; INSERT INTO fact VALUES ('generation', 7)"
        )
    row_files(path)[0].write_bytes(header + record)
    for _ in range(2):
        with journal_at(path) as journal:
            assert names(journal) == {2: "a", 3: "b"}
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalDamaged, match="format 99"):
        open_journal(path)
