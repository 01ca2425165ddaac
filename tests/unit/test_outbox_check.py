"""Whatever waits has a time, a worker or something before it; what has none of them is found and put right."""

import logging
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from procorefs.journal.change import Change, Location
from procorefs.procore.wire.models import Kind
from procorefs.tree.nodes import ROOT, Inode
from procorefs.upload.queue import Queue
from procorefs.upload.scheduler import Scheduler

FORGOTTEN, DUE, SENT, FRESH, WRITTEN, BEHIND, STRANDED = map(Inode, range(10, 17))
ALL = (FORGOTTEN, DUE, SENT, FRESH, WRITTEN, BEHIND, STRANDED)


def outbox_of(*pending: Inode) -> Any:  # as far as the check asks
    outbox: Any = Scheduler.__new__(Scheduler)
    changes = {inode: Change(inode, Kind.FOLDER, Location(ROOT, f"{inode}")) for inode in pending}
    outbox._queue = Queue()
    outbox._view = SimpleNamespace(change=changes.get, path=lambda inode: f"folder {inode}")

    def inodes(states: Collection[str]) -> list[Inode]:
        assert set(states) == {"pending", "uploading"}
        return list(pending)

    outbox._tally = SimpleNamespace(inodes=inodes)
    outbox._drafts = SimpleNamespace(is_written=lambda inode: inode == WRITTEN)
    return outbox


async def test_what_nothing_would_ever_send_is_looked_at_anew(caplog: pytest.LogCaptureFixture) -> None:
    outbox = outbox_of(*ALL)
    queue: Queue = outbox._queue
    queue.put(DUE, 5.0)
    queue.sending.add(SENT)
    queue.fresh.add(FRESH)
    queue.block(BEHIND, DUE, "another change goes first")
    queue.block(STRANDED, Inode(99), "it was there once")
    with caplog.at_level(logging.WARNING):
        suspects = await outbox.check(())
        assert suspects == {FORGOTTEN, STRANDED}
        assert not caplog.records, "it may be between two steps"
        assert queue.fresh == {FRESH}
        assert await outbox.check(suspects) == suspects
    assert queue.fresh == {FRESH, *suspects}
    assert len(caplog.records) == 2
    assert await outbox.check(suspects) == set()
