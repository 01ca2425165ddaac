"""`procorefs serve` beside a real mount: the page, an action on it, the metrics, and its end."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.mounting import Home, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

PORT = 18_911


@pytest.fixture
def address(home: Home) -> Iterator[str]:
    """The address that the command prints first."""
    with subprocess.Popen(
        [sys.executable, "-m", "procorefs.cli", "serve", "--port", str(PORT)],
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
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


def test_a_port_in_use_is_said(home: Home, address: str) -> None:
    with httpx.Client(base_url=address.split("/?")[0]) as client:
        assert get(client, "/").status_code == 401
    second = home.procorefs("serve", "--port", str(PORT))
    assert second.returncode == 1
    assert "give another one with --port" in second.stderr
    assert list(home.directory.rglob("serve.json")), "the first one can still be opened"
