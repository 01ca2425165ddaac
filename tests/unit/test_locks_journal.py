"""The record of check-outs outlives its daemon, and a damaged one is begun anew."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.procore.wire.models import DocumentId


def test_what_is_remembered_is_known_to_the_next_one(tmp_path: Path) -> None:
    journal = CheckOutJournal.open(tmp_path / "locks.sqlite")
    journal.remember(DocumentId(7), 100)
    journal.remember(DocumentId(8), 100)
    journal.remember(DocumentId(7), 200)
    journal.remember(DocumentId(7), 300)
    journal.forget(DocumentId(7), 100)
    journal.forget(DocumentId(8), 100)
    journal.forget(DocumentId(9), 100)
    # The daemon is killed: nothing is closed.
    next_one = CheckOutJournal.open(tmp_path / "locks.sqlite")
    assert next_one.known() == [(7, 200), (7, 300)]
    next_one.close()
    journal.close()


def test_a_damaged_one_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "locks.sqlite"
    path.write_bytes(b"no database" * 1000)
    journal = CheckOutJournal.open(path)
    assert journal.known() == []
    assert "damaged" in caplog.text
    journal.close()


def test_one_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "locks.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE check_out (document INTEGER PRIMARY KEY, until_s INTEGER NOT NULL) STRICT")
        db.execute("INSERT INTO check_out VALUES (7, 100)")
    for _ in range(2):
        journal = CheckOutJournal.open(path)
        assert journal.known() == [(7, 100)]
        journal.close()
