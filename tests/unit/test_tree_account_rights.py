"""When Procore is asked what the account may do, and what calls show of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.procore.api.brief_wait import BriefWait
from procorefs.procore.api.calls import Permission
from procorefs.procore.errors import Forbidden, Malformed, ProcoreError, Unavailable
from procorefs.procore.http.connectivity import Connectivity
from procorefs.procore.wire.rights import Right, Rights
from procorefs.storage.events import EventSource
from procorefs.tree.sync.account_rights import (
    DOUBT_S,
    IDLE_S,
    REFUSED_HERE_S,
    RETRY_S,
    VALID_S,
    AccountRights,
)
from procorefs.tree.tree_store import TreeStore

STANDARD = Rights(read=True, write=True, delete=False)
ADMIN = Rights(read=True, write=True, delete=True)
T0_S = 1_800_000_000.0


class Asked:
    """Rights over a real tree; `answer` is what Procore says."""

    def __init__(self, store: TreeStore) -> None:
        self.store = store
        self.calls = 0
        self.answer: Rights | ProcoreError = STANDARD
        self.is_silent = False
        self.permissions = EventSource[Permission]()
        self.rights = self.opened()

    def opened(self) -> AccountRights:
        return AccountRights(self.store, self._ask, self.permissions, unix_time_s=self._unix_s)

    def _unix_s(self) -> float:
        try:
            return T0_S + trio.current_time()
        except RuntimeError:
            return T0_S

    async def _ask(self) -> Rights:
        self.calls += 1
        if self.is_silent:
            await trio.sleep_forever()
        if isinstance(self.answer, ProcoreError):
            raise self.answer
        return self.answer

    def saw(self, *rights: Right, is_granted: bool) -> None:
        self.permissions.emit(Permission(frozenset(rights), is_granted))


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    store = TreeStore.open(tmp_path / "tree.sqlite")
    yield Asked(store)
    store.close()


def brief(*, is_open: bool = True) -> BriefWait:
    return BriefWait(lambda: not is_open, Connectivity())


async def test_one_call_a_day(asked: Asked, autojump_clock: trio.testing.MockClock) -> None:
    await asked.rights.learn(brief())
    assert (asked.rights.current, asked.calls) == (STANDARD, 1)
    again = asked.opened()
    await again.learn(brief())
    assert (again.current, asked.calls) == (STANDARD, 1)
    asked.answer = ADMIN
    async with trio.open_nursery() as nursery:
        await nursery.start(again.run)
        await trio.sleep(VALID_S - 1)
        assert asked.calls == 1
        await trio.sleep(2)
        assert (again.current, asked.calls) == (ADMIN, 2)
        await trio.sleep(VALID_S)
        assert asked.calls == 3
        await trio.sleep(3 * VALID_S)
        assert asked.calls == 3  # nobody uses the mount
        assert again.current == ADMIN
        await trio.sleep(IDLE_S)
        assert asked.calls == 4
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_open", [False, True])
async def test_the_mount_waits_two_seconds_at_most(
    asked: Asked, autojump_clock: trio.testing.MockClock, *, is_open: bool
) -> None:
    asked.is_silent = True
    began_s = trio.current_time()
    await asked.rights.learn(brief(is_open=is_open))
    assert trio.current_time() - began_s <= (2.0 if is_open else 0.0)
    assert asked.rights.current == Rights()
    asked.is_silent = False
    async with trio.open_nursery() as nursery:
        await nursery.start(asked.rights.run)
        await trio.testing.wait_all_tasks_blocked()
        assert asked.rights.current == STANDARD
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [Forbidden("no"), Malformed("what?")])
async def test_an_answer_that_tells_nothing_holds_for_a_day(
    asked: Asked, autojump_clock: trio.testing.MockClock, error: ProcoreError
) -> None:
    asked.answer = error
    await asked.rights.learn(brief())
    assert asked.rights.current == Rights()
    await asked.opened().learn(brief())
    assert asked.calls == 1


async def test_a_passing_failure_is_tried_again(asked: Asked, autojump_clock: trio.testing.MockClock) -> None:
    asked.answer = Unavailable("away")
    await asked.rights.learn(brief())
    async with trio.open_nursery() as nursery:
        await nursery.start(asked.rights.run)
        await trio.sleep(3 * RETRY_S - 1)
        assert asked.calls == 3
        asked.answer = STANDARD
        await trio.sleep(RETRY_S)
        assert asked.rights.current == STANDARD
        nursery.cancel_scope.cancel()


async def test_no_rights_at_all_are_asked_again_at_each_mount(
    asked: Asked, autojump_clock: trio.testing.MockClock
) -> None:
    asked.answer = Rights(read=False)
    for calls in (1, 2):
        await asked.opened().learn(brief())
        assert asked.calls == calls


async def test_a_refusal_that_contradicts_asks_again(
    asked: Asked, autojump_clock: trio.testing.MockClock
) -> None:
    """At once, and then less and less often while it changes nothing."""
    asked.answer = ADMIN
    await asked.rights.learn(brief())
    async with trio.open_nursery() as nursery:
        await nursery.start(asked.rights.run)
        for _ in range(60):
            asked.saw("delete", is_granted=False)
            await trio.sleep(60)
        assert asked.calls <= 1 + 3
        await trio.sleep(8 * DOUBT_S)
        asked.answer = STANDARD
        asked.saw("delete", is_granted=False)
        await trio.testing.wait_all_tasks_blocked()
        assert asked.rights.current == STANDARD
        calls = asked.calls
        asked.saw("delete", is_granted=False)  # as is known
        asked.saw("rename", is_granted=False)  # nothing is known
        await trio.sleep(10 * DOUBT_S)
        assert asked.calls == calls
        nursery.cancel_scope.cancel()


async def test_a_success_shows_the_right(asked: Asked, autojump_clock: trio.testing.MockClock) -> None:
    await asked.rights.learn(brief())
    asked.saw("rename", is_granted=True)
    assert asked.rights.current == STANDARD
    asked.saw("delete", is_granted=True)
    assert asked.rights.current.delete is True
    assert asked.opened().current.delete is True
    assert asked.calls == 1


async def test_requests_that_are_refused_here_ask_once_an_hour(
    asked: Asked, autojump_clock: trio.testing.MockClock
) -> None:
    await asked.rights.learn(brief())
    async with trio.open_nursery() as nursery:
        await nursery.start(asked.rights.run)
        for _ in range(3 * 60):
            asked.rights.refused_here()
            await trio.sleep(60)
        assert 2 <= asked.calls <= 1 + 3 * 3600 / REFUSED_HERE_S
        nursery.cancel_scope.cancel()
