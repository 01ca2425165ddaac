"""What the commands understand and say: arguments, names, errors; nothing is mounted and nobody is called."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from procorefs.cli import mount_helper
from procorefs.cli.main import COMMANDS, procorefs, run
from procorefs.cli.mount_helper import Call, parse_call
from procorefs.cli.mounts import daemonize
from procorefs.cli.mounts.daemonize import NotStarted
from procorefs.cli.support.error_output import sentence_of
from procorefs.cli.support.login_redirect import LoginNotFinished, answer_of
from procorefs.cli.support.project_ids import UnknownProject, find_ids, one_named, wanted
from procorefs.config import Account, ConfigError, Failure, Spec
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import Project, ProjectId

ACCOUNT = Account(None, ApiSettings(client_id="c", client_secret="s"), company="5", project="Tower")


def test_mount8_call() -> None:
    call = parse_call(
        ["8801/12", "/mnt/a b", "-n", "-o", "rw,uid=3", "-v", "-o", "ro", "-t", "fuse.procorefs", "-s"]
    )
    assert call == Call("8801/12", "/mnt/a b", ("rw,uid=3", "ro"))
    assert parse_call(["-f", "-N", "ns", "a/b", "/m"]) == Call("a/b", "/m", fake=True)


@pytest.mark.parametrize("words", [[], ["a/b"], ["a/b", "/m", "x"], ["a/b", "/m", "-z"], ["a/b", "/m", "-o"]])
def test_a_wrong_mount8_call_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="SPEC MOUNTPOINT"):
        parse_call(words)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_of_the_mount8_helper(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert mount_helper.run([word]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: mount.fuse.procorefs SPEC MOUNTPOINT")
    assert said.err == ""


def test_spec_beats_the_account() -> None:
    assert wanted(None, ACCOUNT) == ("5", "Tower")
    assert wanted(Spec("work", "6", "7"), ACCOUNT) == ("6", "7")
    assert wanted(Spec("work"), ACCOUNT) == ("5", "Tower")
    with pytest.raises(ConfigError, match="no project is named"):
        wanted(None, Account(None, ACCOUNT.api))


def test_ids_need_no_call() -> None:
    # the account leads nowhere: a call would fail
    assert find_ids(ACCOUNT, "5", "6") == (5, 6)


def projects(*names: str) -> list[tuple[Project, tuple[str, ...]]]:
    return [(Project(ProjectId(number), name), (name,)) for number, name in enumerate(names, 1)]


def test_names() -> None:
    assert one_named(" Tower ", projects("Tower", "tower", "x"), "project").id == 1
    assert one_named("TOWER", projects("Tower", "x"), "project").id == 1
    assert one_named("Façade", projects("Fac\u0327ade"), "project").id == 1
    with pytest.raises(UnknownProject, match="more than one project called 'T'; give one of the ids 1, 2"):
        one_named("T", projects("T", "T"), "project")
    with pytest.raises(UnknownProject, match="more than one"):
        one_named("t", projects("T", "T"), "project")
    with pytest.raises(UnknownProject, match="no project called 'y'"):
        one_named("y", projects("x"), "project")


def test_redirect_page_takes_its_own_answer_alone() -> None:
    assert answer_of("/cb?code=abc&state=s1", "/cb", "s1") == "abc"
    assert answer_of("/cb?code=abc&state=other", "/cb", "s1") is None
    assert answer_of("/cb?code=abc", "/cb", "s1") is None
    assert answer_of("/else?code=abc&state=s1", "/cb", "s1") is None
    assert answer_of("/cb?state=s1", "/cb", "s1") is None
    assert answer_of("", "/cb", "s1") is None
    with pytest.raises(LoginNotFinished, match="access_denied"):
        answer_of("/cb?error=access_denied&state=s1", "/cb", "s1")


def test_what_a_person_hears_of_an_exception() -> None:
    assert sentence_of(Failure("no")) == "no"
    assert sentence_of(ExceptionGroup("g", [ValueError("v"), ExceptionGroup("h", [Failure("no")])])) == "no"
    assert sentence_of(ValueError("v")) is None
    assert sentence_of(Failure("")) is None
    assert (
        sentence_of(OSError(28, "No space left on device", "/x"))
        == "/x cannot be used (No space left on device)"
    )
    assert sentence_of(OSError(22, "Invalid argument", "/x")) is None


def test_every_command_is_there_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run(procorefs, [name, "--help"]) == 0
        assert name in capsys.readouterr().out
    assert run(procorefs, []) == 0


@click.command(name="broken")
def broken() -> None:
    raise ZeroDivisionError("secret inside")


def test_the_unexpected_is_one_sentence_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(broken, []) == 1
    said = capsys.readouterr().err
    log = tmp_path / "procorefs" / "logs" / "commands.log"
    assert said == f"procorefs: unexpected error (ZeroDivisionError); the details are in {log}\n"
    assert "secret inside" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m procorefs.cli mount --help | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_usage_error_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["mount"]) == 2
    assert run(procorefs, ["juggle"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("procorefs: ") and line.endswith(" --help`") for line in said)


def test_a_daemon_tells_its_parent_how_it_went(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "daemon.log"
    assert (
        daemonize.start(lambda ready: ready("this account may not write"), log)
        == "this account may not write"
    )
    assert daemonize.start(lambda ready: ready(""), log) == ""

    def fail(_ready: object) -> None:
        raise Failure("the disk is\nfull; free some")

    with pytest.raises(NotStarted, match=r"^the disk is full; free some$"):
        daemonize.start(fail, log)

    def crash(_ready: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(NotStarted, match=r"unexpected error \(ZeroDivisionError\); the details are in"):
        daemonize.start(crash, log)
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_daemon_that_is_killed_before_it_is_ready(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="ended before it was ready"):
        daemonize.start(lambda _ready: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "log")


def test_version_names_what_matters_in_a_bug_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["--version"]) == 0
    shown = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["procorefs"] == version("procorefs")
    assert {"Python", "pyfuse3", "trio", "httpx", "SQLite", "libfuse", "Linux"} <= set(shown)
