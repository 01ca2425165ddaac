"""What the sandbox breaks on purpose: rates, refusals, broken connections, silence, malformed answers."""

import httpx
import pytest
import trio

from tests.support.sandbox import ControlRefused, SandboxHandle, plain


def _me(client: httpx.Client) -> httpx.Response:
    return client.get("/rest/v1.0/me")


def _rates(answer: httpx.Response) -> tuple[int, int]:
    return int(answer.headers["X-Rate-Limit-Limit"]), int(answer.headers["X-Rate-Limit-Remaining"])


def test_headers_report_the_window_that_would_run_out_first(sandbox: SandboxHandle) -> None:
    sandbox.faults(hourly_calls=30, spike_calls=25)
    with sandbox.session() as client:
        assert _rates(_me(client)) == (25, 24)
        sandbox.faults(clock_shift_s=11.0)
        for _ in range(6):
            last = _me(client)
        assert _rates(last) == (25, 19)
        sandbox.faults(clock_shift_s=22.0)
        assert _rates(_me(client)) == (30, 22)


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
def test_spent_window_answers_429_until_its_reset(sandbox: SandboxHandle, kind: str) -> None:
    sandbox.faults(hourly_calls=0, spike_calls=3, dialect={"rate_windows": kind})
    with sandbox.session() as client:
        answers = [_me(client) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        refused = answers[-1]
        assert _rates(refused) == (3, 0)
        assert 0 < int(refused.headers["Retry-After"]) <= 11
        wait_s = int(refused.headers["X-Rate-Limit-Reset"]) - sandbox.state()["now_s"]
        assert 0 < wait_s <= 11
        sandbox.faults(clock_shift_s=float(wait_s))
        assert _me(client).status_code == 200


def test_rolling_window_frees_calls_one_by_one(sandbox: SandboxHandle) -> None:
    sandbox.faults(hourly_calls=0, spike_calls=2, dialect={"rate_windows": "rolling"})
    with sandbox.session() as client:
        _me(client)
        sandbox.faults(clock_shift_s=5.0)
        _me(client)
        assert _me(client).status_code == 429
        sandbox.faults(clock_shift_s=11.0)
        assert [_me(client).status_code for _ in range(2)] == [200, 429]


def test_another_program_spends_calls_too(sandbox: SandboxHandle) -> None:
    sandbox.faults(hourly_calls=100, spike_calls=0, use_calls=98, settings={"retry_after_with_429": False})
    with sandbox.session() as client, sandbox.session(second_user=True) as other:
        assert [_me(client).status_code for _ in range(3)] == [200, 200, 429]
        assert "Retry-After" not in _me(client).headers
        assert _me(other).status_code == 200


def test_store_and_login_are_not_limited(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"version_urls": "storage"})
    with sandbox.session() as client:
        items = client.get(sandbox.documents_path, params={"filters[file_type]": "pdf"}).json()["data"]
        sandbox.faults(hourly_calls=1, forget_calls=True)
        sandbox.reset_calls()
        for item in items:
            assert plain("GET", item["file"]["current_version"]["url"]).status_code == 200
        sandbox.token()
        calls = sandbox.calls()
    assert (calls["total"], calls["other"]["storage GET"]) == (0, len(items))


def test_refusals_for_the_next_calls_of_a_route(sandbox: SandboxHandle) -> None:
    rule = {
        "kind": "error",
        "route": "GET */folders*",
        "status": 503,
        "retry_after": 7,
        "count": 2,
        "skip": 1,
    }
    sandbox.faults(rules=[rule])
    with sandbox.session() as client:
        query = {"project_id": sandbox.project_id}
        answers = [client.get("/rest/v1.0/folders", params=query) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
        assert answers[1].headers["Retry-After"] == "7"
        assert _me(client).status_code == 200


def test_work_is_done_though_the_answer_is_lost(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "drop", "route": "POST */folders", "when": "after", "count": 1}])
    query, body = {"project_id": sandbox.project_id}, {"folder": {"name": "Lost"}}
    with sandbox.session() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/rest/v1.0/folders", params=query, json=body)
        assert client.post("/rest/v1.0/folders", params=query, json=body).status_code == 400


def test_drop_before_does_nothing(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "drop", "route": "POST */folders", "count": 1}])
    query, body = {"project_id": sandbox.project_id}, {"folder": {"name": "Lost"}}
    with sandbox.session() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/rest/v1.0/folders", params=query, json=body)
        assert client.post("/rest/v1.0/folders", params=query, json=body).status_code == 201


@pytest.mark.parametrize("content", ["text", "blob"])
def test_bodies_end_early(sandbox: SandboxHandle, content: str) -> None:
    if content == "text":
        document_id = sandbox.act("put", path="/x.bin", text="a" * 5000)["id"]
    else:
        document_id = sandbox.act("put", path="/x.bin", size_bytes=5000)["id"]
    sandbox.faults(
        dialect={"version_urls": "storage"},
        rules=[{"kind": "cut", "route": "storage GET", "after_bytes": 1234, "count": 1}],
    )
    query = {"project_id": sandbox.project_id}
    with sandbox.session() as client:
        url = client.get(f"/rest/v1.0/files/{document_id}", params=query).json()["file_versions"][0]["url"]
    received: list[bytes] = []
    with httpx.stream("GET", url) as answer:
        assert answer.headers["Content-Length"] == "5000"
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(answer.iter_raw())
    assert len(b"".join(received)) == 1234
    assert len(plain("GET", url).content) == 5000


def test_answers_that_are_no_json(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        sandbox.faults(
            rules=[{"kind": "not_json", "count": 1}, {"kind": "wrong_type", "body": "[1, 2]", "count": 1}]
        )
        # Both rules strike the first call; the later one has the last word.
        first = _me(client)
        assert first.json() == [1, 2]
        sandbox.faults(rules=[{"kind": "not_json", "count": 1}])
        assert "<html>" in _me(client).text
        assert _me(client).json()["id"] == sandbox.user_id


def test_malformed_items(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/x.bin", text="abc")["id"]
    changes = {
        "size": -1,
        "name": "a/b",
        "url": 5,
        "created_at": "yesterday",
        "description": {"$absent": True},
    }
    sandbox.faults(malformed=[{"id": document_id, "set": changes}])
    with sandbox.session() as client:
        query = {"filters[search]": "x.bin"}
        item = client.get(sandbox.documents_path, params=query).json()["data"][0]
        file = client.get(f"/rest/v1.0/files/{document_id}", params={"project_id": sandbox.project_id}).json()
    version = item["file"]["current_version"]
    assert (item["name"], item["created_at"], version["size"], version["url"]) == ("a/b", "yesterday", -1, 5)
    assert "description" not in item["file"]
    assert (file["size"], file["file_versions"][0]["size"], file["name"]) == (-1, -1, "a/b")


def test_hostile_names_and_duplicates(sandbox: SandboxHandle) -> None:
    folder = sandbox.act("create_folder", path="/Hostile")
    hostile = ["", ".", "..", "a/b", "nul\0", "x" * 300, "twice", "twice"]
    for name in hostile:
        sandbox.act("create_file", path="/Hostile", name=name, text="x")
    sandbox.act("create_folder", path="/Hostile", name="twice")
    with sandbox.session() as client:
        query = {"project_id": sandbox.project_id}
        listed = client.get(f"/rest/v1.0/folders/{folder['id']}", params=query).json()
    assert sorted(file["name"] for file in listed["files"]) == sorted(hostile)
    assert [child["name"] for child in listed["folders"]] == ["twice"]


async def test_silence_until_released(sandbox: SandboxHandle) -> None:
    token = await trio.to_thread.run_sync(sandbox.token)
    sandbox.faults(rules=[{"kind": "silence", "route": "GET /rest/v1.0/me"}])
    statuses: list[int] = []

    async def call() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.get(
                f"{sandbox.url}/rest/v1.0/me", headers={"Authorization": f"Bearer {token}"}
            )
            statuses.append(answer.status_code)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await sandbox.silent_calls(2)
            assert statuses == []
            sandbox.release()
    assert statuses == [200, 200]
    assert sandbox.state()["waiting"] == 0


async def test_silent_call_ends_when_its_client_goes(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": "storage *"}])
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                async with httpx.AsyncClient(timeout=30) as client:
                    await client.get(f"{sandbox.storage_url}/files/1")

            nursery.start_soon(call)
            await sandbox.silent_calls(1)
            nursery.cancel_scope.cancel()
        while sandbox.state()["waiting"]:
            await trio.lowlevel.checkpoint()


async def test_downloads_stall_in_the_middle_until_released(sandbox: SandboxHandle) -> None:
    content = "0123456789" * 1000
    document_id = sandbox.act("put", path="/x.bin", text=content)["id"]
    sandbox.faults(
        dialect={"version_urls": "storage"},
        rules=[{"kind": "stall", "route": "storage GET", "after_bytes": 5000}],
    )
    query = {"project_id": sandbox.project_id}
    with sandbox.session() as client:
        url = client.get(f"/rest/v1.0/files/{document_id}", params=query).json()["file_versions"][0]["url"]
    received: list[bytes] = []

    async def download() -> None:
        async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url) as answer:
            async for piece in answer.aiter_raw():
                received.append(piece)
                if len(b"".join(received)) == 5000:
                    half.set()

    half = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(download)
            await sandbox.silent_calls(1)
            await half.wait()
            sandbox.release()
    assert b"".join(received).decode() == content


async def test_silent_upload_goes_on_with_its_bytes(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        path = f"/rest/v1.1/projects/{sandbox.project_id}/uploads"
        begun = client.post(path, json={"response_filename": "x"}).json()
    sandbox.faults(rules=[{"kind": "silence", "route": "storage POST"}])
    statuses: list[int] = []

    async def send() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            files = {"file": ("x", b"abc" * 100_000)}
            answer = await client.post(begun["url"], data=begun["fields"], files=files)
            statuses.append(answer.status_code)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await sandbox.silent_calls(1)
            sandbox.release()
    assert statuses == [204]


def test_latency_and_bandwidth(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/x.bin", size_bytes=40_000)["id"]
    sandbox.faults(dialect={"version_urls": "storage"})
    query = {"project_id": sandbox.project_id}
    with sandbox.session() as client:
        url = client.get(f"/rest/v1.0/files/{document_id}", params=query).json()["file_versions"][0]["url"]
        sandbox.faults(settings={"latency_api_s": 0.2, "bandwidth_bytes_s": 200_000})
        assert _me(client).elapsed.total_seconds() >= 0.2
    slow = plain("GET", url)
    assert len(slow.content) == 40_000
    assert slow.elapsed.total_seconds() >= 0.15


def test_redirects_to_anywhere(sandbox: SandboxHandle) -> None:
    sandbox.faults(
        rules=[{"kind": "redirect", "route": "download GET", "location": "http://127.0.0.1:9/elsewhere"}]
    )
    answer = plain("GET", f"{sandbox.url}/webclients/files/1")
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.1:9/elsewhere")


def test_short_ranges(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/x.bin", text="0123456789")["id"]
    sandbox.faults(dialect={"version_urls": "storage"}, settings={"short_range_bytes": 4})
    with sandbox.session() as client:
        query = {"project_id": sandbox.project_id}
        url = client.get(f"/rest/v1.0/files/{document_id}", params=query).json()["file_versions"][0]["url"]
    part = plain("GET", url, headers={"Range": "bytes=2-8"})
    assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "2345", "bytes 2-5/10")


def test_error_shapes(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        path, query = "/rest/v1.0/files/1", {"project_id": sandbox.project_id}
        assert isinstance(client.get(path, params=query).json()["errors"], str)
        sandbox.faults(dialect={"error_shape": "message"})
        assert client.get(path, params=query).json()["message"] == "Document not found"
        sandbox.faults(dialect={"error_shape": "error"})
        assert client.get(path, params=query).json()["error"]["code"] == "404"


def test_unknown_switches_are_refused(sandbox: SandboxHandle) -> None:
    for wrong in ({"bogus": 1}, {"settings": {"bogus": 1}}, {"dialect": {"delete_status": 500}}):
        with pytest.raises(ControlRefused):
            sandbox.faults(**wrong)
    with pytest.raises(ControlRefused):
        sandbox.act("fly")
    with pytest.raises(ControlRefused):
        sandbox.act("delete", path="/not there")
