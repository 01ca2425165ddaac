"""The arithmetic of the budget, with times passed in."""

import itertools
import math
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procorefs.limiter import Priority, learning, policy
from procorefs.limiter.budget_state import FIXED, HOURLY_LIMIT, SLIDES, State, Window, decode, encode, fresh
from procorefs.limiter.file_store import PLACE_BYTES
from procorefs.limiter.headers import Report, ServerClock, read_report

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0  # Unix time at second 0 of the store's clock
HOURLY_S, SPIKE_S = 3600.0, 10.0
OWNER = "host/1/1"


class Budget:
    """A state with a clock that the test moves."""

    def __init__(self) -> None:
        self.state: State = fresh()
        self.clock = ServerClock()
        self.jitter = 0.5

    def wait_s(self, priority: Priority, now_s: float) -> float:
        policy.settle(self.state, now_s)
        return policy.wait_s(self.state, priority, now_s)

    def take(self, priority: Priority, now_s: float) -> None:
        policy.settle(self.state, now_s)
        policy.take(self.state, OWNER, priority, now_s)

    def answer(self, now_s: float, headers: dict[str, str], status: int = 200, owner: str = OWNER) -> None:
        policy.settle(self.state, now_s)
        unix_s = UNIX_S + now_s
        server_s = self.clock.unix_s(headers.get("date"), now_s, now_s, unix_s)
        report = read_report(status, headers, server_s)
        learning.observe(self.state, owner, report, now_s, lambda: self.jitter)

    def call(self, now_s: float, headers: dict[str, str], status: int = 200) -> None:
        self.take(INTERACTIVE, now_s)
        self.answer(now_s, headers, status)


@pytest.fixture
def budget() -> Budget:
    return Budget()


def told(limit: int, remaining: int, reset_in_s: float, now_s: float, **more: str) -> dict[str, str]:
    """Rate-limit headers of a server whose clock is ours."""
    return {
        "x-rate-limit-limit": str(limit),
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(int(UNIX_S + now_s + reset_in_s)),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


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
    assert budget.state.spike.remaining <= 2
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
    budget.call(0.0, told(25, 24, 9, 0.0))
    before = budget.state.hourly.remaining
    budget.call(1.0, told(25, 19, 8, 1.0))  # one is ours
    assert budget.state.spike.remaining == 19
    assert before - budget.state.hourly.remaining == pytest.approx(1 + 4 * learning.UNSEEN)
    assert budget.state.strangers_per_s > 0
    budget.call(2.0, told(25, 3, 7, 2.0))
    assert budget.wait_s(INTERACTIVE, 2.0) > 0  # the last three may be gone before ours arrives


def test_remaining_may_drop_on_its_own_and_limits_may_change(budget: Budget) -> None:
    budget.call(0.0, told(100, 90, 9, 0.0))
    assert budget.state.spike.limit == 100
    budget.call(1.0, told(100, 0, 8, 1.0))
    assert budget.wait_s(INTERACTIVE, 1.0) > 7
    budget.call(12.0, told(10, 9, 9, 12.0))
    assert budget.state.spike.limit == 10
    assert budget.state.spike.remaining == 9


def test_windows_are_told_apart_by_the_time_left(budget: Budget) -> None:
    budget.call(0.0, told(600, 500, 3000, 0.0))
    assert (budget.state.hourly.limit, budget.state.spike.limit) == (600, 25)
    budget.call(1.0, told(30, 12, 6, 1.0))
    assert (budget.state.hourly.limit, budget.state.spike.limit) == (600, 30)


def test_the_hour_near_its_end_is_known_by_its_limit(budget: Budget) -> None:
    budget.call(0.0, told(600, 2, 3000, 0.0))
    budget.call(2995.0, told(600, 1, 5, 2995.0))
    assert (budget.state.hourly.limit, budget.state.hourly.remaining) == (600, 1)
    assert budget.state.spike.limit < 600


def test_a_part_of_the_hour_is_kept_and_shrinks(budget: Budget) -> None:
    budget.call(0.0, told(1000, 107, 3599, 0.0))
    assert budget.wait_s(INTERACTIVE, 0.0) == 0
    assert budget.wait_s(REFRESH, 0.0) > 300  # a tenth of the hour, and 18 calls till the end is near
    assert budget.wait_s(REFRESH, 600.0) == 0
    other = Budget()
    other.call(700.0, told(1000, 11, 2899, 700.0))
    assert other.wait_s(INTERACTIVE, 700.0) == 0
    assert other.wait_s(REFRESH, 700.0) > 2000


def test_the_second_half_of_the_hour_is_spread_evenly(budget: Budget) -> None:
    budget.call(0.0, told(1000, 400, 3600, 0.0))
    sent_s = list(sending(budget, REFRESH, 0.0, 300))
    gaps_s = [after - before for before, after in itertools.pairwise(sent_s)]
    assert max(gaps_s) < 15
    assert 2000 < sent_s[-1] < 3000


def test_many_background_calls_are_spread_over_the_spike_window(budget: Budget) -> None:
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


def test_a_larger_hour_than_the_published_one_is_found_out(budget: Budget) -> None:
    """Only the spike window is told: the hour has more calls than we count."""
    budget.state.hourly.remaining = 5
    budget.state.hourly.reset_at_s = 100.0
    budget.call(0.0, told(25, 24, 9, 0.0))
    assert budget.state.hourly.limit > 3600
    assert budget.state.hourly.remaining > 24


def test_how_a_window_ends_is_learnt_from_its_resets(budget: Budget) -> None:
    budget.call(0.0, told(25, 24, 10, 0.0))
    budget.call(4.0, told(25, 22, 9, 4.0))  # 13: three seconds after the first
    assert budget.state.spike.kind == SLIDES
    other = Budget()
    for now_s in range(10):
        other.call(float(now_s), told(25, 24 - now_s, 10 - now_s, now_s))
    other.call(10.5, told(25, 24, 10, 10.5))
    assert other.state.spike.kind == FIXED


def test_a_late_answer_about_a_window_that_is_over_reveals_no_other_program(budget: Budget) -> None:
    budget.call(0.0, told(9, 3, 5, 0.0))
    budget.take(INTERACTIVE, 4.0)
    budget.take(INTERACTIVE, 6.5)  # in the next window, of which nothing was told yet
    budget.answer(6.6, told(9, 2, -1, 6.6))
    assert budget.state.strangers_burst == 0


def test_an_hour_is_known_to_forget_all_at_once_when_more_is_left_than_our_calls_allow(
    budget: Budget,
) -> None:
    for number in range(60):
        budget.call(number * 10.0, told(100, 99 - number, 700 - number * 10, number * 10.0))
    budget.call(710.0, told(100, 99, 3600, 710.0))
    assert budget.state.hourly.kind == FIXED


@pytest.fixture
def sliding(budget: Budget) -> Budget:
    """Others made ten calls, then we ninety, one each ten seconds from 100 s on; the hour slides."""
    for number in range(90):
        now_s = 100.0 + number * 10
        budget.call(now_s, told(100, 89 - number, 3600 - now_s, now_s))
    budget.call(3603.0, told(100, 5, 2, 3603.0))
    assert budget.state.hourly.kind == SLIDES
    return budget


def test_of_a_sliding_hour_our_own_calls_fall_out_when_they_are_an_hour_old(sliding: Budget) -> None:
    policy.settle(sliding.state, 3690.0)
    before = sliding.state.hourly.remaining
    policy.settle(sliding.state, 3901.0)
    freed = sliding.state.hourly.remaining - before
    assert 21 <= freed <= 21 + (3901 - 3690) / policy.SLIDING_LOOK_S + 1  # and now and then one of others


def test_until_they_do_what_is_left_of_a_sliding_hour_is_spread(sliding: Budget) -> None:
    sliding.take(WRITING, 3604.0)
    assert sliding.wait_s(WRITING, 3604.0) >= 96 / 5 - 1
    assert sliding.wait_s(INTERACTIVE, 3604.0) == 0


def test_what_an_answer_told_of_a_sliding_hour_is_not_added_again(budget: Budget) -> None:
    budget.state.hourly = Window(5000, HOURLY_S, 5000, told=True, kind=SLIDES)
    for number in range(10):
        budget.call(number * 60.0, told(5000, 5000 - number, HOURLY_S, number * 60.0))
    budget.call(3600 + 270.0, told(5000, 4994, 30, 3600 + 270.0))  # five of ten have fallen out
    policy.settle(budget.state, 3600 + 541.0)
    assert budget.state.hourly.remaining <= 4994 + 5 + 1 + 270 / policy.SLIDING_LOOK_S


def test_the_memory_of_other_programs_fades_only_while_they_could_be_seen(budget: Budget) -> None:
    budget.call(0.0, told(25, 24, 9, 0.0))
    budget.call(1.0, told(25, 19, 8, 1.0))  # one is ours
    burst = budget.state.strangers_burst
    assert burst > 3
    for number in range(1, 300):  # of the hour is told, now and then, and each time calls have fallen out
        now_s = number * 60.0
        budget.call(now_s, told(3600, 1000, 10 + number % 2 * 5, now_s))
    assert budget.state.strangers_burst == burst


def test_others_are_seen_in_a_sliding_hour_while_no_call_falls_out(sliding: Budget) -> None:
    sliding.call(3604.0, told(100, 4, 30, 3604.0))
    sliding.call(3605.0, told(100, 1, 29, 3605.0))  # one is ours
    assert sliding.state.strangers_burst >= 2


def test_calls_of_others_leave_a_sliding_hour_as_it_is_because_as_many_of_theirs_fall_out(
    sliding: Budget,
) -> None:
    sliding.call(3604.0, told(25, 24, 9, 3604.0))
    before = sliding.state.hourly.remaining
    sliding.call(3605.0, told(25, 19, 8, 3605.0))  # one is ours
    assert sliding.state.strangers_burst > 3
    assert sliding.state.hourly.remaining == pytest.approx(before - 1, abs=1)


def test_calls_that_were_under_way_when_an_answer_told_are_no_sign_of_others(budget: Budget) -> None:
    budget.call(0.0, told(16, 15, 10, 0.0))
    budget.take(INTERACTIVE, 10.2)  # by our count still of that window, by the server's of the next
    budget.answer(10.4, {})
    budget.take(INTERACTIVE, 11.2)
    budget.take(INTERACTIVE, 11.2)
    budget.answer(11.3, told(16, 14, 8.8, 11.3))  # the other one is not in it yet
    budget.answer(11.4, told(16, 13, 8.7, 11.4))
    assert budget.state.strangers_burst == 0


def test_room_for_others_grows_with_the_time_since_they_were_last_seen(budget: Budget) -> None:
    budget.state.strangers_burst, budget.state.strangers_per_s = 4.0, 0.1
    room = [policy.strangers_since(budget.state, 0.0, HOURLY_S, now_s) for now_s in (1.0, 10.0, 90.0)]
    assert room == [5, 5, 21]  # 90 s: nine on average, and three times what chance adds in ten


def test_a_reset_after_our_own_calls_would_have_fallen_out_tells_that_the_hour_does_not_slide(
    sliding: Budget,
) -> None:
    sliding.call(3800.0, told(100, 60, 3420, 3800.0))
    assert sliding.state.hourly.kind == FIXED


def test_an_hour_of_which_nothing_is_told_slides_as_the_spike_window_does(budget: Budget) -> None:
    for number in range(400):
        now_s = number * 10.0
        budget.call(now_s, told(25, 24, 1 + number % 2 * 4, now_s))
    assert budget.state.spike.kind == SLIDES
    assert budget.state.hourly.kind == SLIDES
    assert budget.state.hourly.remaining == pytest.approx(
        HOURLY_LIMIT - 360, abs=20
    )  # those of the last hour


def test_a_sliding_hour_is_not_spent_before_a_gap_in_which_nothing_falls_out(budget: Budget) -> None:
    """An hour ago there was a gap of 200 s: calls go on through it, from what was spared before."""
    now_s = 0.0
    while now_s < HOURLY_S + 4:
        if not 1000 < now_s < 1200:
            budget.take(WRITING, now_s)
            budget.answer(now_s, told(3600, max(1, 3500 - int(now_s)), HOURLY_S - now_s, now_s))
        now_s += 1.0
    budget.call(now_s, told(3600, 20, 3.0, now_s))
    assert budget.state.hourly.kind == SLIDES
    sent_s = list(sending(budget, WRITING, now_s, 1200))
    in_gap = [at_s for at_s in sent_s if 4600 < at_s < 4800]
    assert len(in_gap) > 60
    assert max(after - before for before, after in itertools.pairwise(in_gap)) < 10


def test_a_spike_window_that_forgets_all_at_once_is_trusted_only_while_it_is_told(budget: Budget) -> None:
    for number in range(10):
        budget.call(float(number), told(25, 24 - number, 10 - number, number))
    budget.call(10.5, told(25, 24, 10, 10.5))
    assert budget.state.spike.kind == FIXED
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
    assert budget.state.hourly.remaining == 599


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
    policy.bury_owner(budget.state, OWNER, 1.0)
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
