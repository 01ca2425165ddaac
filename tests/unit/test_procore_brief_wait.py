"""Under a directory's lock nobody waits longer than two seconds, and nobody at all where no answer is expected."""

import pytest
import trio
from trio.testing import MockClock

from procorefs.procore.api.brief_wait import MOST_S, BriefWait, NoAnswerYet
from procorefs.procore.errors import Forbidden, Unavailable
from procorefs.procore.http.connectivity import AWAY_AFTER_S, Connectivity
from procorefs.storage import clocks


class Budget:
    """It has a call, or none."""

    def __init__(self) -> None:
        self.is_closed = False

    def would_wait(self) -> bool:
        return self.is_closed


@pytest.fixture
def budget() -> Budget:
    return Budget()


@pytest.fixture
def reach() -> Connectivity:
    return Connectivity()


@pytest.fixture
def brief(budget: Budget, reach: Connectivity) -> BriefWait:
    return BriefWait(budget.would_wait, reach)


async def answer_after(seconds: float) -> str:
    if seconds:
        await trio.sleep(seconds)
    return "answer"


async def test_an_answer_in_time_is_handed_on(brief: BriefWait, autojump_clock: MockClock) -> None:
    async def refused() -> None:
        raise Forbidden("no", status=403)

    assert await brief.of(lambda: answer_after(1.9)) == "answer"
    with pytest.raises(Forbidden):
        await brief.of(refused)


async def test_after_two_seconds_nobody_waits_any_longer(brief: BriefWait, autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    with pytest.raises(NoAnswerYet):
        await brief.of(lambda: answer_after(600))
    assert trio.current_time() - began_s == pytest.approx(MOST_S)


async def test_with_the_budget_closed_only_what_is_at_hand_is_answered(
    brief: BriefWait, budget: Budget, autojump_clock: MockClock
) -> None:
    budget.is_closed = True
    began_s = trio.current_time()
    assert not brief.is_open()
    assert await brief.of(lambda: answer_after(0)) == "answer"
    with pytest.raises(NoAnswerYet):
        await brief.of(lambda: answer_after(0.001))
    assert trio.current_time() == began_s


def test_procore_is_away_when_nobody_has_answered_for_a_while(
    brief: BriefWait, reach: Connectivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(clocks, "boot_s", lambda: now_s)
    with reach.tries() as tries:
        tries.failed(Unavailable("nobody there"))
        assert brief.is_open()  # one failure may be made good at once
        now_s += AWAY_AFTER_S
        assert not brief.is_open()
    assert brief.is_open()
    reach.failed()  # a call gave up
    now_s += AWAY_AFTER_S
    assert not brief.is_open()
    with pytest.raises(Forbidden), reach.tries():
        raise Forbidden("no", status=403)
    assert brief.is_open()
