"""Reads what can be understood of a JSON body with errors in it; slow, so only after fast decoding failed.

Fields of the wrong type count as absent; texts that are no Unicode are made encodable.
"""

import json
from typing import Any, TypeVar, cast, get_args

import msgspec

from procorefs.procore.errors import Malformed


class Wire(msgspec.Struct, gc=False):
    """What may come in an answer; nothing in it is trusted yet, and every field may be None."""


class Unusable(ValueError):
    """One item has nothing in it that could be used; says why."""


W = TypeVar("W", bound=Wire)


def untyped(body: bytes, action: str) -> object:
    """The JSON value of a body, texts made encodable. Raises Malformed."""
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
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
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()  # lone surrogates
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
