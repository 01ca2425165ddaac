"""The project's custom fields and their choices: asked for when somebody needs them, and remembered over mounts.

They change about once a year. What is remembered is believed at once and asked for again in the background when it is
old; a label that is not in it, which somebody may just have made, is worth a call now.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from procorefs.procore.errors import ProcoreError, is_unavailable_here
from procorefs.procore.wire.field_values import ENTRIES, ENTRY
from procorefs.procore.wire.models import FieldDefinition, FieldId, LovEntry
from procorefs.storage import clocks
from procorefs.tree.sync.shared_task import SharedTask
from procorefs.tree.tree_store import TreeStore
from procorefs.xattr.custom_fields import labels

log = logging.getLogger(__name__)

OLD_S = 3600.0
ASK_AGAIN_S = 30.0
"""What is not in the book is asked for no more often than this."""

_FACT = "custom_fields"


class FieldCalls(Protocol):
    """What this needs of the client; raises ProcoreError."""

    async def custom_field_definitions(self) -> list[FieldDefinition]: ...

    async def lov_entries(self, field_id: FieldId) -> list[LovEntry]: ...


class Pages(msgspec.Struct):
    """What is remembered; times are wall times."""

    asked_at_s: float = 0.0
    definitions: list[FieldDefinition] = []
    choices: dict[int, list[LovEntry]] = {}
    choices_at_s: dict[int, float] = {}


class CustomFieldCache:
    """Custom fields by label; `run` must run."""

    def __init__(
        self, store: TreeStore, calls: FieldCalls, *, unix_time_s: Callable[[], float] = clocks.unix_s
    ) -> None:
        self._store = store
        self._calls = calls
        self._unix_time_s = unix_time_s
        self._nursery: trio.Nursery | None = None
        self._shared = SharedTask()
        self._pages = self._remembered()
        self._by_label = labels(self._pages.definitions)
        self._labels = _inverted(self._by_label)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Questions that need no call

    def field(self, label: str) -> FieldDefinition | None:
        return self._by_label.get(label)

    def label(self, field_id: int) -> str | None:
        return self._labels.get(field_id)

    def choices(self, field_id: int) -> list[LovEntry]:
        return self._pages.choices.get(field_id, [])

    # Questions that may

    async def opened(self) -> None:
        """Wait until there is a book; one that is old is asked for again behind one's back. Raises ProcoreError."""
        if not self._pages.asked_at_s:
            await self._join(_FACT, self._ask)
        elif self._is_older(self._pages.asked_at_s, OLD_S):
            self._begin(_FACT, self._ask)

    async def look_up(self, label: str) -> FieldDefinition | None:
        """The field of a label; one that is not in the book may be new. Raises ProcoreError."""
        await self.opened()
        if label not in self._by_label and self._is_older(self._pages.asked_at_s, ASK_AGAIN_S):
            await self._join(_FACT, self._ask)
        return self.field(label)

    async def choices_of(self, field: FieldDefinition) -> list[LovEntry]:
        """The choices of a field that has some, asked for if they are not known or old. Raises ProcoreError."""
        if field.data_type not in (ENTRY, ENTRIES):
            return []
        asked_at_s = self._pages.choices_at_s.get(field.id, 0.0)
        if not asked_at_s:
            await self.ask_choices(field)
        elif self._is_older(asked_at_s, OLD_S):
            self._begin(field.id, lambda: self._ask_choices(field.id))
        return self.choices(field.id)

    async def ask_choices(self, field: FieldDefinition) -> list[LovEntry]:
        """The same when a label is not among them: somebody may just have made it."""
        if self._is_older(self._pages.choices_at_s.get(field.id, 0.0), ASK_AGAIN_S):
            await self._join(field.id, lambda: self._ask_choices(field.id))
        return self.choices(field.id)

    # Asking

    async def _join(self, key: object, work: Callable[[], object]) -> None:
        if self._nursery is None:
            raise RuntimeError("nobody runs the book of fields")
        await self._shared.join(self._nursery, key, work)  # type: ignore[arg-type]  # both are coroutine functions

    def _begin(self, key: object, work: Callable[[], object]) -> None:
        async def quietly() -> None:
            try:
                await self._join(key, work)
            except ProcoreError as error:
                log.info("The custom fields last known are served: %s", error)

        if self._nursery is not None and not self._shared.running(key):
            self._nursery.start_soon(quietly)

    async def _ask(self) -> None:
        try:
            definitions = await self._calls.custom_field_definitions()
        except ProcoreError as error:
            if not is_unavailable_here(error):
                raise
            log.info("Custom fields cannot be read, so they are named by id: %s", error)
            definitions = []
        self._pages.definitions = definitions
        self._pages.asked_at_s = self._unix_time_s()
        self._by_label = labels(definitions)
        self._labels = _inverted(self._by_label)
        self._remember()

    async def _ask_choices(self, field_id: FieldId) -> None:
        self._pages.choices[field_id] = await self._calls.lov_entries(field_id)
        self._pages.choices_at_s[field_id] = self._unix_time_s()
        self._remember()

    def _is_older(self, at_s: float, age_s: float) -> bool:
        return not 0 <= self._unix_time_s() - at_s <= age_s

    # Memory

    def _remembered(self) -> Pages:
        fact = self._store.fact(_FACT)
        try:
            return msgspec.json.decode(fact, type=Pages) if fact else Pages()
        except msgspec.MsgspecError:
            return Pages()  # another version's: asking anew costs a call

    def _remember(self) -> None:
        with self._store.transaction():
            self._store.remember(_FACT, msgspec.json.encode(self._pages).decode())


def _inverted(by_label: dict[str, FieldDefinition]) -> dict[int, str]:
    return {definition.id: label for label, definition in by_label.items()}
