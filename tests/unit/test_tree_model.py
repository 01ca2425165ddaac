"""The tree against a project that changes all the time, in every dialect: in the end they are the same."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from procorefs.limiter import Priority
from procorefs.procore.wire.models import Kind
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.naming.name_rules import encode
from procorefs.tree.nodes import ROOT, Inode, Invalidation, Node
from procorefs.tree.sync.completeness import Completeness
from procorefs.tree.sync.fetcher import Fetcher
from procorefs.tree.sync.full_listing import FullListing
from procorefs.tree.sync.poller import BIN_POLL_S, Poller
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside
from tests.support.tree_project import ROOT_ID, Habits, Project

SECONDS = 9.0
SEEDS = 6


class PolledTree:
    """The parts that follow one project, without their timing."""

    def __init__(self, project: Project, path: Path) -> None:
        self.project = project
        self.path = path
        self.open: set[Inode] = set()
        self.invalidated: list[Invalidation] = []
        self.start()

    def start(self) -> None:
        self.store = TreeStore(self.path)
        self.applier = DocumentApplier(self.store, Inside(self.open), ME)
        self.fetcher = Fetcher(
            self.store, self.project, self.applier, self._invalidate, lambda _documents: None
        )
        completeness = Completeness(self.store)
        self.poller = Poller(self.store, self.fetcher, completeness, self.applier.own)
        self.listing = FullListing(
            self.store,
            self.applier,
            self.fetcher,
            self.poller,
            completeness,
            self._invalidate,
            lambda: Priority.REFRESH,
        )

    def _invalidate(self, changes: Sequence[Invalidation]) -> None:
        self.invalidated += changes

    async def begin(self) -> None:
        await self.fetcher.folder(ROOT, None, listing_pass=0, priority=Priority.INTERACTIVE)

    async def poll(self) -> bool:
        return await self.poller.poll(Priority.REFRESH)

    async def settle(self) -> int:
        """Look, and list anew as long as the totals ask for it; how often they did."""
        relisted = 0
        while not await self.poll():
            relisted += 1
            assert relisted <= 3, "listed again and again"
            await self.listing.run()
        return relisted

    async def walk(self, folder: Inode = ROOT) -> list[Node]:
        """All entries, as a walker meets them: a folder of which not all is known is asked for."""
        node = self.store.by_inode(folder)
        if node is not None and not node.listed:
            await self.fetcher.folder(folder, node.document_id, listing_pass=0, priority=Priority.INTERACTIVE)
        found = []
        for node in self.store.children(folder):
            found.append(node)
            if node.is_folder:
                found += await self.walk(node.inode)
        return found

    async def differences(self) -> list[str]:
        """What the tree shows against what is true."""
        truth = self.project.living()
        shown = {node.document_id: node for node in await self.walk() if node.document_id is not None}
        found = [f"{truth[n].name} ({n}) is missing" for n in truth.keys() - shown.keys()]
        found += [f"{shown[n].shown!r} ({n}) should be gone" for n in shown.keys() - truth.keys()]
        for number, item in truth.items():
            node = shown.get(number)  # type: ignore[call-overload]
            if node is None:
                continue
            parent = self.store.by_inode(node.parent)
            if parent is None or parent.document_id != item.parent:
                found.append(f"{number} lies in {parent}")
            version = item.versions[-1] if item.versions else None
            if (node.version and node.version.id) != (version and version.id):
                found.append(f"{number} has version {node.version}")
            known = self.store.known(node.document_id)
            if known is None or known.name != item.name:
                found.append(f"{number} is called {known}")
            twins = [i for i in truth.values() if (i.parent, i.name) == (item.parent, item.name)]
            if node.shown != encode(item.name) and len(twins) == 1 and b" ~" not in node.shown:
                found.append(f"{number} is shown as {node.shown!r}")
        return found


class Others:
    """People who work in the project."""

    def __init__(self, project: Project, chance: random.Random) -> None:
        self.project = project
        self.chance = chance
        self.untold = False
        """Something was done that no list shows: it moved no time and no total."""

    def act(self) -> None:
        project, chance = self.project, self.chance
        if chance.random() < 0.6:
            project.now_s += chance.choice((0, 1, 1, 3, 60))
        living = list(project.living().values())
        folders = [ROOT_ID, *(i.id for i in living if i.kind is Kind.FOLDER)]
        bin_items = [i for i in project.items.values() if i.deleted and not project.buried(i)]
        deed = chance.choice(
            ("file", "file", "folder", "rename", "move", "delete", "restore", "version", "swap", "purge")
        )
        if deed in ("file", "folder"):
            project.create(Kind(deed), chance.choice(folders), self._name())
        elif deed == "restore" and bin_items:
            item = chance.choice(bin_items)
            if item.parent is not None and item.parent in project.items:
                project.restore(item.id)
        elif deed == "purge" and bin_items and chance.random() < 0.3:
            project.purge(chance.choice(bin_items).id)
            self.untold = True
        elif living:
            self._change(deed, chance.choice(living).id, folders)

    def _change(self, deed: str, number: int, folders: list[int]) -> None:
        project, chance = self.project, self.chance
        item = project.items[number]
        if deed == "rename":
            project.rename(number, self._name())
        elif deed == "delete":
            project.delete(number)
        elif deed == "version" and item.kind is Kind.FILE:
            project.add_version(number)
        elif deed == "move":
            inside = {number, *(i.id for i in project.below(number))}
            target = chance.choice([f for f in folders if f not in inside])
            if target != item.parent:
                project.move(number, target)
                self.untold |= not project.habits.move_touches
        elif deed == "swap":
            twins = [i for i in project.living().values() if i.parent == item.parent and i.id != number]
            if twins:
                other = chance.choice(twins)
                mine, theirs = item.name, other.name
                project.rename(number, theirs)
                project.rename(other.id, mine)

    def _name(self) -> str:
        return self.chance.choice(("a", "b", "c.pdf", "d.pdf", "e", "f")) + str(self.chance.randrange(40))


async def live(seed: int, path: Path) -> None:
    chance = random.Random(seed)
    project = Project(Habits.any(chance))
    others = Others(project, chance)
    for _ in range(chance.choice((0, 5, 60, 250))):
        others.act()
    project.now_s += 100
    polled = PolledTree(project, path)
    meddle = chance.random() < 0.5

    def between() -> None:
        while meddle and chance.random() < 0.4:
            others.act()

    await polled.begin()
    project.before_answer = between
    await polled.listing.run()
    inodes: dict[int, Inode] = {}
    for _ in range(chance.randrange(1, 8)):
        for _ in range(chance.choice((0, 1, 1, 3, 20))):
            others.act()
        if chance.random() < 0.7 and not await polled.poll() and chance.random() < 0.7:
            await polled.listing.run()
        if chance.random() < 0.1:
            polled.store.close()
            polled.start()
    project.before_answer = lambda: None
    project.now_s += 100
    await trio.sleep(BIN_POLL_S + 1)
    await polled.settle()
    differences = await polled.differences()
    if differences and blind(others):
        await polled.listing.run()
        differences = await polled.differences()
    assert not differences, (seed, project.habits, differences)
    inodes = {node.document_id: node.inode for node in await polled.walk() if node.document_id is not None}
    await trio.sleep(10)
    await polled.settle()
    # Quiet: few calls, nothing listed again.
    for _ in range(3):
        project.calls = 0
        assert await polled.poll(), (seed, project.habits)
        assert project.calls <= 2, (seed, project.calls, project.habits)
    for _ in range(2):
        others.act()
    project.now_s += 100
    await polled.settle()
    for node in await polled.walk():
        assert node.document_id is None or inodes.get(node.document_id, node.inode) == node.inode
    polled.store.close()
    TreeStore(path).close()  # passes its own check


def blind(others: Others) -> bool:
    """Whether something may have happened that moved no time, or that made up for something else in the total."""
    habits = others.project.habits
    return others.untold or not (habits.delete_touches and habits.restore_touches)


@pytest.mark.parametrize("start", range(SEEDS))
def test_tree_equals_the_project_in_every_dialect(start: int, tmp_path: Path) -> None:
    ends = time.monotonic() + SECONDS / SEEDS
    seed = start * 1_000_000
    while time.monotonic() < ends:
        trio.run(live, seed, tmp_path / f"{seed}.sqlite", clock=MockClock(autojump_threshold=0))
        (tmp_path / f"{seed}.sqlite").unlink()
        seed += 1
