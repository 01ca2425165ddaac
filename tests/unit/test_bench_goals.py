"""What `make bench` says at its end, and its exit status: a goal that was missed is a figure, not a failure."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The program's names; what it measures is to be replaced."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    names = runpy.run_path(str(SCRIPTS / "bench.py"))
    main_names: dict[str, Any] = names["main"].__globals__
    return main_names


def measuring(*figures: object) -> Callable[..., None]:
    return lambda _names, _sizes, measured: measured.extend(figures)


def test_missed_goals_are_named_at_the_end_and_no_failure(
    bench: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.results import Figure, at_most, times_rclone

    bench["measure"] = measuring(
        Figure("one status", 2.0, "s", at_most(1, "s")),
        Figure("a start", 0.5, "s", at_most(1, "s")),
        Figure("a walk", 10.0, "files/s", times_rclone(3), rclone=5.0),
    )
    assert bench["main"]() == 0
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "Goals missed: 2 of 3",
        "  one status: 2 s, goal ≤ 1 s",
        "  a walk: 10 files/s (2 x), goal ≥ 3 x rclone",
    ]


def test_no_goal_was_missed(bench: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    from bench.results import Figure, at_most

    bench["measure"] = measuring(Figure("a start", 0.5, "s", at_most(1, "s")), Figure("beside it", 1.0, "s"))
    assert bench["main"]() == 0
    assert capsys.readouterr().err.splitlines()[-1] == "No goal was missed."


def test_what_breaks_is_a_failure(bench: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    def breaks(*_: object) -> None:
        raise OSError("no disk")

    bench["measure"] = breaks
    assert bench["main"]() == 2
    assert "cannot go on: no disk" in capsys.readouterr().err
