"""Uploads of the sandbox: whole and in segments, at a store that wants no token."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.sandbox import SandboxHandle, plain

SEGMENT_BYTES = 5 * 1024 * 1024 + 1


@pytest.fixture
def client(sandbox: SandboxHandle) -> Iterator[httpx.Client]:
    with sandbox.session() as client:
        yield client


def _path(sandbox: SandboxHandle) -> str:
    return f"/rest/v1.1/projects/{sandbox.project_id}/uploads"


def _begin(client: httpx.Client, sandbox: SandboxHandle, **fields: Any) -> dict[str, Any]:
    answer = client.post(_path(sandbox), json={"response_filename": "x.bin", **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _send(begun: dict[str, Any], content: bytes, **options: Any) -> httpx.Response:
    return plain("POST", begun["url"], data=begun["fields"], files={"file": ("x.bin", content)}, **options)


def _use(client: httpx.Client, sandbox: SandboxHandle, uuid: str, name: str = "x.bin") -> httpx.Response:
    body = {"file": {"name": name, "upload_uuid": uuid}}
    return client.post("/rest/v1.0/files", params={"project_id": sandbox.project_id}, json=body)


def _content(client: httpx.Client, file: dict[str, Any]) -> bytes:
    return plain("GET", client.get(file["file_versions"][0]["url"]).headers["location"]).content


def test_whole_upload_is_used_once_by_who_made_it(client: httpx.Client, sandbox: SandboxHandle) -> None:
    begun = _begin(client, sandbox, size=3)
    with sandbox.session(second_user=True) as other:
        assert _use(client, sandbox, begun["uuid"]).status_code == 400
        assert _send(begun, b"abc").status_code == 204
        assert _use(other, sandbox, begun["uuid"]).status_code == 403
        made = _use(client, sandbox, begun["uuid"])
        assert made.status_code == 201
        assert _use(client, sandbox, begun["uuid"], "again.bin").status_code == 400
    assert _content(client, made.json()) == b"abc"
    assert _send(begun, b"xyz").status_code == 403
    assert _content(client, made.json()) == b"abc"


def test_empty_file(client: httpx.Client, sandbox: SandboxHandle) -> None:
    begun = _begin(client, sandbox)
    assert _send(begun, b"").status_code == 204
    assert _use(client, sandbox, begun["uuid"]).json()["size"] == 0


def test_store_wants_no_token_and_unchanged_fields(client: httpx.Client, sandbox: SandboxHandle) -> None:
    begun = _begin(client, sandbox, size=3)
    token = {"Authorization": client.headers["Authorization"]}
    assert _send(begun, b"abc", headers=token).status_code == 400
    changed = {**begun, "fields": {**begun["fields"], "key": "other"}}
    assert _send(changed, b"abc").status_code == 403
    assert _send({**begun, "fields": {}}, b"abc").status_code == 403
    assert _send(begun, b"abcd").status_code == 400
    first = {"file": ("x.bin", b"abc"), **{name: (None, value) for name, value in begun["fields"].items()}}
    assert plain("POST", begun["url"], files=first).status_code == 400
    assert _send(begun, b"abc").status_code == 204


def test_transfer_starts_within_an_hour_and_use_within_a_week(
    client: httpx.Client, sandbox: SandboxHandle
) -> None:
    late, sent = _begin(client, sandbox), _begin(client, sandbox)
    assert _send(sent, b"abc").status_code == 204
    sandbox.faults(clock_shift_s=3601.0)
    assert _send(late, b"abc").status_code == 403
    assert client.get(f"{_path(sandbox)}/{sent['uuid']}").status_code == 200
    sandbox.faults(clock_shift_s=7 * 86_400 + 10.0)
    with sandbox.session() as later:
        assert _use(later, sandbox, sent["uuid"]).status_code == 400


def _segments(content: bytes) -> list[dict[str, Any]]:
    parts = [content[start : start + SEGMENT_BYTES] for start in range(0, len(content), SEGMENT_BYTES)]
    return [{"size": len(part), "sha256": hashlib.sha256(part).hexdigest()} for part in parts]


def test_segments(client: httpx.Client, sandbox: SandboxHandle) -> None:
    content = (b"0123456789abcdef" * (SEGMENT_BYTES // 16 + 1))[:SEGMENT_BYTES] + b"the rest"
    segments = _segments(content)
    begun = _begin(client, sandbox, segments=segments)
    path = f"{_path(sandbox)}/{begun['uuid']}"
    assert begun["status"] == "ready"
    done = []
    for index, (segment, part) in enumerate(
        zip(begun["segments"], (content[:SEGMENT_BYTES], b"the rest"), strict=True)
    ):
        wrong = plain("PUT", segment["url"], content=part[::-1], headers=segment["headers"])
        assert wrong.status_code == 400
        assert plain("PUT", segment["url"], content=part).status_code == 403
        early = client.patch(path, json={"segments": [{**one, "etag": "x"} for one in segments]})
        assert early.status_code == 422
        sent = plain("PUT", segment["url"], content=part, headers=segment["headers"])
        assert sent.status_code == 200
        done.append({**segments[index], "etag": sent.headers["ETag"].strip('"')})
    assert client.get(path).json()["status"] == "receiving"
    assert _use(client, sandbox, begun["uuid"]).status_code == 400
    assert client.patch(path, json={"segments": list(reversed(done))}).status_code == 422
    finished = client.patch(path, json={"segments": done})
    assert (finished.status_code, finished.json()["status"]) == (200, "complete")
    made = _use(client, sandbox, begun["uuid"])
    assert made.json()["size"] == len(content)
    assert _content(client, made.json()) == content


def test_segments_that_arrive_together_all_count(client: httpx.Client, sandbox: SandboxHandle) -> None:
    content = bytes(3 * SEGMENT_BYTES) + b"the rest"
    segments = _segments(content)
    begun = _begin(client, sandbox, segments=segments)

    def put(index: int) -> str:
        segment = begun["segments"][index]
        part = content[index * SEGMENT_BYTES :][: segment["size"]]
        return plain("PUT", segment["url"], content=part, headers=segment["headers"]).headers["ETag"]

    with ThreadPoolExecutor() as threads:
        etags = list(threads.map(put, range(len(segments))))
    done = [{**one, "etag": etag.strip('"')} for one, etag in zip(segments, etags, strict=True)]
    finished = client.patch(f"{_path(sandbox)}/{begun['uuid']}", json={"segments": done})
    assert finished.status_code == 200, finished.text


def test_segments_are_big_enough_and_well_described(client: httpx.Client, sandbox: SandboxHandle) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    wrong: list[Any] = [
        [{"size": 10, "sha256": digest}, {"size": 10, "sha256": digest}],
        [{"size": SEGMENT_BYTES - 1, "sha256": digest}, {"size": 10, "sha256": digest}],
        [{"size": 10, "sha256": "short"}],
        [{"size": 10}],
        [],
    ]
    for segments in wrong:
        answer = client.post(_path(sandbox), json={"response_filename": "x", "segments": segments})
        assert answer.status_code == 400, segments
    assert client.post(_path(sandbox), json={}).status_code == 400
    sandbox.forget_violations()


def test_quoted_etags_and_sizes_as_text(client: httpx.Client, sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"etag_quotes": "refused", "segment_size_as_text": True})
    segments = _segments(b"small")
    begun = _begin(client, sandbox, segments=segments)
    assert begun["segments"][0]["size"] == "5"
    url, headers = begun["segments"][0]["url"], begun["segments"][0]["headers"]
    etag = plain("PUT", url, content=b"small", headers=headers).headers["ETag"]
    path = f"{_path(sandbox)}/{begun['uuid']}"
    assert client.patch(path, json={"segments": [{**segments[0], "etag": etag}]}).status_code == 422
    sandbox.faults(dialect={"etag_quotes": "either"})
    assert client.patch(path, json={"segments": [{**segments[0], "etag": etag}]}).status_code == 200


def test_segments_cannot_be_finished_after_a_week(client: httpx.Client, sandbox: SandboxHandle) -> None:
    segments = _segments(b"small")
    begun = _begin(client, sandbox, segments=segments)
    sandbox.faults(clock_shift_s=7 * 86_400 + 10.0)
    with sandbox.session() as later:
        done = {"segments": [{**segments[0], "etag": "x"}]}
        assert later.patch(f"{_path(sandbox)}/{begun['uuid']}", json=done).status_code == 410


def test_answer_lost_at_the_store_leaves_the_bytes_there(
    client: httpx.Client, sandbox: SandboxHandle
) -> None:
    begun = _begin(client, sandbox)
    sandbox.faults(rules=[{"kind": "drop", "route": "storage POST", "when": "after", "count": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        _send(begun, b"abc")
    assert _send(begun, b"abc").status_code == 204
    assert _use(client, sandbox, begun["uuid"]).json()["size"] == 3
