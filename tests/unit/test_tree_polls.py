"""Polls when many documents have the same second: one that is renamed in that second does not move in the list."""

from pathlib import Path
from typing import Self

import pytest
import trio
from trio.testing import MockClock

from procorefs.limiter import Priority
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT
from procorefs.tree.sync import poll_plan
from procorefs.tree.sync.completeness import Completeness
from procorefs.tree.sync.fetcher import Fetcher
from procorefs.tree.sync.full_listing import FullListing
from procorefs.tree.sync.poller import Poller
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside
from tests.support.tree_project import ROOT_ID, Habits, Project

MANY = 500
BIN = 1
"""The call for the recycle bin: as long as nothing was deleted, nobody knows whether the total would tell."""


class PolledTree:
    """A project of many files of one second, listed in that second or later."""

    def __init__(self, path: Path, habits: Habits) -> None:
        self.project = Project(habits)
        self.files = [self.project.create(Kind.FILE, ROOT_ID, f"{n}.pdf") for n in range(MANY)]
        self.store = TreeStore(path)
        applier = DocumentApplier(self.store, Inside(), ME)
        fetcher = Fetcher(self.store, self.project, applier, lambda _changes: None, lambda _documents: None)
        completeness = Completeness(self.store)
        self.poller = Poller(self.store, fetcher, completeness, applier.own)
        self.fetcher = fetcher
        self.listing = FullListing(
            self.store,
            applier,
            fetcher,
            self.poller,
            completeness,
            lambda _changes: None,
            lambda: Priority.REFRESH,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    async def list(self) -> None:
        await self.fetcher.folder(ROOT, None, listing_pass=0, priority=Priority.REFRESH)
        await self.listing.run()

    async def pass_s(self, seconds: int) -> None:
        """By both clocks."""
        await trio.sleep(seconds)
        self.project.now_s += seconds

    async def poll(self, priority: Priority = Priority.INTERACTIVE) -> int:
        """The calls that it cost."""
        self.project.calls = 0
        assert await self.poller.poll(priority)
        return self.project.calls

    def name(self, number: int) -> str:
        known = self.store.known(DocumentId(number))
        assert known is not None
        return known.name


@pytest.fixture(params=[True, False], ids=["dated", "undated"])
def tells_time(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("ties_upwards", [True, False])
async def test_a_rename_in_the_second_of_many_others_shows(
    tmp_path: Path, ties_upwards: bool, tells_time: bool, autojump_clock: MockClock
) -> None:
    with PolledTree(
        tmp_path / "tree", Habits(per_page_cap=2000, ties_upwards=ties_upwards, tells_time=tells_time)
    ) as tree:
        await tree.list()
        for turn, number in enumerate((tree.files[0], tree.files[MANY // 2], tree.files[-1])):
            tree.project.rename(number, f"renamed {turn}.pdf")
            assert await tree.poll() == 1 + BIN
            assert tree.name(number) == f"renamed {turn}.pdf"


@pytest.mark.parametrize("ties_upwards", [True, False])
async def test_what_hides_among_more_than_a_page_is_met_by_the_regular_poll(
    tmp_path: Path, ties_upwards: bool, tells_time: bool, autojump_clock: MockClock
) -> None:
    with PolledTree(
        tmp_path / "tree", Habits(per_page_cap=100, ties_upwards=ties_upwards, tells_time=tells_time)
    ) as tree:
        await tree.list()
        renamed = tree.files[0], tree.files[MANY // 2], tree.files[-1]
        for number in renamed:
            tree.project.rename(number, f"renamed {number}.pdf")
        for _ in range(3):
            assert await tree.poll() == 1 + BIN  # who waits does not pay for all of them
            await tree.pass_s(1)
        newer = tree.project.create(Kind.FILE, ROOT_ID, "newer.pdf")
        await tree.pass_s(60)
        assert await tree.poll() <= 2 + BIN
        assert tree.name(newer) == "newer.pdf"
        assert await tree.poll(Priority.REFRESH) <= MANY / 100 + 1 + BIN
        assert [tree.name(number) for number in renamed] == [f"renamed {number}.pdf" for number in renamed]
        await tree.pass_s(60)
        for priority in (Priority.REFRESH, Priority.INTERACTIVE):
            assert await tree.poll(priority) == 1 + BIN  # nothing can appear among them any more


async def test_a_new_folder_of_which_not_all_was_read_is_asked_for(
    tmp_path: Path, tells_time: bool, autojump_clock: MockClock
) -> None:
    with PolledTree(tmp_path / "tree", Habits(per_page_cap=100, tells_time=tells_time)) as tree:
        old = tree.project.create(Kind.FOLDER, ROOT_ID, "old")
        await tree.list()
        new = tree.project.create(Kind.FOLDER, ROOT_ID, "new")
        tree.project.items[new].id = 5  # ahead of all others of its second
        tree.project.items[5] = tree.project.items.pop(new)
        tree.project.create(Kind.FILE, 5, "inside.pdf")
        await tree.poller.poll(Priority.INTERACTIVE)  # the total tells that there is more
        for number, listed in ((5, False), (old, True)):
            known = tree.store.known(DocumentId(number))
            assert known is not None
            assert known.node.listed is listed


async def test_many_that_were_old_when_they_were_listed_are_not_read_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    with PolledTree(tmp_path / "tree", Habits(per_page_cap=100, tells_time=True)) as tree:
        tree.project.now_s += poll_plan.OVERLAP_S + 1
        await tree.list()
        assert await tree.poll() == 1 + BIN
        assert await tree.poll(Priority.REFRESH) == 1 + BIN
