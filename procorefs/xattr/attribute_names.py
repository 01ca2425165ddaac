"""Names the attributes of Procore, and defines the reasons for which an attribute is refused.

`cp --preserve=xattr` and `rsync -X` copy the attributes that are listed, in both directions. So `private` is never
listed: a copy must not publish a private document.
"""

PROCORE = "user.procore."
TAGS = PROCORE + "tags"
DESCRIPTION = PROCORE + "description"
CUSTOM = PROCORE + "custom."
PRIVATE = PROCORE + "private"
MOUNTER_ONLY = frozenset(PROCORE + short for short in ("raw", "url", "versions"))
"""Attributes that other users of the mount cannot read: each costs a call, or gives access to the document."""
TRACKED = PROCORE + "tracked"

XDG_TAGS = "user.xdg.tags"
XDG_COMMENT = "user.xdg.comment"

ALIASES = {TAGS: XDG_TAGS, XDG_TAGS: TAGS, DESCRIPTION: XDG_COMMENT, XDG_COMMENT: DESCRIPTION}
"""The two names of one value: ours, and that of freedesktop.org."""

READ_ONLY = frozenset(
    PROCORE + name
    for name in (
        "id",
        "version",
        "versions",
        "url",
        "created_by",
        "created_at",
        "updated_at",
        "checked_out_by",
        "checked_out_until",
        "state",
        "error",
        "raw",
    )
)
"""Attributes that are not listed and cannot be set."""

LONGEST_VALUE_BYTES = 64 << 10
"""Linux's limit for a value and for a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX)."""


def is_ours(name: str) -> bool:
    """Whether the name is that of an attribute of Procore."""
    return name.startswith(PROCORE) or name in ALIASES


class AttributeRefused(Exception):
    """An attribute was refused, and nothing was changed. Each class becomes one errno (kernel/errno_table.py)."""


class NoAttribute(AttributeRefused):
    """The file or folder does not have the attribute."""


class AttributeExists(AttributeRefused):
    """XATTR_CREATE was given, and the attribute exists."""


class NoSuchAttribute(AttributeRefused):
    """This kind of file or folder cannot have an attribute of that name."""


class NotSettable(AttributeRefused):
    """The attribute can only be read, or only be set and not removed."""


class BadValue(AttributeRefused):
    """The attribute cannot have that value; the text says why."""


class NotKnownYet(AttributeRefused):
    """Procore must be asked first, and a request that holds a lock does not wait longer for the answer."""


class TooMuch(AttributeRefused):
    """The attributes of the file would be too large."""
