"""Decides from the names of an entry and of its folders whether it is sent, held for a while, or never sent."""

from typing import NamedTuple

from procorefs.journal.change import Change, Location
from procorefs.tree.naming import junk_names
from procorefs.tree.naming.name_fate import Fate, own_fate
from procorefs.tree.naming.name_rules import Refusal, name_refusal, path_refusal
from procorefs.tree.nodes import Inode
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

_REMEMBERED_NAMES = 4096


class _Above(NamedTuple):
    """What the path of a folder means for the entries in it."""

    fate: Fate
    characters: int
    """The length of its path from the project's root, with a '/' at the end; 0 for the root."""


class ChangeFate:
    """Decides by names, and by content where the name is one of junk. With `keeps_junk`, junk is sent like everything
    else."""

    def __init__(self, view: View, dirty_files: DirtyFiles, *, keeps_junk: bool) -> None:
        self._view = view
        self._dirty_files = dirty_files
        self._keeps_junk = keeps_junk
        self._cached: dict[tuple[str, bool, bool], Fate] = {}  # asked several times for a new file
        self._known: dict[Inode, _Above] = {}  # valid until a folder moves
        self._known_at = view.moves

    def fate_of(self, change: Change) -> Fate:
        """The fate of a change: decided by its place and, for a file, by its content at the last close."""
        location = change.location
        if location is None:
            return Fate.SENT
        is_junk = change.is_junk and change.document is None
        return self.fate(location, is_folder=change.is_folder, is_junk=is_junk)

    def fate(self, place: Location, *, is_folder: bool, is_junk: bool = False) -> Fate:
        """The fate of an entry, by its own name and the names of its folders. `is_junk`: see Change.is_junk."""
        own = self._own_fate(place.name, is_folder=is_folder, is_junk=is_junk)
        above = self._above(place.folder).fate
        return above if above > own else own

    def may_be_junk(self, name: str) -> bool:
        """Whether a new file of that name stays on this machine if its content is that of junk."""
        return not self._keeps_junk and junk_names.may_be_junk(self._view.names.plain(name))

    def is_junk(self, change: Change) -> bool:
        """Whether the name and the present bytes of a file show that it is junk; see Change.is_junk.

        False for a file that has a document, or bytes that are not on this machine.
        """
        location = change.location
        if location is None or change.document is not None or change.is_folder:
            return False
        if not self.may_be_junk(location.name) or change.pending_copy is not None:
            return False
        record = change.staged or change.unclosed
        if record is None or not record.size_bytes:
            return True
        head = self._dirty_files.head(change.inode, record, junk_names.HEAD_BYTES)
        return head is not None and junk_names.is_junk(
            self._view.names.plain(location.name), head, record.size_bytes
        )

    def is_own_content(self, change: Change) -> bool:
        """Whether a file that stays on this machine has content that is not junk."""
        return not change.is_folder and not change.is_junk and bool(change.shown and change.shown.size_bytes)

    def why_local(self, change: Change) -> str:
        """Why a change is never sent to Procore, as the end of a sentence."""
        if change.location is not None:
            for _, shown in self._view.place(change.location.folder) or ():
                name = shown.decode("utf-8", "replace")  # names of junk are never encoded
                if self._own_fate(name, is_folder=True) is Fate.LOCAL:
                    return f"it lies in {name!r}, and nothing in a folder of that name is uploaded"
        return "it is a file that a program keeps for itself"

    def _own_fate(self, name: str, *, is_folder: bool, is_junk: bool = False) -> Fate:
        key = (name, is_folder, is_junk)
        fate = self._cached.get(key)
        if fate is None:
            if len(self._cached) >= _REMEMBERED_NAMES:
                self._cached.clear()
            plain = self._view.names.plain(name)
            fate = self._cached[key] = own_fate(
                plain, is_folder=is_folder, is_junk=is_junk, keeps_junk=self._keeps_junk
            )
        return fate

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
        self,
        folder: Inode,
        name: bytes,
        *,
        is_folder: bool,
        has_document: bool = False,
        longest_below: int = 0,
    ) -> Refusal | None:
        """The rule of Procore that an entry of that name would break there; None if it breaks none.

        `longest_below`: characters of the longest path in it. `has_document`: it cannot be junk. What stays on this
        machine need not follow Procore's rules. If a file with the name of junk turns out to be none when it is
        closed, and Procore would refuse its name, it is not sent.
        """
        place = Location(folder, name.decode())
        may_be_junk = not is_folder and not has_document and self.may_be_junk(place.name)
        if self.fate(place, is_folder=is_folder, is_junk=may_be_junk) is not Fate.SENT:
            return None
        return self.place_refusal(place, 1 + longest_below if longest_below else 0)

    def place_refusal(self, place: Location, more_characters: int = 0) -> Refusal | None:
        """The rule that a new entry at that place would break; None if it breaks none. `more_characters` are added to
        its path."""
        refusal = name_refusal(place.shown)
        return refusal or path_refusal(self.path_characters(place.folder, place.name) + more_characters)

    def path_characters(self, folder: Inode, name: str) -> int:
        """The length of the path from the project's root, with components joined by '/'."""
        return self._above(folder).characters + len(name)

    def sending_refusal(self, change: Change) -> Refusal | None:
        """The rule that a change without a document breaks under its present name; None if it breaks none."""
        if change.document is not None or change.location is None:
            return None
        return self.place_refusal(change.location)
