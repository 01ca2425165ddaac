"""Decides what people are told by desktop notifications, and when, from what is known of a mount.

    Known ── subjects ─▶ what is new by kind ── pace ─▶ Notice (replaces the one of its kind) or Withdrawn

All that is new of one kind is one notice, which replaces the one before. A kind that goes on is told less and less
often, and what has ended is withdrawn.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from procorefs.storage.printable import printable

GATHER_S = 3.0
"""What comes this soon after the first one is told with it."""

PAUSES_S = (0.0, 60.0, 300.0, 900.0)
"""The least time between two notices of a kind: the first, the second, and so on."""

CALM_S = 3600.0
"""After this time without a notice of a kind, the next one counts as the first."""

NAMED = 3
"""Paths in one notice; the others are counted."""

LONGEST_REASON = 160


class Kind(enum.Enum):
    """What a notice is about."""

    LOGIN = enum.auto()
    """The login has ended: nothing is sent or polled."""
    GUARDED = enum.auto()
    """The delete guard holds deletions or overwrites."""
    FAILED = enum.auto()
    """Changes were refused for good, or a crash left them incomplete."""
    CHECKED_OUT = enum.auto()
    """Changes wait because another user has their documents checked out."""
    REFUSED = enum.auto()
    """A program's request was refused, and programs show only an error number."""
    BUDGET = enum.auto()
    """Somebody waits because no API call is left."""


class Action(enum.StrEnum):
    """What a person can do from a notice; the value is the key on the bus."""

    PAGE = "default"
    """Open the status page."""
    RETRY = "retry"
    FOLDER = "folder"
    """Show the first file in the file manager."""


LABELS: Mapping[Action, str] = {
    Action.PAGE: "Details",
    Action.RETRY: "Try again",
    Action.FOLDER: "Show in folder",
}

_ACTIONS: Mapping[Kind, tuple[Action, ...]] = {
    Kind.LOGIN: (Action.PAGE,),
    Kind.GUARDED: (Action.PAGE,),  # no retry: one click must not delete hundreds of documents
    Kind.FAILED: (Action.RETRY, Action.FOLDER, Action.PAGE),
    Kind.CHECKED_OUT: (Action.RETRY, Action.FOLDER, Action.PAGE),
    Kind.REFUSED: (Action.PAGE,),
    Kind.BUDGET: (Action.PAGE,),
}

CRITICAL = frozenset({Kind.LOGIN, Kind.GUARDED})
"""Notices that stay on the screen until they are closed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that a notice can be about."""

    path: str
    """From the root of the mount; empty: the whole mount."""
    reason: str
    """The reason, without a full stop."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a mount at one moment."""

    project: str
    failed: Sequence[Subject] = ()
    """The oldest ones."""
    failed_count: int = 0
    checked_out: Sequence[Subject] = ()
    guarded: Sequence[Subject] = ()
    """One for each folder."""
    guarded_count: int = 0
    refused: Sequence[Subject] = ()
    """The last ones, newest first."""
    login_error: str = ""
    budget_ends_at: str = ""
    """The local time when calls are granted again; empty: nobody waits, or calls are left."""

    def subjects(self) -> dict[Kind, Sequence[Subject]]:
        """What there is to tell, by kind."""
        return {
            Kind.LOGIN: [Subject("", self.login_error)] if self.login_error else [],
            Kind.GUARDED: self.guarded,
            Kind.FAILED: self.failed,
            Kind.CHECKED_OUT: self.checked_out,
            Kind.REFUSED: self.refused,
            Kind.BUDGET: [Subject("", self.budget_ends_at)] if self.budget_ends_at else [],
        }


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification. It replaces the one of the same kind."""

    kind: Kind
    summary: str
    body: str
    actions: tuple[Action, ...]
    paths: tuple[str, ...] = ()
    """What the actions are about."""

    @property
    def is_critical(self) -> bool:
        """Whether it stays until a person closes it."""
        return self.kind in CRITICAL


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What the notice of this kind said has ended."""

    kind: Kind


@dataclass(slots=True)
class _Told:
    """What was told of one kind."""

    subjects: frozenset[Subject] = frozenset()
    is_shown: bool = False
    count: int = 0
    at_s: float = float("-inf")
    new_since_s: float | None = None
    """When something appeared that is not told yet."""


@dataclass(slots=True)
class NoticeHistory:
    """What was told so far; one for each mount. Times are seconds of any clock that only goes forward."""

    _told: dict[Kind, _Told] = field(default_factory=lambda: {kind: _Told() for kind in Kind})

    def next(self, known: Known, now_s: float) -> list[Notice | Withdrawn]:
        """What to tell now. The same knowledge is told once."""
        out: list[Notice | Withdrawn] = []
        for kind, subjects in known.subjects().items():
            told = self._told[kind]
            current = frozenset(subjects)
            if not current:
                if told.is_shown and kind is not Kind.REFUSED:
                    out.append(Withdrawn(kind))
                told.subjects, told.is_shown, told.new_since_s = frozenset(), False, None
            elif current <= told.subjects:
                told.subjects, told.new_since_s = current, None
            elif self._is_due(told, now_s):
                fresh = [subject for subject in subjects if subject not in told.subjects]
                told.count = 1 if now_s - told.at_s >= CALM_S else told.count + 1
                told.subjects, told.is_shown, told.at_s, told.new_since_s = current, True, now_s, None
                out.append(_notice(kind, known, fresh if kind is Kind.REFUSED else subjects))
        return out

    def _is_due(self, told: _Told, now_s: float) -> bool:
        if told.new_since_s is None:
            told.new_since_s = now_s
        gathered = now_s - told.new_since_s >= GATHER_S
        passed_s = now_s - told.at_s
        return gathered and (passed_s >= CALM_S or passed_s >= PAUSES_S[min(told.count, len(PAUSES_S) - 1)])


def unsent(project: str, moving: int, held: int, failed: int, *, continues: bool) -> tuple[str, str] | None:
    """Summary and body of the notice at the end of a mount; None: there is nothing to tell.

    `continues`: the daemon still sends, although the mount point is gone.
    """
    if continues:
        if not moving:
            return None
        return (
            f"{_changes(moving)} of {project} still being sent",
            "The folder was unmounted before everything was in Procore. Leave the computer on until it is.",
        )
    left = moving + held + failed
    if not left:
        return None
    return (
        f"{_changes(left)} of {project} not in Procore",
        "Nothing is lost: mount the project again on this computer, and what can be sent is sent.",
    )


def _notice(kind: Kind, known: Known, subjects: Sequence[Subject]) -> Notice:
    summary = _summary(kind, known, len(subjects))
    paths = tuple(subject.path for subject in subjects if subject.path)
    return Notice(kind, summary, _body(kind, subjects), _ACTIONS[kind], paths)


def _summary(kind: Kind, known: Known, count: int) -> str:
    project = known.project
    match kind:
        case Kind.LOGIN:
            return f"Procore does not accept the login of {project} any more"
        case Kind.GUARDED:
            return f"{_changes(known.guarded_count)} of {project} held: too many deletions at once"
        case Kind.FAILED:
            return f"{_changes(max(count, known.failed_count))} of {project} not in Procore"
        case Kind.CHECKED_OUT:
            return f"{_changes(count)} of {project} waiting for another user"
        case Kind.REFUSED:
            return f"{project}: " + ("a file was refused" if count == 1 else f"{count} files were refused")
        case Kind.BUDGET:
            return f"No API call is left for {project}"


def _body(kind: Kind, subjects: Sequence[Subject]) -> str:
    if kind is Kind.LOGIN:
        return f"{_reason(subjects[0])}. What you write is kept on this computer and sent after a new login."
    if kind is Kind.BUDGET:
        return f"Procore grants new calls at {subjects[0].reason}. What you write is kept and sent by itself."
    lines = [_line(subject) for subject in subjects[:NAMED]]
    if len(subjects) > NAMED:
        lines.append(f"and {len(subjects) - NAMED} more")
    if kind is Kind.GUARDED:
        lines.append(
            "Procore keeps everything until you decide: procorefs retry sends it, discard takes it back."
        )
    return "\n".join(lines)


def _line(subject: Subject) -> str:
    name = printable(subject.path.rpartition("/")[2]) or "the project's folder"
    return f"{name}: {_reason(subject)}"


def _reason(subject: Subject) -> str:
    text = printable(subject.reason).rstrip(".")
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count:,} changes"
