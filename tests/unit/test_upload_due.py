"""When a change may go, by what is known of it; no clock and no network."""

import pytest

from procorefs.journal.change import FOLLOW, Change, Location, Removed
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.staging.staging_area import StagedRecord
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import ROOT, Inode
from procorefs.upload.outcomes import retry_pause_s
from procorefs.upload.planning.due import (
    DEPARTURE_S,
    HELD_S,
    LONGEST_WAIT_S,
    LOOK_AGAIN_S,
    DueFacts,
    pause_s,
)
from tests.support.changes import make_change

NOW_S = 1_700_000_000.0
BYTES = StagedRecord(1, 10, None, ())


def written(*, age_s: float = 0.0, touched_s: float = 0.0, **more: object) -> Change:
    """A file whose bytes were flushed."""
    fields: dict[str, object] = {"place": Location(ROOT, "a.pdf"), "staged": BYTES, **more}
    fields |= {"created_at_s": NOW_S - age_s, "touched_at_s": NOW_S - touched_s}
    return make_change(Inode(5), Kind.FILE, **fields)  # type: ignore[arg-type]  # fields of make_change


def facts(**more: object) -> DueFacts:
    known: dict[str, object] = {"now_s": NOW_S, "write_back_s": 2.0, **more}
    return DueFacts(**known)  # type: ignore[arg-type]


def test_written_files_wait_their_time_after_the_last_touch() -> None:
    assert pause_s(written(), facts()) == 2.0
    assert pause_s(written(age_s=9, touched_s=0.5), facts()) == pytest.approx(1.5)
    assert pause_s(written(age_s=9, touched_s=3), facts()) == 0.0


def test_a_clock_that_jumps_back_makes_nobody_wait_longer_than_the_wait() -> None:
    assert pause_s(written(touched_s=-5000), facts()) == 2.0


def test_who_is_touched_again_and_again_goes_at_last() -> None:
    assert pause_s(written(age_s=LONGEST_WAIT_S - 1, touched_s=0), facts()) == pytest.approx(1.0)
    assert pause_s(written(age_s=LONGEST_WAIT_S + 1, touched_s=0), facts()) == 0.0
    assert pause_s(written(age_s=LONGEST_WAIT_S + 1, touched_s=0), facts(write_back_s=60.0)) == 60.0


def test_nothing_goes_while_it_is_written_unless_somebody_is_in_a_hurry() -> None:
    assert pause_s(written(touched_s=10), facts(is_written=True)) is None
    assert pause_s(written(touched_s=10), facts(is_written=True, is_hurried=True)) == 0.0


def test_what_has_arrived_and_is_open_still_waits_for_its_writer() -> None:
    """Even in a hurry: there is nothing to send, and the last close lets it go."""
    arrived = written(document=DocumentId(7), place=FOLLOW, staged=None)
    for hurried in (False, True):
        assert pause_s(arrived, facts(is_written=True, is_hurried=hurried)) is None
        assert pause_s(arrived, facts(is_hurried=hurried)) is not None


@pytest.mark.parametrize("state", [ChangeState.OPEN, ChangeState.FAILED, ChangeState.INCOMPLETE])
def test_what_is_not_pending_waits_for_somebody(state: ChangeState) -> None:
    assert pause_s(written(touched_s=99, state=state), facts(is_hurried=True)) is None


def test_temporary_names_are_held_for_an_hour_and_junk_for_ever() -> None:
    held = facts(fate=Fate.HELD, is_hurried=True)
    assert pause_s(written(touched_s=10, age_s=10), held) == HELD_S - 10
    assert pause_s(written(touched_s=HELD_S + 1), held) == 0.0
    assert pause_s(written(touched_s=HELD_S + 1), facts(fate=Fate.HELD, is_sendable=False)) is None
    assert pause_s(written(touched_s=HELD_S + 1), facts(fate=Fate.LOCAL, is_hurried=True)) is None


@pytest.mark.parametrize("place", [Removed(), Location(ROOT, "elsewhere.pdf")])
def test_a_document_leaves_its_name_slowly(place: Location) -> None:
    leaving = written(place=place, staged=None, document=DocumentId(7), age_s=500)
    assert pause_s(leaving, facts(write_back_s=0.0)) == DEPARTURE_S
    leaving.touched_at_s -= DEPARTURE_S
    assert pause_s(leaving, facts(write_back_s=0.0)) == 0.0
    assert pause_s(leaving, facts(write_back_s=0.0, is_folder_busy=True)) == LOOK_AGAIN_S
    assert pause_s(leaving, facts(write_back_s=0.0, is_read=True)) == LOOK_AGAIN_S
    assert pause_s(leaving, facts(write_back_s=0.0, is_read=True, is_hurried=True)) == 0.0


def test_a_retry_has_its_own_time_also_for_who_is_in_a_hurry() -> None:
    late = facts(not_before_s=NOW_S + 30, is_hurried=True)
    assert pause_s(written(touched_s=99), late) == 30.0
    assert pause_s(written(touched_s=99, place=FOLLOW, document=DocumentId(7)), late) == 30.0


def test_pauses_between_tries_grow_and_end_at_five_minutes() -> None:
    pauses = [retry_pause_s(attempts, 1.0) for attempts in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert pauses[-1] == 300.0
    assert retry_pause_s(3, 0.0) == pytest.approx(retry_pause_s(3, 1.0) / 2)
