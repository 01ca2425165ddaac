"""Who bears which tag: Procore's lists do not say, so it is asked for, in few calls, and believed for a while.

    tags of a document? ─▶ a fresh answer ─────────────────────────────────────▶ no call
                        ─▶ the project's tags (1 call) ─▶ there are none ──────▶ none for everybody
                        ─▶ few documents were asked about so far ──────────────▶ this document (1 call)
                        ─▶ else ─▶ who bears each tag (1 call a tag) ──────────▶ an answer for everybody

Documents are asked about one by one until that has cost as much as asking about every tag would: so no question, small
or large, costs more than twice the least. An answer counts from the moment when it was asked for: what we changed
since, and what a look showed to be changed, it does not answer.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import cachetools
import trio

from procorefs.procore.errors import NotFound, ProcoreError, is_unavailable_here
from procorefs.procore.wire.models import DocumentId, Tag, TagId
from procorefs.tree.sync.shared_task import SharedTask

log = logging.getLogger(__name__)

LOOKS_PER_AGE = 10
"""Tags change seldom and cost more to ask for than a look: they are believed so much longer."""

SHORTEST_AGE_S = 1.0
"""One `getfattr` asks several times about one document."""

REMEMBERED = 100_000

_EVERYBODY = "everybody"
_PROJECT = "project"


class TagCalls(Protocol):
    """What this needs of the client; raises ProcoreError."""

    async def document_tags(self, document_id: DocumentId) -> list[Tag]: ...

    async def project_tags(self) -> list[Tag]: ...

    async def tagged(self, tag_id: TagId) -> set[DocumentId]: ...

    async def add_tag(self, document_id: DocumentId, name: str) -> Tag: ...

    async def remove_tag(self, document_id: DocumentId, tag_id: TagId) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Tags of a document, or of the project."""

    asked_s: float
    """It says nothing of what was changed later."""
    tags: list[Tag]
    got_s: float = field(default_factory=trio.current_time)
    """From here on it is believed for its age, however long the calls took."""


@dataclass(frozen=True, slots=True)
class Census:
    """Who bears tags; everybody else bears none."""

    asked_s: float
    borne: dict[DocumentId, list[Tag]]
    got_s: float = field(default_factory=trio.current_time)

    def answer(self, document: DocumentId) -> Answer:
        return Answer(self.asked_s, self.borne.get(document, []), self.got_s)


def tags_age_s(freshness_s: float) -> float:
    return max(LOOKS_PER_AGE * freshness_s, SHORTEST_AGE_S)


class Tags:
    """The project's tags as far as they are known; `run` must run."""

    def __init__(
        self, calls: TagCalls, age_s: float, *, would_wait: Callable[[], bool] = lambda: False
    ) -> None:
        self._calls = calls
        self._age_s = age_s
        self._would_wait = would_wait
        self._nursery: trio.Nursery | None = None
        self._shared = SharedTask()
        self._project: Answer | None = None
        self._census: Census | None = None
        self._one_by_one: cachetools.LRUCache[DocumentId, Answer] = cachetools.LRUCache(REMEMBERED)
        self._doubted: dict[DocumentId, float] = {}
        """When a look showed something new of the document: older answers may be wrong."""
        self._spent = 0
        """Calls for single documents since everybody was asked for, or the project's tags anew."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Questions

    def known(self, document: DocumentId) -> list[Tag] | None:
        """The tags of a document if they need not be asked for."""
        answer = self._newest(document)
        if answer is None or self._is_old(answer) or answer.asked_s < self._doubted_at_s(document):
            return None
        return answer.tags

    def _is_old(self, answer: Answer) -> bool:
        return trio.current_time() - answer.got_s > self._age_s

    def _doubted_at_s(self, document: DocumentId) -> float:
        return self._doubted.get(document, float("-inf"))

    async def of(self, document: DocumentId) -> list[Tag]:
        """The tags of a document; those last known when they can't be asked for, or the budget would make it wait.

        Raises ProcoreError when none are known.
        """
        if self.known(document) is None and self._would_wait() and (answer := self._newest(document)):
            return answer.tags
        try:
            return await self._asked(document)
        except ProcoreError as error:
            answer = self._newest(document)
            if answer is None:
                raise
            log.info("The tags last known are served: %s", error)
            return answer.tags

    async def _asked(self, document: DocumentId) -> list[Tag]:
        """The same, and asked for whenever they are not known for certain. Raises ProcoreError."""
        while (tags := self.known(document)) is None:
            await self._ask(document)
        return tags

    async def bears(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether a document bears just these. Raises ProcoreError."""
        return {tag.name for tag in await self._asked(document)} == set(wanted)

    def ask_soon(self, document: DocumentId) -> None:
        """Have them asked for by somebody who can't wait."""
        if self._nursery is not None and self.known(document) is None:
            self._nursery.start_soon(self._ask_quietly, document)

    async def _ask_quietly(self, document: DocumentId) -> None:
        try:
            await self.of(document)
        except ProcoreError as error:
            log.info("Tags cannot be read: %s", error)

    def _newest(self, document: DocumentId) -> Answer | None:
        one, census = self._one_by_one.get(document), self._census
        return census.answer(document) if census and (one is None or census.asked_s > one.asked_s) else one

    async def _ask(self, document: DocumentId) -> None:
        """One step towards an answer; many may want the same one, and it is made once."""
        project = self._project
        if project is None or self._is_old(project):
            await self._join(_PROJECT)
        elif not self._shared.running(_EVERYBODY) and self._spent + 1 < len(project.tags):
            self._spent += not self._shared.running(document)
            await self._join(document)
        elif project.asked_s < self._doubted_at_s(document):
            await self._join(_PROJECT)  # there may be a tag by now that nobody has heard of
        else:
            await self._join(_EVERYBODY)

    async def _join(self, key: object) -> None:
        if self._nursery is None:
            raise RuntimeError("nobody runs the tags")
        await self._shared.join(self._nursery, key, lambda: self._carry_out(key))

    async def _carry_out(self, key: object) -> None:
        try:
            if key == _PROJECT:
                await self._ask_for_project()
            elif key == _EVERYBODY:
                await self._ask_for_everybody()
            else:
                await self._ask_for_one(key)  # type: ignore[arg-type]  # all other keys are documents
        except ProcoreError as error:
            if not is_unavailable_here(error):
                raise
            log.info("Tags cannot be read, so none are shown: %s", error)
            now_s = trio.current_time()
            self._project = Answer(now_s, [])
            self._take(Census(now_s, {}))

    async def _ask_for_project(self) -> None:
        began_s = trio.current_time()
        self._project = Answer(began_s, await self._calls.project_tags())
        self._spent = 0
        if not self._project.tags:
            self._take(Census(began_s, {}))

    async def _ask_for_everybody(self) -> None:
        project = self._project
        assert project is not None
        borne: dict[DocumentId, list[Tag]] = {}
        for tag in project.tags:
            for document in await self._calls.tagged(tag.id):
                borne.setdefault(document, []).append(tag)
        self._take(Census(project.asked_s, borne))
        self._spent = 0

    def _take(self, census: Census) -> None:
        self._census = census
        self._doubted = {document: at_s for document, at_s in self._doubted.items() if at_s > census.asked_s}

    async def _ask_for_one(self, document: DocumentId) -> None:
        began_s = trio.current_time()
        self._note(document, Answer(began_s, await self._calls.document_tags(document)))

    def _note(self, document: DocumentId, answer: Answer) -> None:
        before = self._one_by_one.get(document)
        if before is None or before.asked_s <= answer.asked_s:
            self._one_by_one[document] = answer

    # News

    def doubt(self, documents: Iterable[DocumentId]) -> None:
        """Something about them has changed, maybe their tags."""
        if self._census is not None or self._one_by_one:
            self._doubted |= dict.fromkeys(documents, trio.current_time())

    def made(self, document: DocumentId) -> None:
        """We have made it just now: it bears nothing yet."""
        self._note(document, Answer(trio.current_time(), []))

    # Changes

    async def make(self, document: DocumentId, wanted: list[str]) -> None:
        """Have a document bear just these: a call for each that differs. Raises ProcoreError."""
        there = {tag.name: tag for tag in await self._asked(document)}
        for name in wanted:
            if name not in there:
                added = await self._calls.add_tag(document, name)
                # Procore may take it for one that is there under another name, which is not to go then.
                there = {other: tag for other, tag in there.items() if tag.id != added.id} | {name: added}
                self._changed(document, there)
        for name in [name for name in there if name not in wanted]:
            try:
                await self._calls.remove_tag(document, there[name].id)
            except NotFound:
                log.debug("Somebody else has taken the tag %r off document %d.", name, document)
            del there[name]
            self._changed(document, there)

    def _changed(self, document: DocumentId, borne: dict[str, Tag]) -> None:
        tags = list(borne.values())
        if self._project is not None:
            known = {tag.id for tag in self._project.tags}
            self._project.tags.extend(tag for tag in tags if tag.id not in known)
        self._note(document, Answer(trio.current_time(), tags))
