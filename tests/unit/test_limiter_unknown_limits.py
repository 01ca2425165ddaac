"""How the budget counts where limits are not told, only partly told or shared with other programs."""

import math

import pytest

from procorefs.limiter import policy
from procorefs.limiter.budget_state import encode
from procorefs.limiter.file_store import PLACE_BYTES
from tests.support.limiter_budget import (
    INTERACTIVE,
    REFRESH,
    SPIKE_S,
    WRITING,
    Budget,
    told,
)


@pytest.fixture
def budget() -> Budget:
    return Budget()


def test_a_server_without_limits_is_not_slowed_down(budget: Budget) -> None:
    for _ in range(200):
        assert budget.wait_s(REFRESH, 0.0) == 0
        budget.call(0.0, {})
    budget.call(0.0, {}, status=429)  # there is a limit after all
    assert budget.wait_s(INTERACTIVE, 30.0) == 0
    budget.call(30.0, {})
    for _ in range(24):
        budget.take(INTERACTIVE, 30.0)
    assert budget.wait_s(INTERACTIVE, 30.0) > 0


def test_a_spike_limit_that_is_never_reported_does_not_slow_down(budget: Budget) -> None:
    for number in range(200):
        assert budget.wait_s(REFRESH, 0.0) == 0, number
        budget.call(0.0, told(100_000, 99_999 - number, 3600, 0.0))


def test_nor_does_it_when_many_calls_are_under_way_as_time_goes_by(budget: Budget) -> None:
    for number in range(2000):
        now_s = number * 0.01
        assert budget.wait_s(REFRESH, now_s) == 0, number
        budget.take(REFRESH, now_s)
        if number >= 2:
            budget.answer(now_s, told(10_000_000, 10_000_000, 3600, now_s))


def working(budget: Budget, begin_s: float, end_s: float, gap_s: float) -> None:
    """Calls that answers speak of the short window after."""
    now_s = begin_s
    while now_s < end_s:
        own = min(24, 1 + sum(now_s - at_s < SPIKE_S for at_s in budget.state.recent))
        budget.call(now_s, told(25, 25 - own, SPIKE_S, now_s))
        now_s += gap_s


def test_a_limit_is_assumed_low_and_twice_as_much_as_soon_as_more_is_proved(budget: Budget) -> None:
    assert policy.hour_limit(budget.state) == 600
    working(budget, 0.0, 599.5, 1.0)
    assert policy.hour_limit(budget.state) == 600
    working(budget, 600.0, 605.0, 1.0)
    assert policy.hour_limit(budget.state) == 1200
    working(budget, 605.0, 3000.0, 1.0)
    assert policy.hour_limit(budget.state) == 3600  # what older apps get is tried before more
    budget.call(3000.0, told(900, 100, 1000, 3000.0))
    assert policy.hour_limit(budget.state) == 900  # down at once when told


def test_with_other_programs_a_count_proves_only_what_lasts_an_hour(budget: Budget) -> None:
    """Their calls may have begun the server's hour: in the last hour of ours a new one may have begun."""
    budget.state.others_per_s = 0.01
    budget.state.others_burst = 1.0
    now_s = 0.0
    while now_s < 2800.0 + 3500.0:
        budget.state.others_per_s = 0.01
        working(budget, now_s, now_s + 1, 5.0)
        now_s += 5.0
    assert policy.hour_limit(budget.state) == 600
    while now_s < 3 * 3600.0 and policy.hour_limit(budget.state) == 600:
        budget.state.others_per_s = 0.01
        working(budget, now_s, now_s + 1, 5.0)
        now_s += 5.0
    assert policy.hour_limit(budget.state) == 1200


def test_a_configured_limit_holds_unless_less_is_told(budget: Budget) -> None:
    budget.configured = 100
    working(budget, 0.0, 99.5, 1.0)
    assert budget.wait_s(WRITING, 100.0) > 0
    assert policy.hour_limit(budget.state, 100) == 100
    budget.call(100.0, told(5000, 4000, 3000, 100.0))
    assert policy.hour_limit(budget.state, 100) == 100
    budget.call(101.0, told(50, 10, 3000, 101.0))
    assert policy.hour_limit(budget.state, 100) == 50


def test_what_is_told_of_the_hour_is_the_count(budget: Budget) -> None:
    for number in range(60):
        budget.call(number * 10.0, told(100, 99 - number, 700 - number * 10, number * 10.0))
    assert budget.left(600.0) == pytest.approx(40, abs=1)
    budget.call(710.0, told(100, 99, 3600, 710.0))  # it began anew
    assert budget.left(710.0) == pytest.approx(99)


def test_nothing_leaves_the_hour_before_the_reset_that_was_told(budget: Budget) -> None:
    working(budget, 0.0, 100.0, 10.0)
    budget.call(3590.0, told(600, 5, 200, 3590.0))
    assert budget.left(3700.0) == pytest.approx(5)
    assert budget.left(3792.0) > 10


def test_of_a_rolling_hour_our_own_calls_leave_when_they_are_an_hour_old(budget: Budget) -> None:
    working(budget, 0.0, 900.0, 10.0)
    before = budget.left(3600.0)
    assert budget.left(3600.0 + 450.0) - before == pytest.approx(45, abs=3)


def test_a_reset_at_which_all_calls_have_left_a_rolling_hour_is_no_closed_hour(budget: Budget) -> None:
    working(budget, 0.0, 3590.0, 6.0)
    budget.call(3590.0, told(600, 0, 3600, 3590.0))
    assert 0 < budget.wait_s(INTERACTIVE, 3590.0) < 60
    assert budget.left(3660.0) < 20


def test_calls_that_were_under_way_when_an_answer_told_are_no_sign_of_others(budget: Budget) -> None:
    budget.call(0.0, told(16, 15, 10, 0.0))
    budget.take(INTERACTIVE, 10.2)  # by our count still of that window, by the server's of the next
    budget.answer(10.4, {})
    budget.take(INTERACTIVE, 11.2)
    budget.take(INTERACTIVE, 11.2)
    budget.answer(11.3, told(16, 14, 8.8, 11.3))  # the other one is not in it yet
    budget.answer(11.4, told(16, 13, 8.7, 11.4))
    assert budget.state.others_burst == 0


def test_the_short_window_is_counted_as_rolling_when_only_the_hour_is_told(budget: Budget) -> None:
    for number in range(10):
        budget.call(float(number), told(25, 24 - number, 10 - number, number))
    arrived_s: list[float] = []
    for number in range(3000):  # only the hour is told from here on: one call, a pause, as many as may go
        now_s = 100.0 + number * 0.1
        if number % 300 in range(1, 80) or budget.wait_s(INTERACTIVE, now_s) > 0:
            continue
        budget.call(now_s, told(3600, 3000 - len(arrived_s), 1800 - now_s, now_s))
        arrived_s.append(now_s)
    assert len(arrived_s) > 100
    for index, moment_s in enumerate(arrived_s):
        assert sum(moment_s <= other < moment_s + SPIKE_S for other in arrived_s[index:]) <= 25


def test_where_the_hour_is_what_runs_out_a_spike_window_has_room_for_several_calls_of_a_person(
    budget: Budget,
) -> None:
    budget.call(0.0, told(3600, 3000, 3000, 0.0))
    budget.call(0.1, told(25, 24, 10, 0.1))
    now_s = 0.1
    while budget.wait_s(WRITING, now_s) <= 2.0:
        now_s += budget.wait_s(WRITING, now_s)
        budget.take(WRITING, now_s)
    assert now_s < 10
    for _ in range(6):
        assert budget.wait_s(INTERACTIVE, now_s) == 0
        budget.take(INTERACTIVE, now_s)


def test_the_record_stays_small_where_no_limit_is_told(budget: Budget) -> None:
    for number in range(20_000):
        budget.call(number * 0.1, {})
    assert sum(sent.calls for sent in budget.state.sent) == 20_000
    assert len(encode(budget.state)) < PLACE_BYTES / 2


def test_when_the_hour_began_anew_one_call_goes_until_an_answer_proves_it(budget: Budget) -> None:
    budget.call(0.0, told(600, 0, 100, 0.0))
    assert budget.wait_s(INTERACTIVE, 100.5) > 0
    assert budget.wait_s(INTERACTIVE, 101.0) == 0
    budget.take(INTERACTIVE, 101.0)
    assert budget.wait_s(INTERACTIVE, 101.0) == math.inf
    budget.answer(101.1, told(600, 599, 3600, 101.1))
    assert budget.wait_s(INTERACTIVE, 101.1) == 0
    assert budget.left(101.1) == 599


def test_an_hour_that_ends_at_once_is_known_to_end_an_hour_after_its_first_call(budget: Budget) -> None:
    """Answers tell of it only when it is nearly used up; until its end nothing need be kept for later."""

    def work(begin_s: float, end_s: float) -> None:
        for number in range(int((end_s - begin_s) / 8)):
            now_s = begin_s + number * 8
            for priority in [WRITING] + [INTERACTIVE] * (4 if number % 8 == 0 else 0):
                budget.take(priority, now_s)
                budget.answer(now_s, told(25, 20, SPIKE_S, now_s))

    work(0.0, 3000.0)
    budget.call(3000.0, told(600, 12, 1500, 3000.0))  # later than our oldest call leaves
    assert policy.hour_ends_in_s(budget.state, 3000.0) == pytest.approx(1500, abs=2)
    work(3000.0, 8070.0)
    assert policy.hour_ends_in_s(budget.state, 8070.0) == pytest.approx(40, abs=10)
    known_s = policy.pace_gap_s(budget.state, 13.0, 8070.0, 0)
    budget.state.hour_rolls = None
    assert known_s < 0.75 * policy.pace_gap_s(budget.state, 13.0, 8070.0, 0) < math.inf


def test_the_last_calls_are_left_to_others_who_may_have_used_them_since_an_answer_told(
    budget: Budget,
) -> None:
    budget.state.others_per_s = 0.02
    budget.call(0.0, told(600, 5, 70, 0.0))
    assert budget.wait_s(INTERACTIVE, 1.0) == 0
    assert budget.wait_s(INTERACTIVE, 50.0) > 10
