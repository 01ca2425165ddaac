"""An open whose path the kernel may have resolved with an entry that is being dropped is resolved again."""

from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from procorefs.kernel.bridge.notifications import RECENT_S, Notifier
from procorefs.kernel.errno_table import Stale
from procorefs.kernel.node_lookup import NodeLookup
from procorefs.project import Projects
from procorefs.tree.nodes import ROOT, Inode, Node

FILE, THREAD = Inode(5), 77

NODE = cast(Node, SimpleNamespace(inode=FILE))


def lookup_with(notifier: Notifier, *, poll_is_due: bool = False, reachable: bool = True) -> NodeLookup:
    """A mount that has polled just now and in which the file is where it was."""
    project = SimpleNamespace(
        follower=SimpleNamespace(poll_is_due=lambda: poll_is_due),
        view=SimpleNamespace(by_inode=lambda _inode: NODE, reachable=lambda _inode: reachable),
    )
    return NodeLookup(cast(Projects, SimpleNamespace(of=lambda _inode: project)), notifier)


async def test_an_open_is_resolved_again_while_an_entry_is_to_be_dropped() -> None:
    notifier = Notifier()
    lookup = lookup_with(notifier)
    assert await lookup.to_open(FILE, THREAD, None) is NODE
    notifier.entry(ROOT, b"a")
    with pytest.raises(Stale):
        await lookup.to_open(FILE, THREAD, None)
    with lookup.stale_opens.second_try(THREAD) as second_try:
        assert second_try is not None
        assert await lookup.to_open(FILE, THREAD, second_try) is NODE


async def test_an_open_is_answered_now_only_if_nothing_is_waited_for_or_tried_again() -> None:
    quiet, dropping, renewing = Notifier(), Notifier(), Notifier()
    dropping.entry(ROOT, b"a")
    renewing.inode(FILE)
    assert lookup_with(quiet).to_open_now(FILE) is NODE
    assert lookup_with(dropping).to_open_now(FILE) is None
    assert lookup_with(renewing).to_open_now(FILE) is None
    assert lookup_with(renewing).to_open_now(Inode(FILE + 1)) is NODE
    assert lookup_with(quiet, poll_is_due=True).to_open_now(FILE) is None
    assert lookup_with(quiet, reachable=False).to_open_now(FILE) is None
    repeated = lookup_with(quiet)
    repeated.stale_opens.expect(THREAD, opens=True)
    assert repeated.to_open_now(FILE) is None


async def test_an_open_is_resolved_again_just_after_an_entry_was_dropped(mock_clock: MockClock) -> None:
    notifier = Notifier()
    lookup = lookup_with(notifier)
    async with trio.open_nursery() as nursery:
        await nursery.start(notifier.run)
        notifier.entry(ROOT, b"a")
        await notifier.inode(FILE).wait()  # it comes after the entry
        with pytest.raises(Stale):
            await lookup.to_open(FILE, THREAD, None)
        mock_clock.jump(RECENT_S)
        assert await lookup.to_open(FILE, THREAD, None) is NODE
        nursery.cancel_scope.cancel()
