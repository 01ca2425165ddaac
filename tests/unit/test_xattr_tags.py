"""Who bears which tag: asked for in few calls, believed for a while, never older than what we know better."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import Forbidden, NotFound, Unreachable
from procorefs.procore.wire.models import DocumentId, Tag, TagId
from procorefs.xattr.tags import Tags

AGE_S = 300.0


class Project(ProjectMetadata):
    """Procore's side."""

    def __init__(self, tags: int, bearers: dict[int, set[int]] | None = None) -> None:
        self.tags = {number: f"tag {number}" for number in range(1, tags + 1)}
        self.bearers = {number: set((bearers or {}).get(number, ())) for number in self.tags}
        self.calls: Counter[str] = Counter()
        self.fails: Exception | None = None
        self.before_answer: Callable[[], None] = lambda: None
        self.call_s = 0.0

    async def _call(self, name: str) -> None:
        self.calls[name] += 1
        await trio.sleep(self.call_s)
        if self.fails is not None:
            raise self.fails

    async def document_tags(self, document_id: DocumentId) -> list[Tag]:
        await self._call("one")
        found = [Tag(TagId(n), self.tags[n]) for n, bearers in self.bearers.items() if document_id in bearers]
        self.before_answer()
        return found

    async def project_tags(self) -> list[Tag]:
        await self._call("project")
        return [Tag(TagId(number), name) for number, name in self.tags.items()]

    async def tagged(self, tag_id: TagId) -> set[DocumentId]:
        await self._call("tag")
        found = {DocumentId(document) for document in self.bearers[tag_id]}
        self.before_answer()
        return found

    async def add_tag(self, document_id: DocumentId, name: str) -> Tag:
        await self._call("add")
        number = next((n for n, known in self.tags.items() if known == name), len(self.tags) + 1)
        self.tags[number] = name
        self.bearers.setdefault(number, set()).add(document_id)
        return Tag(TagId(number), name)

    async def remove_tag(self, document_id: DocumentId, tag_id: TagId) -> None:
        await self._call("remove")
        if document_id not in self.bearers[tag_id]:
            raise NotFound("it does not bear it")
        self.bearers[tag_id].discard(document_id)


@asynccontextmanager
async def asking(project: Project, age_s: float = AGE_S) -> AsyncIterator[Tags]:
    tags = Tags(project, lambda: age_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(tags.run)
        yield tags
        nursery.cancel_scope.cancel()


async def names(tags: Tags, document: int) -> list[str]:
    return sorted(tag.name for tag in await tags.of(DocumentId(document)))


async def test_a_project_without_tags_costs_one_call(autojump_clock: MockClock) -> None:
    project = Project(0)
    async with asking(project) as tags:
        for document in range(2000):
            assert await names(tags, document) == []
    assert project.calls == {"project": 1}


async def test_one_document_costs_two_calls_at_most(autojump_clock: MockClock) -> None:
    project = Project(30, {7: {5}})
    async with asking(project) as tags:
        assert await names(tags, 5) == ["tag 7"]
        assert await names(tags, 5) == ["tag 7"]
    assert project.calls == {"project": 1, "one": 1}


@pytest.mark.parametrize("tag_count", [1, 2, 12, 100])
async def test_many_documents_cost_no_more_than_twice_the_tags(
    tag_count: int, autojump_clock: MockClock
) -> None:
    bearers = {number: {number, 500 + number} for number in range(1, tag_count + 1)}
    project = Project(tag_count, bearers)
    async with asking(project) as tags:
        for document in range(1, 2001):
            expected = [f"tag {n}" for n, borne in bearers.items() if document in borne]
            assert await names(tags, document) == sorted(expected)
    assert project.calls.total() <= 2 * tag_count + 1


async def test_many_who_ask_at_once_share_the_calls(autojump_clock: MockClock) -> None:
    project = Project(5, {1: {3}})
    project.call_s = 0.1
    async with asking(project) as tags, trio.open_nursery() as nursery:
        for document in range(200):
            nursery.start_soon(names, tags, document)
    assert project.calls.total() <= 11


async def test_answers_age(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    async with asking(project) as tags:
        assert await names(tags, 5) == ["tag 1"]
        project.bearers[2].add(5)
        assert await names(tags, 5) == ["tag 1"]
        await trio.sleep(AGE_S + 1)
        assert await names(tags, 5) == ["tag 1", "tag 2"]


async def test_answers_that_take_longer_than_they_are_believed_are_answers_all_the_same(
    autojump_clock: MockClock,
) -> None:
    project = Project(3, {1: {5}})
    project.call_s = 10.0
    async with asking(project, age_s=1.0) as tags:
        with trio.fail_after(100):
            assert await names(tags, 5) == ["tag 1"]


@pytest.mark.parametrize("tag_count", [0, 1, 3])
async def test_a_document_of_which_a_look_tells_is_asked_about_anew(
    tag_count: int, autojump_clock: MockClock
) -> None:
    project = Project(tag_count)
    async with asking(project) as tags:
        for document in range(10):
            assert await names(tags, document) == []
        await trio.sleep(1)
        await project.add_tag(DocumentId(5), "new")
        before = project.calls.total()
        tags.doubt([DocumentId(5)])
        assert await names(tags, 5) == ["new"]
        assert await names(tags, 6) == []
        assert project.calls.total() - before <= 1 + tag_count + 1


async def test_what_we_changed_is_known_without_asking(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    async with asking(project) as tags:
        await tags.make(DocumentId(5), ["tag 2", "own"])
        assert project.calls == {"project": 1, "one": 1, "add": 2, "remove": 1}
        assert await names(tags, 5) == ["own", "tag 2"]
        await tags.make(DocumentId(5), ["own", "tag 2"])
        assert project.calls.total() == 5
        tags.made(DocumentId(9))
        await tags.make(DocumentId(9), ["tag 1"])
        assert project.calls.total() == 6


async def test_an_answer_asked_for_before_our_change_does_not_undo_it(autojump_clock: MockClock) -> None:
    project = Project(9, {1: {5}})
    project.call_s = 1.0
    async with asking(project) as tags, trio.open_nursery() as nursery:
        assert await names(tags, 4) == []
        nursery.start_soon(names, tags, 5)
        await trio.sleep(0.5)
        tags.made(DocumentId(5))
        await trio.sleep(3)
        assert await names(tags, 5) == []


async def test_a_tag_that_somebody_else_took_off(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    async with asking(project) as tags:
        assert await names(tags, 5) == ["tag 1"]
        project.bearers[1].clear()
        await tags.make(DocumentId(5), [])
        assert await names(tags, 5) == []


async def test_tags_that_are_not_to_be_had_are_none(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    project.fails = Forbidden("no permission")
    async with asking(project) as tags:
        assert await names(tags, 5) == []
        assert await names(tags, 6) == []
    assert project.calls.total() == 1


async def test_without_procore_the_last_known_are_served(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    async with asking(project) as tags:
        assert await names(tags, 5) == ["tag 1"]
        project.fails = Unreachable("no network")
        await trio.sleep(AGE_S + 1)
        assert await names(tags, 5) == ["tag 1"]
        with pytest.raises(Unreachable):
            await names(tags, 6)


async def test_a_closed_budget_makes_nobody_wait_who_can_be_answered(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    closed = False
    async with trio.open_nursery() as nursery:
        tags = Tags(project, lambda: AGE_S, would_wait=lambda: closed)
        await nursery.start(tags.run)
        assert await names(tags, 5) == ["tag 1"]
        await trio.sleep(AGE_S + 1)
        closed, calls = True, project.calls.total()
        assert await names(tags, 5) == ["tag 1"]
        assert project.calls.total() == calls
        nursery.cancel_scope.cancel()


async def test_somebody_who_can_not_wait_has_them_asked_for(autojump_clock: MockClock) -> None:
    project = Project(3, {1: {5}})
    async with asking(project) as tags:
        assert tags.known(DocumentId(5)) is None
        tags.ask_soon(DocumentId(5))
        await trio.sleep(1)
        assert [tag.name for tag in tags.known(DocumentId(5)) or ()] == ["tag 1"]


async def test_what_is_to_be_changed_is_asked_for_although_others_need_not_wait(
    autojump_clock: MockClock,
) -> None:
    """An earlier call, whose answer was lost, has set a tag; the budget would make a reader wait."""
    project = Project(2, {1: {5}})
    tags = Tags(project, lambda: AGE_S, would_wait=lambda: True)
    async with trio.open_nursery() as nursery:
        await nursery.start(tags.run)
        assert await names(tags, 5) == ["tag 1"]
        project.bearers[2].add(5)
        await trio.sleep(1)
        tags.doubt([DocumentId(5)])
        assert await names(tags, 5) == ["tag 1"]
        await tags.make(DocumentId(5), ["tag 1"])
        assert project.bearers == {1: {5}, 2: set()}
        assert await tags.bears(DocumentId(5), ["tag 1"])
        nursery.cancel_scope.cancel()
