"""Folders, files, versions and bytes of the sandbox."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.sandbox import SandboxHandle, plain


def _file(client: httpx.Client, sandbox: SandboxHandle, document_id: int) -> dict[str, Any]:
    answer = client.get(f"/rest/v1.0/files/{document_id}", params={"project_id": sandbox.project_id})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _signed(client: httpx.Client, url: str) -> str:
    """The store's url behind a version's url."""
    answer = client.get(url)
    assert answer.status_code == 302
    return answer.headers["location"]


def test_root_folder_shows_one_level(sandbox: SandboxHandle) -> None:
    with sandbox.session() as client:
        root = client.get("/rest/v1.0/folders", params={"project_id": sandbox.project_id}).json()
        assert root["parent_id"] is None
        drawings = next(folder for folder in root["folders"] if folder["name"] == "01 Drawings")
        assert drawings["folders"] == []
        assert drawings["has_children_folders"]
        query: dict[str, str | int] = {
            "project_id": sandbox.project_id,
            "exclude_files": "true",
            "exclude_folders": "true",
        }
        bare = client.get(f"/rest/v1.0/folders/{drawings['id']}", params=query).json()
        assert "files" not in bare
        sandbox.faults(dialect={"excluded_lists": "empty"})
        empty = client.get(f"/rest/v1.0/folders/{drawings['id']}", params=query).json()
    assert (empty["files"], empty["folders"]) == ([], [])


def test_versions_in_either_order(sandbox: SandboxHandle) -> None:
    for text in ("one", "two", "three"):
        document_id = sandbox.act("put", path="/notes.txt", text=text, notes=text)["id"]
    with sandbox.session() as client:
        newest_first = _file(client, sandbox, document_id)
        assert [version["number"] for version in newest_first["file_versions"]] == [3, 2, 1]
        assert (newest_first["size"], newest_first["file_versions"][0]["notes"]) == (5, "three")
        sandbox.faults(dialect={"versions_order": "oldest"})
        assert [version["number"] for version in _file(client, sandbox, document_id)["file_versions"]] == [
            1,
            2,
            3,
        ]
        path = f"{sandbox.documents_path}/{document_id}/revisions"
        assert [revision["file_version"] for revision in client.get(path).json()["data"]] == [3, 2, 1]
        for version in newest_first["file_versions"]:
            query = {"project_id": sandbox.project_id}
            same = client.get(f"/rest/v1.0/file_versions/{version['id']}", params=query).json()
            assert same["size"] == version["size"]
            assert plain("GET", _signed(client, version["url"])).text == version["notes"]


def test_token_must_not_follow_the_redirect(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/a.txt", text="hello")["id"]
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
        assert plain("GET", url).status_code == 401
        signed = _signed(client, url)
        assert httpx.URL(signed).host != httpx.URL(url).host
        assert client.get(signed).status_code == 400
        assert plain("GET", signed).text == "hello"


def test_the_api_may_send_the_bytes_itself(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/a.txt", text="hello")["id"]
    sandbox.faults(dialect={"version_urls": "api_bytes"})
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
        part = client.get(url, headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.text) == (206, "el")
    assert plain("GET", url).status_code == 401


def test_version_urls_may_name_the_store_at_once(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/a.txt", text="hello")["id"]
    sandbox.faults(dialect={"version_urls": "storage"})
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
    assert url.startswith(sandbox.storage_url)
    assert plain("GET", url).text == "hello"


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [
        (None, 200, 0, 1000),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=990-", 206, 990, 1000),
        ("bytes=990-5000", 206, 990, 1000),
        ("bytes=-7", 206, 993, 1000),
        ("bytes=9-3", 200, 0, 1000),
        ("bytes=0-1,5-6", 200, 0, 1000),
        ("bytes=1000-", 416, 0, 0),
    ],
)
def test_ranges(sandbox: SandboxHandle, wanted: str | None, status: int, start: int, end: int) -> None:
    content = bytes(range(250)) * 4
    sandbox.faults(dialect={"version_urls": "storage"})
    document_id = sandbox.act("put", path="/r.bin", base64=base64.b64encode(content).decode())["id"]
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
    answer = plain("GET", url, headers={"Range": wanted} if wanted else {})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */1000"
        return
    assert answer.content == content[start:end]
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/1000"


def test_if_range_and_etags(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"version_urls": "storage"})
    document_id = sandbox.act("put", path="/r.bin", text="0123456789")["id"]
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
    etag = plain("HEAD", url).headers["ETag"]
    same = plain("GET", url, headers={"Range": "bytes=5-", "If-Range": etag})
    assert (same.status_code, same.text) == (206, "56789")
    other = plain("GET", url, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (other.status_code, other.text) == (200, "0123456789")
    sandbox.faults(dialect={"storage_etag": "none"}, settings={"no_range": True})
    whole = plain("GET", url, headers={"Range": "bytes=5-"})
    assert (whole.status_code, whole.text) == (200, "0123456789")
    assert "ETag" not in whole.headers
    assert "Accept-Ranges" not in whole.headers


def test_store_compresses_for_whoever_lets_it(sandbox: SandboxHandle) -> None:
    sandbox.faults(dialect={"version_urls": "storage", "storage_gzip": True})
    document_id = sandbox.act("put", path="/r.txt", text="0" * 1000)["id"]
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
    assert int(plain("GET", url).headers["Content-Length"]) < 1000
    assert int(plain("GET", url, headers={"Accept-Encoding": "identity"}).headers["Content-Length"]) == 1000


def test_urls_expire(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/a.txt", text="hello")["id"]
    with sandbox.session() as client:
        url = _file(client, sandbox, document_id)["file_versions"][0]["url"]
        signed = _signed(client, url)
        sandbox.faults(expire_urls=True, settings={"expired_status": 410})
        assert client.get(url).status_code == 410
        assert plain("GET", signed).status_code == 410
        fresh = _file(client, sandbox, document_id)["file_versions"][0]["url"]
        assert plain("GET", _signed(client, fresh)).text == "hello"
        sandbox.faults(clock_shift_s=700_000.0)
        assert plain("GET", signed).status_code == 410


def test_invented_documents_are_real_and_stay_the_same(sandbox: SandboxHandle) -> None:
    heads = {"pdf": b"%PDF-1.4", "jpg": b"\xff\xd8", "dwg": b"AC1032"}
    with sandbox.session() as client:
        items = client.get(sandbox.documents_path, params={"per_page": 300}).json()["data"]
        for kind, head in heads.items():
            file = next(item["file"] for item in items if item["name"].endswith(kind))
            url = _signed(client, file["current_version"]["url"])
            content = plain("GET", url).content
            assert content.startswith(head)
            assert len(content) == file["current_version"]["size"]
            assert plain("GET", url).content == content


def test_import_keeps_odd_names_and_bytes(sandbox: SandboxHandle, tmp_path: Path) -> None:
    odd = [
        "plain.txt",
        "with : colon",
        "trailing space ",
        "quote\"'",
        "ünïcode ☃",
        ".hidden",
        "a" * 200,
        "new\nline",
    ]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in odd:
        (tmp_path / "deep" / name).write_bytes(hashlib.sha256(name.encode()).digest())
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "not \udcff text").write_bytes(b"")
    result = sandbox.import_tree(tmp_path)
    assert (result["files"], result["folders"], len(result["skipped"])) == (len(odd) + 1, 2, 2)
    with sandbox.session() as client:
        root = client.get("/rest/v1.0/folders", params={"project_id": sandbox.project_id}).json()
        deep = next(folder for folder in root["folders"] if folder["name"] == "deep")
        query = {"project_id": sandbox.project_id}
        files = client.get(f"/rest/v1.0/folders/{deep['id']}", params=query).json()["files"]
        assert sorted(file["name"] for file in files) == sorted(odd)
        for file in files:
            content = plain("GET", _signed(client, file["file_versions"][0]["url"])).content
            assert content == hashlib.sha256(file["name"].encode()).digest()
