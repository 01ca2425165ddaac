"""Keeps the ends of this mount's check-outs in a SQLite file, so that the next daemon knows which are its own.

A lost or damaged file costs no data: those check-outs count as another host's until they end by themselves.
"""

import logging
import sqlite3
from pathlib import Path
from typing import Self

from procorefs.procore.wire.models import DocumentId
from procorefs.storage.sqlite_files import open_database, remove_database

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS asked (
    document INTEGER NOT NULL,
    until_s  INTEGER NOT NULL,
    PRIMARY KEY (document, until_s)
) STRICT, WITHOUT ROWID
"""
_ONE_END = "check_out"
"""The table of earlier versions, which had one end a document."""


class CheckOutJournal:
    """All ends that were asked for. Its calls are short and made on the loop's thread; they raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path)
        try:
            self._db.execute(_SCHEMA)
            self._take_over()
            self.known()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """The journal at `path`; one that cannot be read is replaced by an empty one, and the log says so."""
        try:
            return cls(path)
        except sqlite3.OperationalError:
            raise  # the disk is full or not writable: nothing is wrong with the file
        except sqlite3.DatabaseError as error:
            log.warning(
                "The record of check-outs %s is damaged (%s) and is replaced by an empty one.", path, error
            )
            remove_database(path)
            return cls(path)

    def close(self) -> None:
        self._db.close()

    def _take_over(self) -> None:
        found = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_ONE_END,)).fetchone()
        if found is not None:
            self._db.executescript(
                f"BEGIN IMMEDIATE; INSERT OR IGNORE INTO asked SELECT document, until_s FROM {_ONE_END};"
                f" DROP TABLE {_ONE_END}; COMMIT;"
            )

    def remember(self, document: DocumentId, until_s: int) -> None:
        """Note an end before it is asked for; others of the document stay."""
        self._db.execute("INSERT OR IGNORE INTO asked VALUES (?, ?)", (document, until_s))

    def forget(self, document: DocumentId, until_s: int) -> None:
        """That end is over, or will not come."""
        self._db.execute("DELETE FROM asked WHERE document = ? AND until_s = ?", (document, until_s))

    def known(self) -> list[tuple[DocumentId, int]]:
        """All ends that were remembered and not forgotten."""
        return self._db.execute("SELECT document, until_s FROM asked ORDER BY document, until_s").fetchall()
