"""Makes a failing history shorter for as long as it fails in the same way: fewer steps, then simpler ones."""

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tests.simulation.steps import History, Setting, Step

MOST_TRIES = 600

Play = Callable[[History], str]


def kind_of(wrong: str) -> str:
    """What a failure has in common with the same failure of a shorter history: its words without names and numbers."""
    first = wrong.strip().splitlines()[-1] if wrong.startswith("Traceback") else wrong.splitlines()[0]
    return re.sub(r"[^A-Za-z ]+", " ", first)[:24]


def shrink(history: History, wrong: str, play: Play) -> tuple[History, str]:
    """The shortest that was found, and what is wrong in it."""
    return _Shrinker(wrong, play).run(history)


class _Shrinker:
    def __init__(self, wrong: str, play: Play) -> None:
        self._kind = kind_of(wrong)
        self._wrong = wrong
        self._play = play
        self._tries = 0

    def run(self, history: History) -> tuple[History, str]:
        while True:
            before = history
            history = self._plainer(history)
            history = self._fewer(history)
            history = self._simpler(history)
            if history == before or self._tries >= MOST_TRIES:
                return history, self._wrong

    def _fails(self, history: History) -> bool:
        if self._tries >= MOST_TRIES:
            return False
        self._tries += 1
        wrong = self._play(history)
        if not wrong or kind_of(wrong) != self._kind:
            return False
        self._wrong = wrong
        return True

    def _plainer(self, history: History) -> History:
        """Without what is set otherwise than usual."""
        usual, setting = Setting(), history.setting
        tries = [
            usual,
            msgspec.structs.replace(setting, write_back_s=usual.write_back_s),
            msgspec.structs.replace(setting, per_page=None),
            msgspec.structs.replace(setting, delete_guard=usual.delete_guard, takes_back=False),
            msgspec.structs.replace(setting, is_limited=False),
            msgspec.structs.replace(setting, encodes=False),
            *(
                msgspec.structs.replace(
                    setting, made_before=[*setting.made_before[:at], *setting.made_before[at + 1 :]]
                )
                for at in range(len(setting.made_before))
            ),
            *(
                msgspec.structs.replace(
                    setting,
                    dialect={other: setting.dialect[other] for other in setting.dialect if other != name},
                )
                for name in setting.dialect
            ),
        ]
        for plainer in tries:
            changed = History(history.seed, history.steps, plainer)
            if changed != history and self._fails(changed):
                return changed
        return history

    def _fewer(self, history: History) -> History:
        """Leave out runs of steps, large ones first, from the end on."""
        size = max(len(history.steps) // 2, 1)
        while size:
            at = len(history.steps)
            while at > 0:
                at = max(at - size, 0)
                steps = [*history.steps[:at], *history.steps[at + size :]]
                shorter = History(history.seed, steps, history.setting)
                if len(shorter.steps) < len(history.steps) and self._fails(shorter):
                    history = shorter
            size //= 2
        return history

    def _simpler(self, history: History) -> History:
        for at in range(len(history.steps)):
            for simpler in _simpler_steps(history.steps[at]):
                changed = History(history.seed, _with(history.steps, at, simpler), history.setting)
                if self._fails(changed):
                    history = changed
        return history


def _with(steps: Sequence[Step], at: int, step: Step) -> list[Step]:
    return [*steps[:at], step, *steps[at + 1 :]]


def _simpler_steps(step: Step) -> Iterator[Step]:
    """The same without its pause, at the file's begin, or with hardly any bytes."""
    if step.faults:
        yield msgspec.structs.replace(step, faults=[])
    for at in range(len(step.faults) if len(step.faults) > 1 else 0):
        yield msgspec.structs.replace(step, faults=[*step.faults[:at], *step.faults[at + 1 :]])
    if step.pause_s:
        yield msgspec.structs.replace(step, pause_s=0.0)
    if step.offset:
        yield msgspec.structs.replace(step, offset=0)
    if step.size > 5:
        yield msgspec.structs.replace(step, size=5)
