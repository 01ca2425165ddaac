"""What people are told by notifications, and how often."""

from procorefs.desktop.notices import (
    CALM_S,
    GATHER_S,
    LONGEST_REASON,
    NAMED,
    Action,
    Kind,
    Known,
    Notice,
    NoticeHistory,
    Subject,
    Withdrawn,
    unsent,
)


def failed(count: int, reason: str = "the folder is gone") -> Known:
    subjects = [Subject(f"07 Daily Reports/day {number}.txt", reason) for number in range(count)]
    return Known("Riverside", failed=subjects, failed_count=count)


def told_after_gathering(history: NoticeHistory, known: Known, at_s: float) -> list[Notice | Withdrawn]:
    assert history.next(known, at_s) == []
    return history.next(known, at_s + GATHER_S)


def only_notice(told: list[Notice | Withdrawn]) -> Notice:
    assert len(told) == 1
    assert isinstance(told[0], Notice)
    return told[0]


def test_nothing_is_told_of_a_mount_where_all_is_well() -> None:
    assert NoticeHistory().next(Known("Riverside"), 100) == []


def test_what_fails_together_is_one_notice_that_names_a_few() -> None:
    history = NoticeHistory()
    assert history.next(failed(1), 100) == []
    notice = only_notice(history.next(failed(12), 100 + GATHER_S))
    assert notice.kind is Kind.FAILED
    assert notice.summary == "12 changes of Riverside not in Procore"
    assert notice.body.splitlines() == [
        *(f"day {number}.txt: the folder is gone" for number in range(NAMED)),
        "and 9 more",
    ]
    assert len(notice.paths) == 12
    assert notice.actions == (Action.RETRY, Action.FOLDER, Action.PAGE)


def test_the_same_is_told_once_and_less_of_it_not_again() -> None:
    history = NoticeHistory()
    told_after_gathering(history, failed(3), 0)
    assert history.next(failed(3), 10_000) == []
    assert history.next(failed(2), 10_001) == []
    assert history.next(failed(2), 20_000) == []


def test_a_cause_that_goes_on_is_told_less_and_less_often_until_it_was_calm() -> None:
    history = NoticeHistory()
    told_at_s = [
        second for second in range(0, 4000, 5) if history.next(failed(1 + second // 5), float(second))
    ]
    assert told_at_s[:4] == [5, 65, 365, 1265]
    assert len(told_at_s) <= 7
    last_s = told_at_s[-1] + CALM_S + 1000
    assert history.next(failed(5000), last_s)
    assert told_after_gathering(history, failed(5001), last_s + 60 - GATHER_S + 1)


def test_what_has_ended_is_withdrawn_once() -> None:
    history = NoticeHistory()
    told_after_gathering(history, failed(1), 0)
    assert history.next(Known("Riverside"), 50) == [Withdrawn(Kind.FAILED)]
    assert history.next(Known("Riverside"), 51) == []


def test_what_ends_before_it_was_told_is_never_told() -> None:
    history = NoticeHistory()
    assert history.next(failed(1), 0) == []
    assert history.next(Known("Riverside"), GATHER_S) == []
    assert history.next(failed(1), 2 * GATHER_S) == []


def test_a_mass_deletion_offers_no_button_that_would_send_it() -> None:
    known = Known("Riverside", guarded=[Subject("05 Photos", "812 deletions")], guarded_count=812)
    notice = only_notice(told_after_gathering(NoticeHistory(), known, 0))
    assert notice.summary == "812 changes of Riverside held: too many deletions at once"
    assert notice.actions == (Action.PAGE,)
    assert notice.is_critical
    assert "05 Photos: 812 deletions" in notice.body


def test_a_refused_name_is_told_with_its_reason_and_only_the_new_ones() -> None:
    history = NoticeHistory()
    first = Subject("a?.txt", "Procore refuses names with a question mark")
    told_after_gathering(history, Known("Riverside", refused=[first]), 0)
    second = Subject("b:.txt", "Procore refuses names with a colon")
    notice = only_notice(told_after_gathering(history, Known("Riverside", refused=[second, first]), 100))
    assert notice.summary == "Riverside: a file was refused"
    assert notice.body == "b:.txt: Procore refuses names with a colon"


def test_names_of_colleagues_cannot_draw_or_break_lines() -> None:
    known = Known("Riverside", failed=[Subject("x/a\nb\u202ec.txt", "no\r" + "long " * 99)], failed_count=1)
    notice = only_notice(told_after_gathering(NoticeHistory(), known, 0))
    assert len(notice.body.splitlines()) == 1
    assert "\u202e" not in notice.body
    assert len(notice.body) < LONGEST_REASON + 40


def test_login_and_budget_say_that_nothing_is_lost() -> None:
    known = Known(
        "Riverside", login_error="the login was revoked: run procorefs login.", budget_ends_at="14:05"
    )
    told = told_after_gathering(NoticeHistory(), known, 0)
    assert [notice.kind for notice in told] == [Kind.LOGIN, Kind.BUDGET]
    login, budget = (notice for notice in told if isinstance(notice, Notice))
    assert login.body.startswith("the login was revoked: run procorefs login. What you write is kept")
    assert login.is_critical
    assert "14:05" in budget.body
    assert not budget.is_critical


def test_the_end_of_a_mount_is_told_only_if_something_is_left() -> None:
    assert unsent("Riverside", 0, 0, 0, continues=False) is None
    assert unsent("Riverside", 0, 2, 1, continues=True) is None
    assert unsent("Riverside", 5, 2, 1, continues=True) == (
        "5 changes of Riverside still being sent",
        "The folder was unmounted before everything was in Procore. Leave the computer on until it is.",
    )
    left = unsent("Riverside", 0, 0, 1, continues=False)
    assert left is not None
    assert left[0] == "1 change of Riverside not in Procore"
