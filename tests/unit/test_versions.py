"""What exists below `.procore`: numbers that meet no other, entries that Linux can hold, and no call too many."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from procorefs.journal.change import Location, Removed
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.limiter import Priority
from procorefs.procore.errors import Forbidden, Unavailable
from procorefs.procore.wire.models import Document, DocumentId, Kind, Version, VersionId
from procorefs.staging.quota import Outlook
from procorefs.staging.staged_record import BaseReader
from procorefs.staging.staging_area import Staging
from procorefs.tree.naming.name_rules import holdable
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.versions.procore_inodes import (
    FIRST_HANDLE,
    FIRST_PROCORE_INODE,
    PROCORE,
    STATUS,
    VERSIONS,
    ProcoreInode,
    folder_for,
    inode_of,
    is_version,
    node_of,
    version_of,
)
from procorefs.versions.version_lists import MOST_TRIES, VersionLists
from procorefs.versions.version_tree import OWN, Entry, NotThere, VersionTree, version_entries
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View
from tests.support.changes import make_change
from tests.support.tree_documents import ListedTree, file, folder

MOST_NODES = 1 << 60
JANUARY_S = 1767323045  # 2026-01-02T03:04:05Z


def made(number: int, identity: int | None = None, *, size_bytes: int = 10, at_s: int = JANUARY_S) -> Version:
    """The version of that number."""
    return Version(VersionId(identity or 100 + number), number, size_bytes, at_s, "https://store.example/x")


# Numbers


@given(st.integers(1024, MOST_NODES), st.integers(1, 2**63 - 1))
def test_numbers_say_what_they_stand_for(node: int, version: int) -> None:
    folder, entry = folder_for(Inode(node)), inode_of(VersionId(version))
    assert node_of(folder) == node
    assert version_of(entry) == version
    assert not is_version(folder)
    assert is_version(entry)
    assert len({PROCORE, VERSIONS, STATUS, folder, entry}) == 5
    assert min(PROCORE, VERSIONS, STATUS, folder) >= FIRST_PROCORE_INODE
    assert folder < FIRST_HANDLE < entry < 2**64
    assert folder_for(ROOT) == VERSIONS


# Entries


def test_an_entry_tells_number_time_and_name() -> None:
    versions = [made(1), made(3, at_s=JANUARY_S + 1), made(1234)]
    assert list(version_entries(versions, "Plän.pdf".encode())) == [
        "v001 2026-01-02T03-04-05 Plän.pdf".encode(),
        "v003 2026-01-02T03-04-06 Plän.pdf".encode(),
        "v1234 2026-01-02T03-04-05 Plän.pdf".encode(),
    ]


def test_versions_without_number_or_time_are_told_apart() -> None:
    versions = [made(0, 7, at_s=0), made(0, 8, at_s=0)]
    assert list(version_entries(versions, b"a.pdf")) == [
        b"v000 1970-01-01T00-00-00 a.pdf",
        b"v000 1970-01-01T00-00-00 a ~8.pdf",
    ]


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    (entry,) = version_entries([made(1, 77)], b"n" * 251 + b".pdf")
    assert entry.startswith(b"v001 2026-01-02T03-04-05 nnn")
    assert entry.endswith(b"n ~77.pdf")
    assert len(entry) == 255


@given(
    st.lists(
        st.builds(
            made,
            st.integers(0, 3),
            st.integers(1, 2**63 - 1),
            at_s=st.sampled_from((0, 1, JANUARY_S, 253_402_300_799)),
        ),
        unique_by=lambda version: version.id,
        max_size=8,
    ),
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=255),
)
def test_every_version_has_an_entry_that_linux_can_hold(versions: list[Version], name: str) -> None:
    entries = version_entries(versions, name.encode()[:255])
    assert list(entries.values()) == versions
    assert all(holdable(entry.decode()) for entry in entries)


# Histories and what lies below


class Procore:
    """Lists versions, and counts how often it did."""

    def __init__(self) -> None:
        self.versions_of: dict[int, list[Version]] = {}
        self.asked: list[int] = []
        self.error: Exception | None = None
        self.gate = trio.Event()
        self.gate.set()
        self.meanwhile: Callable[[], object] = lambda: None

    async def versions(self, file_id: DocumentId, *, priority: Priority) -> list[Version]:
        assert priority is Priority.INTERACTIVE
        self.asked.append(file_id)
        found = list(self.versions_of[file_id])
        self.meanwhile()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


class Follower:
    """Knows everything; looks when told to."""

    def __init__(self) -> None:
        self.looks = 0
        self.listed: list[Inode] = []
        self.found: Callable[[], object] = lambda: None

    def is_listed(self, _folder: Inode) -> bool:
        return True

    async def children_known(self, folder: Inode, *, soon: bool = False) -> None:  # noqa: ARG002
        self.listed.append(folder)

    async def poll_if_due(self) -> None:
        self.looks += 1
        self.found()


class VersionedProject:
    """A tree, a Procore to ask, and what is below `.procore`."""

    def __init__(self, path: Path) -> None:
        self.tree = ListedTree(path / "tree")
        self.staging = Staging(path / "staging", 1 << 20, _nobody_reads, lambda: Outlook.NONE)
        self.journal = Journal(path / "journal")
        calls = InFlightCalls(self.journal, lambda: None, self.tree.store.last_reserved)
        self.view = View(
            self.tree.store, DirtyFiles(self.staging, Durability(self.staging, self.journal)), calls
        )
        self.procore = Procore()
        self.follower = Follower()
        self.histories = VersionLists(self.view, self.procore)
        self.below = VersionTree(self.view, self.follower, self.histories)

    def put(self, number: int, name: str, *versions: Version, **changes: Any) -> Node:
        """A file of the project, with all versions that it has so far."""
        self.procore.versions_of[number] = list(versions)
        return self.look(file(number, name, version=versions[-1] if versions else None, **changes))

    def look(self, document: Document) -> Node:
        self.tree.apply(document)
        return self.tree.of(document.id)

    async def names(self, folder: ProcoreInode) -> list[str]:
        entries = await self.below.listing(folder)
        if entries is None:
            entries = [entry for entry, _ in self.below.children(folder, after=0, limit=-1)]
        return [entry.shown.decode() for entry in entries]

    async def at(self, *names: str) -> Entry | None:
        entry: Entry | None = OWN
        for name in names:
            entry = await self.below.child(entry.inode, name.encode()) if entry is not None else None
        return entry


def _nobody_reads(version: Version) -> BaseReader:
    raise AssertionError(f"the bytes of version {version.id} were wanted")


@asynccontextmanager
async def running(project: VersionedProject) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(project.histories.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[VersionedProject]:
    made = VersionedProject(tmp_path)
    yield made
    made.staging.close()
    made.journal.close()
    made.tree.store.close()


async def test_a_list_costs_one_call_until_there_is_a_newer_version(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    async with running(project):
        for _ in range(2):
            assert [v.number for v in await project.histories.of(plan.inode)] == [1, 2]
        assert project.histories.known(plan.inode) is not None
        project.put(10, "b.pdf", made(1), made(2))  # renamed: the same bytes
        await project.histories.of(plan.inode)
        assert project.procore.asked == [10]
        project.put(10, "b.pdf", made(1), made(2), made(3))
        assert project.histories.known(plan.inode) is None
        assert [v.number for v in await project.histories.of(plan.inode)] == [1, 2, 3]
    assert project.procore.asked == [10, 10]


async def test_a_list_that_knows_more_than_the_tree_still_holds_when_the_tree_catches_up(
    project: VersionedProject,
) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    project.procore.versions_of[10].append(made(3))
    async with running(project):
        assert len(await project.histories.of(plan.inode)) == 3
        assert len(await project.histories.of(plan.inode)) == 3
        project.put(10, "a.pdf", made(1), made(2), made(3))
        assert len(await project.histories.of(plan.inode)) == 3
    assert project.procore.asked == [10]


async def test_a_version_that_comes_while_the_list_is_asked_for_is_in_it(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))

    def replace_once() -> None:
        project.procore.meanwhile = lambda: None
        project.put(10, "a.pdf", made(1), made(2), made(3))

    project.procore.meanwhile = replace_once
    async with running(project):
        assert len(await project.histories.of(plan.inode)) == 3
    assert project.procore.asked == [10, 10]


async def test_a_file_that_never_rests_is_not_asked_for_for_ever(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    numbers = iter(range(3, 100))

    def replace() -> None:
        project.put(10, "a.pdf", made(1), made(next(numbers)))

    project.procore.meanwhile = replace
    async with running(project):
        with pytest.raises(Unavailable):
            await project.histories.of(plan.inode)
    assert len(project.procore.asked) == MOST_TRIES


async def test_the_first_version_is_the_only_one(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1, size_bytes=77))
    async with running(project):
        (only,) = await project.histories.of(plan.inode)
    assert only.size_bytes == 77
    assert project.procore.asked == []


async def test_many_who_ask_share_a_call_and_may_leave(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    project.procore.gate = trio.Event()
    counts: list[int] = []

    async def ask() -> None:
        counts.append(len(await project.histories.of(plan.inode)))

    async with running(project), trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        project.procore.gate.set()
    assert counts == [2, 2, 2]
    assert project.procore.asked == [10]


async def test_a_failure_is_not_remembered(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    project.procore.error = Forbidden("no")
    async with running(project):
        with pytest.raises(Forbidden):
            await project.histories.of(plan.inode)
        project.procore.error = None
        assert len(await project.histories.of(plan.inode)) == 2


async def test_a_newest_version_that_cannot_be_read_hides_no_other(project: VersionedProject) -> None:
    project.procore.versions_of[10] = [made(1), made(2)]
    plan = project.look(file(10, "a.pdf", version=None, defect="its size is -1"))
    async with running(project):
        for _ in range(2):
            assert len(await project.histories.of(plan.inode)) == 2
    assert project.procore.asked == [10]


async def test_a_version_that_is_listed_twice_shows_once(project: VersionedProject) -> None:
    project.put(10, "a.pdf", made(1), made(2), made(2))
    async with running(project):
        plan = await project.at("versions", "a.pdf")
        assert plan is not None
        assert len(await project.names(plan.inode)) == 2


async def test_what_is_not_in_procore_yet_has_no_versions(project: VersionedProject) -> None:
    new = make_change(Inode(5000), Kind.FILE, Location(ROOT, "new.pdf"), created_at_s=1.0)
    project.view.show(new)
    async with running(project):
        entry = await project.at("versions", "new.pdf")
        assert entry is not None
        assert entry.is_folder
        assert await project.names(entry.inode) == []
    assert project.procore.asked == []


async def test_a_file_that_took_over_a_document_has_its_versions(project: VersionedProject) -> None:
    """What is written here under another document's name will be its next version."""
    plan = project.put(10, "a.pdf", made(1), made(2))
    project.view.show(
        make_change(plan.inode, Kind.FILE, Location(ROOT, "renamed.pdf"), document=DocumentId(10))
    )
    async with running(project):
        assert await project.at("versions", "a.pdf") is None
        entry = await project.at("versions", "renamed.pdf")
        assert entry is not None
        assert await project.names(entry.inode) == [
            "v001 2026-01-02T03-04-05 renamed.pdf",
            "v002 2026-01-02T03-04-05 renamed.pdf",
        ]


async def test_versions_shows_the_tree_and_costs_no_calls(project: VersionedProject) -> None:
    project.look(folder(20, "Plans"))
    for number in range(30, 35):
        project.look(file(number, f"{number}.pdf", 20))
    async with running(project):
        assert await project.names(PROCORE) == ["status", "versions"]
        assert await project.names(VERSIONS) == ["Plans"]
        plans = await project.at("versions", "Plans")
        assert plans is not None
        assert await project.names(plans.inode) == [f"{number}.pdf" for number in range(30, 35)]
        some = list(project.below.children(plans.inode, after=project.tree.of(31).inode, limit=2))
        assert [entry.shown for entry, _ in some] == [b"32.pdf", b"33.pdf"]
        assert [after for _, after in some] == project.tree.inodes((32, 33))
        assert await project.at("versions", "Plans", "35.pdf") is None
        assert await project.at("versions", ".procore") is None
        assert await project.at("nothing") is None
        assert project.below.above(plans) == VERSIONS
    assert project.procore.asked == []


async def test_an_entry_is_found_by_its_path_and_then_by_its_number(project: VersionedProject) -> None:
    project.put(10, "a.pdf", made(1, size_bytes=5), made(2, size_bytes=6))
    shown = "v001 2026-01-02T03-04-05 a.pdf"
    async with running(project):
        with pytest.raises(NotThere):
            project.below.find(inode_of(VersionId(101)))
        entry = await project.at("versions", "a.pdf", shown)
        assert entry is not None
        assert not entry.is_folder
        assert project.below.find(entry.inode) == entry
        assert project.below.path(entry) == f".procore/versions/a.pdf/{shown}"
        assert project.below.above(entry) == folder_for(project.tree.of(10).inode)
        before = project.follower.looks
        assert await project.at("versions", "a.pdf", shown) == entry
        assert project.follower.looks == before  # what is known is no reason to look
    assert project.procore.asked == [10]


async def test_a_version_that_is_not_known_is_looked_for(project: VersionedProject) -> None:
    project.put(10, "a.pdf", made(1))
    project.follower.found = lambda: project.put(10, "a.pdf", made(1), made(2))
    async with running(project):
        assert await project.at("versions", "a.pdf", "v002 2026-01-02T03-04-05 a.pdf") is not None
        assert await project.at("versions", "a.pdf", "v003 2026-01-02T03-04-05 a.pdf") is None
    assert project.procore.asked == [10]


async def test_what_was_removed_is_not_there(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    async with running(project):
        folder = await project.at("versions", "a.pdf")
        version = await project.at("versions", "a.pdf", "v001 2026-01-02T03-04-05 a.pdf")
        assert folder is not None
        assert version is not None
        project.view.show(make_change(plan.inode, Kind.FILE, Removed(), document=DocumentId(10)))
        for gone in (folder, version):
            with pytest.raises(NotThere):
                project.below.find(gone.inode)
        with pytest.raises(NotThere):
            await project.below.listing(folder.inode)
        assert await project.names(VERSIONS) == []


async def test_what_turns_out_to_be_elsewhere_is_looked_up_again(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1))
    plans = project.look(folder(20, "Plans"))
    async with running(project):
        project.follower.found = lambda: project.look(file(10, "b.pdf", 20, version=made(1)))
        with pytest.raises(NotThere):
            await project.below.listing(folder_for(plan.inode))
        assert await project.names(folder_for(plan.inode)) == ["v001 2026-01-02T03-04-05 b.pdf"]
        project.follower.found = lambda: project.look(folder(20, "Drawings"))
        with pytest.raises(NotThere):
            await project.below.listing(folder_for(plans.inode))


async def test_a_file_that_goes_while_its_versions_are_listed(project: VersionedProject) -> None:
    plan = project.put(10, "a.pdf", made(1), made(2))
    gone = msgspec.structs.replace(file(10, "a.pdf"), deleted=True)
    project.procore.meanwhile = lambda: project.tree.apply(gone)
    async with running(project):
        with pytest.raises(NotThere):
            await project.below.listing(folder_for(plan.inode))
