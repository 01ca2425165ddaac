"""`procorefs serve` beside a real mount: the page, an action on it, the metrics, and its end."""

import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from procorefs.cli.web.access import COOKIE
from tests.support.mounting import Home, wait_until
from tests.support.other_user import answer_to_other, connect_as_other, needs_other_user
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

PORT = 18_911


def serving(home: Home, *options: str) -> subprocess.Popen[str]:
    """`procorefs serve`; its first line is the address."""
    return subprocess.Popen(
        [sys.executable, "-m", "procorefs.cli", "serve", *(options or ("--port", str(PORT)))],
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def address(home: Home) -> Iterator[str]:
    """The address that the command prints first."""
    with serving(home) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not list(home.directory.rglob("serve.json"))


def get(client: httpx.Client, path: str) -> httpx.Response:
    """The answer, once the server listens."""
    answers: list[httpx.Response] = []

    def is_answered() -> bool:
        try:
            answers.append(client.get(path))
        except httpx.ConnectError:
            return False
        return True

    wait_until(is_answered, "the page to be served")
    return answers[-1]


def test_a_failed_change_is_discarded_on_the_page(
    mount_project: Callable[..., MountedProject], sandbox: SandboxHandle, address: str
) -> None:
    project = mount_project("freshness=3600")
    project.mounted.expect_warning("was refused")
    sandbox.faults(dialect={"empty_files": "refused_at_file"})
    (project.path / "empty.txt").touch()
    assert [item.path for item in project.settle()] == ["empty.txt"]
    with httpx.Client(base_url=address.split("/?")[0], follow_redirects=True) as client:
        page = get(client, "/?" + address.split("?")[1])
        assert str(project.path) in page.text
        assert "Procore does not take empty files" in page.text
        metrics = client.get("/metrics").text
        assert f'procorefs_outbox_changes{{project="{sandbox.project_id}",state="failed"}} 1.0' in metrics
        key = re.search(r'name="mount" value="(\d+)"', page.text)
        assert key is not None
        done = client.post("/act", data={"action": "discard", "mount": key[1], "path": "empty.txt"})
        assert done.status_code == 200
    assert project.settle() == []
    assert not (project.path / "empty.txt").exists()


@needs_other_user
def test_another_user_who_knows_the_address_is_refused(home: Home, address: str) -> None:
    with httpx.Client(base_url=address.split("/?")[0]) as client:
        logged_in = get(client, "/?" + address.split("?")[1])
        assert logged_in.status_code == 303
        cookie = f"{COOKIE}={client.cookies[COOKIE]}"
        assert client.get("/").status_code == 200
    for head in (f"GET /?{address.split('?')[1]} HTTP/1.1", f"GET / HTTP/1.1\r\nCookie: {cookie}"):
        # without a check of the connection itself, a header names another client
        forged = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http"
        request = f"{head}\r\nHost: 127.0.0.1:{PORT}\r\n{forged}\r\nConnection: close\r\n\r\n"
        answer = answer_to_other("127.0.0.1", PORT, request.encode())
        assert answer.startswith(b"HTTP/1.1 403 ")


def test_open_knows_when_the_server_was_killed(home: Home) -> None:
    """Another user may listen at its port now."""
    with serving(home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
    assert list(home.directory.rglob("serve.json"))
    opened = home.procorefs("open", env={"BROWSER": "true"})
    assert "the status page is not served" in opened.stderr


def test_a_second_server_is_refused(home: Home, address: str) -> None:
    with httpx.Client(base_url=address.split("/?")[0]) as client:
        assert get(client, "/").status_code == 401
    second = home.procorefs("serve", "--port", str(PORT))
    assert second.returncode == 1
    assert f"already served at port {PORT}" in second.stderr
    assert list(home.directory.rglob("serve.json")), "the first one can still be opened"


@pytest.fixture
def socket_file(home: Home) -> Iterator[Path]:
    """A socket file at which the page is served."""
    file = home.directory / "page.sock"
    with serving(home, "--socket", str(file)) as process:
        assert process.stdout is not None
        assert str(file) in process.stdout.readline()
        yield file
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not file.exists()


def through(file: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(file)), base_url="http://localhost:8911")


def test_the_page_is_served_at_a_socket_file_of_its_user(
    mount_project: Callable[..., MountedProject], home: Home, socket_file: Path
) -> None:
    project = mount_project()
    assert stat.S_IMODE(socket_file.stat().st_mode) == 0o600
    opened = home.procorefs("open", env={"BROWSER": "true"})
    assert opened.returncode == 1
    code = re.search(r"http://127\.0\.0\.1:8911(/\?code=\S+)", opened.stderr)
    assert code is not None
    with through(socket_file) as client:
        assert get(client, "/").status_code == 401
        assert get(client, code[1]).status_code == 303
        assert str(project.path) in client.get("/").text
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", 8911)).close()


@needs_other_user
def test_another_user_cannot_connect_to_the_socket_file(socket_file: Path) -> None:
    with through(socket_file) as client:
        assert get(client, "/").status_code == 401
    assert connect_as_other(socket_file) == "Permission denied"
    socket_file.chmod(0o666)  # else this would not show that the mode refuses
    assert connect_as_other(socket_file) == ""


def test_a_socket_file_of_a_killed_server_is_replaced_and_of_a_running_one_is_kept(home: Home) -> None:
    file = home.directory / "page.sock"
    with serving(home, "--socket", str(file)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
    assert file.exists()
    with serving(home, "--socket", str(file)) as process, through(file) as client:
        assert process.stdout is not None
        process.stdout.readline()
        assert get(client, "/").status_code == 401
        for serve_json in home.directory.rglob("serve.json"):
            serve_json.unlink()
        second = home.procorefs("serve", "--socket", str(file))
        assert "Address already in use" in second.stderr
        assert get(client, "/").status_code == 401
        process.send_signal(signal.SIGINT)
        process.wait(30)
    file.write_text("a file of somebody")
    third = home.procorefs("serve", "--socket", str(file))
    assert "File exists" in third.stderr
    assert file.read_text() == "a file of somebody"
