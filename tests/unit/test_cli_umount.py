"""The command umount, and sync of what stays: what is waited for, what is listed and when it gives up."""

import errno
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from procorefs.cli.commands import umount
from procorefs.cli.commands.umount import DrainDeadline
from procorefs.cli.main import procorefs, run
from procorefs.journal.states import ChangeState
from procorefs.service.control_socket import ControlError
from procorefs.upload.items import Counts, Item
from tests.support.fake_daemon import (
    CHECKED_OUT,
    FAILED,
    HELD,
    LATER,
    LOCAL,
    MOVING,
    Start,
    starting,
    staying_lines,
)


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


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    with starting(tmp_path, monkeypatch) as start:
        yield start


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


def test_umount_takes_the_project_for_its_mount_point(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    assert run(procorefs, ["umount", "1/3"]) == 1
    assert "nothing is mounted on" in capsys.readouterr().err
    assert unmounted == []
    assert run(procorefs, ["umount", "1/2"]) == 0
    assert unmounted == [served.place]
    assert served.stopped.is_set()


def test_umount_of_a_project_that_is_mounted_twice_names_the_mount_points(
    start: Start, unmounted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = start("m"), start("n")
    assert run(procorefs, ["umount", "1/2"]) == 1
    said = capsys.readouterr().err
    assert (
        said
        == f"procorefs: 1/2 is mounted at {one.place} and {other.place}; name one of these mount points\n"
    )
    assert unmounted == []


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


def test_umount_of_a_path_in_a_mount_names_the_mount(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("m")
    assert run(procorefs, ["umount", str(served.place / "a")]) == 1
    said = f"{served.place}/a is inside the mount {served.place}; run `procorefs umount {served.place}` to"
    assert said in capsys.readouterr().err
    assert not served.stopped.is_set()
