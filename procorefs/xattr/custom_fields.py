"""Gives each custom field a unique label, and converts its value to text and back by its data type. Pure functions.

The list has the fields of all tools, so two may have the same label. Then the id is added to the label, as it is if
a label ends like one with an id or is too long.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from procorefs.procore.api.changes import FieldValue
from procorefs.procore.wire.field_values import BOOLEAN, DATA_TYPES, DECIMAL, ENTRIES, ENTRY
from procorefs.procore.wire.models import FieldDefinition, LovEntry
from procorefs.xattr.attribute_names import CUSTOM, BadValue, NotSettable
from procorefs.xattr.value_texts import shown_truth, truth

LONGEST_LABEL_BYTES = 255 - len(CUSTOM)
"""Bytes of a label: Linux accepts names of 255 bytes, with their prefix."""

MOST_EXACT = 1e15
"""Below this, a whole float is exactly one integer."""

_MARKED = re.compile(r" ~[0-9]+\Z")
_KEY = re.compile(r"custom_field_([0-9]{1,18})\Z")


def field_key(field_id: int) -> str:
    """A field's name in a document."""
    return f"custom_field_{field_id}"


def field_id_of(key: str) -> int | None:
    match = _KEY.match(key)
    return int(match[1]) if match is not None else None


def labels(definitions: Iterable[FieldDefinition]) -> dict[str, FieldDefinition]:
    """Each field by its unique label."""
    named = [(_clean(definition.label), definition) for definition in definitions]
    counts = Counter(label for label, _ in named)
    found = {}
    for label, definition in named:
        is_plain = counts[label] == 1 and not _MARKED.search(label)
        fits = len(label.encode()) <= LONGEST_LABEL_BYTES
        found[label if is_plain and fits else _marked(label, definition.id)] = definition
    return found


def _clean(label: str) -> str:
    return label.replace("\0", " ").encode("utf-8", "replace").decode()


def _marked(label: str, field_id: int) -> str:
    mark = f" ~{field_id}"
    room_bytes = LONGEST_LABEL_BYTES - len(mark)
    return label.encode()[:room_bytes].decode("utf-8", "ignore") + mark


# Values


def shown_value(data_type: str, value: FieldValue, choices: Mapping[int, str]) -> str:
    """A value as text; '' if it is empty. `choices`: the known labels of entries, by id."""
    if value is None or value in ("", []):
        return ""
    if data_type == BOOLEAN:
        return shown_truth(bool(value))
    if data_type in (ENTRY, ENTRIES) and isinstance(value, int | list):
        shown = _shown_choices(choices)
        chosen = value if isinstance(value, list) else [int(value)]
        return "\n".join(sorted(shown.get(entry_id, f"~{entry_id}") for entry_id in chosen))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < MOST_EXACT else repr(value)
    return str(value)


def _shown_choices(choices: Mapping[int, str]) -> dict[int, str]:
    """Each entry by its label, or by label and id if the label is not unique."""
    on_one_line = {entry_id: _on_one_line(label) for entry_id, label in choices.items()}
    alike = Counter(on_one_line.values())
    return {
        entry_id: label
        if alike[label] == 1 and label == label.strip() and not _MARKED.search(label)
        else f"{label} ~{entry_id}"
        for entry_id, label in on_one_line.items()
    }


def _on_one_line(label: str) -> str:
    return re.sub(r"[\r\n\0]", " ", label)


def shown_json(value: object) -> str:
    """The value of an unknown type, as JSON."""
    return msgspec.json.encode(value).decode()


def parsed_value(data_type: str, text: str, choices: Sequence[LovEntry]) -> FieldValue:
    """The value that a text means for a field; None if it is empty. Raises BadValue, NotSettable."""
    if data_type not in DATA_TYPES:
        raise NotSettable("fields of that type cannot be written")
    if not text:
        return None
    if data_type == BOOLEAN:
        return truth(text)
    if data_type == DECIMAL:
        return _number(text)
    if data_type == ENTRY:
        return _entry_id(text.strip("\r\n"), _ids_by_label(choices)) if text.strip() else None
    if data_type == ENTRIES:
        lines = [line for line in re.split(r"[\r\n]", text) if line.strip()]
        by_label = _ids_by_label(choices)
        return list(dict.fromkeys(_entry_id(line, by_label) for line in lines)) or None
    return text


def _ids_by_label(choices: Sequence[LovEntry]) -> dict[str, int]:
    by_id = {int(entry.id): entry.label for entry in choices}
    return {shown: entry_id for entry_id, shown in _shown_choices(by_id).items()}


def _entry_id(text: str, by_label: Mapping[str, int]) -> int:
    found = by_label.get(text, by_label.get(text.strip()))
    if found is None:
        some = ", ".join(repr(label) for label in list(by_label)[:10])
        raise BadValue(f"it is not one of the choices: {some or 'there are none'}")
    return found


def _number(text: str) -> int | float:
    """A number. Raises BadValue, also if a float cannot hold all its digits."""
    plain = text.strip()
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", plain):
        raise BadValue("it is not a number")
    if re.fullmatch(r"[+-]?[0-9]{1,30}", plain):
        return int(plain)
    number = float(plain)
    if not math.isfinite(number) or Decimal(plain) != Decimal(repr(number)):
        raise BadValue("it has too many digits")
    return int(number) if number.is_integer() and abs(number) < MOST_EXACT else number
