"""sync, retry, discard and status, with a real control socket before an outbox that the test moves by hand."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procorefs.cli.main import procorefs, run
from procorefs.cli.support.progress import Progress
from procorefs.cli.support.status_view import show
from procorefs.journal.states import ChangeState
from procorefs.service.status import MountStatus, Named
from procorefs.service.status_report import outbox_status
from procorefs.upload.items import Counts, Item, is_at_or_below
from tests.support.fake_daemon import (
    CHECKED_OUT,
    CUT_OFF,
    END_S,
    FAILED,
    HELD,
    LATER,
    LOCAL,
    MOVING,
    Running,
    Start,
    starting,
    staying_lines,
)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with starting(tmp_path, monkeypatch) as start:
        yield start


# sync


def test_sync_of_nothing_waits_for_nothing(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    served = start("m")
    assert run(procorefs, ["sync"]) == 0
    assert run(procorefs, ["sync", str(served.place)]) == 0
    assert capsys.readouterr() == ("", "")
    assert served.outbox.hurried == [("",), ("",)]


def test_sync_returns_when_all_is_in_procore(start: Start) -> None:
    served = start("m")
    served.outbox.listed = [MOVING, LATER]
    command = Running("sync", str(served.place))
    assert served.outbox.synced.wait(END_S)
    served.act(lambda: served.outbox.move([LATER]))
    assert command.is_waiting
    served.act(lambda: served.outbox.move([]))
    assert command.end() == 0


def test_sync_says_of_each_what_is_wrong_and_what_to_do(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = [FAILED, HELD, CHECKED_OUT, CUT_OFF]
    assert run(procorefs, ["sync", str(served.place)]) == 1
    m = served.place
    assert capsys.readouterr().err.splitlines() == [
        f"procorefs: the change to {m}/a/b.pdf is not in Procore: Procore forbids it (403); fix that and run "
        f"`procorefs retry {m}/a/b.pdf`, or throw the change away with `procorefs discard {m}/a/b.pdf`",
        f"procorefs: the change to {m}/c.dwg is not in Procore: Jane Doe has it checked out; it is sent "
        "when the check-out ends",
        f"procorefs: the change to {m}/d.ifc is not in Procore: the program that wrote it was interrupted; "
        f"write it again, send it as it is with `procorefs retry {m}/d.ifc`, or throw it away "
        f"with `procorefs discard {m}/d.ifc`",
        *staying_lines(m),
    ]


def test_much_that_stays_is_counted(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    served = start("m")
    served.outbox.listed = [
        Item(f"@eaDir/{number}", ChangeState.LOCAL, bytes=1 << 20) for number in range(30)
    ]
    assert run(procorefs, ["sync", str(served.place)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 21
    assert "10 more stay on this machine for such reasons: 30 files of 30.0 MiB in all" in said[-1]


def test_status_counts_and_names_what_stays(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    box = start("m").outbox
    box.listed = [LOCAL]
    status = outbox_status(box)
    assert (status.local.count, status.local.bytes) == (1, 3 << 20)
    assert [item.path for item in status.local.items] == [LOCAL.path]
    show([MountStatus("/m", Named(2), Named(1), outbox=status)])
    said = capsys.readouterr().out
    assert "empty: everything else is in Procore" in said
    assert "1 file of 3.0 MiB on this machine alone" in said
    assert "__MACOSX/plan.dwg: it lies in '__MACOSX'" in said


def test_sync_looks_at_nothing_but_its_paths(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    served = start("m")
    served.outbox.listed = [FAILED, MOVING]
    (served.place / "c.dwg").touch()
    assert run(procorefs, ["sync", str(served.place / "c.dwg")]) == 0
    assert run(procorefs, ["sync", str(served.place / "a")]) == 1  # removed here, but not in Procore
    assert served.outbox.hurried == [("c.dwg",), ("a",)]
    capsys.readouterr()
    assert run(procorefs, ["sync", str(served.place / "no such file")]) == 1
    assert "no such file does not exist, and no change below it waits for" in capsys.readouterr().err


def test_sync_at_its_timeout_says_what_is_on_its_way(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = [LATER, FAILED, MOVING]
    assert run(procorefs, ["sync", "--timeout", "0.1", str(served.place)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "a/b.pdf is not in Procore" in said[0]
    assert "f.pdf and 1 other are still being uploaded" in said[1]


def test_sync_waits_for_all_mounts_at_once(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = start("one"), start("two")
    one.outbox.listed = two.outbox.listed = [MOVING]
    command = Running("sync")
    assert one.outbox.synced.wait(END_S)
    assert two.outbox.synced.wait(END_S)
    one.act(lambda: one.outbox.move([FAILED]))
    two.act(lambda: two.outbox.move([]))
    assert command.end() == 1
    assert f"{one.place}/a/b.pdf" in capsys.readouterr().err


def test_sync_of_paths_in_several_mounts(start: Start) -> None:
    one, two = start("one"), start("two")
    for served in (one, two):
        (served.place / "x").touch()
    assert run(procorefs, ["sync", str(one.place / "x"), str(two.place), str(one.place)]) == 0
    assert (one.outbox.hurried, two.outbox.hurried) == ([("x", "")], [("",)])


def test_sync_when_the_daemon_ends_meanwhile(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    served, other = start("m"), start("other")
    served.outbox.listed = [MOVING]
    other.outbox.listed = [FAILED]
    command = Running("sync")
    assert served.outbox.synced.wait(END_S)
    served.end()
    assert command.end() == 1
    said = capsys.readouterr().err
    assert f"the daemon of {served.place} has ended or is starting" in said
    assert "a/b.pdf is not in Procore" in said


def test_sync_with_nothing_mounted_cannot_say_that_all_is_there(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(procorefs, ["sync"]) == 1
    assert "nothing is mounted, so sync cannot tell" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sync", "retry", "discard"])
def test_wrong_paths_are_one_sentence(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    start("m")
    assert run(procorefs, [command, str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path} is not in a ProcoreFS mount" in said
    assert len(said.splitlines()) == 1
    assert run(procorefs, [command, str(tmp_path / "m" / "caf\udce9")]) == 1
    assert "is not UTF-8" in capsys.readouterr().err


# retry and discard


def test_retry(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    served = start("m")
    served.outbox.listed = [FAILED, CUT_OFF, MOVING]
    assert run(procorefs, ["retry", str(served.place / "a"), str(served.place / "d.ifc")]) == 0
    assert capsys.readouterr().out == "2 changes will be sent again.\n"
    assert served.outbox.listed == [MOVING]
    assert run(procorefs, ["retry", str(served.place)]) == 1
    assert f"nothing failed at or below {served.place}; " in capsys.readouterr().err


def test_discard_says_what_it_threw_away_and_leaves_the_rest(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = [FAILED, HELD, MOVING, CHECKED_OUT]
    assert run(procorefs, ["discard", str(served.place / "a")]) == 0
    m = served.place
    assert capsys.readouterr().out.splitlines() == [
        f"Thrown away: {m}/a/b.pdf (Procore forbids it (403).)",
        f"Thrown away: {m}/a/.b.pdf.x4Kp2Q",
    ]
    assert served.outbox.listed == [MOVING, CHECKED_OUT]
    assert run(procorefs, ["discard", str(served.place)]) == 1
    assert "so nothing was thrown away" in capsys.readouterr().err


# progress and status


def test_progress_off_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    with Progress("Sending /m", lambda: now_s) as progress:
        for now_s in (0.0, 1.0, 3.0, 10.0, 20.0, 34.0):  # noqa: B007 - the clock of the progress
            progress.show(Counts(pending=2, uploading=1, bytes_pending=3 << 19, eta_seconds=240))
        now_s = 70.0
        progress.show(Counts(pending=1, warning="Procore can't be reached"))
    assert capsys.readouterr().err.splitlines() == [
        "Sending /m: 3 changes, 1.5 MiB, done in 4 min",
        "Sending /m: 3 changes, 1.5 MiB, done in 4 min",
        "Sending /m: 1 change, 0 bytes, waiting: Procore can't be reached",
    ]


def test_progress_on_a_terminal_is_one_line_that_goes_away(start: Start) -> None:
    served = start("m")
    served.outbox.listed = [MOVING]
    served.outbox.bytes_pending = 1 << 20
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "procorefs.cli", "sync"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = _read_until(ours, b"1 change, 1.0 MiB")
        served.act(lambda: served.outbox.move([]))
        assert process.wait(END_S) == 0
    said += _read_until(ours, None)
    os.close(ours)
    assert f"Sending {served.place}: 1 change, 1.0 MiB".encode() in said
    assert b"\n" not in said.replace(b"\r\n", b"", 1)
    assert said.rstrip().endswith(b"\x1b[2K")  # erased


def _read_until(terminal: int, text: bytes | None) -> bytes:
    said, deadline = b"", time.monotonic() + END_S
    while text is None or text not in said:
        if not select.select([terminal], [], [], deadline - time.monotonic())[0]:
            raise AssertionError(f"it said {said!r}")
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            assert text is None, said
            break
    return said


def test_status_of_an_outbox(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    box = start("m").outbox
    box.listed = [FAILED, HELD, CHECKED_OUT, CUT_OFF, MOVING, LATER] + [FAILED] * 30
    box.bytes_pending, box.eta_seconds, box.warning = 5 << 20, 600.0, "Procore can't be reached"
    told = outbox_status(box)
    assert (told.pending, told.uploading, told.held, told.failed) == (1, 1, 2, 32)
    assert told.failures[0].since == "2023-11-14T22:13:20Z"
    assert [item.path for item in told.held_items] == [HELD.path, CHECKED_OUT.path]
    show([MountStatus("/m", Named(2), Named(1), outbox=told)])
    said = capsys.readouterr().out
    assert "1 waiting, 1 uploading, 2 held, 32 failed, 5.0 MiB to send, empty in 10 min, at " in said
    assert "warning" in said
    assert "c.dwg: Jane Doe has it checked out" in said
    assert "12 more; --json shows 32" in said


def test_no_line_of_status_is_longer_than_its_text(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Piped, each has one line; on a terminal what does not fit goes on below itself."""
    box = start("m").outbox
    box.listed = [Item("a.pdf", ChangeState.FAILED, "it was refused " * 12, 1.7e9)]
    mounts = [MountStatus("/m", Named(2), Named(1), outbox=outbox_status(box))]
    show(mounts)
    piped = capsys.readouterr().out.splitlines()
    assert len(next(line for line in piped if "a.pdf" in line)) > 190
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    show(mounts)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, shown)) <= 60
    assert shown[shown.index(next(line for line in shown if "a.pdf" in line)) + 1].startswith(
        " " * 17 + "it was"
    )
    assert not [line for line in (*piped, *shown) if line != line.rstrip()]


def test_status_of_an_empty_outbox(capsys: pytest.CaptureFixture[str]) -> None:
    show([MountStatus("/m", Named(2), Named(1))])
    assert "empty: everything is in Procore" in capsys.readouterr().out


def test_status_of_a_path_in_a_mount(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether something is there or not: the daemon is asked, and nobody looks into its mount."""
    served = start("m")
    for path in ("", "a/b.pdf", "no such/file"):
        assert run(procorefs, ["status", str(served.place / path)]) == 0
        assert capsys.readouterr().out.startswith(f"{served.place}\n")
    assert run(procorefs, ["status", str(served.place.parent)]) == 1
    assert "is not in a ProcoreFS mount" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["mount", "umount", "status", "sync", "retry", "discard"])
def test_an_empty_path_is_not_where_one_stands(
    start: Start, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's variable is not set; of all places it is not this mount that is to lose what failed."""
    served = start("m")
    served.outbox.listed = [FAILED]
    monkeypatch.chdir(served.place)
    assert run(procorefs, [command, ""]) == 1
    assert capsys.readouterr().err.startswith("procorefs: the path is empty; write '.'")
    assert served.outbox.listed == [FAILED]
    assert not served.stopped.is_set()


@pytest.mark.parametrize("command", [["sync"], ["umount", "/m"]])
def test_a_wrong_timeout_is_named(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, [*command, "--timeout", "abc"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'--timeout': 'abc' is not a duration; write seconds such as" in said


def test_what_lies_below_what() -> None:
    assert is_at_or_below("a/b", ["a"])
    assert is_at_or_below("a/b", ["x", "a/b"])
    assert is_at_or_below("", [""])
    assert is_at_or_below("a", [""])
    assert not is_at_or_below("ab", ["a"])
    assert not is_at_or_below("a", ["a/b"])
    assert not is_at_or_below("a", [])
