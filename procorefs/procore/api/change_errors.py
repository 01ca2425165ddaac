"""Decides what the answer to a changing call means: done, refused and why, not done, or not known. Pure.

A change is repeated only when it certainly was not done. A status line is an answer even when the body after it
is lost; without one, or with a success that cannot be understood, the change may or may not have been done.
"""

import json
import re
from collections.abc import Iterator

from procorefs.procore.errors import (
    Busy,
    CheckedOut,
    Conflict,
    Invalid,
    Malformed,
    NameTaken,
    ProcoreError,
    Unanswered,
    Unreachable,
    UploadRefused,
    decoded,
    error_messages,
    error_of_api,
    sentence,
    server_message,
)
from procorefs.procore.wire import decoding
from procorefs.procore.wire.models import Document

BUSY = 503
NOT_WAITED_FOR = 408
"""The server gave up the request, or its own work."""

REFUSING = frozenset({400, 404, 409, 410, 422, 423})
"""Statuses whose messages say more than the status."""

_TAKEN = re.compile(
    r"\balready (been )?taken\b|\balready (exists?|in use|been used)\b|\bname is (taken|used)\b|\bmust be unique\b"
    r"|\bis not unique\b|\bduplicate (file |folder )?name\b|\bname[ _](already[ _])?taken\b",
    re.IGNORECASE,
)
_ABOUT_UPLOAD = re.compile(
    r"\bupload[ _]?(uuid|id)\b|\b(this|the|an?|no such) upload\b|^upload\b", re.IGNORECASE
)
_OTHER_FIELD = re.compile(r"^(custom_field_\d+|parent_id|description)\b", re.IGNORECASE)
_CHECK_OUT = re.compile(r"check(ed)?[ _-]?out|\block(ed)?\b", re.IGNORECASE)
_HOLDER = re.compile(r"checked out by:?\s+(.{1,200}?)\.?\s*$", re.IGNORECASE)


def change_error(
    action: str, status: int, body: bytes, failure: ProcoreError | None, *, names_retry_after: bool
) -> ProcoreError | None:
    """The error that a changing call ends with; None: it was done. `failure` is the network's or the body's.

    Status 0: no answer came.
    """
    if isinstance(failure, Unreachable):
        return failure
    if 200 <= status < 300:
        return unanswered(failure) if failure is not None else None
    if status == 0:
        return unanswered(failure or Malformed(f"Could not {action}: no answer came"))
    error = error_of_api(action, status, body)
    if status == BUSY and names_retry_after:
        words = server_message(error.answer)
        return Busy(sentence(Busy, action, status, words), status=status, answer=error.answer)
    if status >= 500 or status < 400 or status == NOT_WAITED_FOR:
        return unanswered(error)
    if isinstance(error, Malformed):  # an unknown status, but a refusal
        return Invalid(str(error), status=status, answer=error.answer)
    return _refined(error, action, status, body) if status in REFUSING and not error.passing else error


def unanswered(error: ProcoreError) -> Unanswered:
    """The error of a change whose answer was lost in this way."""
    lost = Unanswered(f"{error}; it may or may not have been done", status=error.status, answer=error.answer)
    lost.__cause__ = error
    return lost


def _refined(error: ProcoreError, action: str, status: int, body: bytes) -> ProcoreError:
    """The same refusal, by what its messages are about."""
    answer = decoded(body)
    messages = list(error_messages(answer))
    kind: type[ProcoreError] | None = None
    if status != 404 and any(_is_taken_name(words) for words in messages):
        kind = NameTaken
    elif any(_ABOUT_UPLOAD.search(words) for words in messages):
        kind = UploadRefused
    if kind is not None:
        return kind(sentence(kind, action, status, server_message(answer)), status=status, answer=answer)
    if isinstance(error, Conflict):
        return _conflict(error, status, answer, messages)
    return error


def _is_taken_name(words: str) -> bool:
    """ "name has already been taken", in one shape or another; not of an upload or another field."""
    return bool(_TAKEN.search(words) and not _ABOUT_UPLOAD.search(words) and not _OTHER_FIELD.search(words))


def _conflict(error: ProcoreError, status: int, answer: object, messages: list[str]) -> ProcoreError:
    """Checked out by another user, unless the answer is about something else."""
    file = _file_in(answer)
    held = file is not None and file.checked_out_by is not None
    known = [*messages, *_error_type(answer)]
    if known and not held and not any(_CHECK_OUT.search(words) for words in known):
        return error
    holder = file.checked_out_by.name if file is not None and file.checked_out_by is not None else ""
    holder = holder or next((match[1] for words in messages if (match := _HOLDER.search(words))), "")
    return CheckedOut(status=status, answer=answer, holder=holder, file=file)


def _error_type(answer: object) -> Iterator[str]:
    value = answer.get("error_type") if isinstance(answer, dict) else None
    if isinstance(value, str):
        yield value


def _file_in(answer: object) -> Document | None:
    """The file that a conflict's answer shows."""
    if not isinstance(answer, dict) or not isinstance(answer.get("file"), dict):
        return None
    try:
        return decoding.file(json.dumps(answer["file"]).encode(), "read the conflict's file")
    except Malformed:
        return None
