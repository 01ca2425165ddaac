"""Finds out which document has which tags: Procore's lists do not say, so it is asked, in few calls, and cached.

    tags of a document? ─▶ a fresh answer ─────────────────────────────────────▶ no call
                        ─▶ the project's tags (1 call) ─▶ there are none ──────▶ none for all documents
                        ─▶ few documents were asked about so far ──────────────▶ this document (1 call)
                        ─▶ else ─▶ the documents of each tag (1 call a tag) ───▶ an answer for all documents

Documents are asked about one by one until that has cost as much as asking about every tag would: so no question, small
or large, costs more than twice the least. An answer holds for the moment when it was asked for: it does not count after
a change of this mount, nor after a poll that showed the document to be changed.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cachetools
import trio

from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import NotFound, ProcoreError, is_unavailable_here
from procorefs.procore.wire.models import DocumentId, Tag
from procorefs.tree.sync.shared_task import SharedTask

log = logging.getLogger(__name__)

FRESHNESS_PER_AGE = 10
"""Tags change rarely and cost more calls than a poll: an answer is valid for this many times `freshness`."""

SHORTEST_AGE_S = 1.0
"""An answer is reused for this time, because one `getfattr` makes several requests about a document."""

REMEMBERED = 100_000

_ALL = "all documents"
_PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Answer:
    """Tags of a document, or of the project."""

    asked_s: float
    """Loop time of the request: the answer does not cover later changes."""
    tags: list[Tag]
    got_s: float = field(default_factory=trio.current_time)
    """Loop time from which its age counts, however long the calls took."""


@dataclass(frozen=True, slots=True)
class AllTags:
    """The tags of all documents that have any."""

    asked_s: float
    by_document: dict[DocumentId, list[Tag]]
    got_s: float = field(default_factory=trio.current_time)

    def answer(self, document: DocumentId) -> Answer:
        return Answer(self.asked_s, self.by_document.get(document, []), self.got_s)


def tags_age_s(freshness_s: float) -> float:
    return max(FRESHNESS_PER_AGE * freshness_s, SHORTEST_AGE_S)


class Tags:
    """The known tags of the project; `run` must run."""

    def __init__(
        self,
        calls: ProjectMetadata,
        age_s: Callable[[], float],
        *,
        would_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """`age_s`: how long an answer is used."""
        self._calls = calls
        self._age_s = age_s
        self._would_wait = would_wait
        self._nursery: trio.Nursery | None = None
        self._shared = SharedTask()
        self._project: Answer | None = None
        self._all_tags: AllTags | None = None
        self._single: cachetools.LRUCache[DocumentId, Answer] = cachetools.LRUCache(REMEMBERED)
        self._changed_at: dict[DocumentId, float] = {}
        """Loop times at which a poll showed a document to be changed: older answers may be outdated."""
        self._spent = 0
        """How many calls for single documents were made since the last answer for all documents or the project."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Reading

    def known(self, document: DocumentId) -> list[Tag] | None:
        """The tags of a document if no call is needed."""
        answer = self._newest(document)
        if answer is None or self._is_old(answer) or answer.asked_s < self._changed_s(document):
            return None
        return answer.tags

    def _is_old(self, answer: Answer) -> bool:
        return trio.current_time() - answer.got_s > self._age_s()

    def _changed_s(self, document: DocumentId) -> float:
        return self._changed_at.get(document, float("-inf"))

    async def of(self, document: DocumentId) -> list[Tag]:
        """The tags of a document; the last known ones if Procore cannot be reached or the budget is used up.

        Raises ProcoreError if none are known.
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
        """The same, with a call whenever they are not known for certain. Raises ProcoreError."""
        while (tags := self.known(document)) is None:
            await self._ask(document)
        return tags

    async def bears(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether a document has exactly these tags. Raises ProcoreError."""
        return {tag.name for tag in await self._asked(document)} == set(wanted)

    def ask_soon(self, document: DocumentId) -> None:
        """Request them in the background."""
        if self._nursery is not None and self.known(document) is None:
            self._nursery.start_soon(self._ask_quietly, document)

    async def _ask_quietly(self, document: DocumentId) -> None:
        try:
            await self.of(document)
        except ProcoreError as error:
            log.info("Tags cannot be read: %s", error)

    def _newest(self, document: DocumentId) -> Answer | None:
        one, all_tags = self._single.get(document), self._all_tags
        return (
            all_tags.answer(document) if all_tags and (one is None or all_tags.asked_s > one.asked_s) else one
        )

    async def _ask(self, document: DocumentId) -> None:
        """One step towards an answer; requests that need the same step share it."""
        project = self._project
        if project is None or self._is_old(project):
            await self._join(_PROJECT)
        elif not self._shared.running(_ALL) and self._spent + 1 < len(project.tags):
            self._spent += not self._shared.running(document)
            await self._join(document)
        elif project.asked_s < self._changed_s(document):
            await self._join(_PROJECT)  # there may be a new tag
        else:
            await self._join(_ALL)

    async def _join(self, key: object) -> None:
        if self._nursery is None:
            raise RuntimeError("the tags are not run")
        await self._shared.join(self._nursery, key, lambda: self._carry_out(key))

    async def _carry_out(self, key: object) -> None:
        try:
            if key == _PROJECT:
                await self._ask_for_project()
            elif key == _ALL:
                await self._ask_for_all()
            else:
                await self._ask_for_one(key)  # type: ignore[arg-type]  # all other keys are documents
        except ProcoreError as error:
            if not is_unavailable_here(error):
                raise
            log.info("Tags cannot be read, so none are shown: %s", error)
            now_s = trio.current_time()
            self._project = Answer(now_s, [])
            self._take(AllTags(now_s, {}))

    async def _ask_for_project(self) -> None:
        began_s = trio.current_time()
        self._project = Answer(began_s, await self._calls.project_tags())
        self._spent = 0
        if not self._project.tags:
            self._take(AllTags(began_s, {}))

    async def _ask_for_all(self) -> None:
        project = self._project
        assert project is not None
        by_document: dict[DocumentId, list[Tag]] = {}
        for tag in project.tags:
            for document in await self._calls.tagged(tag.id):
                by_document.setdefault(document, []).append(tag)
        self._take(AllTags(project.asked_s, by_document))
        self._spent = 0

    def _take(self, all_tags: AllTags) -> None:
        self._all_tags = all_tags
        self._changed_at = {
            document: at_s for document, at_s in self._changed_at.items() if at_s > all_tags.asked_s
        }

    async def _ask_for_one(self, document: DocumentId) -> None:
        began_s = trio.current_time()
        self._note(document, Answer(began_s, await self._calls.document_tags(document)))

    def _note(self, document: DocumentId, answer: Answer) -> None:
        before = self._single.get(document)
        if before is None or before.asked_s <= answer.asked_s:
            self._single[document] = answer

    # Changes by others

    def doubt(self, documents: Iterable[DocumentId]) -> None:
        """Note that documents, and perhaps their tags, have changed in Procore."""
        if self._all_tags is not None or self._single:
            self._changed_at |= dict.fromkeys(documents, trio.current_time())

    def made(self, document: DocumentId) -> None:
        """Note a document that an upload has just created: it has no tags."""
        self._note(document, Answer(trio.current_time(), []))

    # Own changes

    async def make(self, document: DocumentId, wanted: list[str]) -> None:
        """Give a document exactly these tags, with a call for each one that differs. Raises ProcoreError."""
        there = {tag.name: tag for tag in await self._asked(document)}
        for name in wanted:
            if name not in there:
                added = await self._calls.add_tag(document, name)
                # Procore may treat it as an existing tag with another spelling, which must not be removed then.
                there = {other: tag for other, tag in there.items() if tag.id != added.id} | {name: added}
                self._took(document, there)
        for name in [name for name in there if name not in wanted]:
            try:
                await self._calls.remove_tag(document, there[name].id)
            except NotFound:
                log.debug("The tag %r was removed from document %d meanwhile.", name, document)
            del there[name]
            self._took(document, there)

    def _took(self, document: DocumentId, tags_by_name: dict[str, Tag]) -> None:
        tags = list(tags_by_name.values())
        if self._project is not None:
            known = {tag.id for tag in self._project.tags}
            self._project.tags.extend(tag for tag in tags if tag.id not in known)
        self._note(document, Answer(trio.current_time(), tags))
