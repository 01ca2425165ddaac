"""When calls are spent: shared work, folders ahead of the listing, listing anew, and totals that never fit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from procorefs.limiter import LocalLimiter
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.procore.wire.rights import Rights
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, State
from procorefs.tree.sync.follower import Follower, Relisting
from procorefs.tree.sync.full_listing import PAGES_AT_ONCE, Listed
from procorefs.tree.sync.poll_plan import DirectFetches
from procorefs.tree.sync.shared_task import SharedTask
from procorefs.tree.sync_state import KnownRights
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside
from tests.support.tree_project import ROOT_ID, Habits, Project, replace

HOUR_S = 3600.0


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


async def test_who_asks_while_work_runs_waits_for_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    shared, begun, go = SharedTask(), 0, trio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        await go.wait()

    for _ in range(3):
        nursery.start_soon(shared.join, nursery, "key", work)
    with trio.move_on_after(0.01) as scope:
        await shared.join(nursery, "key", work)
    assert scope.cancelled_caught  # and neither the work nor the others are
    assert shared.running("key")
    go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert begun == 1
    assert not shared.running("key")
    await shared.join(nursery, "key", work)
    assert begun == 2


async def test_failing_work_fails_all_who_wait(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    shared, go = SharedTask(), trio.Event()
    failures = []

    async def work() -> None:
        await go.wait()
        raise Unavailable("no network")

    async def ask() -> None:
        try:
            await shared.join(nursery, "key", work)
        except Unavailable as error:
            failures.append(error)

    nursery.start_soon(ask)
    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(failures) == 2


def test_a_walker_soon_waits_for_the_pages() -> None:
    direct = DirectFetches(most=1, refill_s=5.0)
    assert [direct.take(100.0) for _ in range(3)] == [True, False, False]
    assert direct.take(106.0)
    assert not direct.take(106.1)


async def test_listing_anew_waits_longer_each_time_it_is_futile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    store = TreeStore(tmp_path / "tree")

    def relisting() -> Relisting:
        return Relisting(store, unix_time_s=lambda: 1_700_000_000 + trio.current_time())

    waited_s = []
    for _ in range(4):
        relist = relisting()  # a restart is no reason to begin over
        relist.request()
        began_s = trio.current_time()
        await relist.wanted()
        waited_s.append(trio.current_time() - began_s)
        relist.done(Listed(calls=10, found=0))
        assert not relist.due
    assert waited_s == [0, pytest.approx(160, abs=1), pytest.approx(640, abs=1), pytest.approx(2560, abs=1)]
    relist = relisting()
    relist.done(Listed(calls=10, found=3))
    relist.request()
    began_s = trio.current_time()
    await relist.wanted()
    assert trio.current_time() - began_s == pytest.approx(40, abs=1)
    store.close()


@asynccontextmanager
async def follower_of(project: Project, path: Path) -> AsyncIterator[Follower]:
    store = TreeStore(path)
    async with follower_on(store, project) as follower:
        yield follower
    store.close()


@asynccontextmanager
async def follower_on(store: TreeStore, project: Project) -> AsyncIterator[Follower]:
    follower = Follower(
        store,
        DocumentApplier(store, Inside(), ME),
        project,
        LocalLimiter(),
        lambda _changes: None,
        freshness_s=30,
        changed=lambda _documents: None,
        unix_time_s=lambda: 1_700_000_000 + trio.current_time(),
    )
    if not follower.complete:
        await follower.list_root()
    async with trio.open_nursery() as nursery:
        await nursery.start(follower.run)
        yield follower
        nursery.cancel_scope.cancel()


TOTALS = {
    "one too many": lambda count: count + 1,
    "twice as many": lambda count: 2 * count,
    "one too few": lambda count: count - 1,
    "at most a hundred": lambda count: min(count, 100),
    "always the same": lambda _count: 250,
    "none": lambda _count: None,
}


@pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS.keys())
async def test_totals_that_never_fit_cost_few_listings(
    total: object, tmp_path: Path, autojump_clock: MockClock
) -> None:
    project = Project(Habits(total=total, per_page_cap=10))  # type: ignore[arg-type]
    for number in range(300):
        project.now_s += 10
        project.create(Kind.FILE, ROOT_ID, f"{number}.pdf")
    async with follower_of(project, tmp_path / "tree") as follower:
        await follower.listed.wait()
        assert follower.poll_state().documents == 300
        assert project.calls <= 1 + project.pages() + 2 + PAGES_AT_ONCE  # the last ones may be read ahead
        project.calls = 0
        hours = 12
        for number in range(hours * 12):
            await trio.sleep(300)
            project.now_s += 300
            project.create(Kind.FILE, ROOT_ID, f"new {number}.pdf")
            await follower.children_known(ROOT)
            await follower.poll_if_due()
        assert follower.poll_state().documents == 300 + hours * 12
        polls = hours * HOUR_S / 150  # regular ones between
        assert project.calls <= 2.5 * polls + 7 * project.pages()


async def test_deletions_show_at_the_next_poll_although_the_total_is_capped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """And nothing is removed because two listings in a row did not have it: their pages may have shifted unseen."""
    project = Project(Habits(total=lambda count: min(count, 5), per_page_cap=10))
    made = [project.create(Kind.FILE, ROOT_ID, f"{number}.pdf") for number in range(30)]
    store = TreeStore(tmp_path / "tree")
    async with follower_on(store, project) as follower:
        await follower.listed.wait()
        assert store.sync.read().is_total_capped
        await follower.poll_if_due()
        for number in made[:3]:
            project.now_s += 40
            await trio.sleep(40)
            project.delete(number)
            await follower.poll_if_due()
            known = store.known(DocumentId(number))
            assert known is not None
            assert known.node.state is State.DELETED
        assert follower.poll_state().documents == 27
    store.close()


@pytest.mark.parametrize("total", ["right", "none", "capped"])
async def test_deletions_that_no_bin_lists(total: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    """By listings, because of the total or by time, a tenth of the smallest budget at most; no bin is read."""
    habits = Habits(bin_hidden=True, per_page_cap=10)
    totals = {"right": habits.total, "none": lambda _count: None, "capped": lambda count: min(count, 20)}
    project = Project(replace(habits, total=totals[total]))
    top = project.create(Kind.FOLDER, ROOT_ID, "top")
    for number in range(100):
        project.now_s += 10
        last = project.create(Kind.FILE, top if number % 2 else ROOT_ID, f"{number}.pdf")
    store = TreeStore(tmp_path / "tree")
    with store.transaction(), store.sync.change() as state:
        state.rights = KnownRights(1_700_000_000, Rights(see_bin=False))

    async def use(hours: float) -> None:
        for _ in range(int(hours * 12)):
            await trio.sleep(300)
            project.now_s += 300
            await follower.poll_if_due()

    async with follower_on(store, project) as follower:
        await follower.listed.wait()
        await use(1)
        project.calls = 0
        await use(4)
        polls = 4 * HOUR_S / 150
        assert project.calls <= polls + 4 * HOUR_S / 60
        for gone, left in ((last, 100), (top, 50)):
            project.delete(gone)
            await use(2)
            assert follower.poll_state().documents == left
    store.close()


async def test_a_restored_folder_is_asked_for_when_it_is_opened(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    project = Project(Habits(deleted_listed=True, per_page_cap=100))
    top = project.create(Kind.FOLDER, ROOT_ID, "top")
    below = project.create(Kind.FOLDER, top, "below")
    project.create(Kind.FILE, below, "a.pdf")
    project.now_s += 100
    project.delete(top)
    project.now_s += 100
    store = TreeStore(tmp_path / "tree")
    async with follower_on(store, project) as follower:
        await follower.listed.wait()
        assert follower.poll_state().documents == 0
        project.restore(top)
        await trio.sleep(60)
        await follower.poll_if_due()
        names = []
        folder = ROOT
        while folder is not None:
            await follower.children_known(folder)
            children = store.children(folder)
            names += [node.shown for node in children]
            folder = next((node.inode for node in children if node.is_folder), None)  # type: ignore[assignment]
        assert names == [b"top", b"below", b"a.pdf"]
    store.close()


@pytest.mark.parametrize(
    ("folder_reads", "per_page", "most_calls"),
    [(True, 1000, 4), (True, 30, 7), (True, 2, 43), (False, 1000, 43)],
    ids=["one page", "four pages", "more pages than folders", "no such call"],
)
async def test_a_walk_through_a_restored_folder_takes_few_calls(
    tmp_path: Path, autojump_clock: MockClock, *, folder_reads: bool, per_page: int, most_calls: int
) -> None:
    project = Project(Habits(per_page_cap=1000, folder_reads=folder_reads))
    top = project.create(Kind.FOLDER, ROOT_ID, "top")
    for number in range(20):
        outer = project.create(Kind.FOLDER, top, f"outer {number}")
        inner = project.create(Kind.FOLDER, outer, "inner")
        for name in ("a.pdf", "b.pdf", "c.pdf"):
            project.create(Kind.FILE, inner, name)
    store = TreeStore(tmp_path / "tree")
    async with follower_on(store, project) as follower:
        await follower.listed.wait()
        project.now_s += 100
        project.delete(top)
        await trio.sleep(40)
        await follower.poll_if_due()
        assert follower.poll_state().documents == 0
        gone = next(project.below(inner)).id
        project.delete(gone)  # no poll tells of it while its folder is deleted
        project.now_s += 100
        project.restore(top)
        await trio.sleep(40)
        await follower.poll_if_due()
        project.calls, project.habits = 0, replace(project.habits, per_page_cap=per_page)
        found, waiting = 0, [ROOT]
        while waiting:
            folder = waiting.pop()
            await follower.children_known(folder)
            children = store.children(folder)
            found += sum(not node.is_folder for node in children)
            waiting += [node.inode for node in children if node.is_folder]
        assert project.calls <= most_calls
        known = store.known(DocumentId(gone))
        assert known is not None
        assert known.node.parent is None
        assert found == 59
    store.close()


async def test_nothing_is_asked_while_nobody_uses_the_mount(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    project = Project(Habits())
    async with follower_of(project, tmp_path / "tree") as follower:
        await follower.listed.wait()
        project.calls = 0
        await trio.sleep(10 * HOUR_S)
        assert project.calls == 0
        await follower.poll_if_due()
        assert project.calls == 2
