"""Hours of migration against a server whose limit is not known at first; the clock moves from event to event."""

import pytest

from procorefs.limiter.policy import are_others
from scripts.limiter_simulation import Case, Kind, Simulation, Tells, simulate

FOUND_S = 3 * 3600.0
"""A limit of 3,600 is found out within this time of migration."""


@pytest.mark.parametrize("hour_window", ["fixed", "rolling"])
@pytest.mark.parametrize("tells", ["fewest", "late"])
def test_a_limit_of_600_is_found_out_without_one_answer_429(hour_window: Kind, tells: Tells) -> None:
    """Another program takes a tenth, and somebody uses the mount each minute."""
    outcome = simulate(Case(600, hour_window, "rolling", tells))
    assert outcome.throttled == 0
    assert all(hour.assumed == 600 for hour in outcome.hours)


def test_a_limit_of_3600_is_found_out_in_three_hours_of_migration() -> None:
    outcome = simulate(Case(3600, "fixed", "rolling", "late", calls=3000))
    assert outcome.found_s is not None
    assert outcome.found_s <= FOUND_S
    assert outcome.throttled == 0


def test_a_limit_of_3600_that_answers_tell_is_known_in_minutes() -> None:
    outcome = simulate(Case(3600, "fixed", "rolling", "share", calls=500))
    assert outcome.found_s is not None
    assert outcome.found_s <= 300


@pytest.mark.parametrize("spike_window", ["fixed", "rolling"])
def test_nobody_else_is_seen_where_nobody_else_calls(spike_window: Kind) -> None:
    """Calls go some ten seconds apart, so each leaves the short window as the next arrives; Reset is rounded up."""
    simulation = Simulation(
        Case(600, "fixed", spike_window, "late", stolen=0.0, known=600, calls=500, seed=2)
    )
    simulation.run()
    assert not are_others(simulation.state)
