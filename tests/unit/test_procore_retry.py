"""When another try is made."""

import pytest

from procorefs.procore.errors import (
    Forbidden,
    Malformed,
    ProcoreError,
    RateLimited,
    Silent,
    Unanswered,
    Unavailable,
)
from procorefs.procore.http.retry_policy import LEAST_SILENCE_S, TRIES, RetryPolicy


def pauses(error: ProcoreError, retry_for_s: float = 30.0, try_takes_s: float = 0.0) -> list[float]:
    """The pauses until giving up."""
    patience = RetryPolicy(retry_for_s, 0.0, lambda: 0.5)
    now_s = 0.0
    found = []
    while (pause_s := patience.pause_s(error, now_s := now_s + try_takes_s)) is not None:
        found.append(pause_s)
        now_s += pause_s
    return found


def test_passing_failures_wait_longer_each_time_and_end() -> None:
    found = pauses(Unavailable("x"))
    assert len(found) == TRIES - 1
    assert found == sorted(found)
    assert found[0] > 0


@pytest.mark.parametrize("error", [Forbidden("x"), Malformed("x"), Silent("x"), Unanswered("x")])
def test_other_failures_are_final(error: ProcoreError) -> None:
    assert pauses(error) == []


def test_after_429_the_limiter_waits_not_we() -> None:
    assert pauses(RateLimited("x")) == [0.0] * (TRIES - 1)


def test_patience_ends_by_time_too() -> None:
    assert len(pauses(Unavailable("x"), retry_for_s=10.0, try_takes_s=4.0)) == 2


def test_tries_share_the_time_that_an_answer_may_take() -> None:
    patience = RetryPolicy(30.0, 0.0, lambda: 0.5)
    assert patience.silence_s(30.0, 20.0) == 30.0  # a login before the first try does not count
    patience.pause_s(Unavailable("x"), 12.0)
    assert patience.silence_s(30.0, 12.0) == 18.0
    assert patience.silence_s(10.0, 12.0) == 10.0
    assert patience.silence_s(30.0, 29.0) == LEAST_SILENCE_S
    patience.extend(100.0)
    assert patience.silence_s(30.0, 112.0) == 18.0
