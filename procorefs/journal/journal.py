"""The journal: one row an inode with what is wanted of it, in a database of its own.

    one row, also of a transaction ─▶ appended (row_log.py) ─▶ taken over with the next transaction or sync
    a transaction of more, all or none ──────────────────────▶ the database ─▶ sync ─▶ the disk

A row is written before the program has its answer, so it survives kill -9; `sync` brings it to the disk, so that it
survives a power cut (at most a second later, see durability.py). It is a database of its own so that a damaged tree
never takes it along, and it holds all that is needed to go on without the tree.
"""

import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from procorefs.journal.change import Change, Failed, Guarded
from procorefs.journal.older_rows import decode
from procorefs.journal.row_log import SUFFIXES, RowLog, clear
from procorefs.journal.xattr_store import XattrStore
from procorefs.procore.wire.models import DocumentId
from procorefs.storage import clocks
from procorefs.storage.blocking_work import loop_waits
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.sqlite_files import checkpoint, format_of, move_aside, open_database
from procorefs.tree.nodes import Inode

log = logging.getLogger(__name__)

FORMAT = 6
_OLDER_FORMATS = (1, 2, 3, 4, 5)
"""older_rows.py reads their rows. Before 4: no row log, calls or numbers of entries; before 6: no GUARDED changes."""

CHECKPOINT_BYTES = 16 << 20
"""`sync` writes a longer write-ahead log back to the database."""

MOST_APPENDED = 4096
"""With this many appended rows they are moved to the database without waiting for `begin_sync`."""

EMERGENCY_PAGES = 65_536
"""The loop itself writes the log back only if `sync` was not called for 256 MiB."""

_CALLS = "CREATE TABLE IF NOT EXISTS call (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT"

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE change (inode INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE folder (inode INTEGER PRIMARY KEY, document INTEGER NOT NULL) STRICT;
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
{_CALLS};
PRAGMA user_version = {FORMAT};
COMMIT;
"""

_encode = msgspec.json.Encoder().encode


class JournalDamaged(Exception):
    """The journal cannot be read. The files that it names are still in the staging folder."""


class Journal:
    """The rows of changes.

    Synchronous, on the loop's thread, except `sync`, which may run in another thread. Raises JournalDamaged at
    opening, sqlite3.Error and OSError.
    """

    def __init__(self, path: Path, damaged: Collection[Path] = ()) -> None:
        """`damaged`: the files of the earlier journal, if that was damaged."""
        self._path = path
        self.damaged = damaged
        with ExitStack() as undo:
            try:
                self._db = open_database(path, checkpoint_pages=EMERGENCY_PAGES)
                undo.callback(self._db.close)
                self._prepare()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                raise JournalDamaged(f"The journal {path} cannot be read ({error}).") from error
            self._know_folders()
            self.attributed = XattrStore(self._db, self._write, self.note_folder)
            self.attributed.read(self._folders)
            self.sequence = int(self.fact("synced") or 0)
            """The number of the last entry of bytes; see Change.sequence."""
            self.unreadable = 0
            """How many rows the last `load` could not read."""
            self._is_open = False
            """Whether a transaction is open. The database's own begins with its second write: a row that stays the only
            one is appended, which costs a tenth."""
            self._only_row: tuple[Inode, bytes] | None = None
            """The row that the open transaction has written so far, and nothing else."""
            self._takes_over = self._is_entry = False  # in the open transaction
            self._has_names_on_disk = False
            self._appended = RowLog(path)
            undo.callback(self._appended.close)
            self._take_up_appended()
            undo.pop_all()

    def _prepare(self) -> None:
        run = self._db.execute
        found = run("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORMAT, *_OLDER_FORMATS):
            raise JournalDamaged(
                f"The journal {self._path} has the format {found}, this version reads {FORMAT}: use the version of "
                "ProcoreFS that wrote it until nothing waits any more."
            )
        self.is_new = found == 0
        """Whether the journal was just created: existing staged files then have bytes that must be kept."""
        self._is_numbered = found not in (1, 2, 3)
        if found == 0:
            self._db.executescript(_SCHEMA)
        else:
            self._check()
            run(_CALLS)
            run(f"PRAGMA user_version = {FORMAT}")
        self._path.chmod(0o600)

    def _take_up_appended(self) -> None:
        """Move the rows that an earlier run appended into the database, and sync it."""
        position = int(self.fact("position") or self.fact("generation") or 0)
        self._appended.begin(position, is_new=self.is_new, is_numbered=self._is_numbered)
        if self._appended.is_clear:
            return
        with self.transaction():
            self._take_over()
            self.remember("position", self._appended.position)
        self.sync()
        self._appended.clear_all()

    def _check(self) -> None:
        """Whether SQLite can read all pages: a bad one that is met later would end the mount each time."""
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise JournalDamaged(f"The journal {self._path} cannot be read ({verdict}).")

    def close(self) -> None:
        with suppress(sqlite3.Error), self.transaction():  # else the next run does it
            self._take_over()
        self._appended.close()
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all rows of the block or none. The block contains no await. A nested transaction is part of the
        outer one."""
        if self._is_open:
            yield
            return
        self._is_open = True
        try:
            yield
            if self._db.in_transaction:
                self._commit()
            elif self._only_row is not None:
                self._appended.append(*self._only_row)
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._know_folders()
            self.attributed.read(self._folders)
            raise
        finally:
            loop_waits.ends()
            self._is_open = self._takes_over = self._is_entry = False
            self._only_row = None

    def _commit(self) -> None:
        position = self._appended.position + self._is_entry
        is_numbered = self._takes_over or self._is_entry
        if is_numbered:
            self.remember("position", position)
        loop_waits.begins(perf_counter())
        self._db.execute("COMMIT")
        if is_numbered:
            self._appended.taken_over(position)

    def _begin(self) -> None:
        """Begin the open transaction in the database, with the row that it has written."""
        if not self._is_open or self._db.in_transaction:
            return
        self._db.execute("BEGIN")
        row, self._only_row = self._only_row, None
        if row is not None:
            self._put_into_database(*row)

    def _put_into_database(self, inode: Inode, body: bytes) -> None:
        with self._entry():
            self._db.execute("INSERT OR REPLACE INTO change VALUES (?, ?)", (inode, body))

    def _write(self, statement: str, parameters: tuple[object, ...]) -> None:
        self._begin()
        self._db.execute(statement, parameters)

    @contextmanager
    def _entry(self) -> Iterator[None]:
        """A transaction, or a part of one, that rows which are appended later depend on."""
        with self.transaction():
            self._take_over()
            self._is_entry = True
            yield

    def _take_over(self) -> None:
        """Within a transaction: write the appended rows to the database before anything else."""
        self._begin()
        if self._takes_over or not self._appended.rows:
            return
        self._db.executemany("INSERT OR REPLACE INTO change VALUES (?, ?)", self._appended.rows.items())
        self._takes_over = True

    def load(self) -> list[Change]:
        """All rows. One that cannot be read stays where it is and is reported."""
        found: list[Change] = []
        self.unreadable = 0
        now_s = clocks.unix_s()
        for inode, body in self._rows():
            try:
                change = decode(body)
            except UNDECODABLE as error:
                self.unreadable += 1
                log.error("The journal's row of inode %d cannot be read (%s); it is kept.", inode, error)
                continue
            _end_future(change, now_s)
            found.append(change)
        self.sequence = max(self.sequence, max((change.sequence for change in found), default=0))
        return found

    def _rows(self) -> Iterable[tuple[Inode, bytes]]:
        """Inode and body of each row, in the order of the inodes."""
        rows = self._db.execute("SELECT inode, body FROM change ORDER BY inode")
        return sorted((dict(rows) | self._appended.rows).items()) if self._appended.rows else rows

    def last_inode(self) -> Inode:
        """The highest inode of all rows, also of unreadable ones, of noted folders and of attributes; 0: none."""
        tables = ("change", "folder", "attribute")
        found = [self._db.execute(f"SELECT max(inode) FROM {table}").fetchone()[0] for table in tables]
        return Inode(max(inode or 0 for inode in found))

    def put(self, change: Change) -> None:
        """Write a row, within a transaction as a part of it."""
        body = _encode(change)
        is_other = self._only_row is not None and self._only_row[0] != change.inode
        if is_other or self._db.in_transaction or len(self._appended.rows) >= MOST_APPENDED:
            self._put_into_database(change.inode, body)
        elif self._is_open:
            self._only_row = change.inode, body
        else:
            self._appended.append(change.inode, body)
        if change.document is not None:
            self.attributed.bind(change.inode, change.document)

    def next_sequence(self) -> int:
        """Count an entry of bytes and return its number."""
        self.sequence += 1
        return self.sequence

    def folders(self) -> dict[Inode, DocumentId]:
        """The documents of folders that changes name, and of inodes with attributes.

        A new or older tree would give them other inodes.
        """
        rows = self._db.execute("SELECT inode, document FROM folder")
        return {Inode(inode): DocumentId(document) for inode, document in rows}

    def _know_folders(self) -> None:
        """The documents in the database."""
        self._folders: dict[Inode, DocumentId] = self.folders()
        self._inodes = {document: inode for inode, document in self._folders.items()}

    def keep_folders(self, needed: Collection[Inode]) -> None:
        """Forget the documents of inodes that no row names any more."""
        superfluous = [
            (inode,) for inode in self._folders if inode not in needed and not self.attributed.has_any(inode)
        ]
        with self._entry():
            self._db.executemany("DELETE FROM folder WHERE inode = ?", superfluous)
        self._know_folders()

    def note_folder(self, inode: Inode, document: DocumentId) -> None:
        """Record the document of an inode; costs nothing if it is known."""
        if self._folders.get(inode) == document:
            return
        with self._entry():
            before = self._inodes.get(document)
            if before is not None and self._folders.get(before) == document:
                self._db.execute("DELETE FROM folder WHERE inode = ?", (before,))
                del self._folders[before]
            self._inodes[document] = inode
            self._db.execute("INSERT OR REPLACE INTO folder VALUES (?, ?)", (inode, document))
            self._folders[inode] = document

    def drop(self, inode: Inode) -> None:
        with self._entry():
            self._db.execute("DELETE FROM change WHERE inode = ?", (inode,))

    def calls(self) -> list[tuple[int, bytes]]:
        """Calls that an earlier run left under way or without a known outcome (in_flight_calls.py)."""
        return list(self._db.execute("SELECT number, body FROM call ORDER BY number"))

    def put_call(self, number: int, body: bytes) -> None:
        with self._entry():
            self._db.execute("INSERT OR REPLACE INTO call VALUES (?, ?)", (number, body))

    def drop_call(self, number: int) -> None:
        with self._entry():
            self._db.execute("DELETE FROM call WHERE number = ?", (number,))

    def fact(self, name: str) -> Any:  # noqa: ANN401 - whatever SQLite holds
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def remember(self, name: str, value: int | str | None) -> None:
        self._write("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def begin_sync(self, sequence: int) -> int | None:
        """Prepare `sync`, on the loop: write all rows to the database; bytes up to that entry are on disk.

        Returns the argument for `sync`.
        """
        with self.transaction():
            self._take_over()
            self.remember("synced", sequence)
        return self._appended.turn()

    def sync_failed(self) -> None:
        """Clean up after a `sync` that raised, on the loop."""
        self._appended.not_cleared()

    def sync(self, spent: int | None = None) -> None:
        """Bring all that was committed to disk; needs no connection, so it may run in a thread.

        SQLite finds the frames of the synced log by their checksums after a power cut. The database itself and the
        folder, for the names of the files, are synced once in a run: later only checkpoints write to the database,
        and SQLite syncs it before it begins the log again. Each sync waits for the disk.
        """
        log_file = self._path.with_name(self._path.name + "-wal")
        is_long = _fsync(log_file) > CHECKPOINT_BYTES
        if not self._has_names_on_disk:
            _fsync(self._path)
            _fsync(self._path.parent)
            self._has_names_on_disk = log_file.exists()
        if is_long:
            checkpoint(self._path)
        if spent is not None:
            clear(spent)


def _fsync(path: Path) -> int:
    """Sync a file or folder and return its size; 0: it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _end_future(change: Change, now_s: float) -> None:
    """Move times in the future, which a wall clock that was ahead left, to the present."""
    if change.created_at_s > now_s:
        change.created_at_s = now_s
    if change.touched_at_s > now_s:
        change.touched_at_s = now_s
    progress = change.progress
    if isinstance(progress, Failed | Guarded) and progress.at_s > now_s:
        change.progress = msgspec.structs.replace(progress, at_s=now_s)


def open_journal(path: Path) -> Journal:
    """Open the journal at `path`. A damaged one is moved aside and reported. Raises JournalDamaged for another
    format."""
    try:
        return Journal(path)
    except JournalDamaged:
        if format_of(path) not in (None, FORMAT, *_OLDER_FORMATS):
            raise
        aside, moved = move_aside(path, SUFFIXES)
        log.error("The journal %s is damaged; it was moved to %s.", path, aside)
        return Journal(path, moved)
