"""Logging in, staying logged in, and the token on disk, against the sandbox's login service."""

import logging
import stat
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
import trio

from procorefs.procore.api.client import Client
from procorefs.procore.auth.token_renewal import challenge_of, new_state, new_verifier
from procorefs.procore.auth.token_store import FileStore, open_store
from procorefs.procore.auth.tokens import Token, login_key
from procorefs.procore.errors import LoginRefused, Malformed, NotAuthorized, ProcoreError, Unavailable
from procorefs.procore.settings import Grant
from procorefs.procore.wire.models import Me, UserId
from procorefs.storage import clocks
from procorefs.storage.private_files import replace_private_file
from tests.support.api_client import client_of, settings
from tests.support.sandbox import SandboxHandle

TOKEN = "POST /oauth/token"
PERSON: dict[str, Any] = {"grant": Grant.AUTHORIZATION_CODE}
VERIFIER = new_verifier()


def logins(sandbox: SandboxHandle) -> int:
    """Tokens given out or refused since the last reset of the counts."""
    return int(sandbox.calls()["other"].get(TOKEN, 0))


def token_files(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


class CodePage(HTMLParser):
    """Finds the code on the page that is shown out of band."""

    code = ""
    _inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - the parser's interface
        self._inside = tag == "code"

    def handle_data(self, data: str) -> None:
        if self._inside and not self.code:
            self.code = data


def code_of(client: Client, sandbox: SandboxHandle) -> str:
    """What a person would paste."""
    sandbox.faults(dialect={"authorize_page": False})
    with build_opener(ProxyHandler({})).open(client.auth.authorization_url(new_state(), VERIFIER)) as answer:
        page = CodePage()
        page.feed(answer.read().decode())
    return page.code


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_who_it_is_without_the_right_to_ask(sandbox: SandboxHandle, status: int) -> None:
    """The login service knows, too; what neither says is the first refusal."""
    sandbox.faults(rules=[{"kind": "error", "route": "GET /rest/v1.0/me", "status": status}])
    async with client_of(sandbox) as client:
        assert await client.me() == Me(UserId(sandbox.user_id))
        sandbox.faults(dialect={"token_owner": False})
        with pytest.raises(ProcoreError, match="Could not ask who is logged in"):
            await client.me()


async def test_a_warm_start_needs_no_login(sandbox: SandboxHandle, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "tokens"
    for _ in range(2):
        async with client_of(sandbox, token_dir=folder) as client:
            await client.me()
    assert logins(sandbox) == 1
    async with client_of(sandbox, token_dir=folder) as client:
        await client.me()
        (stored,) = folder.glob("*.json")
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not any(sandbox.client_secret in path.name for path in folder.iterdir())


async def test_another_secret_or_account_never_meets_the_token(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    made = settings(sandbox)
    others = [
        settings(sandbox, client_secret="x"),
        settings(sandbox, account="x"),
        settings(sandbox, client_id="x"),
        settings(sandbox, login_url="https://x"),
        settings(sandbox, grant=Grant.AUTHORIZATION_CODE),
    ]
    assert len({login_key(other) for other in [made, *others]}) == 6
    async with client_of(sandbox, token_dir=tmp_path) as client:
        await client.me()
    async with client_of(sandbox, token_dir=tmp_path, client_secret="wrong") as client:
        with pytest.raises(LoginRefused, match="check client id and secret"):
            await client.me()


@pytest.mark.parametrize("shape", ["rfc6749", "errors"])
async def test_wrong_credentials_are_one_sentence_without_the_secret(
    sandbox: SandboxHandle, shape: str
) -> None:
    sandbox.faults(dialect={"oauth_error_shape": shape})
    async with client_of(sandbox, client_secret="very-secret") as client:
        with pytest.raises(LoginRefused) as caught:
            await client.me()
    assert "login was refused" in str(caught.value)
    assert "very-secret" not in repr(client.settings) + str(caught.value) + repr(caught.value)
    assert sandbox.calls()["total"] == 0


async def test_a_401_renews_the_token_once_for_all_who_met_it(sandbox: SandboxHandle) -> None:
    async with client_of(sandbox) as client:
        await client.me()
        sandbox.faults(expire_tokens=True)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.me)
    assert logins(sandbox) == 2


async def test_a_401_that_stays_is_given_up(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "error", "status": 401, "route": "GET /rest/*"}])
    async with client_of(sandbox) as client:
        with pytest.raises(NotAuthorized, match="HTTP 401"):
            await client.me()
        assert client.stats.total == 2


async def test_an_old_token_is_renewed_before_it_is_refused(
    sandbox: SandboxHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.faults(settings={"token_lifetime_s": 600})
    async with client_of(sandbox) as client:
        await client.me()
        rejected: list[str] = []
        monkeypatch.setattr(client.auth, "renew", rejected.append)
        monkeypatch.setattr(clocks, "wall_s", lambda: time.time() + 600)
        await client.me()
    assert rejected == []
    assert logins(sandbox) == 2


async def test_login_by_code_then_by_refresh(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        with pytest.raises(LoginRefused, match="procorefs login"):
            await client.me()
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        person = await client.me()
        first = open_store(client.settings).load()
        for _ in range(3):
            sandbox.faults(expire_tokens=True)
            assert await client.me() == person
        last = open_store(client.settings).load()
    assert first is not None
    assert last is not None
    assert first.refresh_token != last.refresh_token
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        assert await client.me() == person


async def test_a_login_of_another_process_ends_a_refusal(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with (
        client_of(sandbox, token_dir=tmp_path, **PERSON) as daemon,
        client_of(sandbox, token_dir=tmp_path, **PERSON) as command,
    ):
        with pytest.raises(LoginRefused):
            await daemon.me()
        assert "procorefs login" in daemon.auth.refusal
        await command.auth.login_by_code(code_of(command, sandbox), VERIFIER)
        await daemon.me()
        assert daemon.auth.refusal == ""


async def test_a_code_works_once(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        code = code_of(client, sandbox)
        await client.auth.login_by_code(code, VERIFIER)
        with pytest.raises(LoginRefused, match="Could not log in"):
            await client.auth.login_by_code(code, VERIFIER)


async def test_clients_that_share_a_login_refresh_it_once(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """The same refresh token sent twice would end the login for both."""
    changes: dict[str, Any] = {"token_dir": tmp_path, **PERSON}
    async with client_of(sandbox, **changes) as one, client_of(sandbox, **changes) as other:
        await one.auth.login_by_code(code_of(one, sandbox), VERIFIER)
        await other.me()
        before = logins(sandbox)
        sandbox.faults(expire_tokens=True)
        async with trio.open_nursery() as nursery:
            for client in (one, other) * 3:
                nursery.start_soon(client.me)
        assert logins(sandbox) == before + 1


HOLD_LOCK = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def holding(lock: Path) -> "subprocess.Popen[str]":
    """Another process that has the lock until it gets a line."""
    command = [sys.executable, "-c", HOLD_LOCK, str(lock)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


async def test_another_process_that_renews_is_waited_for(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path) as client:
        with holding(tmp_path / f"{login_key(client.settings)}.lock") as other:
            assert other.stdin is not None
            with trio.move_on_after(0.3) as waited:
                await client.me()
            assert waited.cancelled_caught
            assert logins(sandbox) == 0
            # What the other process got is used, and nothing is asked for again.
            async with client_of(sandbox, token_dir=tmp_path / "elsewhere") as elsewhere:
                await elsewhere.me()
                token = open_store(elsewhere.settings).load()
            assert token is not None
            open_store(client.settings).save(token)
            before = logins(sandbox)
            other.stdin.write("\n")
            other.stdin.flush()
            with trio.fail_after(10):
                await client.me()
            assert logins(sandbox) == before


async def test_a_caller_that_goes_does_not_tear_a_refresh(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        sandbox.faults(
            expire_tokens=True, rules=[{"kind": "latency", "route": TOKEN, "seconds": 0.4, "count": 1}]
        )
        with trio.move_on_after(0.2) as scope:
            await client.me()
        assert scope.cancelled_caught
        await client.me()  # with the token that came although nobody waited for it
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.me()


async def test_a_refresh_gets_over_passing_failures(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        fault = {"kind": "error", "status": 503, "route": TOKEN, "count": 1}
        before = logins(sandbox)
        sandbox.faults(expire_tokens=True, rules=[fault])
        await client.me()
        assert logins(sandbox) == before + 2


async def test_a_dead_login_says_what_to_do(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        sandbox.faults(expire_tokens=True, revoke_refresh_tokens=True)
        with pytest.raises(LoginRefused, match="run procorefs login"):
            await client.me()


async def test_a_refresh_token_is_not_spent_when_the_next_cannot_be_stored(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        before = logins(sandbox)
        sandbox.faults(expire_tokens=True)

        def full(_store: FileStore) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(FileStore, "check_writable", full)
            with pytest.raises(LoginRefused, match="No space left on device"):
                await client.me()
        assert logins(sandbox) == before
        await client.me()


async def test_logout_revokes_and_forgets(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), VERIFIER)
        token = open_store(client.settings).load()
        assert token is not None
        await client.auth.logout()
        assert not token_files(tmp_path)
        with pytest.raises(LoginRefused):
            await client.me()
        open_store(client.settings).save(token)
        with pytest.raises(LoginRefused):
            await client.me()  # it is dead at the service, too
        await client.auth.logout()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"access_token": 5}', b"\xff\xfe"])
async def test_a_damaged_token_file_is_said_and_replaced(
    sandbox: SandboxHandle, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(sandbox, token_dir=tmp_path) as client:
        path = tmp_path / f"{login_key(client.settings)}.json"
        replace_private_file(path, content)
        await client.me()
    assert "cannot be read" in caplog.text
    stored = open_store(client.settings).load()
    assert isinstance(stored, Token)


async def test_a_token_file_that_others_may_read_is_not_used(
    sandbox: SandboxHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(sandbox, token_dir=tmp_path) as client:
        await client.me()
        path = tmp_path / f"{login_key(client.settings)}.json"
        path.chmod(0o644)
        assert open_store(client.settings).load() is None
    assert "other users may read it" in caplog.text


@pytest.mark.parametrize("body", ["[]", '{"access_token": 5}', '{"access_token": "a\\nb"}', "{}"])
async def test_an_answer_that_is_no_token(sandbox: SandboxHandle, body: str) -> None:
    sandbox.faults(rules=[{"kind": "wrong_type", "route": TOKEN, "body": body}])
    async with client_of(sandbox) as client:
        with pytest.raises(Malformed, match="not a token"):
            await client.me()


async def test_a_silent_login_service_can_be_left_at_once(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": TOKEN}])
    async with client_of(sandbox, token_dir=tmp_path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.me)
        await sandbox.silent_calls()
        began_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s < 1


async def test_a_place_that_takes_no_token_costs_a_warning_alone(
    sandbox: SandboxHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with client_of(sandbox, token_dir=tmp_path / "file" / "tokens") as client:
        assert (await client.me()).id == sandbox.user_id
    assert "cannot be kept" in caplog.text


async def test_a_login_service_that_is_down(sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "error", "status": 502, "route": TOKEN}])
    async with client_of(sandbox, retry_for_s=1.0) as client:
        with pytest.raises(Unavailable, match="Could not get an access token"):
            await client.me()


async def test_no_secret_is_logged(
    sandbox: SandboxHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with client_of(sandbox, token_dir=tmp_path) as client:
        sandbox.faults(rules=[{"kind": "error", "status": 500, "route": "GET /rest/*", "count": 1}])
        await client.me()
        sandbox.faults(expire_tokens=True)
        await client.me()
        token = open_store(client.settings).load()
    assert token is not None
    assert "trying again" in caplog.text
    assert token.access_token not in caplog.text + repr(token)
    assert sandbox.client_secret not in caplog.text


class ForgetfulKeyring:
    """A keyring as the package offers it, in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        self.kept[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        del self.kept[service, name]


async def test_a_keyring_keeps_the_token_out_of_the_files(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = ForgetfulKeyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    for _ in range(2):
        async with client_of(sandbox, token_dir=tmp_path, use_keyring=True) as client:
            await client.me()
    assert logins(sandbox) == 1
    assert len(keyring.kept) == 1
    assert not token_files(tmp_path)
    async with client_of(sandbox, token_dir=tmp_path, use_keyring=True) as client:
        await client.auth.logout()
    assert not keyring.kept


async def test_a_keyring_that_fails_leaves_the_file(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", object())
    for _ in range(2):
        async with client_of(sandbox, token_dir=tmp_path, use_keyring=True) as client:
            await client.me()
    assert logins(sandbox) == 1
    assert "keyring" in caplog.text


async def test_a_code_works_only_with_the_verifier_of_its_address(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """A code that somebody else saw, in a history or on a screen, is of no use."""
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        code = code_of(client, sandbox)
        with pytest.raises(LoginRefused, match="Could not log in"):
            await client.auth.login_by_code(code, new_verifier())
        await client.auth.login_by_code(code, VERIFIER)


async def test_a_login_server_may_ignore_the_verifier(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(dialect={"checks_code_verifier": False})
    async with client_of(sandbox, token_dir=tmp_path, **PERSON) as client:
        await client.auth.login_by_code(code_of(client, sandbox), new_verifier())
        assert await client.me()


def test_a_challenge_is_that_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
