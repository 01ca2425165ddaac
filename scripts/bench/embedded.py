"""A sandbox in a child process: started, asked and ended."""

import contextlib
import json
import os
import select
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S = 120.0
END_S = 10.0
CONTROL_S = 120.0


class BenchFailed(Exception):
    """Something that has to be there before anything can be measured is not."""


class Sandbox:
    """A running sandbox. What its control API does is never counted as a call."""

    def __init__(self, announced: dict[str, Any]) -> None:
        self._announced = announced
        # the sandbox is on this machine: a proxy of the environment would not find it
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def environment(self) -> dict[str, str]:
        """With these variables a mount finds it."""
        names = {"API_URL": "url", "LOGIN_URL": "login_url"}
        names |= {name.upper(): name for name in ("client_id", "client_secret", "company_id", "project_id")}
        return {f"PROCOREFS_{name}": str(self._announced[key]) for name, key in names.items()}

    def calls(self) -> int:
        """API calls since `reset_calls`; logins and storage are not among them."""
        return int(self._control("calls")["total"])

    def storage(self) -> tuple[int, int]:
        """Requests to the file store since `reset_calls`, and the bytes that it sent."""
        counted = self._control("calls")
        return int(counted["other"].get("storage GET", 0)), int(counted["storage_bytes_sent"])

    def reset_calls(self) -> None:
        self._control("calls/reset", {})

    def act(self, **deed: str) -> None:
        """Let another user do something."""
        self._control("act", deed)

    def cap_pages(self, items: int | None) -> None:
        """Grant at most so many items a page; None: what it grants by default."""
        self._control("faults", {"settings": {"per_page_cap": items}})

    def granted_page(self) -> tuple[int, int]:
        """How many items a page it grants who asks for the most, and how many there are in all."""
        form = {name: self._announced[name] for name in ("client_id", "client_secret")}
        asked = urllib.parse.urlencode({"grant_type": "client_credentials", **form}).encode()
        with self._http.open(f"{self._announced['login_url']}/oauth/token", asked) as answer:
            token = json.load(answer)["access_token"]
        company, project = self._announced["company_id"], self._announced["project_id"]
        request = urllib.request.Request(
            f"{self._announced['url']}/rest/v2.0/companies/{company}/projects/{project}/documents?per_page=2000",
            headers={"Authorization": f"Bearer {token}", "Procore-Company-Id": str(company)},
        )
        with self._http.open(request, timeout=CONTROL_S) as answer:
            return int(answer.headers["Per-Page"]), int(answer.headers["Total"])

    def _control(self, name: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON it answers
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._announced['control_url']}/{name}", data)
        with self._http.open(request, timeout=CONTROL_S) as answer:
            return json.load(answer)


@contextlib.contextmanager
def sandbox(folder: Path, *options: str) -> Iterator[Sandbox]:
    """A sandbox without rate limits for as long as the context lasts. Raises BenchFailed."""
    command = [sys.executable, "-m", "procorefs.cli", "sandbox", "--hourly", "0", "--spike", "0", *options]
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        # a session of its own: Ctrl-C must reach the bench alone, for mounts go first
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=own_temporary(folder)
        )
    assert child.stdout is not None
    try:
        ready, _, _ = select.select([child.stdout], [], [], START_S)
        line = child.stdout.readline() if ready else b""
        if not line:
            raise BenchFailed(f"the sandbox did not start: {(folder / 'log').read_text()[-500:]}")
        yield Sandbox(json.loads(line))
    finally:
        end(child)
        child.stdout.close()


def own_temporary(folder: Path) -> dict[str, str]:
    """The environment with temporary files in `folder`, so that even a killed child leaves none elsewhere."""
    return clean_environment() | {"TMPDIR": str(folder)}


def clean_environment() -> dict[str, str]:
    """Ours without the user's own settings of what is measured."""
    mine = ("PROCOREFS_", "XDG_", "RCLONE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


def end(child: "subprocess.Popen[bytes]") -> None:
    """Ask a child to end, and make it."""
    child.terminate()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
