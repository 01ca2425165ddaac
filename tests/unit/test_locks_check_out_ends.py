"""Which ends of check-outs are remembered: whatever Procore may show as ours, now or later."""

from procorefs.locks.check_out_ends import AskedEnds
from procorefs.procore.wire.models import DocumentId
from tests.support.locks_project import Journal

DOCUMENT = DocumentId(7)
FIRST_S, SECOND_S, THIRD_S = 1000, 2000, 3000


class Clock:
    """Procore's."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_end_stays_until_a_later_one_is_known_to_hold() -> None:
    """A daemon that is killed before its renewal was sent has the first one."""
    journal = Journal()
    ends = AskedEnds(journal, Clock())
    ends.asked(DOCUMENT, FIRST_S)
    ends.holds(DOCUMENT, FIRST_S)
    ends.asked(DOCUMENT, SECOND_S)
    assert set(ends.of(DOCUMENT)) == set(journal.kept[DOCUMENT]) == {FIRST_S, SECOND_S}
    ends.holds(DOCUMENT, SECOND_S)
    assert set(ends.of(DOCUMENT)) == set(journal.kept[DOCUMENT]) == {SECOND_S}


def test_a_call_without_an_answer_may_be_done_later() -> None:
    journal = Journal()
    ends = AskedEnds(journal, Clock())
    ends.asked(DOCUMENT, FIRST_S)
    ends.asked(DOCUMENT, SECOND_S)
    ends.holds(DOCUMENT, SECOND_S)
    assert set(ends.of(DOCUMENT)) == set(journal.kept[DOCUMENT]) == {FIRST_S, SECOND_S}


def test_an_end_that_was_refused_or_is_over_is_forgotten() -> None:
    journal, clock = Journal(), Clock()
    ends = AskedEnds(journal, clock)
    for until_s in (FIRST_S, SECOND_S, THIRD_S):
        ends.asked(DOCUMENT, until_s)
    ends.refused(DOCUMENT, SECOND_S)
    assert set(journal.kept[DOCUMENT]) == {FIRST_S, THIRD_S}
    clock.now_s = FIRST_S + 1
    ends.holds(DOCUMENT, THIRD_S)
    assert set(journal.kept[DOCUMENT]) == {THIRD_S}


def test_an_end_is_over_only_at_an_answer() -> None:
    """At the start nothing has told Procore's clock: the machine's own may be a day ahead by then."""
    journal, clock = Journal(), Clock()
    AskedEnds(journal, clock).asked(DOCUMENT, FIRST_S)
    clock.now_s = FIRST_S + 86_400
    ends = AskedEnds(journal, clock)
    assert ends.documents() == [DOCUMENT]
    assert set(journal.kept[DOCUMENT]) == {FIRST_S}
    ends.holds(DocumentId(8), THIRD_S + 86_400)
    assert ends.documents() == [DocumentId(8)]
    assert DOCUMENT not in journal.kept
