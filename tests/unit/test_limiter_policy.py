"""The arithmetic of the budget, with times passed in."""

import itertools
import math
from collections.abc import Iterator
from email.utils import formatdate

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procorefs.limiter import Priority, policy
from procorefs.limiter.answers import Report, ServerClock, read_report
from procorefs.limiter.budget_state import Permit, State, Waiter, begin_again, decode, encode
from procorefs.limiter.file_store import HEADER, PLACE_BYTES
from procorefs.limiter.tuning import TUNING
from tests.support.limiter_budget import (
    HOURLY_S,
    INTERACTIVE,
    OWNER,
    REFRESH,
    SPIKE_S,
    UNIX_S,
    WRITING,
    Budget,
    told,
)


@pytest.fixture
def budget() -> Budget:
    return Budget()


def test_before_the_first_answer_only_a_few_calls_go(budget: Budget) -> None:
    for _ in range(3):
        assert budget.wait_s(INTERACTIVE, 0.0) == 0
        budget.take(INTERACTIVE, 0.0)
    assert budget.wait_s(INTERACTIVE, 0.0) == math.inf  # nothing but an answer can help
    assert budget.wait_s(INTERACTIVE, 10.0) == 0  # or the silence of those
    budget.answer(10.0, told(25, 22, 9, 10.0))
    assert budget.wait_s(INTERACTIVE, 10.0) == 0


def test_two_spike_calls_are_kept_for_those_who_wait(budget: Budget) -> None:
    budget.call(0.0, told(25, 2, 9, 0.0))
    assert budget.wait_s(INTERACTIVE, 0.0) == 0
    assert budget.wait_s(WRITING, 0.0) == pytest.approx(10.0)  # Reset and the margin
    assert budget.wait_s(REFRESH, 0.0) == pytest.approx(10.0)


def test_nothing_is_sent_between_remaining_0_and_reset(budget: Budget) -> None:
    budget.call(0.0, told(25, 0, 7, 0.0))
    assert budget.wait_s(INTERACTIVE, 0.0) == pytest.approx(8.0)
    assert budget.wait_s(INTERACTIVE, 7.5) > 0
    assert budget.wait_s(INTERACTIVE, 8.0) == 0


def test_calls_under_way_are_taken_off_what_an_answer_says(budget: Budget) -> None:
    budget.call(0.0, told(25, 24, 9, 0.0))
    for _ in range(3):
        budget.take(INTERACTIVE, 0.0)
    budget.answer(0.0, told(25, 2, 9, 0.0))
    assert len(budget.state.permits) == 2
    for _ in range(2):
        budget.take(INTERACTIVE, 0.0)
    assert budget.wait_s(INTERACTIVE, 0.0) > 0


def test_an_answer_that_was_overtaken_is_no_news(budget: Budget) -> None:
    for _ in range(3):
        budget.take(INTERACTIVE, 0.0)
    budget.answer(0.0, told(25, 0, 9, 0.0))
    budget.answer(0.0, told(25, 1, 9, 0.0))
    assert budget.wait_s(INTERACTIVE, 0.0) > 0


def test_an_answer_about_a_window_that_is_over_changes_nothing(budget: Budget) -> None:
    budget.take(INTERACTIVE, 0.0)
    budget.take(INTERACTIVE, 11.0)
    budget.answer(11.5, told(25, 0, -3, 11.5))
    assert budget.wait_s(INTERACTIVE, 11.5) == 0


def test_what_other_programs_spend_is_seen_and_makes_room_for_more(budget: Budget) -> None:
    budget.call(0.0, told(25, 24, 10, 0.0))
    for number in range(1, 11):  # four of theirs stay in the short window for ten seconds
        budget.call(float(number), told(25, 21 - number + number // 10, 10 - number % 10, number))
    assert policy.sent_in_hour(budget.state, 10.0) == pytest.approx((11, 4), abs=1.5)
    assert budget.left(10.0) < 600 - 15  # as many of theirs may have gone before our first call
    assert budget.state.others_per_s > 0
    budget.call(12.0, told(25, 3, 8, 12.0))
    assert budget.wait_s(INTERACTIVE, 12.0) > 0  # the last three may be gone before ours arrives


def test_remaining_may_drop_on_its_own_and_limits_may_change(budget: Budget) -> None:
    budget.call(0.0, told(100, 90, 9, 0.0))
    assert budget.state.spike_limit == 100
    budget.call(1.0, told(100, 0, 8, 1.0))
    assert budget.wait_s(INTERACTIVE, 1.0) > 7
    budget.call(12.0, told(10, 9, 9, 12.0))
    assert budget.state.spike_limit == 10
    assert budget.wait_s(INTERACTIVE, 12.0) == 0


def test_windows_are_told_apart_by_the_time_left(budget: Budget) -> None:
    budget.call(0.0, told(700, 500, 3000, 0.0))
    assert (budget.state.limit, budget.state.spike_limit) == (700, 25)
    budget.call(1.0, told(30, 12, 6, 1.0))
    assert (budget.state.limit, budget.state.spike_limit) == (700, 30)


def test_the_hour_near_its_end_is_known_by_its_limit(budget: Budget) -> None:
    budget.call(0.0, told(600, 2, 3000, 0.0))
    budget.call(2995.0, told(600, 1, 5, 2995.0))
    assert (budget.state.limit, budget.left(2995.0)) == (600, 1)
    assert budget.state.spike_limit < 600


def test_a_part_of_the_hour_is_kept_for_people_and_shrinks(budget: Budget) -> None:
    """A tenth of what is left of the hour, where people have used less lately."""
    budget.call(0.0, told(1000, 100, 3590, 0.0))
    assert budget.wait_s(INTERACTIVE, 0.0) == 0
    assert budget.wait_s(REFRESH, 0.0) > 0
    assert budget.wait_s(REFRESH, 600.0) == 0
    assert budget.wait_s(INTERACTIVE, 600.0) == 0


def test_the_forecast_for_people_follows_what_they_used_and_how_unevenly(budget: Budget) -> None:
    even, uneven = Budget(), Budget()
    for number in range(60):
        now_s = number * 30.0
        even.call(now_s, {"x-rate-limit-limit": "1"})
        for _ in range(6 if number % 6 == 0 else 0):
            uneven.call(now_s, {"x-rate-limit-limit": "1"})
    least, some, more = (
        policy.Forecast(one.state, 600, 1800.0).calls(600.0) for one in (budget, even, uneven)
    )
    assert least == pytest.approx(TUNING.least_for_people * 100)
    assert some > 20
    assert more > some + 3
    assert policy.Forecast(even.state, 600, 1800.0).calls(0.0) == 0
    reserves = [policy.Forecast(one.state, 600, 1800.0).reserve(600.0) for one in (budget, even, uneven)]
    assert reserves == sorted(reserves)
    assert reserves[0] == TUNING.person_burst


@given(st.integers(50, 20_000), st.floats(0.05, 0.95), st.floats(100, 3500))
def test_the_pace_never_plans_more_than_the_limit_at_any_moment(
    limit: int, used: float, reset_in_s: float
) -> None:
    """What goes at that pace until the told Reset, calls of people included, leaves the reserve for people."""
    budget = Budget()
    remaining = max(1, int(limit * (1 - used)))
    budget.call(0.0, told(limit, remaining, reset_in_s, 0.0))
    gap_s = policy.pace_gap_s(budget.state, budget.left(0.0), 0.0, 0)
    if gap_s:
        left = budget.left(0.0)
        kept = policy.Forecast(budget.state, limit, 0.0).reserve(reset_in_s)
        assert reset_in_s / gap_s <= max(left - kept, 0.0) + 1


def test_after_calls_of_people_the_others_pause_for_as_many(budget: Budget) -> None:
    """All calls together go evenly: else the hour after has as uneven a pace where it rolls."""
    alone, beside = Budget(), Budget()
    for one in (alone, beside):
        one.call(0.0, told(1000, 400, 3600, 0.0))
        one.take(WRITING, 0.0)
        one.answer(0.0, told(1000, 399, 3600, 0.0))
    gap_s = alone.wait_s(WRITING, 0.0)
    for number in range(3):
        beside.call(0.0, told(1000, 398 - number, 3600, 0.0))
    assert gap_s > 5
    assert beside.wait_s(WRITING, 0.0) == pytest.approx(4 * gap_s, rel=0.05)
    assert beside.wait_s(INTERACTIVE, 0.0) == 0


def test_the_second_half_of_the_hour_is_spread_evenly(budget: Budget) -> None:
    budget.call(0.0, told(1000, 400, 3600, 0.0))
    sent_s = list(sending(budget, REFRESH, 0.0, 250))
    gaps_s = [after - before for before, after in itertools.pairwise(sent_s)]
    assert max(gaps_s) < 16
    assert 2000 < sent_s[-1] < 3000


def test_many_background_calls_are_spread_over_the_spike_window(budget: Budget) -> None:
    budget.state.limit, budget.state.told = 10_000, True
    budget.call(0.0, told(25, 24, 10, 0.0))
    sent_s = list(sending(budget, REFRESH, 0.0, 100))
    gaps_s = [after - before for before, after in itertools.pairwise(sent_s[30:])]
    assert sent_s[10] == 0.0  # a few go at once
    assert max(gaps_s) < 3.0  # many never use up the window and then stop until it is over
    assert sent_s[-1] < 100 / (0.8 * 23) * SPIKE_S + 5


def sending(budget: Budget, priority: Priority, now_s: float, count: int) -> Iterator[float]:
    """When calls go out that are answered at once without news."""
    for _ in range(count):
        while (wait_s := budget.wait_s(priority, now_s)) > 0:
            now_s += wait_s
        budget.take(priority, now_s)
        budget.answer(now_s, {})
        yield now_s


def test_429_stops_everyone_until_the_time_it_names_plus_jitter(budget: Budget) -> None:
    budget.call(0.0, {"retry-after": "20"}, status=429)
    assert 20 < budget.wait_s(INTERACTIVE, 0.0) <= 25
    assert budget.wait_s(INTERACTIVE, 19.0) > 0


def test_after_429_one_call_goes_and_the_others_wait_for_its_answer(budget: Budget) -> None:
    budget.call(0.0, {"retry-after": "20"}, status=429)
    budget.take(INTERACTIVE, 30.0)
    assert budget.wait_s(INTERACTIVE, 30.0) == math.inf
    budget.answer(30.1, {})
    assert budget.wait_s(INTERACTIVE, 30.1) == 0


def test_429_without_headers_backs_off_further_each_time(budget: Budget) -> None:
    waits = []
    now_s = 0.0
    for _ in range(5):
        budget.call(now_s, {}, status=429)
        waits.append(budget.wait_s(INTERACTIVE, now_s))
        now_s += waits[-1]
    assert waits == sorted(waits)
    assert waits[0] >= 1
    assert 16 <= waits[-1] <= 60
    budget.call(now_s, {})
    budget.call(now_s, {}, status=429)
    assert budget.wait_s(INTERACTIVE, now_s) < 3


def test_503_stops_everyone_only_when_it_says_for_how_long(budget: Budget) -> None:
    budget.call(0.0, {}, status=503)
    assert budget.wait_s(INTERACTIVE, 0.0) == 0
    budget.call(0.0, {"retry-after": formatdate(UNIX_S + 30, usegmt=True)}, status=503)
    assert 30 <= budget.wait_s(INTERACTIVE, 0.0) <= 35


def test_a_server_with_another_clock_is_understood(budget: Budget) -> None:
    ahead_s = 7200
    headers = told(25, 0, 5 + ahead_s, 0.0, date=formatdate(UNIX_S + ahead_s, usegmt=True))
    budget.call(0.0, headers)
    assert budget.wait_s(INTERACTIVE, 0.0) == pytest.approx(6.0, abs=1.0)


@given(st.floats(-5, 5), st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2)), min_size=1, max_size=30))
def test_the_servers_clock_is_never_off_by_more_than_the_last_answers_allow(
    ahead_s: float, answers: list[tuple[float, float]]
) -> None:
    clock = ServerClock()
    now_s = 0.0
    for pause_s, lasts_s in answers:
        sent_s = now_s + pause_s
        now_s = sent_s + lasts_s
        date = formatdate(math.floor(UNIX_S + ahead_s + sent_s + lasts_s / 2), usegmt=True)
        found_s = clock.unix_s(date, sent_s, now_s, UNIX_S + now_s)
        assert abs(found_s - (UNIX_S + ahead_s + now_s)) <= 1 + lasts_s + 1e-3


def test_calls_without_an_answer_are_given_up(budget: Budget) -> None:
    budget.call(0.0, told(3, 2, 9, 0.0))
    for _ in range(2):
        budget.take(INTERACTIVE, 0.0)
    budget.take(INTERACTIVE, 20.0)
    assert budget.wait_s(INTERACTIVE, 20.0) > 0  # three are under way
    assert budget.wait_s(INTERACTIVE, 41.0) == 0
    budget.take(INTERACTIVE, 41.0)
    assert len(budget.state.permits) == 2
    policy.settle(budget.state, 80.0)
    assert not budget.state.permits


def test_a_dead_process_leaves_nothing_behind(budget: Budget) -> None:
    for _ in range(3):
        budget.take(INTERACTIVE, 0.0)
    policy.drop_owner(budget.state, OWNER, 1.0)
    assert not budget.state.permits
    assert len(budget.state.recent) == 3  # the server may have counted them


def test_a_clock_that_is_set_back_stops_nobody(budget: Budget) -> None:
    budget.call(5000.0, told(25, 0, 7, 5000.0))
    assert budget.wait_s(INTERACTIVE, 1000.0) == pytest.approx(8.0)
    assert budget.wait_s(INTERACTIVE, 1008.0) == 0


def test_a_record_survives_and_damage_is_seen(budget: Budget) -> None:
    budget.call(0.0, told(25, 7, 7, 0.0))
    record = encode(budget.state)
    assert decode(record) == budget.state
    assert decode(record[:-3]) is None
    assert decode(b"") is None


def test_of_a_record_of_another_release_only_the_told_limit_is_kept() -> None:
    older = msgspec.msgpack.encode([3, 1200, True, 5.0])
    assert decode(older) is None
    assert begin_again(older) == State(limit=1200, told=True)
    for record in (b"", b"x", older[:-3], msgspec.msgpack.encode([2, 1200, True, 0]), encode(State())[:-1]):
        assert begin_again(record) == State()


def test_a_record_with_as_many_calls_as_are_allowed_fits_its_place(budget: Budget) -> None:
    owner = f"{'h' * 64}/{2**22}/{2**31}"
    for number in range(60):
        budget.call(number * 60.1, {})
    now_s = 60 * 60.1
    state = budget.state
    state.permits = [Permit(owner, now_s, number) for number in range(TUNING.most_permits)]
    state.recent = [now_s] * (TUNING.most_recent * 2)
    state.noted = [now_s] * (TUNING.most_recent * 2)
    state.waiters = [Waiter(owner, 1, now_s, now_s, (1, 1, 1))] * 40
    policy.settle(state, now_s)
    assert len(state.permits) == TUNING.most_permits
    assert len(state.recent) == len(state.noted) == TUNING.most_recent
    assert len(encode(state)) < PLACE_BYTES - HEADER.size


def test_a_record_with_a_longer_window_than_procore_has_is_not_used() -> None:
    assert decode(encode(State(hour_s=3600.0))) is not None
    assert decode(encode(State(hour_s=1e9))) is None  # its minutes would be counted one by one


NONSENSE = ["", "x", "-1", "nan", "inf", "1e400", "9" * 40, "12.5", "0x10", "\u0663"]


@given(
    limit=st.sampled_from(NONSENSE) | st.integers(0, 5000).map(str),
    remaining=st.sampled_from(NONSENSE) | st.integers(0, 5000).map(str),
    reset=st.sampled_from(NONSENSE) | st.integers(-10, 10**12).map(str) | st.floats(1.7e9, 1.9e9).map(str),
    retry_after=st.none() | st.sampled_from(NONSENSE),
    date=st.none() | st.sampled_from([*NONSENSE, "Thu, 01 Jan 1970 00:00:00 GMT"]),
    status=st.sampled_from([0, 200, 401, 429, 500, 503]),
)
def test_no_header_stops_us_for_longer_than_a_window(
    limit: str, remaining: str, reset: str, retry_after: str | None, date: str | None, status: int
) -> None:
    budget = Budget()
    headers = {"x-rate-limit-limit": limit, "x-rate-limit-remaining": remaining, "x-rate-limit-reset": reset}
    headers |= {} if retry_after is None else {"retry-after": retry_after}
    headers |= {} if date is None else {"date": date}
    budget.call(0.0, headers, status)
    assert decode(encode(budget.state)) == budget.state
    for priority in Priority:
        assert 0 <= budget.wait_s(priority, 0.0) <= HOURLY_S + 110


@pytest.mark.parametrize("reset_in_s", [5.0, 1800.0])
@pytest.mark.parametrize("limit", ["1000000000", "9" * 40])
def test_a_limit_without_bound_takes_no_memory(limit: str, reset_in_s: float) -> None:
    """The calls that it seems to have been used for would be those of other programs."""
    budget = Budget()
    headers = {"x-rate-limit-limit": limit, "x-rate-limit-remaining": "0"}
    for now_s in (0.0, 1.0, 2.0):
        headers |= {"x-rate-limit-reset": str(UNIX_S + now_s + reset_in_s)}
        budget.call(now_s, headers, 200)
    assert len(encode(budget.state)) < 64 << 10


steps = st.lists(st.tuples(st.floats(0, 4), st.sampled_from(list(Priority)), st.floats(0, 3)), max_size=80)


@given(steps)
def test_no_ten_seconds_ever_see_more_calls_than_the_limit(
    steps: list[tuple[float, Priority, float]],
) -> None:
    """Whatever the classes, pauses and durations of calls, also when the server's window slides."""
    budget = Budget()
    budget.call(0.0, told(5, 4, 10, 0.0))
    arrived_s = [0.0]
    now_s = 0.0
    for pause_s, priority, lasts_s in steps:
        now_s += pause_s
        while (wait_s := budget.wait_s(priority, now_s)) > 0:
            now_s += wait_s
        budget.take(priority, now_s)
        arrived_s.append(now_s + lasts_s / 2)
        now_s += lasts_s
        budget.answer(now_s, {})
    for index, moment_s in enumerate(arrived_s):
        assert sum(moment_s <= other < moment_s + SPIKE_S for other in arrived_s[index:]) <= 5


@settings(max_examples=40)
@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.floats(0, 3)), min_size=1, max_size=60),
)
def test_records_of_any_history_can_be_read_again(
    waiting: int, events: list[tuple[int, bool, float]]
) -> None:
    budget = Budget()
    now_s = float(waiting)
    for priority, answered, pause_s in events:
        now_s += pause_s
        if budget.wait_s(Priority(priority), now_s) == 0:
            budget.take(Priority(priority), now_s)
        if answered:
            budget.answer(now_s, told(25, max(0, 20 - len(budget.state.recent)), 5, now_s))
    assert decode(encode(budget.state)) == budget.state


def test_a_report_that_comes_late_is_as_old_as_it_is() -> None:
    report = read_report(200, told(25, 3, 9, 0.0, retry_after="4"), UNIX_S)
    late = report.aged(5)
    assert late.reading is not None
    assert late.reading.reset_in_s == 4
    assert late.retry_after_s == 0
    assert Report(0).aged(1) == Report(0)
