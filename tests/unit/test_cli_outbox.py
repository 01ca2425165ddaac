"""sync, retry, discard, umount and status, with a real control socket before an outbox that the test moves by hand."""

import errno
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from procorefs.cli.commands import umount
from procorefs.cli.commands.umount import DrainDeadline
from procorefs.cli.main import procorefs, run
from procorefs.cli.support.progress import Progress
from procorefs.cli.support.status_view import show
from procorefs.journal.states import ChangeState
from procorefs.service.control_socket import ControlError
from procorefs.service.status import MountStatus, Named
from procorefs.service.status_report import outbox_status
from procorefs.upload.items import Counts, Item, is_at_or_below
from tests.support.fake_daemon import END_S, Start, starting

FAILED = Item("a/b.pdf", ChangeState.FAILED, "Procore forbids it (403).", 1.7e9)
HELD = Item("a/.b.pdf.x4Kp2Q", ChangeState.HELD)
LOCAL = Item(
    "__MACOSX/plan.dwg",
    ChangeState.LOCAL,
    "it lies in '__MACOSX', and nothing there goes to Procore",
    1.7e9,
    3 << 20,
)
CHECKED_OUT = Item("c.dwg", ChangeState.CHECKED_OUT, "Jane Doe has it checked out")
CUT_OFF = Item("d.ifc", ChangeState.INCOMPLETE)
MOVING = Item("e.pdf", ChangeState.UPLOADING)
LATER = Item("f.pdf", ChangeState.PENDING)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with starting(tmp_path, monkeypatch) as start:
        yield start


class Running:
    """A command on a thread, for as long as the test acts as Procore meanwhile."""

    def __init__(self, *arguments: str) -> None:
        self.result: int | None = None
        self._thread = threading.Thread(target=self._run, args=(arguments,))
        self._thread.start()

    def _run(self, arguments: tuple[str, ...]) -> None:
        self.result = run(procorefs, arguments)

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> int | None:
        self._thread.join(END_S)
        assert not self._thread.is_alive()
        return self.result


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


def staying_lines(m: Path) -> list[str]:
    """What `sync` and `umount` say of HELD."""
    return [
        f"procorefs: {m}/a/.b.pdf.x4Kp2Q (0 bytes) stays on this machine: it has a temporary name: programs write "
        "under such names, and an interrupted copy leaves one; to upload it, rename it, or leave it unchanged "
        "for an hour"
    ]


@pytest.mark.parametrize("command", ["sync", "umount"])
def test_what_stays_because_of_its_name_is_named_and_no_failure(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    served = start("m")
    served.outbox.listed = [HELD, LOCAL]
    assert run(procorefs, [command, str(served.place)]) == 0
    m = served.place
    assert capsys.readouterr().err.splitlines() == [
        *staying_lines(m),
        f"procorefs: {m}/__MACOSX/plan.dwg (3.0 MiB) stays on this machine: it lies in '__MACOSX', and nothing there "
        "goes to Procore; to upload it, move it elsewhere",
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


# umount


@pytest.fixture
def unmounted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The mounts that were taken away: there is none in the kernel, and no daemon to end."""
    places: list[Path] = []

    def unmount(place: Path, *, lazy: bool) -> int:
        assert not lazy
        places.append(place)
        return 0

    monkeypatch.setattr(umount, "unmount", unmount)
    monkeypatch.setattr(umount, "wait_for_end", lambda *_: True)
    return places


def test_umount_with_nothing_to_send_is_silent(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    assert run(procorefs, ["umount", str(served.place)]) == 0
    assert capsys.readouterr() == ("", "")
    assert unmounted == [served.place]
    assert served.stopped.is_set()
    assert not served.continues


def test_umount_of_a_frozen_daemon_takes_ten_seconds_at_most(
    start: Start, unmounted: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0

    def wait(for_s: float) -> None:
        nonlocal now_s
        now_s += for_s

    def ask(_socket: Path, _request: object, _answer: object, *, timeout_s: float) -> None:
        wait(timeout_s)
        raise ControlError("no answer")

    def wait_for_end(_pid: int, _born: str, timeout_s: float) -> bool:
        wait(timeout_s)
        return False

    signals: list[int] = []
    monkeypatch.setattr(umount, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=wait))
    monkeypatch.setattr(umount, "ask", ask)
    monkeypatch.setattr(umount, "wait_for_end", wait_for_end)
    monkeypatch.setattr(umount, "signal_process", lambda _pid, _born, number: signals.append(number))
    served = start("m")
    assert run(procorefs, ["umount", "--timeout", "0.5", str(served.place)]) == 1
    assert "did not end within 6 seconds" in capsys.readouterr().err
    assert now_s - 100.0 <= 10
    assert unmounted == [served.place]
    assert signals == [signal.SIGTERM]


def test_umount_waits_while_anything_moves(start: Start, unmounted: list[Path]) -> None:
    served = start("m")
    served.outbox.listed = [MOVING, LATER]
    steps = iter([[MOVING, LATER], [MOVING], []])

    def move() -> None:
        assert not unmounted
        served.outbox.listed = next(steps)

    served.outbox.on_counts = move
    assert run(procorefs, ["umount", str(served.place)]) == 0
    assert next(steps, None) is None
    assert unmounted == [served.place]
    assert served.outbox.hurried == [("",)] * 3  # what was written meanwhile goes at once, too


def test_umount_lists_what_stays(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = [FAILED, HELD, CHECKED_OUT]
    assert run(procorefs, ["umount", str(served.place)]) == 1
    m = served.place
    assert capsys.readouterr().err.splitlines() == [
        *staying_lines(m),
        f"procorefs: the change to {m}/a/b.pdf is not in Procore: Procore forbids it (403)",
        f"procorefs: the change to {m}/c.dwg is not in Procore: Jane Doe has it checked out",
        f"procorefs: {m} is unmounted; 2 changes stay in its journal, and the next mount continues",
    ]
    assert unmounted == [m]


def test_umount_at_its_timeout(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = (
        [MOVING] + [Item(f"{number}.pdf", ChangeState.PENDING) for number in range(30)] + [FAILED]
    )
    began = time.monotonic()
    assert run(procorefs, ["umount", "--timeout", "0.4", str(served.place)]) == 1
    assert 0.4 <= time.monotonic() - began < 5
    said = capsys.readouterr().err.splitlines()
    assert "a/b.pdf is not in Procore: Procore forbids it (403)" in said[0]  # what is wrong comes first
    assert said[1].endswith("e.pdf is not in Procore yet")
    assert said[-2] == "procorefs: 11 more are not in Procore yet"
    assert "32 changes stay in its journal" in said[-1]
    assert unmounted == [served.place]


def test_umount_gives_up_when_procore_is_away_for_long() -> None:
    now_s = 0.0
    patience = DrainDeadline(lambda: now_s)
    away = Counts(pending=3, bytes_pending=9, warning="the network is down")
    assert patience.continues(away)
    now_s = 50.0
    assert patience.continues(away)
    assert patience.continues(Counts(pending=3, bytes_pending=8, warning="the network is down"))
    now_s = 100.0
    assert patience.continues(Counts(pending=3, bytes_pending=8, warning="the network is down"))
    now_s = 200.0
    assert not patience.continues(Counts(pending=3, bytes_pending=8, warning="the network is down"))


def test_umount_waits_for_a_closed_budget_however_long_it_takes() -> None:
    now_s = 0.0
    patience = DrainDeadline(lambda: now_s)
    closed = Counts(pending=3, bytes_pending=9, eta_seconds=4000)
    assert patience.continues(closed)
    now_s = 3000.0
    assert patience.continues(closed)


def test_a_busy_mount_is_reported_first_and_nothing_changes(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    served.outbox.listed = [MOVING]
    with subprocess.Popen(["sleep", "60"], cwd=served.place) as holder:
        try:
            assert run(procorefs, ["umount", str(served.place)]) == 1
        finally:
            holder.kill()
    assert f"is busy: sleep (process {holder.pid})" in capsys.readouterr().err
    assert not unmounted
    assert not served.outbox.hurried


def test_umount_that_finds_it_busy_at_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    monkeypatch.setattr(umount, "unmount", lambda *_, **__: errno.EBUSY)
    assert run(procorefs, ["umount", str(served.place)]) == 1
    assert "is busy" in capsys.readouterr().err
    assert not served.stopped.is_set()
    assert served.continues


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


def test_umount_of_a_path_in_a_mount_names_the_mount(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    assert run(procorefs, ["umount", str(served.place / "a")]) == 1
    said = f"{served.place}/a is inside the mount {served.place}; run `procorefs umount {served.place}` to"
    assert said in capsys.readouterr().err
    assert not served.stopped.is_set()


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
