"""What to do after carrying out a change has failed: a decision about the error alone."""

import enum
import sqlite3

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
from procorefs.upload.outcomes import Blocked, NotYet, Refused, Superseded

MOST_TRIES = 8
"""So often an upload is begun anew, or an answer that nobody understands asked for again, before it is refused."""

TRIES_IN_AN_HOUR = 20
"""So often something is asked for again that is in conflict with Procore, or that it does not have, although nobody can
say why: a person has it locked there, or the servers do not agree yet. The pauses between add up to an hour."""

TRIES_FOR_NAME = 2
"""A name that was refused as taken, and that nobody has when it is looked for, was just given up."""


class Reaction(enum.Enum):
    """What becomes of the change."""

    LOOK_ANEW = enum.auto()
    WAIT_FOR_OTHER = enum.auto()
    """Another change goes first."""
    WAIT_A_WHILE = enum.auto()
    """An earlier call may still be carried out."""
    WAIT_FOR_CHECK_IN = enum.auto()
    TRY_AGAIN = enum.auto()
    """It may work later; it is about this change alone."""
    PAUSE = enum.auto()
    """It may work later, and nobody else would get through now either."""
    TAKE_BACK = enum.auto()
    """A part of it is given up, as the Refused says."""
    FAIL = enum.auto()


def reaction_to(error: Exception, attempts: int) -> Reaction:
    """`attempts`: passing failures in a row before this one. What is unforeseen fails."""
    match error:
        case Superseded():
            return Reaction.LOOK_ANEW
        case Blocked() | NotYet() | CheckedOut():
            return _waiting(error)
        case Refused() if error.take_back or error.wishes is not None:
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
    """Whether what was refused may be accepted later, as far as the error tells."""
    if isinstance(error, ProcoreError) and error.passing:
        return True
    return isinstance(error, Conflict | NotFound) and attempts < TRIES_IN_AN_HOUR


def is_foreseen(error: Exception) -> bool:
    """Whether somebody thought of it; else the log has a traceback."""
    return isinstance(
        error, ProcoreError | Refused | StagedIncomplete | StagingFull | OSError | sqlite3.Error
    )
