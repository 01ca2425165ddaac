"""Check-outs at a real server: two users, the calls they cost, and what the tree knows afterwards."""

import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.locks.claims import CheckOutTimes, Claims
from procorefs.locks.flock_table import LockOwner, Mode, WouldBlock
from procorefs.locks.mount_locks import Locks
from procorefs.procore.api.client import Client
from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage.events import EventSource
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from procorefs.wiring.locks import open_claims, open_locks
from tests.support.api_client import client_of, put_file
from tests.support.local_work import ME, Inside
from tests.support.sandbox import SandboxHandle

A, B = LockOwner(1), LockOwner(2)
SETTLES_S = 20.0


class User:
    """One user's mount, without the mount."""

    def __init__(self, store: TreeStore, locks: Locks, follower: Follower, claims: Claims) -> None:
        self._store = store
        self.locks = locks
        self.follower = follower
        self.claims = claims

    @property
    def file(self) -> Inode:
        node = self._store.child(ROOT, b"a.bin")
        assert node is not None
        return node.inode

    async def lock(self, owner: LockOwner, mode: Mode = Mode.EXCLUSIVE, *, wait: bool = False) -> None:
        await self.locks.lock(self.file, owner, mode, wait=wait)

    def unlock(self, owner: LockOwner) -> None:
        self.locks.unlock(self.file, owner)

    def holder(self) -> str | None:
        """Whom the tree names, ourselves included."""
        held = self.claims.documents.held(self.file)
        return held.holder.name if held and held.holder else None


@asynccontextmanager
async def user(
    sandbox: SandboxHandle, directory: Path, *, second: bool = False, closing_s: float = 5.0
) -> AsyncIterator[User]:
    os.makedirs(directory, exist_ok=True)
    who = sandbox.second if second else sandbox.announced
    changes = {"client_id": who["client_id"], "client_secret": who["client_secret"]}
    store = TreeStore.open(directory / "tree.sqlite")
    journal = CheckOutJournal.open(directory / "locks.sqlite")
    try:
        async with client_of(sandbox, **changes) as client, trio.open_nursery() as nursery:
            times = CheckOutTimes(
                poll_every_s=0.5, fresh_s=0.1, check_in_delay_s=0.3, adopted_s=0.5, closing_s=closing_s
            )
            yield await _built(client, UserId(who["user_id"]), store, journal, nursery, times)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
        store.close()


async def _built(
    client: Client,
    me: UserId,
    store: TreeStore,
    journal: CheckOutJournal,
    nursery: trio.Nursery,
    times: CheckOutTimes,
) -> User:
    documents_changed: EventSource[Collection[DocumentId]] = EventSource()
    applier = DocumentApplier(store, Inside(), ME)
    follower = Follower(
        store,
        applier,
        client,
        client.limiter,
        lambda _invalidations: None,
        freshness_s=0,
        changed=documents_changed.emit,
    )
    claims = open_claims(
        journal, store, applier, client, me, node_of=store.by_inode, invalidate=lambda _invalidations: None
    )
    locking = open_locks(
        claims,
        EventSource(),
        documents_changed,
        may_check_out=lambda: True,
        sends=lambda: True,
        is_unsent=lambda _inode: False,
        times=times,
    )
    if not follower.complete:
        await follower.list_root()
    await nursery.start(follower.run)
    await nursery.start(locking.check_outs.run)
    await follower.listed.wait()
    return User(store, locking.locks, follower, claims)


@pytest.fixture
def document(sandbox: SandboxHandle) -> DocumentId:
    return put_file(sandbox, b"content")


async def becomes(condition: Callable[[], bool]) -> None:
    with trio.fail_after(SETTLES_S):
        while not condition():  # noqa: ASYNC110 - what happens at the server gives no event
            await trio.sleep(0.05)


def patches(sandbox: SandboxHandle) -> int:
    return sum(count for route, count in sandbox.calls()["by_route"].items() if route.startswith("PATCH"))


def holder(sandbox: SandboxHandle, document: DocumentId) -> str | None:
    """As the server says to the first user."""
    with sandbox.session() as session:
        answer = session.get(f"/rest/v1.0/files/{document}", params={"project_id": sandbox.project_id})
        by = answer.json()["checked_out_by"]
    return by["name"] if by else None


async def test_a_lock_costs_one_patch_and_an_unlock_another(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    async with user(sandbox, tmp_path / "one") as one:
        sandbox.reset_calls()
        await one.lock(A)
        assert holder(sandbox, document) is not None
        assert one.holder() == holder(sandbox, document)
        assert one.claims.holder(one.file) is None
        assert patches(sandbox) == 1
        with pytest.raises(WouldBlock):
            await one.lock(B)
        one.unlock(A)
        await one.lock(B)
        one.unlock(B)
        await becomes(lambda: patches(sandbox) == 2)
        await becomes(lambda: one.holder() is None)
        assert holder(sandbox, document) is None


async def test_two_users_exclude_each_other(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    async with user(sandbox, tmp_path / "one") as one, user(sandbox, tmp_path / "two", second=True) as two:
        await one.lock(A)
        for mode in Mode:
            with pytest.raises(WouldBlock):
                await two.lock(A, mode)
            await trio.sleep(0.2)
        other = two.claims.holder(two.file)
        assert other is not None
        assert other.name == holder(sandbox, document)
        async with trio.open_nursery() as nursery:
            got = trio.Event()

            async def wait() -> None:
                await two.lock(B, wait=True)
                got.set()

            nursery.start_soon(wait)
            await trio.sleep(1)
            assert not got.is_set()
            one.unlock(A)
            with trio.fail_after(SETTLES_S):
                await got.wait()
        assert holder(sandbox, document) not in (None, other.name)
        with pytest.raises(WouldBlock):
            await one.lock(A)


async def test_the_server_has_the_last_word(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    """The look finds nobody, and the check-out meets somebody: 409."""
    async with user(sandbox, tmp_path / "one") as one:
        sandbox.faults(rules=[{"kind": "silence", "route": "PATCH */files/*", "when": "before", "count": 1}])
        async with trio.open_nursery() as nursery:
            refused = trio.Event()

            async def try_it() -> None:
                with pytest.raises(WouldBlock):
                    await one.lock(A)
                refused.set()

            nursery.start_soon(try_it)
            await sandbox.silent_calls()
            sandbox.act("check_out", id=document, seconds=600)
            sandbox.release()
            with trio.fail_after(SETTLES_S):
                await refused.wait()
        assert one.claims.holder(one.file) is not None
        assert one.holder() == holder(sandbox, document)


async def test_a_lost_answer_leaves_no_check_out(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    async with user(sandbox, tmp_path / "one") as one:
        sandbox.faults(rules=[{"kind": "drop", "route": "PATCH */files/*", "when": "after", "count": 1}])
        with pytest.raises(Exception, match="Could not check the file"):
            await one.lock(A)
        await becomes(lambda: holder(sandbox, document) is None)
        await one.lock(A)
        assert holder(sandbox, document) is not None


async def test_a_cancelled_lock_leaves_no_check_out(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    async with user(sandbox, tmp_path / "one") as one:
        sandbox.faults(rules=[{"kind": "silence", "route": "PATCH */files/*", "when": "after", "count": 1}])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.lock, A)
            await sandbox.silent_calls()
            nursery.cancel_scope.cancel()
        sandbox.release()
        await becomes(lambda: holder(sandbox, document) is None and patches(sandbox) >= 2)


async def test_an_ended_mount_has_checked_in_and_a_killed_one_does_so_next_time(
    sandbox: SandboxHandle, document: DocumentId, tmp_path: Path
) -> None:
    async with user(sandbox, tmp_path / "one") as one:
        await one.lock(A)
    assert holder(sandbox, document) is None
    async with user(sandbox, tmp_path / "one", closing_s=0) as one:  # killed
        await one.lock(A)
    assert holder(sandbox, document) is not None
    async with user(sandbox, tmp_path / "one") as one:
        await one.lock(B)
        one.unlock(B)
        await becomes(lambda: holder(sandbox, document) is None)
