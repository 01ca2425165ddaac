"""An embedded Procore in a child process, for tests: start it, break it, act in it as somebody else.

Fixtures (a test module says `pytest_plugins = ["tests.support.sandbox"]` or the conftest does):
- `sandbox`: a fresh sandbox without rate limits, with a project of 200 documents, checked against the OpenAPI
  description; one process serves all tests, its content is made anew for each.
- `start_sandbox(*options)`: starts a further one with options of `procorefs sandbox`; ended with the test.

Faults, for instance (all of them: procorefs/sandbox/faults/switches.py, faults.py, dialect.py):
    sandbox.faults(rules=[{"kind": "error", "route": "GET */folders*", "status": 503, "retry_after": 1, "count": 2}])
    sandbox.faults(rules=[{"kind": "cut", "route": "storage GET", "after_bytes": 1000, "count": 1}])
    sandbox.faults(rules=[{"kind": "drop", "route": "POST */files", "when": "after", "count": 1}])
    sandbox.faults(rules=[{"kind": "silence", "route": "storage *"}]); await sandbox.silent_calls(); sandbox.release()
    sandbox.faults(settings={"per_page_cap": 100, "no_range": True}, dialect={"root_in_list": False})
    sandbox.faults(malformed=[{"path": "/01 Drawings", "set": {"name": "a/b"}}], expire_tokens=True, spike_calls=25)
"""

import json
import os
import select
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

START_TIMEOUT_S = 120
"""For one that hangs; one that ends is noticed at once."""
CONTROL_TIMEOUT_S = 60
ROOT = Path(__file__).resolve().parents[2]


class ControlRefused(AssertionError):
    """The sandbox's control API said no."""


class SandboxHandle:
    """A running sandbox and its control API."""

    def __init__(self, announced: dict[str, Any], process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.announced = announced
        self.url: str = announced["url"]
        self.login_url: str = announced["login_url"]
        self.storage_url: str = announced["storage_url"]
        self.control_url: str = announced["control_url"]
        self.company_id: int = announced["company_id"]
        self.project_id: int = announced["project_id"]
        self.client_id: str = announced["client_id"]
        self.client_secret: str = announced["client_secret"]
        self.user_id: int = announced["user_id"]
        self.second: dict[str, Any] = announced["second"]

    def env(self, *, second_user: bool = False) -> dict[str, str]:
        """PROCOREFS_* variables with which a mount or command finds this sandbox."""
        client = self.second if second_user else self.announced
        return {
            "PROCOREFS_API_URL": self.url,
            "PROCOREFS_LOGIN_URL": self.login_url,
            "PROCOREFS_CLIENT_ID": client["client_id"],
            "PROCOREFS_CLIENT_SECRET": client["client_secret"],
            "PROCOREFS_COMPANY_ID": str(self.company_id),
            "PROCOREFS_PROJECT_ID": str(self.project_id),
        }

    def token(self, *, second_user: bool = False) -> str:
        """An access token of the client credentials grant."""
        client = self.second if second_user else self.announced
        form = {name: client[name] for name in ("client_id", "client_secret")}
        form["grant_type"] = "client_credentials"
        answer = plain("POST", f"{self.login_url}/oauth/token", data=form)
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    @contextmanager
    def session(self, *, second_user: bool = False) -> Iterator[httpx.Client]:
        """A client with token and company header, which follows no redirects."""
        headers = {
            "Authorization": f"Bearer {self.token(second_user=second_user)}",
            "Procore-Company-Id": str(self.company_id),
        }
        with httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, verify=False, timeout=CONTROL_TIMEOUT_S
        ) as client:
            yield client

    @property
    def documents_path(self) -> str:
        """The documents index, v2 with company."""
        return f"/rest/v2.0/companies/{self.company_id}/projects/{self.project_id}/documents"

    def faults(self, **switches: Any) -> dict[str, Any]:
        """Switch faults, dialect, rates; see procorefs/sandbox/control/control_api.py. Returns what holds now."""
        return self._post("faults", switches)

    def release(self) -> None:
        """Let all silent calls go on."""
        self.faults(release=True)

    async def silent_calls(self, count: int = 1) -> None:
        """Return when that many calls wait for an answer that does not come."""
        await trio.to_thread.run_sync(lambda: self._get(f"waiting?count={count}"), abandon_on_cancel=True)

    def wait_for_silent_calls(self, count: int = 1) -> None:
        """The same for tests without a loop."""
        self._get(f"waiting?count={count}")

    def calls(self) -> dict[str, Any]:
        """`total` and `by_route` of API calls since the last reset; `other`: logins, redirects, storage."""
        return self._get("calls")

    def reset_calls(self) -> None:
        self._post("calls/reset", {})

    def act(self, op: str, **fields: Any) -> dict[str, Any]:
        """Do something in the project as another user; see procorefs/sandbox/control/acts.py."""
        return self._post("act", {"op": op, **fields})

    def import_tree(self, path: Path | str, into: str = "/") -> dict[str, Any]:
        """Put a local directory's content into a folder of the project."""
        return self._post("import", {"path": str(Path(path).absolute()), "into": into})

    def state(self) -> dict[str, Any]:
        return self._get("state")

    def inventory(self) -> dict[str, Any]:
        """`folders` and `files` by path, `binned` names; see procorefs/sandbox/control/inventory.py. Costs no call."""
        return self._get("inventory")

    def violations(self) -> list[str]:
        """Requests and answers so far that do not fit the OpenAPI description."""
        found: list[str] = self._get("violations")["violations"]
        return found

    def forget_violations(self) -> None:
        """For tests that send something wrong on purpose."""
        self._post("violations/forget", {})

    def reset(self, documents: int = 200) -> None:
        """Everything anew: content, tokens, faults, counts, windows. Client ids and secrets stay."""
        self._post("reset", {"documents": documents})

    def _get(self, name: str) -> dict[str, Any]:
        return self._ask(urllib.request.Request(f"{self.control_url}/{name}"))

    def _post(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._ask(
            urllib.request.Request(f"{self.control_url}/{name}", json.dumps(body).encode(), headers)
        )

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=CONTROL_TIMEOUT_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise ControlRefused(error.read().decode()) from None


def plain(method: str, url: str, **options: Any) -> httpx.Response:
    """One request without token; http only, so no time goes into reading certificates."""
    with httpx.Client(trust_env=False, verify=False, timeout=CONTROL_TIMEOUT_S) as client:
        return client.request(method, url, **options)


@contextmanager
def running_sandbox(*options: str) -> Iterator[SandboxHandle]:
    """A sandbox in a child process; killed by its pid at the end."""
    command = [sys.executable, "-m", "procorefs.cli.trial.sandbox", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        yield SandboxHandle(json.loads(_first_line(process)), process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise AssertionError(
            f"the sandbox did not start; it said why on stderr (exit status {process.poll()})"
        )
    return line


def _assert_conforming(handle: SandboxHandle) -> None:
    violations = handle.violations()
    assert not violations, "\n".join(violations)


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxHandle]:
    """The process behind `sandbox`."""
    with running_sandbox("--hourly", "0", "--spike", "0", "--openapi") as handle:
        yield handle


@pytest.fixture
def sandbox(sandbox_process: SandboxHandle) -> Iterator[SandboxHandle]:
    """A fresh sandbox; the test fails when a call or an answer did not fit the OpenAPI description."""
    sandbox_process.reset()
    yield sandbox_process
    sandbox_process.faults(clear=True)
    _assert_conforming(sandbox_process)


@pytest.fixture
def start_sandbox() -> Iterator[Callable[..., SandboxHandle]]:
    """Start further sandboxes with options of their own; they check their calls as well."""
    with ExitStack() as running:

        def start(*options: str) -> SandboxHandle:
            handle = running.enter_context(running_sandbox(*options, "--openapi"))
            running.callback(_assert_conforming, handle)
            return handle

        yield start
