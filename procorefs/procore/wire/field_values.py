"""Converts values of custom fields from the form that Procore shows to the form that it takes."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from procorefs.procore.api.changes import FieldValue

STRING, DECIMAL, BOOLEAN, ENTRY, ENTRIES = "string", "decimal", "boolean", "lov_entry", "lov_entries"

DATA_TYPES = frozenset({STRING, DECIMAL, BOOLEAN, ENTRY, ENTRIES})
"""Those that can be written; of any other only the JSON is shown."""


def data_type_of(shown: object) -> str:
    """The type that a document's field says it has; empty: none."""
    data_type = shown.get("data_type") if isinstance(shown, Mapping) else None
    return data_type if isinstance(data_type, str) else ""


def value_of(shown: object) -> Any:  # noqa: ANN401 - JSON
    return shown.get("value") if isinstance(shown, Mapping) else None


def writable_form(shown: object) -> FieldValue | UnsetType:
    """What must be written to get what is shown; None: nothing is shown, UNSET: it cannot be written."""
    value = value_of(shown)
    if value is None or value in ("", []):
        return None
    try:
        form: FieldValue = _FORMS[data_type_of(shown)](value)
    except (KeyError, TypeError, ValueError, OverflowError):
        return UNSET
    return form


def same_value(one: FieldValue | UnsetType, other: FieldValue | UnsetType) -> bool:
    """Whether two values mean the same; entries are a set."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(one) == sorted(other)
    if _is_empty(one) or _is_empty(other):
        return _is_empty(one) and _is_empty(other)
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _is_empty(value: FieldValue | UnsetType) -> bool:
    return value is None or value in ("", [])


def entry_labels(shown: object) -> dict[int, str]:
    """The labels of the entries that a field shows."""
    value = value_of(shown)
    entries = value if isinstance(value, list) else [value]
    found = {}
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(entry.get("label"), str):
            try:
                found[_id(entry)] = entry["label"]
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
    return found


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int | float:  # noqa: ANN401 - JSON
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, int):
        return value
    number = float(value)
    return int(number) if number.is_integer() else number


def _truth(value: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(value, bool):
        raise TypeError
    return value


def _id(entry: Any) -> int:  # noqa: ANN401 - JSON; v2 has ids as texts
    return int(entry["id"])


def _ids(value: Any) -> list[int]:  # noqa: ANN401 - JSON
    return [_id(entry) for entry in value]


_FORMS: dict[str, Any] = {STRING: _text, DECIMAL: _number, BOOLEAN: _truth, ENTRY: _id, ENTRIES: _ids}
