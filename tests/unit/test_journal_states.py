"""The states of a change: which steps are legal, and that recorded states are those that changes have."""

import pytest

from procorefs.journal.change import Change, Failed, Guarded, Incomplete, Open, Pending, Progress
from procorefs.journal.states import RECORDED, STEPS, ChangeState
from procorefs.procore.wire.models import Kind
from procorefs.tree.nodes import Inode
from tests.support.changes import PROGRESS, make_change
from tests.support.illegal_steps import IllegalStep


def in_state(progress: Progress) -> Change:
    change = make_change(Inode(5), Kind.FILE)
    change.progress = progress
    return change


def test_the_table_has_every_recorded_state_and_no_other() -> None:
    assert set(STEPS) == RECORDED == {in_state(progress).state for progress in PROGRESS.values()}
    assert all(after <= RECORDED for after in STEPS.values())


@pytest.mark.parametrize("before", sorted(RECORDED))
@pytest.mark.parametrize("after", sorted(RECORDED))
def test_a_step_that_the_table_does_not_have_is_reported(before: ChangeState, after: ChangeState) -> None:
    change = in_state(PROGRESS[before])
    if after is before or after in STEPS[before]:
        change.step(PROGRESS[after])
        assert change.state is after
    else:
        with pytest.raises(IllegalStep, match=f"from {before} to {after}"):
            change.step(PROGRESS[after])


def test_a_touch_forgets_failures_and_keeps_what_is_being_written() -> None:
    for before, after in (
        (Failed("refused", 7.0), Pending()),
        (Pending("offline", 3), Pending()),
        (Open("no room"), Open()),
        (Incomplete("cut off"), Incomplete()),
        (Guarded(at_s=7.0), Guarded(at_s=7.0)),
    ):
        change = in_state(before)
        change.touch()
        assert change.progress == after
