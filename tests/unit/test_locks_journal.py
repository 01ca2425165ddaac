"""The record of check-outs outlives its daemon, and a damaged one is begun anew."""

from pathlib import Path

import pytest

from procorefs.locks.journal import CheckOutJournal
from procorefs.procore.models import DocumentId


def test_what_is_remembered_is_known_to_the_next_one(tmp_path: Path) -> None:
    journal = CheckOutJournal.open(tmp_path / "locks.sqlite")
    journal.remember(DocumentId(7), 100)
    journal.remember(DocumentId(8), 100)
    journal.remember(DocumentId(7), 200)
    journal.forget(DocumentId(8))
    journal.forget(DocumentId(9))
    # The daemon is killed: nothing is closed.
    next_one = CheckOutJournal.open(tmp_path / "locks.sqlite")
    assert next_one.known() == [(7, 200)]
    next_one.close()
    journal.close()


def test_a_damaged_one_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "locks.sqlite"
    path.write_bytes(b"no database" * 1000)
    journal = CheckOutJournal.open(path)
    assert journal.known() == []
    assert "damaged" in caplog.text
    journal.close()
