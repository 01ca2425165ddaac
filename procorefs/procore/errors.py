"""Defines the errors of Procore, and maps HTTP answers and network failures to them."""

import json
import os
import re
import ssl
from collections.abc import Iterator
from typing import Any

from procorefs.procore.wire.models import Document

MAX_TEXT = 300
"""Characters of a server's message that are repeated."""

MAX_JSON_LEVELS = 64
"""Objects and lists in each other in one answer; Procore's have fewer than ten."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that may be half of a pair."""


class ProcoreError(Exception):
    """A request failed at Procore or on the way to it; the text is one sentence for people.

    `status` is the HTTP status (None: there was no answer). `passing`: the same request may work later.
    """

    passing = False

    def __init__(self, message: str, *, status: int | None = None, answer: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        """The decoded error body."""


class LoginRefused(ProcoreError):
    """The login service took neither the credentials nor the stored login."""


class NotAuthorized(ProcoreError):
    """401: the token is not accepted, also not after it was renewed."""


class Forbidden(ProcoreError):
    """403: no permission, the tool is disabled, or the app is not connected to the company."""


class NotFound(ProcoreError):
    """404: gone or invisible."""


class Conflict(ProcoreError):
    """409 or 423, e.g. another user has checked the file out."""


class Gone(ProcoreError):
    """410: an upload or address that has expired."""


class Invalid(ProcoreError):
    """400 or 422: Procore does not take what was sent."""


class TooLarge(ProcoreError):
    """406, 408 or 413: the list asked for is too large; ask for smaller pages."""


class RateLimited(ProcoreError):
    """429 again and again, although the calls waited as the server said."""

    passing = True


class Unavailable(ProcoreError):
    """The network failed, or the server did (5xx)."""

    passing = True


class Silent(Unavailable):
    """The server accepted the request and then sent no byte for too long."""


class Unreachable(Unavailable):
    """There was no connection at all: nothing was sent."""


class Busy(Unavailable):
    """503 that says when to come back: the platform is busy and did nothing."""


class NotFromApi(Unavailable):
    """A refusal without JSON: not the API's, but of something on the way to it, such as a gateway. Nothing was done."""


class Unanswered(Unavailable):
    """A change was sent and its answer was lost or not understood: it may or may not have been done."""


LATE_S = 180.0
"""A call without an answer may still be carried out this long after it was given up: gateways and application servers
mostly end requests after one or two minutes."""


class NameTaken(Invalid):
    """The folder has a living file or folder of that name."""


class UploadRefused(Invalid):
    """The bytes cannot be used: the upload is unknown, used already, or not whole. Begin it again."""


class UploadExpired(ProcoreError):
    """The storage or Procore does not know the upload any more. Begin it again."""


class CheckedOut(Conflict):
    """409: another user has checked the file out.

    `holder` is their name (empty: not said), `file` the file as it is now.

    The text says who has it, whatever was to be done: people can do nothing else about it.
    """

    def __init__(
        self, *, status: int, answer: object, holder: str = "", file: Document | None = None
    ) -> None:
        super().__init__(f"{holder or 'another user'} has it checked out", status=status, answer=answer)
        self.holder = holder
        self.file = file


class Malformed(ProcoreError):
    """The answer is not what it must be: not JSON, of the wrong type, shorter or longer than said."""


_BY_STATUS: dict[int, type[ProcoreError]] = {
    400: Invalid,
    401: NotAuthorized,
    403: Forbidden,
    404: NotFound,
    406: Invalid,
    408: Unavailable,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    423: Conflict,
    425: Unavailable,
    429: RateLimited,
}

_OF_LISTS = frozenset({406, 408, 413})
"""Statuses of a list that is too large."""

_ALWAYS_JSON = frozenset({404, 405, 413})
"""Statuses that gateways answer without a body: only JSON proves that the API did."""

_SAYS: dict[type[ProcoreError], str] = {
    Invalid: "Procore does not accept the request",
    NotAuthorized: "Procore does not accept the login",
    Forbidden: "Procore does not permit it",
    NotFound: "Procore does not have it, or hides it from this user",
    TooLarge: "Procore says that the list is too large",
    Conflict: "it is in conflict with what Procore has",
    NameTaken: "the name is taken there",
    UploadRefused: "Procore does not take the bytes that were sent",
    UploadExpired: "the upload has expired",
    Busy: "Procore is busy",
    Gone: "it has expired",
    RateLimited: "Procore's call limit is used up",
    Unavailable: "Procore is not available at the moment",
    NotFromApi: "something on the way to Procore refused it",
    Malformed: "Procore's answer was not understood",
}


def error_of_answer(action: str, status: int, body: bytes) -> ProcoreError:
    """The error for an answer that is not a success; `action` completes "Could not …".

    All three shapes of error bodies are understood (procore-api.md, Every API call), and OAuth's own.
    """
    answer = decoded(body)
    kind = _BY_STATUS.get(status) or (Unavailable if status >= 500 else Malformed)
    return kind(sentence(kind, action, status, server_message(answer)), status=status, answer=answer)


def error_of_api(action: str, status: int, body: bytes, *, is_list: bool = False) -> ProcoreError:
    """The same for a call of the API, which says in JSON why it refuses: other refusals pass.

    `is_list`: one page of a list was asked for.
    """
    if is_list and status in _OF_LISTS:
        return TooLarge(sentence(TooLarge, action, status, server_message(decoded(body))), status=status)
    error = error_of_answer(action, status, body)
    is_silent = not body.strip() and status not in _ALWAYS_JSON
    is_refusal = status >= 400 and not isinstance(
        error, NotAuthorized | Conflict
    )  # those are tried again anyway
    if error.passing or not is_refusal or is_silent or is_json(body):
        return error
    return NotFromApi(sentence(NotFromApi, action, status, ""), status=status)


def is_unavailable_here(error: ProcoreError) -> bool:
    """Whether the project or the user has not that part of Procore."""
    return isinstance(error, Forbidden | NotFound) or error.status in (403, 404)


def sentence(kind: type[ProcoreError], action: str, status: int, words: str) -> str:
    """What failed, with the server's message."""
    return f"Could not {action}: {_SAYS[kind]} (HTTP {status}{': ' + words if words else ''})"


def error_of_network(action: str, error: Exception, host: str) -> Unavailable:
    """The error for a request without a whole answer; its cause is named, not shown."""
    name = type(error).__name__
    if name in ("ReadTimeout", "WriteTimeout", "TooSlowError"):
        return Silent(f"Could not {action}: {host} sent nothing for too long")
    if name in ("ConnectError", "ConnectTimeout", "ProxyError"):
        return Unreachable(f"Could not {action}: {host} cannot be reached ({_reason(error)})")
    return Unavailable(f"Could not {action}: the connection to {host} broke ({_reason(error)})")


def error_of_login(action: str, status: int, body: bytes) -> ProcoreError:
    """The error for an answer of the login service that is not a success."""
    answer = decoded(body)
    if status in (400, 401, 403, 422):
        words = server_message(answer) or "no reason given"
        return LoginRefused(
            f"Could not {action}: the login was refused (HTTP {status}: {words})", status=status
        )
    error = error_of_answer(action, status, body)
    # It says nothing about the document that the request was about, not even with a 404.
    return error if error.passing else Unavailable(str(error))


def server_message(answer: object) -> str:
    """What an error body says, on one line without control characters, at most `MAX_TEXT` characters."""
    text = "; ".join(part for part in error_messages(answer) if part)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def error_messages(answer: object) -> Iterator[str]:
    """The messages of an error body of any shape; a field's name goes before its message."""
    if not isinstance(answer, dict):
        return
    if "errors" in answer:
        yield from _messages(answer["errors"])
    error = answer.get("error")
    if isinstance(error, dict):
        yield from _messages(error.get("message") or error.get("code"))
        yield from (_detail(detail) for detail in _dicts(error.get("details")))
    elif isinstance(error, str):  # RFC 6749
        yield str(answer.get("error_description") or error)
    yield from _messages(answer.get("message"))


def _messages(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _messages(item)
    elif isinstance(value, dict):
        for field, messages in value.items():
            said = ", ".join(_messages(messages))
            yield said if field == "base" else f"{field} {said}"


def _detail(detail: dict[str, Any]) -> str:
    """One message of a list, after the field it is about."""
    said, source = ", ".join(_messages(detail.get("message"))), detail.get("source")
    return f"{source} {said}" if said and isinstance(source, str) else said


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def json_value(body: bytes) -> object:
    """The JSON value of an answer, with every text encodable as UTF-8.

    Raises ValueError when the body is no JSON, or is nested more deeply than MAX_JSON_LEVELS.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if is_nested_deeper(value, MAX_JSON_LEVELS):
        raise ValueError("it is nested too deeply")
    return _encodable(value) if _SURROGATE.search(body) else value


def is_nested_deeper(value: object, levels: int) -> bool:
    """Whether a JSON value has objects and lists in each other on more levels: what handles them is recursive."""
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        if levels == 0:
            return True
        levels -= 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def _encodable(value: object) -> object:
    """The value with lone surrogates, which JSON can carry and UTF-8 cannot, replaced by '?'."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return value


def is_json(body: bytes) -> bool:
    """Whether an error body is JSON of any kind."""
    try:
        json_value(body)
    except ValueError:
        return False
    return True


def decoded(body: bytes) -> object:
    """The JSON of an error body; None when it is none."""
    try:
        return json_value(body)
    except ValueError:
        return None  # e.g. a proxy's HTML page: the status alone must do


def _cause(error: BaseException) -> BaseException | None:
    """What is below an error; of several attempts to connect the first."""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    """The lowest cause's own words: "Connection refused" says more than what wraps it."""
    while (cause := _cause(error)) is not None:
        error = cause
    if isinstance(error, ssl.SSLError):
        return str(error)  # its errno is a number of its own
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # its own text may repeat the address
    return str(error) or type(error).__name__
