"""The directory entries of a file's versions: `v003 2026-01-02T03-04-05 Plan.pdf`.

Pure functions. A plain `ls` sorts such entries by age, they end in the file's own extension, and hold no character that
another system refuses.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from procorefs.procore.wire.models import Version
from procorefs.tree.naming.shown_names import shown_name


def version_entries(versions: Iterable[Version], shown: bytes) -> dict[bytes, Version]:
    """The entries of all versions of the file that is shown as that, in the order given.

    Two that would have the same entry, which Procore should not give cause for, or one that Linux can't hold, are told
    apart by the version's id, as documents are by theirs.
    """
    entries: dict[bytes, Version] = {}
    name = shown.decode("utf-8", "replace")
    for version in versions:
        plain = f"v{version.number:03d} {_moment(version.created_at_s)} {name}"
        entries[shown_name(plain, version.id, entries.__contains__)] = version
    return entries


def _moment(unix_s: int) -> str:
    """In UTC, without the colons that Windows refuses; an unknown time is 1970, as in the entry's mtime."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H-%M-%S")
