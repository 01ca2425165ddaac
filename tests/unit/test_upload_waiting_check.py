"""Whatever waits has a time, a worker or something before it; what has none of them is found and put right."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from procorefs.journal.change import Location
from procorefs.procore.wire.models import Kind
from procorefs.tree.nodes import ROOT, Inode
from procorefs.upload.attempts import Attempts
from procorefs.upload.counters import Counters
from procorefs.upload.item_states import ItemStates
from procorefs.upload.planning.blocking import WaitCheck
from procorefs.upload.planning.plan import Wait
from procorefs.upload.planning.queue import Queue
from procorefs.upload.sending.byte_upload import Uploader
from tests.support.changes import make_change
from tests.support.offline_project import OfflineProject, offline_project

FORGOTTEN, DUE, SENT, FRESH, WRITTEN, BEHIND, STRANDED = map(Inode, range(10, 17))
ALL = (FORGOTTEN, DUE, SENT, FRESH, WRITTEN, BEHIND, STRANDED)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[OfflineProject]:
    with offline_project(tmp_path) as opened:
        yield opened


def check_of(project: OfflineProject, *pending: Inode) -> tuple[WaitCheck, Queue]:
    """A check over changes that are counted as pending."""
    queue, attempts = Queue(), Attempts()
    counters = Counters(Uploader(cast(Any, None), project.edits.changes.save_if_current))
    states = ItemStates(
        project.view,
        project.dirty_files,
        project.base.fates,
        project.calls,
        queue,
        attempts,
        counters,
        sends=lambda: True,
    )
    for inode in pending:
        project.view.show(make_change(inode, Kind.FOLDER, Location(ROOT, f"folder {inode}")))
        assert states.count(inode) is not None
    project.dirty_files.enter(WRITTEN, writes=True)
    return WaitCheck(
        project.view, project.dirty_files, queue, counters, states, trio.lowlevel.checkpoint
    ), queue


async def test_what_nothing_would_ever_send_is_looked_at_again(
    project: OfflineProject, caplog: pytest.LogCaptureFixture
) -> None:
    check, queue = check_of(project, *ALL)
    queue.put(DUE, 5.0)
    queue.sending.add(SENT)
    queue.fresh.add(FRESH)
    queue.block(BEHIND, Wait(DUE, "another change goes first"))
    queue.block(STRANDED, Wait(Inode(99), "it was there once"))
    with caplog.at_level(logging.WARNING):
        suspects = await check.check(())
        assert suspects == {FORGOTTEN, STRANDED}
        assert not caplog.records, "it may be between two steps"
        assert queue.fresh == {FRESH}
        assert await check.check(suspects) == suspects
    assert queue.fresh == {FRESH, *suspects}
    assert len(caplog.records) == 2
    assert await check.check(suspects) == set()


def test_subscribers_hear_of_what_is_touched_or_blocked() -> None:
    """A check-in waits for bytes that are on their way, until they are sent or cannot be."""
    queue, heard = Queue(), list[Inode]()
    queue.changed.subscribe(heard.append)
    queue.touched(DUE, soon=False)
    queue.block(BEHIND, Wait(DUE, "another change goes first"))
    assert heard == [DUE, BEHIND]
