"""Changes whose call or answer is lost: repeated only where Procore certainly has not done them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from procorefs.limiter import Priority
from procorefs.procore.api.changes import FileChange, FolderChange, ProjectChanges
from procorefs.procore.errors import (
    Busy,
    ProcoreError,
    RateLimited,
    Unanswered,
    Unavailable,
    Unreachable,
)
from tests.support.api_client import NOW, CountingLimiter, client_of
from tests.support.client_changes import ClientAndChanges, Deed
from tests.support.sandbox import SandboxHandle


@pytest.fixture
async def set_up(sandbox: SandboxHandle) -> AsyncIterator[ClientAndChanges]:
    async with client_of(sandbox, silence_s=1.0) as client:
        made = ClientAndChanges(sandbox, client)
        await client.me()
        client.stats.by_route.clear()
        sandbox.reset_calls()
        yield made


UNANSWERED: list[dict[str, Any]] = [
    {"kind": "drop", "when": "after"},
    {"kind": "error", "when": "after", "status": 500},
    {"kind": "error", "when": "after", "status": 502},
    {"kind": "error", "when": "after", "status": 503},
    {"kind": "error", "when": "after", "status": 504},
    {"kind": "error", "when": "after", "status": 408},
    {"kind": "silence", "when": "after"},
]
NOT_UNDERSTOOD: list[dict[str, Any]] = [
    {"kind": "cut", "after_bytes": 20},
    {"kind": "not_json"},
    {"kind": "wrong_type", "body": "[]"},
    {"kind": "wrong_type", "body": '{"id": 7, "name": "other"}'},
]


def shape_of(rule: dict[str, Any]) -> str:
    return " ".join(str(value) for name, value in rule.items() if name in ("kind", "status", "body"))


async def _create_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.create_folder(None, "New")
    return True


async def _rename_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.update_folder(set_up.folder_id, FolderChange(name="New"))
    return True


async def _rename_file(set_up: ClientAndChanges) -> bool:
    await set_up.changes.update_file(set_up.file_id, FileChange(name="New"))
    return True


async def _delete_folder(set_up: ClientAndChanges) -> bool:
    await set_up.changes.delete_folder(set_up.folder_id)
    return True


async def _done(set_up: ClientAndChanges, deed: Deed) -> bool:
    children = await set_up.children()
    return "Inbox" not in children if deed is _delete_folder else "New" in children


DEEDS: dict[Deed, str] = {
    _create_folder: "POST */folders",
    _rename_folder: "PATCH */folders/{id}",
    _rename_file: "PATCH */files/{id}",
    _delete_folder: "DELETE */folders/{id}",
}


@pytest.mark.parametrize("rule", UNANSWERED, ids=shape_of)
@pytest.mark.parametrize("deed", DEEDS)
async def test_a_lost_answer_is_unanswered_and_not_repeated(
    set_up: ClientAndChanges, deed: Deed, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": DEEDS[deed]}])
    with trio.fail_after(10), pytest.raises(Unanswered, match="may or may not have been done") as lost:
        await deed(set_up)
    assert lost.value.passing
    assert sum(set_up.client.stats.by_route.values()) == 1
    set_up.sandbox.faults(clear=True)
    assert await _done(set_up, deed)


@pytest.mark.parametrize("rule", NOT_UNDERSTOOD, ids=shape_of)
async def test_an_answer_that_is_not_understood_is_unanswered(
    set_up: ClientAndChanges, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": DEEDS[_rename_file]}])
    with pytest.raises(Unanswered):
        await _rename_file(set_up)
    assert set_up.client.stats.by_route == {"PATCH files": 1}
    assert await _done(set_up, _rename_file)
    set_up.sandbox.forget_violations()


async def test_a_delete_is_done_whatever_its_answer_says_besides(set_up: ClientAndChanges) -> None:
    set_up.sandbox.faults(rules=[{"kind": "not_json", "route": "DELETE *"}], dialect={"delete_status": 200})
    await set_up.changes.delete_folder(set_up.folder_id)
    await set_up.changes.delete_file(set_up.file_id)
    assert not {set_up.folder_id, set_up.file_id} & {child.id for child in (await set_up.children()).values()}
    set_up.sandbox.forget_violations()


@pytest.mark.parametrize(
    "rule", [{"kind": "drop"}, {"kind": "silence"}, {"kind": "error", "status": 500}], ids=shape_of
)
async def test_what_got_lost_on_the_way_there_is_unanswered_too(
    set_up: ClientAndChanges, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": "POST */folders", "count": 1}])
    with pytest.raises(Unanswered):
        await _create_folder(set_up)
    assert not await _done(set_up, _create_folder)
    await _create_folder(set_up)
    assert set_up.client.stats.by_route["POST folders"] == 2


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (_create_folder, {"status": 401}),
        (_create_folder, {"status": 503, "retry_after": 1}),
        (_rename_file, {"status": 401}),
        (_rename_file, {"status": 429, "retry_after": 1}),
        (_delete_folder, {"status": 401}),
        (_delete_folder, {"status": 503, "retry_after": 1}),
    ],
)
async def test_what_certainly_was_not_done_is_repeated(
    set_up: ClientAndChanges, deed: Deed, rule: dict[str, Any]
) -> None:
    set_up.sandbox.faults(rules=[{"kind": "error", "count": 1, "route": DEEDS[deed], **rule}])
    await deed(set_up)
    assert sum(set_up.client.stats.by_route.values()) == 2
    assert await _done(set_up, deed)
    assert set_up.client.stats.throttled == (rule["status"] == 429)


async def test_an_expired_token_is_renewed_once(set_up: ClientAndChanges) -> None:
    set_up.sandbox.faults(expire_tokens=True)
    await _create_folder(set_up)
    assert set_up.client.stats.by_route == {"POST folders": 2}
    set_up.sandbox.faults(rules=[{"kind": "error", "status": 401, "route": "PATCH *"}])
    with pytest.raises(ProcoreError) as refused:
        await _rename_file(set_up)
    assert refused.value.status == 401
    assert set_up.client.stats.by_route["PATCH files"] == 2


async def test_a_limit_that_stays_is_not_unanswered(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox, retry_for_s=1.0) as client:
        set_up = ClientAndChanges(sandbox, client)
        sandbox.faults(rules=[{"kind": "error", "status": 429, "route": "POST *"}])
        with pytest.raises(RateLimited):
            await _create_folder(set_up)
        sandbox.faults(
            clear=True, rules=[{"kind": "error", "status": 503, "retry_after": 0, "route": "PATCH *"}]
        )
        with pytest.raises(Busy) as busy:
            await _rename_file(set_up)
        assert isinstance(busy.value, Unavailable)
        assert not isinstance(busy.value, Unanswered)


async def test_no_connection_means_that_nothing_was_sent(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        await client.me()
        lost = {"api_url": "http://127.0.0.1:1", "retry_for_s": 2.0}
    async with client_of(sandbox, CountingLimiter(), **lost) as client:
        with trio.fail_after(10), pytest.raises(Unreachable, match="cannot be reached") as failure:
            await ProjectChanges(client).create_folder(None, "New")
        assert not isinstance(failure.value, Unanswered)
        assert client.stats.total > 1
        assert isinstance(client.limiter, CountingLimiter)
        assert client.limiter.balance == 0


async def test_a_change_that_is_left_gives_its_call_back(sandbox: SandboxHandle) -> None:
    limiter = CountingLimiter()
    async with client_of(sandbox, limiter) as client:
        set_up = ClientAndChanges(sandbox, client)
        sandbox.faults(rules=[{"kind": "silence", "route": "PATCH *"}])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_rename_file, set_up)
            await sandbox.silent_calls()
            nursery.cancel_scope.cancel()
        sandbox.release()
        await set_up.changes.create_folder(None, "New", priority=NOW)
    assert limiter.balance == 0
    assert limiter.priorities == [Priority.WRITING, NOW]


async def test_changes_keep_within_the_limits(
    start_sandbox: Callable[..., SandboxHandle],
) -> None:
    sandbox = await trio.to_thread.run_sync(start_sandbox, "--spike", "8")
    async with client_of(sandbox) as client:
        changes = ProjectChanges(client)
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(changes.create_folder, None, f"Folder {number}")
        assert client.stats.by_route == {"POST folders": 9}
        assert client.stats.throttled == 0
