"""Reads what can be understood of a JSON body with errors in it; slow, so only after fast decoding failed.

Fields of the wrong type count as absent. Times and custom fields of well-formed bodies are bounded here, too.
"""

from datetime import UTC, datetime
from typing import Any, TypeVar, cast, get_args

import msgspec

from procorefs.procore.errors import Malformed, is_nested_deeper, json_value

MAX_FIELD_LEVELS = 16
"""Objects and lists in each other in custom fields; those of Procore have four."""

MAX_NAME = 4096
"""Characters of a document's name; Procore's longest have 255."""

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""The first and the last second of Python's calendar, in UTC; with an offset, JSON can name others."""


class Wire(msgspec.Struct, gc=False):
    """What may come in an answer; nothing in it is trusted yet, and every field may be None."""


class Unusable(ValueError):
    """One item has nothing in it that could be used; says why."""


W = TypeVar("W", bound=Wire)


def untyped(body: bytes, action: str) -> object:
    """The JSON value of a body, as `json_value` returns it. Raises Malformed."""
    try:
        return json_value(body)
    except ValueError:
        raise Malformed(f"Could not {action}: Procore's answer is not JSON") from None


def list_in(answer: object, action: str) -> list[Any]:
    """The list that an answer is or wraps. Raises Malformed."""
    value = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(value, list):
        raise Malformed(f"Could not {action}: Procore's answer holds no list")
    return value


def object_in(answer: object, action: str) -> dict[str, Any]:
    """The object that an answer is or wraps. Raises Malformed."""
    if isinstance(answer, dict) and isinstance(answer.get("data"), dict):
        answer = answer["data"]
    if not isinstance(answer, dict):
        raise Malformed(f"Could not {action}: Procore's answer holds no object")
    return answer


def understood(item: dict[str, Any], kind: type[W]) -> W:
    """A wire struct of what can be understood of an item; other fields count as absent."""
    fields = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in item:
            fields[field.name] = _understood_value(item[field.encode_name], field.type)
    return kind(**fields)


def _understood_value(value: object, kind: object) -> object:
    options = get_args(kind)
    for option in options:
        if isinstance(option, type) and issubclass(option, Wire):
            return understood(value, option) if isinstance(value, dict) else None
        if isinstance(value, list) and (inner := get_args(option)) and issubclass(inner[0], Wire):
            return [understood(entry, inner[0]) for entry in value if isinstance(entry, dict)]
    try:
        return msgspec.convert(value, cast("type[object]", kind))
    except msgspec.MsgspecError:
        return None


def item_of(value: object, kind: type[W]) -> W:
    """An item of a list as a wire struct. Raises Unusable when it is no object."""
    if not isinstance(value, dict):
        raise Unusable("it is no object")
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.MsgspecError, UnicodeError):
        return understood(value, kind)  # ten times slower: only for what is really broken


def list_or_empty(value: object) -> list[Any]:
    """A list, empty when it is something else or absent."""
    return value if isinstance(value, list) else []


def bounded_fields(fields: dict[str, Any] | None) -> dict[str, Any]:
    """The custom fields; none when they are nested deeper than those of Procore ever are."""
    return {} if not fields or is_nested_deeper(fields, MAX_FIELD_LEVELS) else fields


def unix_seconds(moment: datetime | None) -> int:
    """Whole Unix seconds in the years 1 to 9999; a time without a zone is UTC, a missing one 0."""
    if moment is None:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(int(moment.timestamp() // 1), _FIRST_S), _LAST_S)
