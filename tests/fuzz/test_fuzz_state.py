"""What lies on disk or in Redis, damaged or made up: the budget, journal rows, SQLite files, logs of staged files."""

import math
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.journal import damaged_journal, older_rows
from procorefs.journal.change import Change, Location
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal, JournalDamaged, open_journal
from procorefs.limiter import Priority
from procorefs.limiter.answers import Reading, Report, observe
from procorefs.limiter.budget_state import State, decode, encode
from procorefs.limiter.file_store import FileStore
from procorefs.limiter.policy import drop_owner
from procorefs.limiter.process_queue import Asking, ask, leave
from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.procore.wire.models import DocumentId, Kind, Version, VersionId
from procorefs.staging import missing_ranges
from procorefs.staging.staged_record import StagedRecord
from procorefs.storage.failures import UNDECODABLE
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.sync_state import SyncState
from procorefs.tree.tree_store import TreeStore
from tests.support.changes import make_change
from tests.support.fuzzing import DEEP, JSON, bounded, damaged, fuzz, json_bytes, objects
from tests.support.tree_documents import ListedTree, file, folder

# The call budget

FLOATS = st.floats() | st.floats(0, 1e6)
WHOLE = st.integers(-3, 1000) | st.integers(-(2**63), 2**63 - 1)
STATES = st.builds(
    State,
    limit=WHOLE,
    told_s=FLOATS,
    reset_s=FLOATS,
    sent=st.lists(st.tuples(FLOATS, FLOATS, WHOLE, FLOATS), max_size=3),
    others_per_s=FLOATS,
    spike_limit=WHOLE,
    spike_rolls=WHOLE,
    recent=st.lists(FLOATS, max_size=3),
    permits=st.lists(st.tuples(st.sampled_from(["h/1/2", "h/x", "h/", "a"]), FLOATS, WHOLE), max_size=2),
    answered=WHOLE,
    sure=WHOLE,
    throttled_in_a_row=WHOLE,
    clock_s=FLOATS,
    paused_until_s=FLOATS,
    served_s=st.lists(FLOATS, min_size=2, max_size=4),
    waiters=st.lists(
        st.tuples(st.sampled_from(["b", "h/x"]), WHOLE, FLOATS, FLOATS, st.tuples(WHOLE, WHOLE, WHOLE)),
        max_size=2,
    ),
    hosts=st.dictionaries(st.text(max_size=3), FLOATS, max_size=2),
    share=FLOATS,
    hour_s=FLOATS,
    spike_s=FLOATS,
)
PACKED = STATES.map(msgspec.msgpack.encode)
RECORDS = st.one_of(PACKED, damaged(PACKED), st.binary(max_size=80), st.just(b"\x91" * 100_000))


@fuzz
@given(RECORDS, st.floats(0, 1e7), st.sampled_from(Priority))
def test_any_record_of_a_budget_is_used_or_not_understood(
    record: bytes, now_s: float, priority: Priority
) -> None:
    state = decode(record)
    if state is None:
        return
    with bounded():
        for _ in range(3):
            sleep_s = ask(state, Asking("me", "h", priority, 0.0, (1, 0, 0)), now_s)
            assert 0 <= sleep_s <= 10
            observe(state, "me", Report(200, Reading(600, 5, 100.0), None), now_s, lambda: 0.5)
            observe(state, "me", Report(429, None, 5.0), now_s, lambda: 0.5)
            drop_owner(state, "a", now_s)
            leave(state, now_s, owner="me")
            now_s += 5
    again = decode(encode(state))
    assert again is not None
    assert math.isfinite(again.paused_until_s)


@fuzz
@given(RECORDS, st.binary(max_size=8), st.integers(0, 40))
async def test_any_file_of_a_budget_can_be_gone_on_with(
    tmp_path: Path, record: bytes, other: bytes, at: int
) -> None:
    path = tmp_path / "budget"
    path.unlink(missing_ok=True)
    store = FileStore(path)
    try:
        if len(record) < 10_000:
            store._write(1, record)  # noqa: SLF001 - a whole record with any content
        with path.open("r+b") as budget:
            budget.seek(at)
            budget.write(other)
        await store.change(
            lambda state, now_s: ask(state, Asking("me", "h", Priority.WRITING, 0, (0, 1, 0)), now_s)
        )
        assert store.peek()[0].answered >= 0
    finally:
        store.close()


# Journal rows

VERSION = Version(VersionId(3), 1, 5, 0, "https://h/a", None)
ROWS = st.sampled_from(
    [
        make_change(Inode(7), Kind.FILE, Location(ROOT, "a"), staged=StagedRecord(1, 5, VERSION, ((0, 5),))),
        make_change(Inode(8), Kind.FOLDER, Location(ROOT, "\u202e")),
    ]
).map(msgspec.json.encode)
OLD_ROW = objects(["inode", "kind", "place", "stage", "staged", "wishes", "document", "upload"]).map(
    json_bytes
)
BODIES = st.one_of(
    ROWS, damaged(ROWS), OLD_ROW, JSON.map(json_bytes), st.sampled_from(DEEP), st.binary(max_size=60)
)


@fuzz
@given(BODIES)
def test_any_row_is_a_change_or_undecodable(body: bytes) -> None:
    with bounded():
        try:
            change = older_rows.decode(body)
        except UNDECODABLE:
            return
    assert older_rows.decode(msgspec.json.encode(change)) is not None


@fuzz
@given(st.lists(BODIES, max_size=3), st.lists(BODIES, max_size=2))
def test_a_journal_keeps_rows_that_it_cannot_read(
    tmp_path: Path, rows: list[bytes], calls: list[bytes]
) -> None:
    path = tmp_path / "journal"
    for side in tmp_path.iterdir():
        side.unlink()
    with closing(Journal(path)):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executemany("INSERT INTO change VALUES (?, ?)", enumerate(rows, 10))
        db.executemany("INSERT INTO call VALUES (?, ?)", enumerate(calls, 1))
    with closing(open_journal(path)) as journal, bounded():
        found = journal.load()
        assert len(found) + journal.unreadable == len(rows)
        with suppress(JournalDamaged):
            InFlightCalls(journal, lambda: None, lambda: Inode(0))
        assert len(journal.calls()) == len(calls)


@fuzz
@given(st.lists(BODIES, max_size=6).map(b"\0".join))
def test_what_is_left_of_a_journal_is_found_in_any_bytes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(content)
    with bounded():
        salvaged = damaged_journal.salvage([file, tmp_path / "none"], {1})
    assert all(isinstance(change, Change) for change in salvaged.files)


# Damaged files of SQLite

HITS = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), max_size=4)


def hit(path: Path, hits: list[tuple[float, bytes]]) -> None:
    content = bytearray(path.read_bytes())
    for where, data in hits:
        at = int(where * len(content))
        content[at : at + len(data)] = data
    path.write_bytes(content)


def whole_tree(path: Path) -> bytes:
    tree = ListedTree(path)
    tree.apply(folder(10, "F"), *(file(100 + number, f"{number}.pdf", 10) for number in range(40)))
    tree.store.close()
    return path.read_bytes()


@fuzz
@given(HITS)
def test_a_damaged_tree_is_opened_or_moved_aside(tmp_path: Path, hits: list[tuple[float, bytes]]) -> None:
    kept = tmp_path / "kept"
    if not kept.exists():
        kept.write_bytes(whole_tree(tmp_path / "first"))
    path = tmp_path / "tree"
    for side in tmp_path.glob("tree*"):
        side.unlink()
    path.write_bytes(kept.read_bytes())
    hit(path, hits)
    with suppress(sqlite3.Error):
        TreeStore.open(path).close()


@fuzz
@given(HITS)
def test_a_damaged_journal_is_opened_or_moved_aside(tmp_path: Path, hits: list[tuple[float, bytes]]) -> None:
    path = tmp_path / "journal"
    for side in tmp_path.iterdir():
        side.unlink()
    with closing(Journal(path)) as journal, journal.transaction():
        for inode in range(10, 60):
            journal.put(make_change(Inode(inode), Kind.FILE, Location(ROOT, "n" * inode)))
    hit(path, hits)
    with suppress(JournalDamaged, sqlite3.Error), closing(open_journal(path)) as journal:
        journal.load()


@fuzz
@given(HITS)
def test_a_damaged_record_of_check_outs_is_opened_or_replaced(
    tmp_path: Path, hits: list[tuple[float, bytes]]
) -> None:
    path = tmp_path / "locks"
    for side in tmp_path.iterdir():
        side.unlink()
    with closing(CheckOutJournal.open(path)) as journal:
        for document in range(50):
            journal.remember(DocumentId(document), 100)
    hit(path, hits)
    with suppress(sqlite3.OperationalError), closing(CheckOutJournal.open(path)) as journal:
        journal.known()


@fuzz
@given(
    objects(list(SyncState.__struct_fields__)).map(json_bytes)
    | st.sampled_from(DEEP)
    | st.binary(max_size=60)
)
def test_a_tree_whose_record_is_unreadable_is_moved_aside(tmp_path: Path, record: bytes) -> None:
    path = tmp_path / "tree"
    for side in tmp_path.iterdir():
        side.unlink()
    TreeStore.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE fact SET value = ? WHERE name = 'sync'", (record.decode("utf-8", "replace"),))
    TreeStore.open(path).close()


# The log beside a staged file

PAIRS = st.tuples(st.integers(0, 200), st.integers(0, 200)) | st.tuples(*2 * [st.integers(0, 2**64 - 1)])


@fuzz
@given(st.lists(PAIRS, max_size=6), st.binary(max_size=20), st.integers(0, 150))
@example([(5, 3)], b"", 10)
def test_ranges_stay_ranges_whatever_the_log_says(
    tmp_path: Path, pairs: list[tuple[int, int]], tail: bytes, size_bytes: int
) -> None:
    missing = ((0, 10), (20, 100))
    path = tmp_path / "log"
    path.write_bytes(
        b"".join(low.to_bytes(8, "little") + high.to_bytes(8, "little") for low, high in pairs) + tail
    )
    left = missing_ranges.still_missing(missing, missing_ranges.read(str(path)), size_bytes)
    ends: list[Any] = [edge for one in left for edge in one]
    assert ends == sorted(ends)
    assert all(0 <= low < high <= size_bytes for low, high in left)
    assert all(any(a <= low and high <= b for a, b in missing) for low, high in left)
