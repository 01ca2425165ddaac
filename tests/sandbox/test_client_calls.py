"""The client's calls against the sandbox: its answers, its faults, and every choice at an open question."""

from typing import Any

import pytest
import trio

from procorefs.limiter import Priority
from procorefs.procore.api.client import Client, open_client, time_range
from procorefs.procore.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    ProcoreError,
    Silent,
    TooLarge,
    Unavailable,
)
from procorefs.procore.wire.models import CompanyId, Document, DocumentId, Kind, ProjectId
from tests.support.api_client import NOW, CountingLimiter, client_of, put_file, settings
from tests.support.raw_server import http, raw_server
from tests.support.sandbox import SandboxHandle

INDEX = "GET /rest/v2.0/companies/{company_id}/projects/{project_id}/documents"
ANY_INDEX = "GET /rest/*/documents"
ME = "GET /rest/v1.0/me"


async def everything(client: Client, per_page: int = 2000) -> list[Document]:
    """All pages of the index."""
    found: list[Document] = []
    page: int | None = 1
    while page is not None:
        read = await client.documents_page(
            page=page, per_page=per_page, sort="name", priority=Priority.REFRESH
        )
        assert read.refused == 0
        found += read.items
        page, per_page = read.next_page, read.per_page or per_page
    return found


async def test_who_where_and_what(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        assert (await client.me()).id == sandbox.user_id
        assert sandbox.company_id in [company.id for company in await client.companies()]
        projects = await client.projects(CompanyId(sandbox.company_id))
        assert sandbox.project_id in [project.id for project in projects]
        assert await client.company_name(priority=NOW)
        assert client.stats.by_route["GET me"] == 1
        assert client.stats.total == sandbox.calls()["total"]


async def test_the_three_forms_of_a_document_agree(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        listed = {document.id: document for document in await everything(client)}
        root = await client.folder(None, priority=NOW)
        assert root.folder.parent_id is None
        for child in root.children:
            same = listed[child.id]
            assert (child.name, child.kind, child.parent_id) == (same.name, same.kind, root.folder.id)
            assert child.updated_at_s == same.updated_at_s
        plan = next(document for document in listed.values() if document.version)
        assert plan.version is not None
        alone = await client.file(plan.id, priority=NOW)
        version = await client.file_version(plan.version.id, priority=NOW)
        assert alone.version is not None
        assert alone.version.id == version.id == plan.version.id
        assert alone.version.size_bytes == version.size_bytes == plan.version.size_bytes
        below = next(child for child in root.children if child.kind is Kind.FOLDER)
        deeper = await client.folder(below.id, priority=NOW)
        assert {child.id for child in deeper.children} == {
            d.id for d in listed.values() if d.parent_id == below.id
        }


@pytest.mark.parametrize("lists", ["both", "without_company", "none"])
@pytest.mark.parametrize("cap", [None, 70])
async def test_the_index_by_every_route_and_page_size(
    sandbox: SandboxHandle, lists: str, cap: int | None
) -> None:
    async with client_of(sandbox) as client:
        expected = await everything(client)
    sandbox.faults(dialect={"documents_lists": lists}, settings={"per_page_cap": cap})
    sandbox.reset_calls()
    async with client_of(sandbox) as client:
        found = await everything(client)
    if lists == "none":  # the folder reads do not list the folder itself
        expected = [document for document in expected if document.parent_id is not None]
    assert [(d.id, d.name, d.parent_id, d.kind) for d in found] == [
        (d.id, d.name, d.parent_id, d.kind) for d in expected
    ]
    assert len(expected) >= 200
    assert not any("/v1.0/" in route for route in sandbox.calls()["by_route"])


async def test_without_any_list_nothing_is_taken_for_empty(sandbox: SandboxHandle) -> None:
    """Neither is a deprecated list called, nor counts a list that is not there as one without documents."""
    sandbox.faults(dialect={"documents_lists": "none", "folder_reads": False})
    sandbox.reset_calls()
    async with client_of(sandbox) as client:
        with pytest.raises(NotFound):
            await everything(client)
        assert set(sandbox.calls()["by_route"]) == {
            "GET /rest/v2.0/companies/{company_id}/projects/{project_id}/documents",
            "GET /rest/v2.0/projects/{project_id}/documents",
            "GET /rest/v2.0/companies/{company_id}/projects/{project_id}/folders",
        }


async def test_all_that_is_below_a_folder(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        everywhere = await everything(client)
        folder = next(d for d in everywhere if d.kind is Kind.FOLDER and d.name.startswith("01"))
        expected = {document.id for document in await client.below(folder.id)}
        found: set[DocumentId] = set()
        number: int | None = 1
        while number is not None:
            page = await client.below_page(folder.id, page=number, per_page=10, priority=NOW)
            assert page.total == len(expected)
            found |= {document.id for document in page.items}
            number = page.next_page
    assert found == expected
    assert len(found) > 10


async def test_a_total_is_never_paged_by(sandbox: SandboxHandle) -> None:
    sandbox.faults(settings={"per_page_cap": 30}, dialect={"documents_total": "capped"})
    async with client_of(sandbox) as client:
        assert len(await everything(client)) == 202


@pytest.mark.parametrize("view", [{}, {"private_below": False}])
async def test_what_lies_in_a_private_folder_counts_as_private(
    sandbox: SandboxHandle, view: dict[str, Any]
) -> None:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/Secret")
    sandbox.act("put", path="/Secret/a.txt", text="x")
    for op in ("private", "grant"):
        sandbox.act(op, path="/Secret")
    sandbox.faults(dialect={**view, "documents_lists": "none"})
    async with client_of(sandbox) as client:
        found = {document.name: document.private for document in await everything(client)}
    assert found == {"Secret": True, "a.txt": True, "Recycle Bin": False}


async def test_a_missing_route_is_asked_for_once(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"documents_lists": "none"}, settings={"per_page_cap": 50})
    async with client_of(sandbox) as client:
        found = await everything(client)
    pages = -(-len(found) // 50)
    assert sandbox.calls()["total"] == pages + 2


async def test_changes_since_a_moment_and_the_bin(sandbox: SandboxHandle) -> None:
    file_id = put_file(sandbox, b"x", "new.txt")
    async with client_of(sandbox) as client:
        (new,) = [d for d in await everything(client) if d.id == file_id]
        page = await client.documents_page(
            page=1, updated_from_s=new.updated_at_s, updated_to_s=None, priority=Priority.REFRESH
        )
        assert file_id in [document.id for document in page.items]
        assert len(page.items) < 200
        assert page.items[0].updated_at_s >= page.items[-1].updated_at_s
        sandbox.act("delete", id=file_id)
        page = await client.documents_page(page=1, in_recycle_bin=True, priority=Priority.REFRESH)
        assert [document.deleted for document in page.items if document.id == file_id] == [True]
        root = await client.folder(None, priority=NOW)
        below = next(child for child in root.children if child.kind is Kind.FOLDER)
        page = await client.documents_page(page=1, folder_id=below.id, priority=NOW)
        assert 0 < len(page.items) < 200


async def test_a_list_that_is_too_large_is_asked_for_in_smaller_pages(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        expected = [document.id for document in await everything(client)]
        rule = {"kind": "error", "route": INDEX, "status": 408, "count": 2}
        sandbox.faults(rules=[rule])
        page = await client.documents_page(page=1, sort="name", priority=NOW)
        assert page.per_page == 100  # the common cap, after 2,000 and 500
        # In the middle of a walk the pages keep their size for the caller.
        sandbox.faults(rules=[{**rule, "count": 1, "match": "per_page=60"}])
        third = await client.documents_page(page=3, per_page=60, sort="name", priority=NOW)
        assert [document.id for document in third.items] == expected[120:180]
        assert (third.per_page, third.next_page) == (60, 4)
        sandbox.faults(rules=[{**rule, "status": 406, "count": None}])
        with pytest.raises(TooLarge):
            await client.documents_page(page=1, priority=NOW)


@pytest.mark.parametrize("shape", ["errors", "message", "error"])
async def test_refusals_in_every_shape(sandbox: SandboxHandle, shape: str) -> None:
    sandbox.faults(dialect={"error_shape": shape})
    async with client_of(sandbox) as client:
        with pytest.raises(NotFound, match="Could not look up the file: "):
            await client.file(DocumentId(999), priority=NOW)
    sandbox.act("membership", user="first", level="none")
    async with client_of(sandbox) as client:
        with pytest.raises((Forbidden, NotFound)):
            await client.documents_page(page=1, priority=NOW)


async def test_an_unknown_project_is_one_clear_sentence(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox, project_id=ProjectId(5)) as client:
        with pytest.raises(ProcoreError, match="Could not list the documents of project 5: "):
            await client.documents_page(page=1, priority=NOW)
    async with client_of(sandbox, project_id=None) as client:
        with pytest.raises(Invalid, match="No company and project"):
            await client.folder(None, priority=NOW)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "error", "status": 500, "count": 2},
        {"kind": "error", "status": 502, "count": 1},
        {"kind": "error", "status": 503, "count": 1, "retry_after": 1},
        {"kind": "error", "status": 429, "count": 1, "retry_after": 1},
        {"kind": "drop", "count": 2},
        {"kind": "cut", "count": 1, "after_bytes": 100},
    ],
    ids=lambda rule: f"{rule['kind']} {rule.get('status', '')}",
)
async def test_passing_failures_are_got_over(sandbox: SandboxHandle, rule: dict[str, Any]) -> None:
    async with client_of(sandbox) as client:
        await client.me()
        sandbox.faults(rules=[{**rule, "route": INDEX}])
        page = await client.documents_page(page=1, priority=NOW)
        assert page.total is not None
        assert page.total >= 200
        assert client.stats.by_route["GET documents"] == rule["count"] + 1
        assert client.stats.throttled == (rule.get("status") == 429)


async def test_a_failure_that_does_not_pass_is_given_up(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "error", "status": 500, "route": ME}])
    async with client_of(sandbox, retry_for_s=1.0) as client:
        with trio.fail_after(10), pytest.raises(Unavailable, match="HTTP 500"):
            await client.me()
        assert client.stats.by_route["GET me"] > 1


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "not_json"},
        {"kind": "wrong_type", "body": "[]"},
        {"kind": "wrong_type", "body": '{"id": -1}'},
        {"kind": "wrong_type", "body": "null"},
    ],
)
async def test_nonsense_is_one_clear_sentence_and_not_repeated(
    sandbox: SandboxHandle, rule: dict[str, Any]
) -> None:
    sandbox.faults(rules=[{**rule, "route": ME}])
    async with client_of(sandbox) as client:
        with pytest.raises(Malformed, match="Could not ask who is logged in: "):
            await client.me()
        assert client.stats.total == 1


async def test_a_broken_document_does_not_break_its_page(sandbox: SandboxHandle) -> None:
    ids = [put_file(sandbox, b"x", f"{number}.txt") for number in range(4)]
    wishes = [{"size": -5}, {"url": 5}, {"name": {"$absent": True}}, {"name": "a/b"}]
    sandbox.faults(malformed=[{"id": i, "set": wish} for i, wish in zip(ids, wishes, strict=True)])
    async with client_of(sandbox) as client:
        page = await client.documents_page(page=1, priority=NOW)
    found = {document.id: document for document in page.items}
    assert page.total == len(page.items) + 1
    assert page.refused == 1
    assert "size" in found[ids[0]].defect
    assert "address" in found[ids[1]].defect
    assert ids[2] not in found
    assert (found[ids[3]].name, found[ids[3]].defect) == ("a/b", "")


async def test_a_silent_server_is_left_and_can_be_left_at_once(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": ME}])
    async with client_of(sandbox, silence_s=0.5) as client:
        with trio.fail_after(10), pytest.raises(Silent, match="sent nothing"):
            await client.me()
        assert client.stats.total == 1
    async with client_of(sandbox) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.me)
        await sandbox.silent_calls()
        began_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s < 2
    sandbox.release()


async def test_no_network_is_one_clear_sentence(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        await client.me()
    lost: dict[str, Any] = {
        "api_url": "http://127.0.0.1:1",
        "login_url": "http://127.0.0.1:1",
        "retry_for_s": 0.5,
    }
    async with client_of(sandbox, **lost) as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)"):
            await client.me()


@pytest.mark.parametrize("url", ["http://api.example", "ftp://127.0.0.1", "api.example", ""])
async def test_an_address_without_tls_is_refused(sandbox: SandboxHandle, url: str) -> None:
    with pytest.raises(Invalid, match="must begin with https"):
        async with open_client(settings(sandbox, api_url=url)):
            raise AssertionError("an unsafe address was taken")


async def test_a_proxy_of_the_environment_is_used_but_not_for_loopback(
    sandbox: SandboxHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = http("403 Forbidden", {"Content-Length": "0"})
    async with raw_server(lambda _head: refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://me:pass@"))
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with client_of(sandbox) as client:
            await client.me()
        assert proxy.requests == []
        elsewhere = {"login_url": "https://login.example", "retry_for_s": 0.1}
        async with client_of(sandbox, None, **elsewhere) as client:
            with pytest.raises(Unavailable, match=r"login\.example"):
                await client.me()
        assert proxy.requests[0].startswith("CONNECT login.example:443")
        assert "proxy-authorization: basic" in proxy.requests[0].lower()


@pytest.mark.parametrize("proxy", ["nonsense://x", "http://x:y", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_is_one_sentence(
    sandbox: SandboxHandle, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    async with client_of(sandbox, None, login_url="https://login.example") as client:
        with pytest.raises(Invalid, match="HTTPS_PROXY"):
            await client.me()


async def test_each_call_goes_through_the_limiter_and_comes_back(sandbox: SandboxHandle) -> None:
    limiter = CountingLimiter()
    sandbox.faults(rules=[{"kind": "drop", "route": ME, "count": 1}, {"kind": "silence", "route": INDEX}])
    async with client_of(sandbox, limiter) as client:
        await client.me(priority=Priority.WRITING)
        with pytest.raises(NotFound):
            await client.file(DocumentId(999), priority=NOW)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.documents_page(page=1, priority=NOW))
            await sandbox.silent_calls()
            nursery.cancel_scope.cancel()
        assert limiter.balance == 0
        assert limiter.priorities == [Priority.WRITING, Priority.WRITING, NOW, NOW]
        assert client.stats.total == 4


async def test_the_limits_in_the_headers_are_kept_without_a_single_429(start_sandbox: Any) -> None:
    async def more_than_a_window_takes(windows: str) -> None:
        sandbox: SandboxHandle = await trio.to_thread.run_sync(start_sandbox, "--spike", "8")
        sandbox.faults(dialect={"rate_windows": windows})
        async with client_of(sandbox) as client:
            await client.me()
            async with trio.open_nursery() as nursery:
                for _ in range(11):
                    nursery.start_soon(client.me)
            assert client.limiter.snapshot().spike.limit == 8
            assert client.stats.throttled == 0
        assert "429" not in sandbox.calls()["api_statuses"]

    async def another_program_takes_the_rest() -> None:
        sandbox: SandboxHandle = await trio.to_thread.run_sync(start_sandbox, "--spike", "8")
        async with client_of(sandbox) as client:
            await client.me()
            sandbox.faults(use_calls=6)
            await client.me()
            began_s = trio.current_time()
            assert client.limiter.would_wait(NOW)
            await client.me()
            assert trio.current_time() - began_s > 5
        assert "429" not in sandbox.calls()["api_statuses"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another_program_takes_the_rest)
        nursery.start_soon(more_than_a_window_takes, "fixed")
        nursery.start_soon(more_than_a_window_takes, "rolling")


def test_ranges_of_time_have_both_ends() -> None:
    assert time_range(1_483_565_238, 1_483_565_239) == "2017-01-04T21:27:18Z...2017-01-04T21:27:19Z"
    assert time_range(None, 1).startswith("1970-01-01T00:00:00Z...")
    assert time_range(5, None) > "1970-01-01T00:00:05Z...2026"
