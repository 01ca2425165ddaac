"""What the names above and of an inode mean for its way to Procore: sent, held for a while, or never sent."""

import enum
from typing import NamedTuple

from procorefs.outbox.change import Place
from procorefs.outbox.view import View
from procorefs.tree.nodes import Inode
from procorefs.tree.rules import MAX_PATH_CHARACTERS, Refusal, is_junk, name_refusal, path_refusal
from procorefs.tree.temporary import is_temporary, is_temporary_folder

_REMEMBERED_NAMES = 4096


class Fate(enum.IntEnum):
    """What becomes of something with that name; in a folder the larger of both holds."""

    SENT = 0
    HELD = 1
    """Temporary: stays here until it is renamed, or was not touched for an hour."""
    LOCAL = 2
    """Junk: never goes to Procore."""


class _Above(NamedTuple):
    """What a folder means for what lies in it."""

    fate: Fate
    characters: int
    """Of its path from the project's root, with a '/' at the end; 0: the root."""


class Naming:
    """Decides by names; `keeps_junk`: junk is sent like everything else."""

    def __init__(self, view: View, *, keeps_junk: bool) -> None:
        self._view = view
        self._keeps_junk = keeps_junk
        self._fates: dict[tuple[str, bool], Fate] = {}  # a new file is asked about again and again
        self._known: dict[Inode, _Above] = {}  # as long as no folder moves
        self._known_at = view.moves

    def fate(self, place: Place, *, is_folder: bool) -> Fate:
        """Of an entry, by its own name and those of the folders that it lies in."""
        return max(self._own_fate(place.name, is_folder=is_folder), self._above(place.folder).fate)

    def _own_fate(self, name: str, *, is_folder: bool) -> Fate:
        fate = self._fates.get((name, is_folder))
        if fate is None:
            if len(self._fates) >= _REMEMBERED_NAMES:
                self._fates.clear()
            fate = self._fates[name, is_folder] = self._look_at_name(name, is_folder=is_folder)
        return fate

    def _look_at_name(self, name: str, *, is_folder: bool) -> Fate:
        if not self._keeps_junk and is_junk(name):
            return Fate.LOCAL
        temporary = is_temporary_folder if is_folder else is_temporary
        return Fate.HELD if temporary(name.encode("utf-8", "replace")) else Fate.SENT

    def _above(self, folder: Inode) -> _Above:
        if self._known_at != self._view.moves:
            self._known.clear()
            self._known_at = self._view.moves
        above = self._known.get(folder)
        if above is None:
            above = self._known[folder] = self._look_above(folder)
        return above

    def _look_above(self, folder: Inode) -> _Above:
        fate, characters = Fate.SENT, 0
        for _, shown in self._view.place(folder) or ():
            name = shown.decode("utf-8", "replace")
            fate = max(fate, self._own_fate(name, is_folder=True))
            characters += len(name) + 1
        return _Above(fate, characters)

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
        return self._above(folder).characters + len(name)

    def is_sendable(self, place: Place) -> bool:
        """Whether Procore would take the entry as it is called now."""
        if name_refusal(place.shown) is not None:
            return False
        return self.path_characters(place.folder, place.name) <= MAX_PATH_CHARACTERS
