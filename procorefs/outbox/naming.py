"""What the names above and of an inode mean for its way to Procore: sent, held for a while, or never sent."""

import enum

from procorefs.outbox.change import Place
from procorefs.outbox.view import View
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.rules import MAX_PATH_CHARACTERS, Refusal, is_junk, name_refusal, path_refusal
from procorefs.tree.temporary import is_temporary, is_temporary_folder


class Fate(enum.Enum):
    """What becomes of something with that name."""

    SENT = enum.auto()
    HELD = enum.auto()
    """Temporary: stays here until it is renamed, or was not touched for an hour."""
    LOCAL = enum.auto()
    """Junk: never goes to Procore."""


class Naming:
    """Decides by names; `keeps_junk`: junk is sent like everything else."""

    def __init__(self, view: View, *, keeps_junk: bool) -> None:
        self._view = view
        self._keeps_junk = keeps_junk

    def fate(self, place: Place, *, is_folder: bool) -> Fate:
        """Of an entry, by its own name and those of the folders that it lies in."""
        fate = self._own_fate(place.name, is_folder=is_folder)
        if fate is Fate.LOCAL or place.folder == ROOT:
            return fate
        for _, shown in self._view.place(place.folder) or ():
            above = self._own_fate(shown.decode("utf-8", "replace"), is_folder=True)
            if above is Fate.LOCAL:
                return above
            if above is Fate.HELD:
                fate = above
        return fate

    def _own_fate(self, name: str, *, is_folder: bool) -> Fate:
        if not self._keeps_junk and is_junk(name):
            return Fate.LOCAL
        temporary = is_temporary_folder if is_folder else is_temporary
        return Fate.HELD if temporary(name.encode("utf-8", "replace")) else Fate.SENT

    def refusal(
        self, folder: Inode, name: bytes, *, is_folder: bool, longest_below: int = 0
    ) -> Refusal | None:
        """What is wrong with an entry of that name there; None: nothing. `longest_below`: characters of what is in it.

        What stays here for the time being may have a longer path: rsync adds eight characters to a name.
        """
        refusal = name_refusal(name)
        if refusal is not None:
            return refusal
        text = name.decode()
        if self.fate(Place(folder, text), is_folder=is_folder) is not Fate.SENT:
            return None
        return path_refusal(self.path_characters(folder, text) + (1 + longest_below if longest_below else 0))

    def path_characters(self, folder: Inode, name: str) -> int:
        """From the project's root, components joined by '/'."""
        above = self._view.place(folder) or ()
        return sum(len(shown.decode("utf-8", "replace")) + 1 for _, shown in above) + len(name)

    def is_sendable(self, place: Place) -> bool:
        """Whether Procore would take the entry as it is called now."""
        if name_refusal(place.shown) is not None:
            return False
        return self.path_characters(place.folder, place.name) <= MAX_PATH_CHARACTERS
