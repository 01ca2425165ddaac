"""login, logout and projects against the embedded Procore, as separate processes."""

import contextlib
import html
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from procorefs.config import find_paths, read_config
from tests.support.environment import bare_environment
from tests.support.mounting import wait_until
from tests.support.other_user import answer_to_other, needs_other_user
from tests.support.sandbox import SandboxHandle

pytest_plugins = ["tests.support.sandbox"]

ENDED = subprocess.CompletedProcess[str]
COMMAND = (sys.executable, "-m", "procorefs.cli")


class CommandLine:
    """A person with directories of their own, who knows a client id and its secret."""

    def __init__(self, folder: Path, sandbox: SandboxHandle) -> None:
        self.sandbox = sandbox
        self.env = {
            **bare_environment(),
            "HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            # no keyring of whoever runs the tests
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        self.paths = find_paths(self.env)
        self.secret_file = folder / "secret"
        self.secret_file.write_text(sandbox.client_secret + "\n")
        self.secret_file.chmod(0o600)

    def run(self, *words: str, typed: str = "", **env: str) -> ENDED:
        return subprocess.run(
            [*COMMAND, *words], env={**self.env, **env}, input=typed,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def login(self, *words: str, typed: str = "", **env: str) -> ENDED:
        return self.run(
            "login", *self.urls(), "--client-id", self.sandbox.client_id, *words, typed=typed, **env
        )

    def urls(self) -> list[str]:
        return ["--api-url", self.sandbox.url, "--login-url", self.sandbox.login_url]

    def tokens(self) -> list[Path]:
        return list(self.paths.tokens_dir.glob("*.json"))


@pytest.fixture
def shell(tmp_path: Path, sandbox: SandboxHandle) -> Iterator[CommandLine]:
    yield CommandLine(tmp_path, sandbox)
    for file in tmp_path.rglob("procorefs/**/*"):
        assert file.stat().st_mode & 0o077 == 0, f"{file} is open to others"


@pytest.fixture
def free_tcp_port() -> int:
    """A port of the loopback address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fine(done: ENDED) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(done: ENDED, says: str) -> None:
    assert done.returncode != 0
    assert done.stderr.startswith("procorefs: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr


def token_works(sandbox: SandboxHandle, token: str) -> bool:
    request = urllib.request.Request(
        f"{sandbox.url}/rest/v1.0/me", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


def browse(url: str, form: dict[str, str] | None = None) -> str:
    """What a browser ends up with: the body, redirects followed."""
    body = None if form is None else urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, body, timeout=20) as page:
            return str(page.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())


def allow(url: str) -> str:
    """Open the login page and press its first button."""
    page = html.unescape(browse(url))
    action = re.search(r'action="([^"]+)"', page)
    assert action, page
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page))
    fields |= dict(re.findall(r'<button name="([^"]+)" value="([^"]*)"', page)[:1])
    return browse(urllib.parse.urljoin(url, action[1]), fields)


def test_a_service_account_logs_in_lists_and_logs_out(shell: CommandLine) -> None:
    company, project = str(shell.sandbox.company_id), str(shell.sandbox.project_id)
    said = fine(
        shell.login("--secret-file", str(shell.secret_file), "--company", company, "--project", project)
    )
    assert "Logged in as ProcoreFS Service" in said
    profile = read_config(shell.paths.config_file).profiles["default"]
    assert (profile.client_id, profile.company, profile.project) == (
        shell.sandbox.client_id,
        company,
        project,
    )
    assert shell.sandbox.client_secret not in shell.paths.config_file.read_text()

    companies = json.loads(fine(shell.run("projects", "--json")))
    found = {project["id"] for company in companies for project in company["projects"]}
    assert shell.sandbox.project_id in found
    table = fine(shell.run("projects"))
    assert f"default:{shell.sandbox.company_id}/{shell.sandbox.project_id}" in table

    [file] = shell.tokens()
    token = json.loads(file.read_bytes())["access_token"]
    assert token_works(shell.sandbox, token)
    assert "Logged out profile 'default'" in fine(shell.run("logout"))
    assert shell.tokens() == []
    assert not token_works(shell.sandbox, token)
    fine(shell.run("projects"))


def test_a_service_account_names_its_company_in_every_call(shell: CommandLine) -> None:
    company, project = str(shell.sandbox.company_id), str(shell.sandbox.project_id)
    shell.sandbox.faults(dialect={"service_needs_company": True})
    secret = ("--secret-file", str(shell.secret_file))
    assert "Logged in as ProcoreFS Service" in fine(
        shell.login(*secret, "--company", company, "--project", project)
    )
    assert project in fine(shell.run("projects"))
    assert "Logged in as ProcoreFS Service" in fine(shell.login(*secret)), "the profile's company"
    assert project in fine(shell.run("projects", PROCOREFS_COMPANY_ID=company))


def test_a_company_that_is_not_ours_any_more_hides_nothing(shell: CommandLine) -> None:
    fine(shell.login("--secret-file", str(shell.secret_file), "--company", str(shell.sandbox.company_id)))
    listed = fine(shell.run("projects"))
    config = shell.paths.config_file.read_text()
    shell.paths.config_file.write_text(config.replace(f'"{shell.sandbox.company_id}"', '"99"'))
    assert fine(shell.run("projects")) == listed
    assert "Logged in as ProcoreFS Service" in fine(shell.login("--secret-file", str(shell.secret_file)))


@pytest.mark.parametrize("missing_company_status", [400, 403])
def test_a_login_does_without_a_name_where_procore_does_not_say_who_it_is(
    shell: CommandLine, missing_company_status: int
) -> None:
    dialect: dict[str, object] = {
        "service_needs_company": True,
        "missing_company_status": missing_company_status,
    }
    shell.sandbox.faults(dialect=dialect)
    secret = ("--secret-file", str(shell.secret_file))
    assert f"Logged in as user {shell.sandbox.user_id}." in fine(shell.login(*secret))
    shell.sandbox.faults(dialect=dialect | {"token_owner": False})
    assert "Logged in as a user without a name." in fine(shell.login(*secret))


def test_forgetting_leaves_no_secret(shell: CommandLine) -> None:
    fine(shell.login("-p", "work", "--secret-file", str(shell.secret_file)))
    fine(shell.run("logout", "-p", "work", "--forget"))
    assert read_config(shell.paths.config_file).profiles == {}
    assert list(shell.paths.secrets_dir.iterdir()) == []
    refused(shell.run("projects"), "procorefs login")


def test_the_secret_comes_from_a_pipe_or_the_environment(shell: CommandLine) -> None:
    fine(shell.login(typed=shell.sandbox.client_secret + "\n"))
    fine(shell.login("-p", "other", PROCOREFS_CLIENT_SECRET=shell.sandbox.client_secret))
    assert set(read_config(shell.paths.config_file).profiles) == {"default", "other"}


def test_the_secret_is_typed_without_echo(shell: CommandLine) -> None:
    ours, theirs = pty.openpty()
    words = [*COMMAND, "login", *shell.urls()]
    with subprocess.Popen(
        words, env=shell.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as p:
        os.close(theirs)
        shown = answer(ours, b"Client id", shell.sandbox.client_id)
        shown += answer(ours, b"Client secret", shell.sandbox.client_secret)
        shown += read_all(ours)
    assert p.returncode == 0, shown
    assert b"Logged in as" in shown
    assert shell.sandbox.client_secret.encode() not in shown


def answer(terminal: int, question: bytes, text: str) -> bytes:
    shown = b""
    while question not in shown:
        assert select.select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 4096)
    os.write(terminal, text.encode() + b"\n")
    return shown


def read_all(terminal: int) -> bytes:
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            os.close(terminal)
            return shown


@pytest.mark.parametrize(
    ("words", "typed", "says"),
    [
        ([], "wrong\n", "the login was refused"),
        ([], "", "no client secret was given"),
        (["--secret-file", "/nowhere/secret"], "", "cannot be read"),
        (["--secret-file", "/etc/passwd"], "", "other users may read it"),
        (["-p", "a b"], "", "cannot name a profile"),
        (["-p", ""], "", "cannot name a profile"),
        (["--browser", "--paste"], "x\n", "exclude each other"),
        (["--project", "7"], "x\n", "give --company as well"),
        (["--browser", "--redirect-uri", "https://example.org/cb"], "x\n", "does not lead to this machine"),
        (["--browser", "--redirect-uri", "http://example.org/cb"], "x\n", "does not lead to this machine"),
    ],
)
def test_a_login_that_fails_stores_nothing(
    shell: CommandLine, words: list[str], typed: str, says: str
) -> None:
    refused(shell.login(*words, typed=typed), says)
    assert not shell.paths.config_file.exists()
    assert not shell.paths.secrets_dir.exists()
    assert shell.tokens() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--company", "99"], "you can reach no company with the id 99; "),
        (["--company", "No Such Ltd"], "there is no company called 'No Such Ltd'; "),
        (
            ["--company", "8801", "--project", "99"],
            "you can reach no project of company 8801 with the id 99; ",
        ),
        (
            ["--company", "Northwind Builders", "--project", "x"],
            "project of company Northwind Builders called 'x'",
        ),
    ],
)
def test_a_profile_leads_to_a_project_that_is_there(shell: CommandLine, words: list[str], says: str) -> None:
    refused(shell.login("--secret-file", str(shell.secret_file), *words), says)
    assert not shell.paths.config_file.exists()
    assert not shell.paths.secrets_dir.exists()


@contextlib.contextmanager
def started_login(shell: CommandLine, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A login that waits for a person; it ends with the block, whatever happens."""
    command = [*COMMAND, "login", *shell.urls(), "--client-id", shell.sandbox.client_id, *words]
    with subprocess.Popen(
        command, env={**shell.env, "PROCOREFS_CLIENT_SECRET": shell.sandbox.client_secret},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def login_url(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    process.stderr.readline()
    return process.stderr.readline().strip()


def test_a_person_logs_in_with_a_browser(shell: CommandLine, free_tcp_port: int) -> None:
    page = f"http://127.0.0.1:{free_tcp_port}/callback"
    with started_login(shell, "--browser", "--redirect-uri", page) as process:
        url = login_url(process)
        # a page that knows the address but not the state, and a visitor
        assert "not the answer" in browse(f"{page}?code=stolen&state=guessed")
        assert "not the answer" in browse(f"http://127.0.0.1:{free_tcp_port}/favicon.ico")
        assert "ProcoreFS is logged in" in allow(url)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Logged in as" in out
    fine(shell.run("projects"))
    shell.sandbox.faults(expire_tokens=True)
    # by the refresh token, which needs the redirect URI again
    fine(shell.run("projects"))
    tokens = json.loads(shell.tokens()[0].read_bytes())
    assert tokens["refresh_token"]
    fine(shell.run("logout"))
    assert not token_works(shell.sandbox, tokens["access_token"])
    refused(shell.run("projects"), "procorefs login")


@needs_other_user
def test_another_user_who_has_seen_the_state_sends_no_code(shell: CommandLine, free_tcp_port: int) -> None:
    """It is in the list of processes while the browser starts; the code would log in to an account of theirs."""
    page = f"http://127.0.0.1:{free_tcp_port}/callback"
    with started_login(shell, "--browser", "--redirect-uri", page) as process:
        url = login_url(process)
        state = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["state"][0]
        request = f"GET /callback?code=theirs&state={state} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        answer = answer_to_other("127.0.0.1", free_tcp_port, request.encode())
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert "ProcoreFS is logged in" in allow(url)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_browser_does_not_get_the_secret(shell: CommandLine, free_tcp_port: int, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "bin" / "xdg-open"
    browser.parent.mkdir()
    browser.write_text(f"#!/bin/sh\nenv >{seen}.new; mv {seen}.new {seen}\n")
    browser.chmod(0o755)
    shell.env |= {"DISPLAY": ":0", "PATH": f"{browser.parent}:{shell.env['PATH']}"}
    page = f"http://127.0.0.1:{free_tcp_port}/callback"
    with started_login(shell, "--browser", "--redirect-uri", page) as process:
        allow(login_url(process))
        process.communicate(timeout=30)
    wait_until(seen.exists, "the browser to be started")
    assert "DISPLAY=:0" in seen.read_text()
    assert shell.sandbox.client_secret not in seen.read_text()


def test_a_person_says_no_in_the_browser(shell: CommandLine, free_tcp_port: int) -> None:
    page = f"http://127.0.0.1:{free_tcp_port}/callback"
    with started_login(shell, "--browser", "--redirect-uri", page) as process:
        state = urllib.parse.parse_qs(urllib.parse.urlsplit(login_url(process)).query)["state"][0]
        browse(f"{page}?error=access_denied&error_description=Not%20today&state={state}")
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "procorefs: Procore did not let you in (Not today); run `procorefs login` again\n"
    assert shell.tokens() == []


def test_the_redirect_page_cannot_listen(shell: CommandLine, free_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_tcp_port)):
        done = shell.login(
            "--browser", "--redirect-uri", f"http://127.0.0.1:{free_tcp_port}/", PROCOREFS_CLIENT_SECRET="x"
        )
    refused(done, "cannot listen at")


def test_a_person_pastes_the_code(shell: CommandLine) -> None:
    with started_login(shell, "--paste") as process:
        code = re.search(r'<code id="code">([^<]+)</code>', allow(login_url(process)))
        assert code
        out, err = process.communicate(code[1] + "\n", timeout=30)
    assert process.returncode == 0, err
    assert "Logged in as" in out
    fine(shell.run("projects"))


def test_a_company_without_permission_does_not_hide_the_others(shell: CommandLine) -> None:
    fine(shell.login("--secret-file", str(shell.secret_file)))
    shell.sandbox.faults(rules=[{"kind": "error", "route": "GET /rest/v1.1/projects", "status": 403}])
    assert "does not permit" in fine(shell.run("projects"))
