"""Which document a name must keep: identity follows the name, when a file is saved in place or by rename."""

from collections.abc import Mapping

from tests.simulation.procore import Held


class Identities:
    """Documents by path, as they were when all was quiet last, for as long as nothing has left its name since."""

    def __init__(self) -> None:
        self._documents: dict[str, int] = {}

    def settled(self, held: Mapping[str, Held]) -> None:
        self._documents = {path: document.id for path, document in held.items() if not document.is_folder}

    def renamed(self, path: str, to: str, *, replaces_file: bool) -> None:
        """A file that is renamed onto another takes over its document; all else may find another one."""
        kept = self._documents.get(to) if replaces_file else None
        self.left(path)
        self.left(to)
        if kept is not None:
            self._documents[to] = kept

    def left(self, path: str) -> None:
        """What was at or below a path is there no more."""
        for known in [known for known in self._documents if f"{known}/".startswith(f"{path}/")]:
            del self._documents[known]

    def wrong_in(self, held: Mapping[str, Held]) -> str:
        """A name that has another document; empty: there is none."""
        for path, document in self._documents.items():
            if path in held and held[path].id != document:
                return f"{path} was document {document} and is {held[path].id}"
        return ""
