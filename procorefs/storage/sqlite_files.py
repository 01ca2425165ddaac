"""Opens SQLite files in WAL mode, recognises and moves aside damaged ones, and checkpoints them."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

_SIDES = ("", "-wal", "-shm")


def open_database(path: Path, *, checkpoint_pages: int = 1000) -> sqlite3.Connection:
    """A connection in autocommit mode: kill -9 loses nothing, a power cut loses what was not synced.

    `checkpoint_pages`: a commit that makes the log longer also checkpoints it. Raises sqlite3.Error.
    """
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
    except BaseException:
        db.close()
        raise
    return db


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite means a damaged file, and not a full disk or a locked file."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def format_of(path: Path) -> int | None:
    """The `user_version` of a file; None if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return None


def checkpoint(path: Path) -> None:
    """Checkpoint the log on a separate connection; waits for the disk, so run it in a thread."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def move_aside(path: Path, sides: Sequence[str] = ()) -> tuple[Path, list[Path]]:
    """Rename a damaged database, its side files and `sides`; returns its new name, which says when, and all files."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    moved = []
    for suffix in (*_SIDES, *sides):
        side = path.with_name(path.name + suffix)
        if side.exists():
            moved.append(side.rename(aside.with_name(aside.name + suffix)))
    return aside, moved


def remove_database(path: Path) -> None:
    """Delete a database with its side files."""
    for suffix in _SIDES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
