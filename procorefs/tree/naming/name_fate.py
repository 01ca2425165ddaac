"""What becomes of something by its name: sent, held for a while, or never sent; for a mount and for `check`."""

import enum

from procorefs.tree.naming.junk_names import is_junk_folder
from procorefs.tree.naming.shown_names import encode
from procorefs.tree.naming.temporary_names import is_temporary, is_temporary_folder


class Fate(enum.IntEnum):
    """What becomes of something with that name; in a folder the larger of both holds."""

    SENT = 0
    HELD = 1
    """Temporary: stays here until it is renamed, or was not touched for an hour."""
    LOCAL = 2
    """Junk: never goes to Procore."""


def own_fate(name: str, *, is_folder: bool, is_junk: bool, keeps_junk: bool = False) -> Fate:
    """By the own name, wherever it lies. `is_junk`: of a file, what name and content together say (junk.is_junk)."""
    if not keeps_junk and (is_junk_folder(name) if is_folder else is_junk):
        return Fate.LOCAL
    temporary = is_temporary_folder if is_folder else is_temporary
    return Fate.HELD if temporary(encode(name)) else Fate.SENT
