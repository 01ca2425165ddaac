"""Caches the project's custom fields and their choices across mounts, and decides when Procore is asked for them.

They change about once a year. Cached fields are used at once, and old ones are requested again in the background. A
label that is not cached may be new and causes a call.
"""

import logging
from collections.abc import Callable

import msgspec
import trio

from procorefs.procore.api.metadata import ProjectMetadata
from procorefs.procore.errors import ProcoreError, is_unavailable_here
from procorefs.procore.wire.field_values import ENTRIES, ENTRY
from procorefs.procore.wire.models import FieldDefinition, FieldId, LovEntry
from procorefs.storage import clocks
from procorefs.storage.failures import UNDECODABLE
from procorefs.tree.sync.shared_task import SharedTask
from procorefs.tree.tree_store import TreeStore
from procorefs.xattr.custom_fields import labels

log = logging.getLogger(__name__)

OLD_S = 3600.0
"""Older fields are requested again in the background with one call a day."""

ASK_AGAIN_S = 30.0
"""An unknown label causes at most one call in this time."""

_FACT = "custom_fields"


class Remembered(msgspec.Struct):
    """The cached fields; times are Unix times."""

    asked_at_s: float = 0.0
    definitions: list[FieldDefinition] = []
    choices: dict[int, list[LovEntry]] = {}
    choices_at_s: dict[int, float] = {}


class CustomFieldCache:
    """The custom fields by label; `run` must run."""

    def __init__(
        self, store: TreeStore, calls: ProjectMetadata, *, unix_time_s: Callable[[], float] = clocks.unix_s
    ) -> None:
        self._store = store
        self._calls = calls
        self._unix_time_s = unix_time_s
        self._nursery: trio.Nursery | None = None
        self._shared = SharedTask()
        self._known = self._remembered()
        self._by_label = labels(self._known.definitions)
        self._labels = _inverted(self._by_label)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Without a call

    def field(self, label: str) -> FieldDefinition | None:
        return self._by_label.get(label)

    def label(self, field_id: int) -> str | None:
        return self._labels.get(field_id)

    def choices(self, field_id: int) -> list[LovEntry]:
        return self._known.choices.get(field_id, [])

    # With a call if necessary

    async def load(self) -> None:
        """Wait until the fields are known; old ones are requested again in the background. Raises ProcoreError."""
        if not self._known.asked_at_s:
            await self._join(_FACT, self._ask)
        elif self._is_older(self._known.asked_at_s, OLD_S):
            self._begin(_FACT, self._ask)

    async def look_up(self, label: str) -> FieldDefinition | None:
        """The field of a label; an unknown label causes a call. Raises ProcoreError."""
        await self.load()
        if label not in self._by_label and self._is_older(self._known.asked_at_s, ASK_AGAIN_S):
            await self._join(_FACT, self._ask)
        return self.field(label)

    async def choices_of(self, field: FieldDefinition) -> list[LovEntry]:
        """The choices of a field, with a call if they are unknown. Raises ProcoreError."""
        if field.data_type not in (ENTRY, ENTRIES):
            return []
        asked_at_s = self._known.choices_at_s.get(field.id, 0.0)
        if not asked_at_s:
            await self.ask_choices(field)
        elif self._is_older(asked_at_s, OLD_S):
            self._begin(field.id, lambda: self._ask_choices(field.id))
        return self.choices(field.id)

    async def ask_choices(self, field: FieldDefinition) -> list[LovEntry]:
        """The choices again, for a label that is not among them and may be new."""
        if self._is_older(self._known.choices_at_s.get(field.id, 0.0), ASK_AGAIN_S):
            await self._join(field.id, lambda: self._ask_choices(field.id))
        return self.choices(field.id)

    # Requests

    async def _join(self, key: object, work: Callable[[], object]) -> None:
        if self._nursery is None:
            raise RuntimeError("the cache of custom fields does not run")
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
        self._known.definitions = definitions
        self._known.asked_at_s = self._unix_time_s()
        self._by_label = labels(definitions)
        self._labels = _inverted(self._by_label)
        self._remember()

    async def _ask_choices(self, field_id: FieldId) -> None:
        self._known.choices[field_id] = await self._calls.lov_entries(field_id)
        self._known.choices_at_s[field_id] = self._unix_time_s()
        self._remember()

    def _is_older(self, at_s: float, age_s: float) -> bool:
        return not 0 <= self._unix_time_s() - at_s <= age_s

    # In the tree's facts

    def _remembered(self) -> Remembered:
        fact = self._store.fact(_FACT)
        try:
            return msgspec.json.decode(fact, type=Remembered) if fact else Remembered()
        except UNDECODABLE:
            return Remembered()  # of another version: requesting them again costs a call

    def _remember(self) -> None:
        with self._store.transaction():
            self._store.remember(_FACT, msgspec.json.encode(self._known).decode())


def _inverted(by_label: dict[str, FieldDefinition]) -> dict[int, str]:
    return {definition.id: label for label, definition in by_label.items()}
