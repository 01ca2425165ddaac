"""Decides what the account may do with the project's documents, and when Procore is asked about it.

One call a day while the mount is in use; the answer is part of the tree's SyncState. The answers to changing calls
correct it: a success grants, and a 403 that contradicts it asks again.
"""

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import trio

from procorefs.procore.api.brief_wait import BriefWait, NoAnswerYet
from procorefs.procore.api.calls import Permission
from procorefs.procore.errors import Forbidden, Invalid, Malformed, NotFound, ProcoreError
from procorefs.procore.wire.rights import Rights, restriction
from procorefs.storage import clocks
from procorefs.storage.events import EventSource
from procorefs.tree.sync_state import KnownRights
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

VALID_S = 86_400.0
REFUSED_HERE_S = 3_600.0
"""A request that is refused without a call asks again if the answer is older than this: rights may have been given."""

IDLE_S = 180.0
"""How often it is looked whether the mount is in use: an idle mount asks nothing."""

RETRY_S = 300.0
DOUBT_S = 600.0
"""The shortest time between two calls that a contradiction causes; twice as long after each that changed nothing."""


class AccountRights:
    """The one owner of the account's rights; `run` must run."""

    def __init__(
        self,
        store: TreeStore,
        ask: Callable[[], Awaitable[Rights]],
        permissions: EventSource[Permission],
        *,
        unix_time_s: Callable[[], float] = clocks.unix_s,
    ) -> None:
        self._store = store
        self._ask_procore = ask
        self._unix_time_s = unix_time_s
        known = store.sync.read().rights
        self._rights = known.rights if known is not None else Rights()
        self._asked_at_s: float | None = None
        if known is not None:
            self._asked_at_s = min(known.asked_at_s, unix_time_s())  # it may lie in the future
        self._is_used = False
        self._doubted = trio.Event()
        self._doubt_from_s = self._retry_at_s = float("-inf")
        self._doubt_pause_s = DOUBT_S
        permissions.subscribe(self._seen)

    @property
    def current(self) -> Rights:
        """What is known now. Counts as use of the mount."""
        self._is_used = True
        return self._rights

    async def learn(self, brief: BriefWait) -> None:
        """Ask before the mount answers, if that is due; briefly, else `run` asks. All refused: always asked again."""
        self._is_used = True
        if self._wait_s() <= 0 or self._rights.read is False:
            with suppress(NoAnswerYet):
                await brief.of(self._ask)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            with trio.move_on_after(self._wait_s()):
                await self._doubted.wait()
            while not (self._is_used or self._doubted.is_set()):
                with trio.move_on_after(IDLE_S):
                    await self._doubted.wait()
            self._is_used = False
            await self._ask()

    def refused_here(self) -> None:
        """A request was refused by what is known: ask again if that is old."""
        if self._age_s() > REFUSED_HERE_S:
            self._doubt()

    def _seen(self, permission: Permission) -> None:
        """Compare what is known with what the answer to a call shows."""
        known = {right: getattr(self._rights, right) for right in permission.rights}
        if permission.is_granted:
            wrong = {right: True for right, may in known.items() if may is False}
            if wrong and self._asked_at_s is not None:
                self._know(self._asked_at_s, msgspec.structs.replace(self._rights, **wrong))
        elif False not in known.values() and True in known.values():
            self._doubt()

    def _doubt(self) -> None:
        if trio.current_time() >= self._doubt_from_s:
            self._doubted.set()

    async def _ask(self) -> None:
        """Ask Procore; what it refuses or says without being understood is unknown for a day."""
        is_doubted, self._doubted = self._doubted.is_set(), trio.Event()
        before = self._rights
        try:
            rights = await self._ask_procore()
        except (Forbidden, NotFound, Invalid, Malformed) as error:
            log.info("What the account may do is not known, so it is tried: %s", error)
            rights = Rights()
        except ProcoreError as error:
            log.info("What the account may do is asked again in %.0f s: %s", RETRY_S, error)
            self._retry_at_s, self._is_used = trio.current_time() + RETRY_S, True
            return
        self._know(self._unix_time_s(), rights)
        if is_doubted:
            is_futile = rights == before
            self._doubt_pause_s = min(self._doubt_pause_s * 2, VALID_S) if is_futile else DOUBT_S
            self._doubt_from_s = trio.current_time() + self._doubt_pause_s

    def _know(self, asked_at_s: float, rights: Rights) -> None:
        if rights != self._rights:
            log.info("Rights in Procore: %s.", restriction(rights) or "nothing is known to be refused")
        self._asked_at_s, self._rights = asked_at_s, rights
        try:
            with self._store.transaction(), self._store.sync.change() as state:
                state.rights = KnownRights(asked_at_s, rights)
        except sqlite3.Error as error:  # the next mount asks again
            log.warning("What the account may do cannot be stored: %s", error)

    def _age_s(self) -> float:
        if self._asked_at_s is None:
            return VALID_S
        return max(self._unix_time_s() - self._asked_at_s, 0.0)

    def _wait_s(self) -> float:
        """Until Procore is to be asked the next time."""
        return max(VALID_S - self._age_s(), self._retry_at_s - trio.current_time(), 0.0)
