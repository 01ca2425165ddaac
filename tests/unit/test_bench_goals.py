"""What `make bench` says at its end, and its exit status: a goal that was missed is a figure, not a failure."""

import sys
from collections.abc import Callable

import pytest

from scripts.bench import __main__ as bench
from scripts.bench.results import Figure, at_most, median_rate, times_rclone


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])


def measuring(*figures: Figure) -> Callable[[object, object, list[Figure]], None]:
    return lambda _names, _sizes, measured: measured.extend(figures)


def test_missed_goals_are_named_at_the_end_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = (
        Figure("one status", 2.0, "s", at_most(1, "s")),
        Figure("a start", 0.5, "s", at_most(1, "s")),
        Figure("a walk", 10.0, "files/s", times_rclone(3), rclone=5.0),
    )
    monkeypatch.setattr(bench, "measure", measuring(*figures))
    assert bench.main() == 0
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "Goals missed: 2 of 3",
        "  one status: 2 s, goal ≤ 1 s",
        "  a walk: 10 files/s (2 x), goal ≥ 3 x rclone",
    ]


def test_no_goal_was_missed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figure("a start", 0.5, "s", at_most(1, "s")), Figure("beside it", 1.0, "s")
    monkeypatch.setattr(bench, "measure", measuring(*figures))
    assert bench.main() == 0
    assert capsys.readouterr().err.splitlines()[-1] == "No goal was missed."


def test_what_breaks_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(bench, "measure", breaks)
    assert bench.main() == 2
    assert "cannot go on: no disk" in capsys.readouterr().err


def test_a_median_names_its_spread() -> None:
    figure = median_rate(
        "a copy", 100, "files/s", times_rclone(2), (1.0, 2.0, 4.0), (5.0, 5.0, 5.0), (0.5, 0.5, 1.0)
    )
    assert (figure.value, figure.rclone, figure.plain) == (50.0, 20.0, 200.0)
    assert (figure.reached, figure.of_plain) == (True, 0.25)
    assert figure.note == "median, spread 150%, rclone 0%"
