"""Says what an extended attribute is worth: in the model, as programs see it, and as Procore has it."""

import errno
import os

DESCRIPTION = "user.procore.description"
TAGS, XDG_TAGS = "user.procore.tags", "user.xdg.tags"
FOREIGN = "user.rating"
"""An attribute of another program: it is kept here, with the file."""
FIELD, FIELD_ID = "user.procore.custom.Area m²", 304
KEYS = {
    DESCRIPTION: "description",
    "user.xdg.comment": "description",
    TAGS: "tags",
    XDG_TAGS: "tags",
    "user.procore.tracked": "tracked",
    FIELD: "field",
    FOREIGN: "foreign",
}
"""Attributes that can be set, with the value that each shows."""
SETTABLE = tuple(KEYS)
FIXED = ("user.procore.id", "user.procore.nothing")

Value = str | frozenset[str]
"""Tags are a set; an empty value is none."""


def value_of(name: str, text: str) -> Value:
    """What a text means. Raises OSError for one that the attribute can't have."""
    match KEYS[name]:
        case "tags":
            return frozenset(filter(None, text.split("," if name == XDG_TAGS else "\n")))
        case "tracked" if text not in ("true", "false"):
            raise _error(errno.EINVAL)
        case "field" if text.strip(".0123456789"):
            raise _error(errno.EINVAL)
        case _:
            return text


def check_settable(name: str, *, is_folder: bool, removes: bool = False) -> None:
    """Raises OSError for an attribute that nobody can set."""
    if name == "user.procore.id" or (removes and KEYS.get(name) == "tracked"):
        raise _error(errno.EPERM)
    if KEYS.get(name) == "description" and is_folder:
        raise _error(errno.ENOTSUP)
    if name not in KEYS:
        raise _error(errno.ENODATA if removes else errno.ENOTSUP)


def same(one: Value, other: Value, key: str) -> bool:
    """Whether two values are one. A number may be written in several ways."""
    if key == "field" and one and other:
        return float(str(one)) == float(str(other))
    return one == other


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
