"""Figures and their goals, and the table that shows them."""

import json
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Fact = tuple[str, str]
"""Something about the machine: its name and what it is."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the figure itself, or on how many times rclone's figure it is."""

    text: str
    bound: float
    holds: Callable[[float, float], bool]
    on_ratio: bool = False


def at_most(bound: float, unit: str = "") -> Goal:
    return Goal(f"≤ {bound:,.10g} {unit}".rstrip(), bound, operator.le)


def at_least(bound: float, unit: str = "") -> Goal:
    return Goal(f"≥ {bound:,.10g} {unit}".rstrip(), bound, operator.ge)


def times_rclone(bound: float) -> Goal:
    """The figure is a rate: more is better."""
    return Goal(f"≥ {bound:g} x rclone", bound, operator.ge, on_ratio=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    what: str
    value: float
    unit: str
    goal: Goal | None = None
    """None: shown beside another row to make that one clear."""
    rclone: float | None = None
    plain: float | None = None
    """The same in a plain directory."""
    note: str = ""
    rounds_s: tuple[float, ...] = ()
    """What each round took, of which `value` is the best or the median; for the JSON file."""
    rclone_rounds_s: tuple[float, ...] = ()
    plain_rounds_s: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        return self.value / self.rclone if self.rclone else None

    @property
    def of_plain(self) -> float | None:
        return self.value / self.plain if self.plain else None

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        measured = self.ratio if self.goal.on_ratio else self.value
        return measured is not None and self.goal.holds(measured, self.goal.bound)

    def cells(self) -> tuple[str, ...]:
        reached = {None: "", True: "yes", False: "NO"}[self.reached]
        other = "" if self.rclone is None else f"{_number(self.rclone)} {self.unit}"
        ratio = "" if self.ratio is None else f"{_number(self.ratio)} x"
        of_plain = "" if self.of_plain is None else f"{_number(self.of_plain)} x"
        what = f"{self.what} ({self.note})" if self.note else self.what
        goal = self.goal.text if self.goal else ""
        return (what, f"{_number(self.value)} {self.unit}", goal, reached, other, ratio, of_plain)

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        fields["goal"] = self.goal.text if self.goal else None
        return {**fields, "ratio": self.ratio, "of_plain": self.of_plain, "reached": self.reached}


def _number(value: float) -> str:
    """Three figures that count."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def best_rate(amount: float, times_s: Sequence[float]) -> float:
    """What the best of several rounds did a second: whatever else runs on the machine only ever makes one slower."""
    return amount / min(times_s)


def rate(
    what: str,
    amount: float,
    unit: str,
    goal: Goal,
    rounds_s: Sequence[float],
    rclone_rounds_s: Sequence[float] = (),
    note: str = "",
) -> Figure:
    """A row for rounds that did the same work each."""
    return Figure(
        what,
        best_rate(amount, rounds_s),
        unit,
        goal,
        best_rate(amount, rclone_rounds_s) if rclone_rounds_s else None,
        note=note,
        rounds_s=tuple(rounds_s),
        rclone_rounds_s=tuple(rclone_rounds_s),
    )


def median_rate(
    what: str,
    amount: float,
    unit: str,
    goal: Goal,
    rounds_s: Sequence[float],
    rclone_rounds_s: Sequence[float],
    plain_rounds_s: Sequence[float],
) -> Figure:
    """A row for rounds that differ in what runs beside them; the note says how much of the median they span."""
    return Figure(
        what,
        amount / statistics.median(rounds_s),
        unit,
        goal,
        amount / statistics.median(rclone_rounds_s),
        amount / statistics.median(plain_rounds_s),
        f"median, spread {_spread(rounds_s)}, rclone {_spread(rclone_rounds_s)}",
        tuple(rounds_s),
        tuple(rclone_rounds_s),
        tuple(plain_rounds_s),
    )


def _spread(rounds_s: Sequence[float]) -> str:
    return f"{(max(rounds_s) - min(rounds_s)) / statistics.median(rounds_s):.0%}"


def show(facts: Sequence[Fact], figures: Sequence[Figure]) -> None:
    """The machine and the table, on stdout, as Markdown that a terminal shows well too."""
    console = Console(width=200, highlight=False, markup=False)
    table = Table(box=box.MARKDOWN)
    for name in ("what", "figure", "goal", "reached", "rclone", "ratio", "of plain"):
        table.add_column(name, justify="left" if name in ("what", "reached") else "right", no_wrap=True)
    for figure in figures:
        table.add_row(*figure.cells())
    with console.capture() as printed:
        console.print(table)
    machine = "; ".join(f"{name} {value}" for name, value in facts)
    print(
        machine,
        "Rates are those of the best round, or the median where it says so.",
        printed.get().strip(),
        sep="\n\n",
    )


def missed_goals(figures: Sequence[Figure]) -> str:
    """The goals that were not reached, a line each, for the end."""
    missed = [figure.cells() for figure in figures if figure.reached is False]
    if not missed:
        return "No goal was missed."
    lines = [
        f"  {what}: {value}{f' ({ratio})' if ratio else ''}, goal {goal}"
        for what, value, goal, _, _, ratio, _ in missed
    ]
    return "\n".join([f"Goals missed: {len(missed)} of {sum(f.goal is not None for f in figures)}", *lines])


def as_json(facts: Sequence[Fact], figures: Sequence[Figure]) -> str:
    content = {"machine": dict(facts), "figures": [figure.as_json() for figure in figures]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
