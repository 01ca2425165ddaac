"""When a change may be sent: a decision about one change and what is known at that moment, without I/O."""

from dataclasses import dataclass

from procorefs.journal.change import GONE, Change, Location, Stage
from procorefs.tree.naming.name_fate import Fate

HELD_S = 3600.0
"""A temporary name that nobody touched for so long is taken for a real one, if Procore takes it."""

DEPARTURE_S = 2.0
"""Deletes and renames wait at least this long: what is written anew under the name meanwhile keeps its document, and a
backup that was made by renaming is mostly removed again."""

FOLDER_S = 0.5
"""A new folder goes ahead of what is in it, but not at once: many a program makes one and removes it again."""

LONGEST_WAIT_S = 60.0
"""Who closes a file again and again, as a log does, puts its upload off no longer than this (or ten write_backs)."""

LOOK_AGAIN_S = 1.0
"""What waits for something that nobody tells of is looked at again after so long."""


@dataclass(frozen=True, slots=True)
class DueFacts:
    """What is known when a change is looked at."""

    now_s: float
    """By clocks.unix_s, as all times of changes."""
    write_back_s: float
    fate: Fate = Fate.SENT
    is_sendable: bool = True
    """Whether Procore would take what is held by its name, as it is called now."""
    is_written: bool = False
    """Somebody has it open for writing."""
    is_read: bool = False
    """Somebody has it open."""
    is_folder_busy: bool = False
    """Something is being written in the folder of its old name, or was a moment ago: it may get the name."""
    is_hurried: bool = False
    is_needed: bool = False
    """Only what is missing of its bytes is to be fetched: the document that has them waits for that."""
    not_before_s: float = 0.0
    """When the next try after a passing failure is due."""


def pause_s(change: Change, facts: DueFacts) -> float | None:
    """How long a change has to wait; 0: it may go, None: until something about it changes."""
    if facts.is_needed:
        return max(facts.not_before_s - facts.now_s, 0.0)
    if change.stage is not Stage.PENDING or facts.fate is Fate.LOCAL:
        return None
    if change.is_idle and facts.is_written:
        return None  # it has arrived, and its last writer's close lets it go
    if change.place is not GONE and change.has_bytes and facts.is_written and not facts.is_hurried:
        return None
    retry_s = max(facts.not_before_s - facts.now_s, 0.0)
    if facts.fate is Fate.HELD and change.place is not GONE:
        return max(_left(change, HELD_S, facts), retry_s) if facts.is_sendable else None
    if facts.is_hurried:
        return retry_s
    pause = max(min(_left(change, _wait_s(change, facts), facts), _longest_s(change, facts)), retry_s)
    if not pause and is_departure(change) and (facts.is_folder_busy or facts.is_read):
        return LOOK_AGAIN_S
    return pause


def is_departure(change: Change) -> bool:
    """Whether a document is to leave its name."""
    return change.document is not None and (change.place is GONE or isinstance(change.place, Location))


def _wait_s(change: Change, facts: DueFacts) -> float:
    if is_departure(change) or change.borrowed is not None:
        return max(DEPARTURE_S, facts.write_back_s)
    if change.is_folder and not change.wishes:
        return min(FOLDER_S, facts.write_back_s)
    return facts.write_back_s


def _longest_s(change: Change, facts: DueFacts) -> float:
    """How much longer it may be put off, however often it is touched."""
    if is_departure(change):
        return float("inf")
    longest_s = max(LONGEST_WAIT_S, 10 * facts.write_back_s)
    return max(change.created_at_s + longest_s - facts.now_s, 0.0)


def _left(change: Change, wait_s: float, facts: DueFacts) -> float:
    """What is left of a wait; never more than the wait, whatever the clock did meanwhile."""
    return min(max(change.touched_at_s + wait_s - facts.now_s, 0.0), wait_s)


def retry_pause_s(attempts: int, jitter: float) -> float:
    """How long to wait after so many passing failures in a row; `jitter` is in [0, 1)."""
    longest = min(1.0 * 2.0 ** min(attempts - 1, 10), 300.0)
    return float(longest * (0.5 + 0.5 * jitter))
