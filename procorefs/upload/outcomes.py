"""Decides whether a change whose call failed is tried again, waits, is taken back or fails for good.

The exceptions say why sending a change ended without doing it, besides Procore's own errors; `reaction_to` is a pure
function of the error.
"""

import enum
import sqlite3

from procorefs.journal.change import MetadataPatch
from procorefs.journal.metadata_patch import attribute_names
from procorefs.procore.errors import (
    CheckedOut,
    Conflict,
    LoginRefused,
    Malformed,
    NameTaken,
    NotAuthorized,
    NotFound,
    ProcoreError,
    UploadExpired,
    UploadRefused,
)
from procorefs.staging.staging_area import StagedIncomplete, StagingFull
from procorefs.upload.planning.plan import Wait

MOST_TRIES = 8
"""Tries of an upload that begins again, or of a call whose answer cannot be decoded, before the change fails."""

TRIES_IN_AN_HOUR = 20
"""Tries of a call with an unexplained conflict (409) or missing document (404): a person may have a lock there, or
the servers may not agree yet. The pauses between them add up to an hour."""

TRIES_FOR_NAME = 2
"""Tries of a name that was refused as taken although no document has it: a document may just have left it."""


class Blocked(Exception):
    """Another change must be sent first."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.why)
        self.wait = wait


class Refused(Exception):
    """It can never be done; the text is the reason as a sentence.

    `take_back`: the wanted place is given up. `metadata`: this metadata is given up.
    """

    def __init__(self, why: str, *, take_back: bool = False, metadata: MetadataPatch | None = None) -> None:
        super().__init__(why)
        self.take_back = take_back
        self.metadata = metadata


def refused_metadata(metadata: MetadataPatch, error: Exception) -> Refused:
    """Procore refused this metadata."""
    names = attribute_names(metadata)
    verb = "was" if len(names) == 1 else "were"
    why = str(error).replace("Could not", "could not", 1)
    return Refused(f"{' and '.join(names)} {verb} refused: {why}", metadata=metadata)


class NotYet(Exception):
    """An earlier call may still take effect and would undo this one, which therefore waits `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"an earlier call about it got no answer and may still take effect: it waits {wait_s:.0f} s"
        )
        self.wait_s = wait_s


class Superseded(Exception):
    """What was being sent is no longer wanted; the change is planned again."""


class Reaction(enum.Enum):
    """What happens to a change after a failed try."""

    PLAN_AGAIN = enum.auto()
    WAIT_FOR_OTHER = enum.auto()
    """It waits for another change."""
    WAIT_A_WHILE = enum.auto()
    """It waits because an earlier call may still take effect."""
    WAIT_FOR_CHECK_IN = enum.auto()
    TRY_AGAIN = enum.auto()
    """It is tried again later; other changes are not affected."""
    PAUSE = enum.auto()
    """It is tried again later, and so are all other changes."""
    TAKE_BACK = enum.auto()
    """A part of it is given up, as Refused says."""
    FAIL = enum.auto()


def reaction_to(error: Exception, attempts: int) -> Reaction:
    """What follows from an error. `attempts`: temporary failures in a row before it. An unexpected error fails the
    change."""
    match error:
        case Superseded():
            return Reaction.PLAN_AGAIN
        case Blocked() | NotYet() | CheckedOut():
            return _waiting(error)
        case Refused() if error.take_back or error.metadata is not None:
            return Reaction.TAKE_BACK
        case NameTaken() if attempts < TRIES_FOR_NAME:
            return Reaction.TRY_AGAIN
        case UploadRefused() | Malformed() if attempts < MOST_TRIES:
            return Reaction.TRY_AGAIN
        case UploadExpired():
            return Reaction.TRY_AGAIN
        case Conflict() | NotFound() if may_pass(error, attempts):
            return Reaction.TRY_AGAIN
        case NotAuthorized() | LoginRefused():
            return Reaction.PAUSE
        case ProcoreError() if error.passing:
            return Reaction.PAUSE
        case StagingFull() | OSError() | sqlite3.Error():
            return Reaction.TRY_AGAIN
        case _:
            return Reaction.FAIL


def _waiting(error: Blocked | NotYet | CheckedOut) -> Reaction:
    match error:
        case Blocked():
            return Reaction.WAIT_FOR_OTHER
        case NotYet():
            return Reaction.WAIT_A_WHILE
        case CheckedOut():
            return Reaction.WAIT_FOR_CHECK_IN


def may_pass(error: Exception, attempts: int) -> bool:
    """Whether a refused call may be accepted later, as far as the error tells."""
    if isinstance(error, ProcoreError) and error.passing:
        return True
    return isinstance(error, Conflict | NotFound) and attempts < TRIES_IN_AN_HOUR


def is_foreseen(error: Exception) -> bool:
    """Whether the error is expected; otherwise the log gets a traceback."""
    return isinstance(
        error, ProcoreError | Refused | StagedIncomplete | StagingFull | OSError | sqlite3.Error
    )


def retry_pause_s(attempts: int, jitter: float) -> float:
    """The pause in seconds after that number of temporary failures in a row. `jitter` is in [0, 1)."""
    longest = min(1.0 * 2.0 ** min(attempts - 1, 10), 300.0)
    return float(longest * (0.5 + 0.5 * jitter))
