"""Two clocks, each for its purpose: no step of the wall clock changes an interval within a run."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from procorefs.journal.change import Location, Removed
from procorefs.procore.errors import LATE_S, Unanswered
from procorefs.procore.wire.models import DocumentId, Kind, UserId
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.request_order import RequestOrder
from procorefs.upload.outcomes import Refused
from procorefs.upload.planning.due import DueFacts, pause_s
from procorefs.upload.sending import removal
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.removal import DocumentRemover
from tests.support.changes import make_change
from tests.support.offline_project import offline_project
from tests.support.tree_documents import file

BEGAN_S = 1_700_000_000.0
HOUR_S = 3600.0


class Machine:
    """A machine whose clocks the test sets."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.wall_s = BEGAN_S
        self.boot_s = 500.0

    def time(self) -> float:
        return self.wall_s

    def time_ns(self) -> int:
        return int(self.wall_s * 1e9)

    def clock_gettime(self, clock: int) -> float:
        assert clock == time.CLOCK_BOOTTIME
        return self.boot_s

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    found = Machine()
    monkeypatch.setattr(clocks, "time", found)
    clocks.begin_run()
    yield found
    monkeypatch.undo()
    clocks.begin_run()


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_step_of_the_wall_clock_changes_no_age(machine: Machine, step_s: float) -> None:
    at_s = clocks.unix_s()
    assert at_s == BEGAN_S
    machine.passes(5)
    machine.wall_s += step_s
    assert clocks.age_s(at_s) == 5
    assert clocks.shown_s(at_s) == BEGAN_S + step_s
    clocks.begin_run()
    assert clocks.unix_s() == machine.wall_s


def test_trio_counts_the_time_in_suspend(machine: Machine) -> None:
    """Its own clock stands meanwhile, so that a look from before would seem to be a moment old."""

    async def suspended_s() -> float:
        began_s = trio.current_time()
        machine.passes(HOUR_S)
        return trio.current_time() - began_s

    assert trio.run(suspended_s, clock=clocks.BootClock()) == HOUR_S


def test_sleepers_wake_by_the_boot_clock() -> None:
    async def sleep() -> float:
        began_s = clocks.boot_s()
        await trio.sleep(0.02)
        return clocks.boot_s() - began_s

    assert trio.run(sleep, clock=clocks.BootClock()) >= 0.02


@pytest.mark.parametrize("step_s", [-HOUR_S, 0.0, HOUR_S])
def test_a_change_waits_its_time_and_no_step_of_the_clock(machine: Machine, step_s: float) -> None:
    change = make_change(Inode(5), Kind.FOLDER, Location(ROOT, "a"), created_at_s=clocks.unix_s())
    change.touch()
    machine.wall_s += step_s
    not_before_s = clocks.unix_s() + 7

    def left_s() -> float | None:
        return pause_s(change, DueFacts(clocks.unix_s(), write_back_s=0.4, not_before_s=not_before_s))

    machine.passes(5)
    assert left_s() == pytest.approx(2)
    machine.passes(2)
    assert left_s() == 0


def test_what_an_earlier_run_kept_is_not_in_the_future(machine: Machine, tmp_path: Path) -> None:
    """The clock was an hour fast when it was written."""
    machine.wall_s += HOUR_S
    clocks.begin_run()
    with offline_project(tmp_path / "state") as project:
        inode = project.put("plan.dwg", b"the plan")
        change = project.change(inode)
        with (
            pytest.raises(Unanswered),
            project.calls.sending(inode, Kind.FILE, None, Location(ROOT, "plan.dwg")),
        ):
            raise Unanswered("no answer")
    machine.wall_s -= HOUR_S
    clocks.begin_run()
    with offline_project(tmp_path / "state") as project:
        change = project.change(inode)
        assert change.touched_at_s == change.created_at_s == machine.wall_s
        (call,) = project.calls.unconfirmed(inode, None)
        assert project.calls.left_s(call) == LATE_S
        machine.passes(2)
        assert pause_s(change, DueFacts(clocks.unix_s(), write_back_s=2.0)) == 0


@pytest.mark.parametrize("step_s", [-HOUR_S, 0.0, 2 * HOUR_S])
def test_a_look_from_before_a_removal_never_counts_as_one_after_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """A colleague's version that was made after the removal would be deleted unseen."""
    monkeypatch.setattr(removal, "trio", SimpleNamespace(current_time=lambda: machine.boot_s))
    asked_since: list[float] = []

    async def polled_since(since_s: float) -> bool:
        asked_since.append(since_s)
        raise Refused("that is all this test wants to know")

    nobody = cast(Any, None)
    own = OwnChanges(nobody, nobody, RequestOrder(), UserId(9))
    documents = DocumentCalls(nobody, own, nobody, nobody, nobody, nobody, polled_since, nobody)
    remover = DocumentRemover(nobody, nobody, documents, nobody, nobody, nobody, nobody)
    change = make_change(Inode(5), Kind.FILE, Removed(), document=DocumentId(7), seen=file(7, "a").version)
    machine.passes(60)
    change.touch()
    removed_at_s = machine.boot_s
    machine.wall_s += step_s
    machine.passes(2)
    with pytest.raises(Refused):
        trio.run(remover.may_remove_file, change)
    assert asked_since == [removed_at_s]
