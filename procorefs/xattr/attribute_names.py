"""Names the attributes of Procore, and the reasons for which an attribute is refused.

What is listed is copied by `cp --preserve=xattr` and `rsync -X`, in both directions. So `private` is never listed: a
copy must not publish a private document.
"""

PROCORE = "user.procore."
TAGS = PROCORE + "tags"
DESCRIPTION = PROCORE + "description"
CUSTOM = PROCORE + "custom."
PRIVATE = PROCORE + "private"
MOUNTER_ONLY = frozenset(PROCORE + short for short in ("raw", "url", "versions"))
"""Attributes that other users of the mount cannot read: each costs a call, or opens the document to whoever has it."""
TRACKED = PROCORE + "tracked"

XDG_TAGS = "user.xdg.tags"
XDG_COMMENT = "user.xdg.comment"

ALIASES = {TAGS: XDG_TAGS, XDG_TAGS: TAGS, DESCRIPTION: XDG_COMMENT, XDG_COMMENT: DESCRIPTION}
"""Two names of one value: this project's, and that of freedesktop.org."""

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
"""Not listed, and cannot be set."""

LONGEST_VALUE_BYTES = 64 << 10
"""Linux's own limit of a value, and of a list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX)."""


def is_ours(name: str) -> bool:
    """Whether the name means something in Procore."""
    return name.startswith(PROCORE) or name in ALIASES


class AttributeRefused(Exception):
    """Nothing was changed. Each class becomes one errno (kernel/errno_table.py)."""


class NoAttribute(AttributeRefused):
    """The file or folder has no such attribute now."""


class AttributeExists(AttributeRefused):
    """XATTR_CREATE, and it is there."""


class NoSuchAttribute(AttributeRefused):
    """There is no attribute of that name for such a thing."""


class NotSettable(AttributeRefused):
    """It can only be read, or set but not removed."""


class BadValue(AttributeRefused):
    """Such an attribute cannot have the value; the text says why."""


class NotKnownYet(AttributeRefused):
    """Procore must be asked first, and a request that holds a folder's lock does not wait for that."""


class TooMuch(AttributeRefused):
    """The attributes of one file would take too much room."""
