"""Rows that formats up to 4 wrote are read, and mean what they meant."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from procorefs.journal.change import Change, Location
from procorefs.journal.journal import FORMAT, open_journal
from procorefs.journal.older_rows import decode
from procorefs.journal.states import ChangeState
from tests.support.changes import PROGRESS

ROWS_FILE = Path(__file__).parent / "data/journal_rows_format_4.jsonl"
ROWS = [json.loads(line) for line in ROWS_FILE.read_text().splitlines()]
"""Rows as the last version that wrote format 4 wrote them."""

SCHEMA = """
CREATE TABLE change (inode INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE folder (inode INTEGER PRIMARY KEY, document INTEGER NOT NULL) STRICT;
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE call (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
PRAGMA user_version = 4;
"""


def as_format_4(change: Change) -> dict[str, Any]:
    """The fields of a change under the names that format 4 gave them."""
    place = change.location or ("gone" if change.is_removed else "follow")
    return {
        "inode": change.inode,
        "kind": change.kind,
        "place": place,
        "document": change.document,
        "staged": change.staged,
        "unclosed": change.unclosed,
        "borrowed": change.pending_copy,
        "lender": change.content_source,
        "is_junk": change.is_junk,
        "kept": change.kept,
        "wishes": change.patch,
        "seen": change.seen,
        "aside_from": change.aside_from,
        "stage": change.state,
        "upload": change.upload,
        "created_at_s": change.created_at_s,
        "touched_at_s": change.touched_at_s,
        "sequence": change.sequence,
        "attempts": change.attempts,
        "error": change.reason,
        "refused": change.patch_refusal,
    }


def body_of(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """As in JSON, with what is not there left out."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(values))
    return {name: value for name, value in found.items() if value not in (None, "", 0, False)}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_means_what_it_meant(row: dict[str, Any]) -> None:
    expected = {"place": "follow", "stage": "pending", "kept": [None] * 7 + [""], **row}
    found = plain(as_format_4(decode(body_of(row))))
    failed_at_s, slow, dropped = (
        expected.pop(name, None) for name in ("failed_at_s", "is_on_slow_line", "dropped_uploads")
    )
    assert found == plain(expected)
    change = decode(body_of(row))
    assert change.is_on_slow_line == bool(slow)
    assert change.gives_way == (change.staged is not None and (dropped or 0) < 3)
    if row.get("stage") == "failed":
        assert change.since_s == (failed_at_s or 0.0)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_was_written_again_is_the_same(row: dict[str, Any]) -> None:
    change = decode(body_of(row))
    assert decode(msgspec.json.encode(change)) == change


def test_the_rows_have_every_field_and_state() -> None:
    named = {name for row in ROWS for name in row}
    assert {"aside_from", "upload", "attempts", "refused", "is_on_slow_line", "dropped_uploads"} <= named
    assert {row.get("stage", "pending") for row in ROWS} == set(PROGRESS) - {ChangeState.GUARDED}


def test_a_row_of_no_format_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(b'{"inode":5,"kind":"file","state":"pending"}')


def test_a_journal_of_format_4_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    rows = {row["inode"]: row for row in ROWS}
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
        db.executemany(
            "INSERT INTO change VALUES (?, ?)", [(inode, body_of(row)) for inode, row in rows.items()]
        )
        db.commit()
    with closing(open_journal(path)) as journal:
        changes = {change.inode: change for change in journal.load()}
        assert journal.unreadable == 0
        assert set(changes) == set(rows)
        for change in changes.values():
            journal.put(change)
    with closing(open_journal(path)) as journal:
        assert {change.inode: change for change in journal.load()} == changes
        assert all(isinstance(change.location, Location | None) for change in journal.load())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (FORMAT,)
