"""Which attributes there are: what they are called, which are listed, which can be set and removed.

What is listed is copied by `cp --preserve=xattr` and `rsync -X`, in both directions. So what nobody wants to be copied
is never listed: a copy must not publish a private document.
"""

PROCORE = "user.procore."
TAGS = PROCORE + "tags"
DESCRIPTION = PROCORE + "description"
CUSTOM = PROCORE + "custom."
PRIVATE = PROCORE + "private"
TRACKED = PROCORE + "tracked"

XDG_TAGS = "user.xdg.tags"
XDG_COMMENT = "user.xdg.comment"

TWINS = {TAGS: XDG_TAGS, XDG_TAGS: TAGS, DESCRIPTION: XDG_COMMENT, XDG_COMMENT: DESCRIPTION}
"""Two names of one value: ours, and that of the freedesktop."""

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
"""Not listed, and can't be set."""

NOT_REMOVABLE = READ_ONLY | {PRIVATE, TRACKED}

LONGEST_VALUE_BYTES = 64 << 10
"""Linux's own limit of a value, and of a list of names."""


def is_ours(name: str) -> bool:
    """Whether the name means something in Procore."""
    return name.startswith(PROCORE) or name in TWINS


def is_description(name: str) -> bool:
    return name in (DESCRIPTION, XDG_COMMENT)


def is_tags(name: str) -> bool:
    return name in (TAGS, XDG_TAGS)
