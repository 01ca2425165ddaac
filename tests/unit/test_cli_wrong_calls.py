"""What commands say to somebody who calls them too early, twice, or with something wrong."""

import os
import socket
from pathlib import Path

import msgspec
import pytest

from procorefs.cli.commands.serve import Served
from procorefs.cli.main import procorefs, run
from procorefs.cli.mounts.processes import birth
from procorefs.config import find_paths
from procorefs.config.paths import private_dir, write_private


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PROCOREFS_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """What a command says, on either stream."""
    assert run(procorefs, arguments) == status
    shown = capsys.readouterr()
    return shown.out + shown.err


@pytest.mark.parametrize("group", ["config", "desktop"])
def test_a_group_of_commands_alone_shows_its_help(
    home: Path, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    assert told(capsys, group, status=0).startswith(f"Usage: procorefs {group} ")


def test_a_file_outside_of_all_mounts_is_not_checked_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "plan.txt").write_text("x")
    for name in ("plan.txt", "missing.txt"):
        assert f"{name} is not in a ProcoreFS mount" in told(capsys, "desktop", "check-out", name)


def test_a_removal_without_an_installation_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "desktop", "remove", status=0) == "Nothing was installed.\n"


def test_an_installation_for_a_missing_mount_point_installs_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(capsys, "desktop", "install", "--mount", "Tower")
    assert f"the mount point {home}/Tower does not exist; run: mkdir {home}/Tower" in said
    assert told(capsys, "desktop", "remove", status=0) == "Nothing was installed.\n"


def test_a_mount_of_the_session_without_a_profile_says_what_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "Tower").mkdir()
    command = ("desktop", "install", "--mount", "Tower")
    assert "run `procorefs login`" in told(capsys, *command, status=0)
    write_private(find_paths(os.environ).config_file, b'[profiles.work]\nclient_id = "x"\n')
    assert "procorefs login" not in told(capsys, *command, status=0)


def test_a_second_server_of_the_page_says_where_the_first_one_is(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = private_dir(find_paths(os.environ).runtime_dir)
    first = Served(18_000, "code", os.getpid(), birth(os.getpid()) or "")
    write_private(runtime / "serve.json", msgspec.json.encode(first))
    said = told(capsys, "serve", "--port", "18001")
    assert f"already served at port 18000 (process {os.getpid()}); `procorefs open`" in said
    assert (runtime / "serve.json").exists()


def test_a_port_of_another_program_is_named_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = told(capsys, "serve", "--port", str(port))
    assert said == (
        f"procorefs: port {port} of this machine cannot be used (another program uses it); "
        "give another one with --port\n"
    )


def test_an_address_that_nothing_opens_is_shown(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = home / "programs"
    programs.mkdir()
    (programs / "xdg-open").write_text("#!/bin/sh\necho noise >&2\nexit 3\n")
    (programs / "xdg-open").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    runtime = private_dir(find_paths(os.environ).runtime_dir)
    served = Served(18_000, "code", os.getpid(), birth(os.getpid()) or "")
    write_private(runtime / "serve.json", msgspec.json.encode(served))
    said = told(capsys, "open")
    assert f"{served.address} cannot be opened (xdg-open found no program for it)" in said


def test_a_configuration_that_does_not_exist_is_not_called_usable(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "config", "check", status=0).startswith(f"There is no {home}/config/")


def test_the_shown_account_names_the_variables_that_it_comes_from(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(
        find_paths(os.environ).config_file, b'[profiles.work]\nclient_id = "x"\nproject = "Tower"\n'
    )
    monkeypatch.setenv("PROCOREFS_CLIENT_ID", "mine")
    monkeypatch.setenv("PROCOREFS_CLIENT_SECRET", "hidden")
    said = told(capsys, "config", "show", status=0)
    rows = [line.split() for line in said.splitlines()]
    assert ["client_id", "mine", "PROCOREFS_CLIENT_ID"] in rows
    assert ["project", "Tower", "[profiles.work]"] in rows
    assert "hidden" not in said


def test_an_editor_that_fails_is_named_with_the_file(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "false")
    said = told(capsys, "config", "edit")
    assert f"{find_paths(os.environ).config_file} was not edited (false: " in said
    assert "set EDITOR" in said
