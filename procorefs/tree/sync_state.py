"""How far the tree has followed Procore: one record in the tree's file, read and written by one object.

The record is JSON in a row of the table of facts. Whoever changes it does so in the same transaction as the rows that
the change speaks of, so both are there after a crash, or neither.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from procorefs.procore.wire.rights import Rights

_FACT = "sync_state"


class RowCounts(msgspec.Struct, frozen=True):
    """What the tree's rows say of the project's size."""

    live: int
    """Documents that Procore lists as existing."""
    hidden: int
    """Those of them below a deleted folder."""
    deleted: int
    """Documents known to be deleted."""


class KnownTotal(msgspec.Struct, frozen=True):
    """The total of a list of Procore's, and what the rows counted when it was compared with them."""

    total: int
    rows: RowCounts


class Counting(msgspec.Struct, frozen=True):
    """One way in which Procore may count the project's documents."""

    with_deleted: bool
    """Deleted documents are in the total."""
    with_hidden: bool
    """Documents below a deleted folder are."""


COUNTINGS = tuple(Counting(deleted, hidden) for deleted in (False, True) for hidden in (False, True))


class ListingProgress(msgspec.Struct, frozen=True):
    """A full listing that is under way or was interrupted."""

    newest_s: int
    """The newest change when it began."""
    reached_s: int | None
    """Every document with a later change was met; None: nothing is certain yet."""


class LastRelisting(msgspec.Struct, frozen=True):
    """The last full listing after the first one."""

    ended_at_s: int
    """Unix time."""
    calls: int
    futile: int
    """How many in a row, up to this one, found nothing that the polls had missed."""


class KnownRights(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the account may do, as Procore told last or a call has shown since."""

    asked_at_s: float
    """Unix time."""
    rights: Rights = Rights()


class SyncState(msgspec.Struct, omit_defaults=True):
    """How far the tree has followed Procore; times are seconds of Procore's clock where nothing else is said."""

    is_complete: bool = False
    """The whole project was listed at least once."""
    listing_pass: int = 0
    """The number of the newest full listing; each row has the number of the last one whose answers had it."""
    listing: ListingProgress | None = None
    """None: no full listing is under way."""
    undisturbed_pass: int = 0
    """The newest full listing, if nothing changed during it and every item was understood; else 0."""
    refused: int = 0
    """Items of the newest full listing that were not understood."""
    newest_s: int = 0
    """The newest change known; the next poll reads on to it."""
    settled_s: int = 0
    """No change with this time or an earlier one can appear any more."""
    unsettled: int = 0
    """Documents with a later change than that which the last poll met."""
    total: KnownTotal | None = None
    """The project's total when it was last explained; None: the next poll that no call of ours disturbs sets it."""
    is_total_capped: bool = False
    """The last undisturbed full listing had more documents than its total: totals of this list prove nothing."""
    is_balanced: bool = True
    """False: the total has documents that no answer had, so another full listing is due."""
    countings: tuple[Counting, ...] = COUNTINGS
    """The ways of counting that have explained every total so far."""
    bin_total: KnownTotal | None = None
    """The recycle bin's total when it was last read."""
    relisting: LastRelisting | None = None
    rights: KnownRights | None = None
    """None: Procore was not asked yet."""
    index_route: int = 0
    """Which of the client's routes the project's list has (procore.api.client)."""

    @property
    def is_bin_hidden(self) -> bool:
        """Whether Procore lists no deletions to the account: then only full listings find them."""
        return self.rights is not None and self.rights.rights.see_bin is False


class SyncStateRow:
    """Reads and writes the record in the tree's file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Raises msgspec.MsgspecError when the record is of another format."""
        self._db = db
        self._decoder = msgspec.json.Decoder(SyncState)
        if not self._has_record():
            self._take_over_facts()
        self.read()

    def read(self) -> SyncState:
        """The record as it is now; changing what is returned changes nothing on disk."""
        (text,) = self._db.execute("SELECT value FROM fact WHERE name = ?", (_FACT,)).fetchone()
        return self._decoder.decode(text)

    @contextmanager
    def change(self) -> Iterator[SyncState]:
        """The record, to be changed in the block and written at its end; within a transaction, without await."""
        state = self.read()
        yield state
        self._write(state)

    def _write(self, state: SyncState) -> None:
        text = msgspec.json.encode(state).decode()
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_FACT, text))

    def _has_record(self) -> bool:
        return self._db.execute("SELECT 1 FROM fact WHERE name = ?", (_FACT,)).fetchone() is not None

    def _take_over_facts(self) -> None:
        """Earlier versions kept each field as a fact of its own."""
        self._db.execute("BEGIN IMMEDIATE")
        facts = dict(self._db.execute("SELECT name, value FROM fact").fetchall())
        self._write(_from_facts(facts))
        self._db.executemany("DELETE FROM fact WHERE name = ?", [(name,) for name in _OLD_FACTS])
        self._db.execute("COMMIT")


_OLD_FACTS = (
    *("complete", "pass", "listing", "reached", "still", "refused", "newest", "final", "tail"),
    *("surplus", "hidden", "deleted", "balanced", "ways", "bin_total", "bin_hidden", "bin_deleted"),
    *("relisted_at", "relist_calls", "relist_futile", "index_route"),
)


def _from_facts(facts: Mapping[str, Any]) -> SyncState:
    def number(name: str, default: int = 0) -> int:
        value = facts.get(name)
        return default if value is None else int(value)

    def total(name: str, prefix: str) -> KnownTotal | None:
        """`surplus` was the total without the live documents."""
        if facts.get(name) is None:
            return None
        return KnownTotal(number(name), RowCounts(0, number(f"{prefix}hidden"), number(f"{prefix}deleted")))

    def optional(name: str) -> int | None:
        return None if facts.get(name) is None else number(name)

    listing_s, relisted_at_s = optional("listing"), optional("relisted_at")
    ways = number("ways") or 0b1111
    return SyncState(
        is_complete=bool(number("complete")),
        listing_pass=number("pass"),
        listing=None if listing_s is None else ListingProgress(listing_s, optional("reached")),
        undisturbed_pass=number("still"),
        refused=number("refused"),
        newest_s=number("newest"),
        settled_s=number("final"),
        unsettled=number("tail"),
        total=total("surplus", ""),
        is_balanced=bool(number("balanced", 1)),
        countings=tuple(counting for bit, counting in enumerate(COUNTINGS) if ways >> bit & 1),
        bin_total=total("bin_total", "bin_"),
        relisting=None
        if relisted_at_s is None
        else LastRelisting(relisted_at_s, number("relist_calls"), number("relist_futile")),
        index_route=number("index_route"),
    )
