"""What leaves the tree, and on what evidence: a listing that missed a document is none."""

import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from procorefs.limiter import LocalLimiter
from procorefs.procore.errors import Forbidden
from procorefs.procore.wire.models import Document, DocumentId, Kind, Page
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from tests.support.local_work import ME, Inside
from tests.support.tree_project import ROOT_ID, Habits, Project

FILES = 300
PAGE = 20
SETTLED_S = 3 * 3600


class SlowProject(Project):
    """Requests and answers take their time on the way, so that pages overtake each other and calls of ours."""

    def __init__(self, habits: Habits, seed: int = 0) -> None:
        super().__init__(habits)
        self.chance = random.Random(seed)
        self.is_bin_forbidden = False
        self.listed_pages = 0
        self.folder_calls = 0

    async def way(self) -> None:
        await trio.sleep(self.chance.uniform(0.01, 0.3))

    async def documents_page(self, **wish: Any) -> Page[Document]:
        await self.way()
        if wish.get("in_recycle_bin") and self.is_bin_forbidden:
            self.calls += 1
            raise Forbidden("no permission", status=403)
        self.listed_pages += not wish.get("in_recycle_bin")
        page = await super().documents_page(**wish)
        await self.way()
        return page

    async def folder(self, folder_id: DocumentId | None, **wish: Any) -> Any:
        await self.way()
        self.folder_calls += 1
        listing = await super().folder(folder_id, **wish)
        await self.way()
        return listing


class Mount:
    """A follower and what this mount makes itself."""

    def __init__(self, project: SlowProject, path: Path) -> None:
        self.project = project
        self.store = TreeStore(path)
        self.applier = DocumentApplier(self.store, Inside(), ME)
        self.follower = Follower(
            self.store,
            self.applier,
            project,
            LocalLimiter(),
            lambda _changes: None,
            freshness_s=30,
            changed=lambda _documents: None,
            unix_time_s=lambda: 1_700_000_000 + trio.current_time(),
        )

    async def make(self, kind: Kind, parent: Inode, name: str) -> Inode:
        """As the outbox makes a document."""
        project, own = self.project, self.applier.own
        with self.store.transaction():
            inode = self.store.reserve(1)
        node = self.store.by_inode(parent)
        assert node is not None
        parent_id = ROOT_ID if parent == ROOT else node.document_id
        assert parent_id is not None
        with own.call(None) as request:
            await project.way()
            request.sent()
            await project.way()
            number = project.create(kind, parent_id, name)
            document = project.document(project.items[number])
            await project.way()
            own.order.is_about(request, document.id)
            own.put(document, inode, parent, None)
        return inode

    async def use(self, seconds: float, step_s: float = 40.0) -> None:
        """Somebody works with the mount for so long."""
        ends = trio.current_time() + seconds
        while trio.current_time() < ends:
            await trio.sleep(step_s)
            self.project.now_s += int(step_s)
            await self.follower.poll_if_due()

    def shown(self) -> set[int]:
        """The documents that a path leads to."""
        found: set[int] = set()
        folders = [ROOT]
        while folders:
            for node in self.store.children(folders.pop()):
                assert node.document_id is not None
                found.add(node.document_id)
                if node.is_folder:
                    folders.append(node.inode)
        return found


@asynccontextmanager
async def mounted(project: SlowProject, path: Path) -> AsyncIterator[Mount]:
    mount = Mount(project, path)
    if not mount.follower.complete:
        await mount.follower.list_root()
    async with trio.open_nursery() as nursery:
        await nursery.start(mount.follower.run)
        yield mount
        nursery.cancel_scope.cancel()
    mount.store.close()


def project_of(documents: int, *, seed: int = 0, **habits: Any) -> SlowProject:
    project = SlowProject(Habits(per_page_cap=PAGE, **habits), seed)
    folder = ROOT_ID
    for number in range(documents):
        if number % 25 == 0:
            folder = project.create(Kind.FOLDER, ROOT_ID, f"folder {number}")
        project.create(Kind.FILE, folder, f"{number}.pdf")
        project.now_s += 3
    return project


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_written_during_the_first_listing_stays(
    tmp_path: Path, seed: int, autojump_clock: MockClock
) -> None:
    project = project_of(200, seed=seed, tells_time=seed % 2 == 0)
    async with mounted(project, tmp_path / "tree") as mount:
        folder = await mount.make(Kind.FOLDER, ROOT, "new")
        made: set[Inode] = set()

        async def write(numbers: range) -> None:
            for number in numbers:
                made.add(await mount.make(Kind.FILE, folder, f"{number}.txt"))
                project.now_s += number % 5 == 0

        async with trio.open_nursery() as writers:
            for first in range(0, FILES, 60):
                writers.start_soon(write, range(first, first + 60))
            await mount.follower.listed.wait()
            assert [inode for inode in made if not mount.store.reachable(inode)] == []
        assert [inode for inode in made if not mount.store.reachable(inode)] == []
        await mount.use(1500)
        assert mount.shown() == project.living().keys()


@pytest.mark.parametrize("seed", range(4))
async def test_a_deletion_that_only_the_total_tells_is_found_in_few_calls(
    tmp_path: Path, seed: int, autojump_clock: MockClock
) -> None:
    project = project_of(200, seed=seed, delete_touches=False)
    project.is_bin_forbidden = True
    async with mounted(project, tmp_path / "tree") as mount:
        await mount.follower.listed.wait()
        await mount.use(400)
        assert mount.shown() == project.living().keys()
        files = [item.id for item in project.living().values() if item.kind is Kind.FILE]
        for number in project.chance.sample(files, 3):
            project.delete(number)
        project.calls = 0
        await mount.use(400)
        assert mount.shown() == project.living().keys()
        polls = 2 * 400 / 40
        assert project.calls <= 2 * polls + 2 * project.pages() + 3


async def test_a_folder_that_was_deleted_with_much_in_it_costs_one_call(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    project = project_of(200, delete_touches=False, below_deleted="hidden")
    project.is_bin_forbidden = True
    async with mounted(project, tmp_path / "tree") as mount:
        await mount.follower.listed.wait()
        await mount.use(400)
        project.delete(next(item.id for item in project.living().values() if item.kind is Kind.FOLDER))
        project.folder_calls = 0
        await mount.use(400)
        assert mount.shown() == project.living().keys()
        assert project.folder_calls == 1


async def test_deletions_all_over_the_project_are_found_by_whole_listings(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    project = project_of(1000, delete_touches=False)
    project.is_bin_forbidden = True
    async with mounted(project, tmp_path / "tree") as mount:
        await mount.follower.listed.wait()
        await mount.use(400)
        files = [item.id for item in project.living().values() if item.kind is Kind.FILE]
        for number in files[::5]:
            project.delete(number)
        project.calls = project.folder_calls = 0
        await mount.use(SETTLED_S)
        assert mount.shown() == project.living().keys()
        polls = SETTLED_S / 40 + SETTLED_S / 180
        assert project.calls <= 2 * polls + 3 * project.pages()
        assert project.folder_calls <= math.ceil(len(files) / PAGE)


async def test_a_page_that_lacks_documents_takes_none_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A list that leaves some out, with a total that fits: the folders have them."""
    project = project_of(100)
    async with mounted(project, tmp_path / "tree") as mount:
        await mount.follower.listed.wait()
        whole = mount.shown()
        project.left_out = {item.id for item in list(project.living().values())[::9]}
        project.now_s += 100
        project.create(Kind.FILE, ROOT_ID, "more.pdf")
        await mount.use(400)
        assert whole <= mount.shown()
