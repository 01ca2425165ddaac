"""`procorefs sandbox` as a command: options, data directory, signals, messages; and its HTTP on the wire."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.sandbox import CONTROL_TIMEOUT_S, ROOT, SandboxHandle, plain, running_sandbox


def _documents(handle: SandboxHandle) -> dict[str, int]:
    """Size by name of all files."""
    with handle.session() as client:
        query: dict[str, str | int] = {"per_page": 2000, "filters[document_type]": "file"}
        items = client.get(handle.documents_path, params=query).json()["data"]
    return {item["name"]: item["file"]["current_version"]["size"] for item in items}


def _failing(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "procorefs.cli.trial.sandbox", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_data_directory_keeps_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept.txt").write_text("kept")
    options = ("--data", str(tmp_path / "data"), "--seed", "50", "--import", str(source))
    with running_sandbox(*options) as first:
        before = _documents(first)
        token, secret = first.token(), first.client_secret
    with running_sandbox(*options) as second:
        assert second.client_secret == secret
        assert _documents(second) == before
        answer = plain("GET", f"{second.url}/rest/v1.0/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    assert before["kept.txt"] == 4


def test_published_rates_are_the_default(start_sandbox: Callable[..., SandboxHandle]) -> None:
    handle = start_sandbox()
    with handle.session() as client:
        answer = client.get("/rest/v1.0/me")
    assert (answer.headers["X-Rate-Limit-Limit"], answer.headers["X-Rate-Limit-Remaining"]) == ("25", "24")
    assert handle.state()["hourly_calls"] == 3600


def test_big_file_streams_with_ranges(start_sandbox: Callable[..., SandboxHandle]) -> None:
    handle = start_sandbox("--big-file", "8", "--version-urls", "storage")
    with handle.session() as client:
        query = {"filters[search]": "federated"}
        version = client.get(handle.documents_path, params=query).json()["data"][0]["file"]["current_version"]
    assert version["size"] == 8 * 1024 * 1024
    with httpx.Client(timeout=CONTROL_TIMEOUT_S) as client:
        whole = client.get(version["url"]).content
        assert len(whole) == version["size"]
        assert whole[5 * 1024 * 1024 :][:16] == b"%016d" % 5
        part = client.get(version["url"], headers={"Range": "bytes=3000000-6000000"})
        assert part.content == whole[3000000:6000001]


def test_seed_is_the_same_twice_and_of_the_size_asked_for(
    start_sandbox: Callable[..., SandboxHandle],
) -> None:
    first, second = start_sandbox("--seed", "700"), start_sandbox("--seed", "700")
    assert _documents(first) == _documents(second)
    assert 690 <= first.state()["documents"] - 2 <= 700
    assert _documents(start_sandbox("--seed", "700", "--random-seed", "2")) != _documents(first)


def test_signals_end_it_quietly() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with running_sandbox() as handle:
            handle.process.send_signal(number)
            assert handle.process.wait(timeout=10) == 0


def test_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failed = _failing("--port", str(taken.getsockname()[1]))
    assert failed.returncode == 1
    assert "Choose another with --port" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_damaged_data_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "procore.sqlite").write_bytes(b"no database" * 1000)
    failed = _failing("--data", str(tmp_path))
    assert failed.returncode == 1
    assert str(tmp_path) in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[]", "no path /rest/v1.0/me"),
        (
            b'{"openapi": "3.0.0", "info": {"title": "Pets", "version": "1"}, "paths": {}}',
            "no path /rest/v1.0/me",
        ),
        (b'{"openapi": "3.0.0", "paths": {"/rest/v1.0/me": {}}}', "no valid OpenAPI description"),
    ],
    ids=["empty", "binary", "list", "another", "wrong"],
)
def test_a_wrong_description_is_one_sentence_before_anything_is_ready(
    tmp_path: Path, text: bytes, says: str
) -> None:
    pytest.importorskip("openapi_core")
    description = tmp_path / "description.json"
    description.write_bytes(text)
    command = [sys.executable, "-m", "procorefs.cli", "sandbox", "--openapi", str(description)]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1)
    assert f"{description} cannot be used: " in failed.stderr
    assert says in failed.stderr


def _raw(url: str, sent: bytes) -> bytes:
    target = urlsplit(url)
    with socket.create_connection((target.hostname, target.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def test_no_other_user_reads_its_files(tmp_path: Path) -> None:
    with running_sandbox("--data", str(tmp_path / "data")):
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert [
            path.name for path in files if path.stat().st_mode & 0o077 and path.parent.name != "content"
        ] == []
        assert (tmp_path / "data" / "content").stat().st_mode & 0o777 == 0o700


def _control(sandbox: SandboxHandle) -> str:
    return urlsplit(sandbox.control_url).path


def test_only_who_knows_the_key_controls_it(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """Every user and every page in a browser reaches the port; an import would show them the user's files."""
    (tmp_path / "private.txt").write_text("private")
    wish = json.dumps({"path": str(tmp_path), "into": "/"}).encode()
    for path in ("/sandbox/import", "/sandbox/x/import", "/sandbox//import"):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(wish)}\r\n\r\n"
        assert _raw(sandbox.url, head.encode() + wish).startswith(b"HTTP/1.1 404")
    for path in ("/sandbox/state", "/sandbox/x/state"):
        answer = _raw(sandbox.url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404")
        assert sandbox.client_secret.encode() not in answer
    assert "/private.txt" not in sandbox.inventory()["files"]


def test_requests_in_one_packet_are_answered_in_turn(sandbox: SandboxHandle) -> None:
    one = f"GET {_control(sandbox)}/calls HTTP/1.1\r\nHost: x\r\n".encode() + b"%s\r\n"
    received = _raw(sandbox.url, one % b"" + one % b"Connection: close\r\n")
    assert received.count(b"HTTP/1.1 200") == 2


def test_nonsense_is_a_400(sandbox: SandboxHandle) -> None:
    assert _raw(sandbox.url, b"what is this\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_expect_continue_is_answered(sandbox: SandboxHandle) -> None:
    body = json.dumps({"documents": 0}).encode()
    head = (
        f"POST {_control(sandbox)}/reset HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
    ).encode()
    received = _raw(sandbox.url, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert b"HTTP/1.1 200" in received


def test_the_checker_finds_wrong_requests_and_answers(sandbox: SandboxHandle) -> None:
    assert sandbox.violations() == []
    with sandbox.session() as client:
        client.get("/rest/v1.0/folders", params={"project_id": "abc"})
        assert len(sandbox.violations()) == 1
        sandbox.forget_violations()
        sandbox.act(
            "set_field", path="/01 Drawings", field="301", value={"data_type": "decimal", "value": "x"}
        )
        client.get(sandbox.documents_path, params={"filters[search]": "01 Drawings"})
    assert any(
        "custom_fields" in violation or "decimal" in violation or "'x'" in violation
        for violation in sandbox.violations()
    )
    sandbox.forget_violations()


def test_a_reset_forgets_all_but_the_secrets(sandbox: SandboxHandle) -> None:
    token = sandbox.token()
    sandbox.act("put", path="/x.txt", text="x")
    sandbox.reset(30)
    assert sandbox.token() != token
    assert sandbox.state()["documents"] <= 32
    assert "x.txt" not in _documents(sandbox)
    answer = plain("GET", f"{sandbox.url}/rest/v1.0/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_big_files_of_others_are_numbered(sandbox: SandboxHandle) -> None:
    document_id = sandbox.act("put", path="/big.bin", size_bytes=6 * 1024 * 1024 + 5)["id"]
    with sandbox.session() as client:
        query = {"project_id": sandbox.project_id}
        version = client.get(f"/rest/v1.0/files/{document_id}", params=query).json()["file_versions"][0]
        signed = client.get(version["url"]).headers["location"]
    content = plain("GET", signed).content
    assert (version["size"], len(content)) == (6 * 1024 * 1024 + 5, 6 * 1024 * 1024 + 5)
    assert content[3 * 1024 * 1024 :].startswith(b"%016d" % 3)
