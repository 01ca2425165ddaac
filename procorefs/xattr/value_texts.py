"""Converts tags, booleans, people and times to the text that programs see, and back. Pure functions.

A text that was made from tags is converted back to the same tags, even if a tag has a comma or a line break, because
it is compared with the tags that the document has.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from procorefs.procore.wire.models import Person
from procorefs.xattr.attribute_names import BadValue

_BREAKS = re.compile(r"[\r\n\0]")


def decoded(value: bytes) -> str:
    """Raises BadValue."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadValue("it is not UTF-8") from error
    if "\0" in text:
        raise BadValue("it contains a NUL")
    return text


# Tags


def in_order(tags: Iterable[str]) -> list[str]:
    """The tags in the order in which they are always shown, because a copy tool compares bytes."""
    return sorted(set(tags), key=lambda tag: (tag.casefold(), tag))


def tag_lines(tags: Iterable[str]) -> str:
    """The tags, one on each line."""
    return "\n".join(_shown(tag) for tag in in_order(tags))


def tags_of_lines(text: str, borne: Collection[str]) -> list[str]:
    """The tags of a text with one on each line. `borne`: the tags of the document, which the text may mean."""
    meant = _by_shown(borne)
    found: dict[str, None] = {}
    for line in re.split(r"[\r\n]", text):
        tags = meant.get(line) or [line.strip()]
        found |= dict.fromkeys(tag for tag in tags if tag)
    return list(found)


def tag_list(tags: Iterable[str]) -> str:
    """The tags, separated by commas, as file managers write them."""
    return ",".join(_shown(tag) for tag in in_order(tags))


def tags_of_list(text: str, borne: Collection[str]) -> list[str]:
    """The tags of a text with commas; a tag of `borne` that contains commas is recognised."""
    if text == tag_list(borne):
        return in_order(borne)
    meant = _by_shown(borne)
    split = {shown: shown.split(",") for shown in meant}
    by_first: dict[str, list[str]] = {}
    for shown in sorted(meant, key=lambda shown: len(split[shown]), reverse=True):
        by_first.setdefault(split[shown][0], []).append(shown)
    parts = re.split(r"[,\r\n]", text)
    found: dict[str, None] = {}
    at = 0
    while at < len(parts):
        likely = by_first.get(parts[at], ())
        whole = next((one for one in likely if parts[at : at + len(split[one])] == split[one]), None)
        found.update(
            dict.fromkeys(tag for tag in ([parts[at].strip()] if whole is None else meant[whole]) if tag)
        )
        at += 1 if whole is None else len(split[whole])
    return list(found)


def _shown(tag: str) -> str:
    return _BREAKS.sub(" ", tag)


def _by_shown(tags: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tag in tags:
        found.setdefault(_shown(tag), []).append(tag)
    return found


# Booleans

_TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def truth(text: str) -> bool:
    """Raises BadValue."""
    found = _TRUTHS.get(text.strip().lower())
    if found is None:
        raise BadValue("it must be true or false")
    return found


def shown_truth(value: bool) -> str:
    return "true" if value else "false"


# Values that Procore sets


def person(somebody: Person) -> str:
    return somebody.name or somebody.login or str(somebody.id)


def moment(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
