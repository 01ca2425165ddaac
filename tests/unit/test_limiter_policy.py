"""The arithmetic of the budget, with times passed in."""

import itertools
import math
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procorefs.limiter import Priority
from procorefs.limiter.policy import HOURLY_S, SPIKE_S, Policy

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0  # Unix time at monotonic 0


@pytest.fixture
def policy() -> Policy:
    return Policy(lambda: 0.5)


def told(limit: int, remaining: int, reset_in_s: float, now_s: float, **more: str) -> dict[str, str]:
    """Rate-limit headers of a server whose clock is ours."""
    return {
        "x-rate-limit-limit": str(limit),
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(int(UNIX_S + now_s + reset_in_s)),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def call(policy: Policy, now_s: float, headers: dict[str, str], status: int = 200) -> None:
    policy.take(INTERACTIVE, now_s)
    policy.observe(status, headers, now_s, UNIX_S + now_s)


def test_before_the_first_answer_the_published_spike_limit_holds(policy: Policy) -> None:
    for _ in range(25):
        assert policy.wait_s(INTERACTIVE, 0.0) == 0
        policy.take(INTERACTIVE, 0.0)
    assert policy.wait_s(INTERACTIVE, 0.0) == math.inf  # nothing but an answer can help


def test_two_spike_calls_are_kept_for_those_who_wait(policy: Policy) -> None:
    call(policy, 0.0, told(25, 2, 9, 0.0))
    assert policy.wait_s(INTERACTIVE, 0.0) == 0
    assert policy.wait_s(WRITING, 0.0) == pytest.approx(10.0)  # Reset and the margin
    assert policy.wait_s(REFRESH, 0.0) == pytest.approx(10.0)


def test_nothing_is_sent_between_remaining_0_and_reset(policy: Policy) -> None:
    call(policy, 0.0, told(25, 0, 7, 0.0))
    assert policy.wait_s(INTERACTIVE, 0.0) == pytest.approx(8.0)
    assert policy.wait_s(INTERACTIVE, 7.5) > 0
    assert policy.wait_s(INTERACTIVE, 8.0) == 0


def test_calls_under_way_are_taken_off_what_an_answer_says(policy: Policy) -> None:
    for _ in range(3):
        policy.take(INTERACTIVE, 0.0)
    policy.observe(200, told(25, 2, 9, 0.0), 0.0, UNIX_S)
    assert policy.wait_s(INTERACTIVE, 0.0) > 0  # the two that remain may be the two under way


def test_an_answer_that_was_overtaken_is_no_news(policy: Policy) -> None:
    for _ in range(3):
        policy.take(INTERACTIVE, 0.0)
    policy.observe(200, told(25, 0, 9, 0.0), 0.0, UNIX_S)
    policy.observe(200, told(25, 1, 9, 0.0), 0.0, UNIX_S)
    assert policy.wait_s(INTERACTIVE, 0.0) > 0


def test_remaining_may_drop_on_its_own_and_limits_may_change(policy: Policy) -> None:
    call(policy, 0.0, told(100, 90, 9, 0.0))
    assert policy.spike.limit == 100
    call(policy, 1.0, told(100, 0, 8, 1.0))
    assert policy.wait_s(INTERACTIVE, 1.0) > 7
    call(policy, 12.0, told(10, 9, 9, 12.0))
    assert policy.spike.limit == 10


def test_windows_are_told_apart_by_the_time_left(policy: Policy) -> None:
    call(policy, 0.0, told(600, 500, 3000, 0.0))
    assert (policy.hourly.limit, policy.spike.limit) == (600, 25)
    call(policy, 1.0, told(30, 12, 6, 1.0))
    assert (policy.hourly.limit, policy.spike.limit) == (600, 30)


def test_the_hour_near_its_end_is_known_by_its_limit(policy: Policy) -> None:
    call(policy, 0.0, told(600, 2, 3000, 0.0))
    call(policy, 2995.0, told(600, 1, 5, 2995.0))
    assert (policy.hourly.limit, policy.hourly.remaining) == (600, 1)
    assert policy.spike.limit < 600


def test_a_big_spike_limit_is_not_taken_for_the_hour(policy: Policy) -> None:
    call(policy, 0.0, told(1000, 999, 10, 0.0))
    assert (policy.hourly.limit, policy.spike.limit) == (3600, 1000)
    call(policy, 1.0, told(3600, 900, 3000, 1.0))
    call(policy, 2.0, told(1000, 800, 8, 2.0))
    assert (policy.hourly.limit, policy.spike.limit) == (3600, 1000)


def test_a_tenth_of_the_hour_is_kept_and_shrinks_to_nothing(policy: Policy) -> None:
    call(policy, 0.0, told(1000, 99, 3599, 0.0))
    assert policy.wait_s(INTERACTIVE, 0.0) == 0
    wait_s = policy.wait_s(REFRESH, 0.0)
    assert 0 < wait_s < 60  # soon 99 is more than a tenth of what is left of the hour
    call(policy, 100.0, told(1000, 50, 1800, 100.0))
    assert policy.wait_s(REFRESH, 100.0) < 5
    call(policy, 200.0, told(1000, 1, 1, 200.0))
    assert policy.wait_s(REFRESH, 200.0) <= 2


def test_many_background_calls_are_spread_over_the_window(policy: Policy) -> None:
    call(policy, 0.0, told(25, 24, 10, 0.0))
    sent_s = list(sending(policy, REFRESH, 0.0, 100))
    gaps_s = [after - before for before, after in itertools.pairwise(sent_s[30:])]
    assert sent_s[10] == 0.0  # a few go at once
    assert max(gaps_s) < 3.0  # many never use up the window and then stop until it is over
    assert sent_s[-1] < 100 / 25 * SPIKE_S + 5  # and nothing of it is wasted


def sending(policy: Policy, priority: Priority, now_s: float, count: int) -> Iterator[float]:
    """When calls go out that are answered at once without news."""
    for _ in range(count):
        now_s += policy.wait_s(priority, now_s)
        policy.take(priority, now_s)
        policy.observe(200, {}, now_s, UNIX_S + now_s)
        yield now_s


def test_429_stops_everyone_until_the_time_it_names_plus_jitter(policy: Policy) -> None:
    call(policy, 0.0, {"retry-after": "20"}, status=429)
    assert 20 < policy.wait_s(INTERACTIVE, 0.0) <= 25
    assert policy.wait_s(INTERACTIVE, 19.0) > 0


def test_429_without_headers_backs_off_further_each_time(policy: Policy) -> None:
    waits = []
    now_s = 0.0
    for _ in range(5):
        call(policy, now_s, {}, status=429)
        waits.append(policy.wait_s(INTERACTIVE, now_s))
        now_s += waits[-1]
    assert waits == sorted(waits)
    assert waits[0] >= 1
    assert 16 <= waits[-1] <= 60
    call(policy, now_s, {})
    call(policy, now_s, {}, status=429)
    assert policy.wait_s(INTERACTIVE, now_s) < 5  # a success ends the row


def test_503_pauses_only_with_retry_after(policy: Policy) -> None:
    call(policy, 0.0, {}, status=503)
    assert policy.wait_s(INTERACTIVE, 0.0) == 0
    call(policy, 0.0, {"retry-after": formatdate(UNIX_S + 30, usegmt=True)}, status=503)
    assert 30 <= policy.wait_s(INTERACTIVE, 0.0) <= 35


def test_a_server_with_another_clock_is_understood(policy: Policy) -> None:
    ahead_s = 7200
    headers = told(25, 0, 5 + ahead_s, 0.0, date=formatdate(UNIX_S + ahead_s, usegmt=True))
    call(policy, 0.0, headers)
    assert policy.wait_s(INTERACTIVE, 0.0) == pytest.approx(6.0)


def test_a_server_without_limits_is_not_slowed_down(policy: Policy) -> None:
    for _ in range(200):
        assert policy.wait_s(REFRESH, 0.0) == 0
        call(policy, 0.0, {})
    call(policy, 0.0, {}, status=429)  # there is a limit after all
    assert policy.wait_s(INTERACTIVE, 30.0) == 0
    for _ in range(25):
        policy.take(INTERACTIVE, 30.0)
    assert policy.wait_s(INTERACTIVE, 30.0) > 0


def test_a_spike_limit_that_is_never_reported_does_not_slow_down(policy: Policy) -> None:
    for number in range(200):
        assert policy.wait_s(REFRESH, 0.0) == 0, number
        call(policy, 0.0, told(100_000, 99_999 - number, 3600, 0.0))


NONSENSE = ["", "x", "-1", "nan", "inf", "1e400", "9" * 40, "12.5", "0x10", "\u0663"]


@given(
    limit=st.sampled_from(NONSENSE) | st.integers(0, 5000).map(str),
    remaining=st.sampled_from(NONSENSE) | st.integers(0, 5000).map(str),
    reset=st.sampled_from(NONSENSE) | st.integers(-10, 10**12).map(str),
    retry_after=st.none() | st.sampled_from(NONSENSE),
    status=st.sampled_from([0, 200, 401, 429, 500, 503]),
)
def test_no_header_stops_us_for_longer_than_a_window(
    limit: str, remaining: str, reset: str, retry_after: str | None, status: int
) -> None:
    policy = Policy(lambda: 0.999)
    headers = {
        "x-rate-limit-limit": limit,
        "x-rate-limit-remaining": remaining,
        "x-rate-limit-reset": reset,
    }
    if retry_after is not None:
        headers["retry-after"] = retry_after
    call(policy, 0.0, headers, status)
    for priority in Priority:
        assert 0 <= policy.wait_s(priority, 0.0) <= HOURLY_S + 110


@given(st.lists(st.tuples(st.floats(0, 4), st.sampled_from(list(Priority)), st.floats(0, 3)), max_size=80))
def test_no_ten_seconds_ever_see_more_calls_than_the_limit(
    steps: list[tuple[float, Priority, float]],
) -> None:
    """Whatever the classes, pauses and durations of calls, also when the server's window slides."""
    policy = Policy(lambda: 0.0)
    call(policy, 0.0, told(5, 4, 10, 0.0))
    arrived_s = [0.0]
    now_s = 0.0
    for pause_s, priority, lasts_s in steps:
        now_s += pause_s
        now_s += policy.wait_s(priority, now_s)
        policy.take(priority, now_s)
        arrived_s.append(now_s + lasts_s / 2)
        now_s += lasts_s
        policy.observe(200, {}, now_s, UNIX_S + now_s)
    for index, moment_s in enumerate(arrived_s):
        assert sum(moment_s <= other < moment_s + SPIKE_S for other in arrived_s[index:]) <= 5
