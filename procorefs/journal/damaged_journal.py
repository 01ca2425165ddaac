"""Reads what is left of the rows of a damaged journal, wherever they are in its files.

SQLite stops at a bad page, and reads nothing if the header is bad. But a row is short JSON text that can be found by
its beginning. That also finds rows that were replaced or dropped, so only rows count whose staged file exists.
"""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from procorefs.journal.change import FOLLOW, Change, Incomplete, Placed, Written
from procorefs.journal.older_rows import decode
from procorefs.storage.failures import UNDECODABLE
from procorefs.tree.nodes import Inode

_BEGINS = b'{"inode":'
_LONGEST_BYTES = 16 << 10
_find_end = json.JSONDecoder().raw_decode


@dataclass(slots=True)
class Salvaged:
    """What was found in a damaged journal."""

    files: list[Change] = field(default_factory=list)
    """Files with names and bytes, as incomplete changes: a person must decide about them."""
    folders: dict[Inode, str] = field(default_factory=dict)
    """The names of folders."""


def salvage(files: Iterable[Path], staged: Container[int]) -> Salvaged:
    """Read all that can be found. `staged`: the numbers of the staged files that are not empty."""
    newest: dict[Inode, Change] = {}
    folders: dict[Inode, Change] = {}
    for file in files:
        if not file.exists():
            continue
        for change in _rows(file.read_bytes()):
            found = folders if change.is_folder else newest
            if not change.is_folder and not any(record.number in staged for record in change.records):
                continue
            if change.inode not in found or _age(change) >= _age(found[change.inode]):
                found[change.inode] = change
    salvaged = Salvaged()
    given: set[int] = set()
    for change in sorted(newest.values(), key=_age, reverse=True):
        records = [
            one for one in (change.unclosed, change.staged) if one is not None and one.number in staged
        ]
        if records[0].number in given:
            continue  # an older row of another inode
        given.add(records[0].number)
        place = Placed(change.location) if change.location is not None else FOLLOW
        if place is FOLLOW and change.document is None:
            continue
        salvaged.files.append(
            Change(
                change.inode,
                change.kind,
                place,
                document=change.document,
                content=Written(records[0]),
                kept=change.kept,
                progress=Incomplete("the journal was damaged: these may not be the newest bytes"),
                created_at_s=change.created_at_s,
                touched_at_s=change.touched_at_s,
                sequence=change.sequence,
            )
        )
    salvaged.folders = {
        inode: change.location.name for inode, change in folders.items() if change.location is not None
    }
    return salvaged


def _age(change: Change) -> tuple[int, float]:
    return change.sequence, change.touched_at_s


def _rows(content: bytes) -> Iterator[Change]:
    at = content.find(_BEGINS)
    while at >= 0:
        text = content[at : at + _LONGEST_BYTES].decode("utf-8", "replace")
        try:
            _, end = _find_end(text)
            yield decode(text[:end].encode())
        except (ValueError, *UNDECODABLE):
            pass  # another kind of row, or half a row
        at = content.find(_BEGINS, at + 1)
