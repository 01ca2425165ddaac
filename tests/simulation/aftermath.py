"""What a death may leave of what programs did: all that was promised, and no more than was there."""

from collections.abc import Collection

from procorefs.journal.states import ChangeState
from procorefs.tree.nodes import Inode
from procorefs.vfs.view import View
from tests.simulation.model import Entry, File, Folder, Model
from tests.simulation.names import Stay, is_junk_file, stay_of

SYNCED_AFTER_S = 2.5
"""What was closed so long before a power cut is on disk: a group commit begins each second, and takes its time."""

SNAPSHOT_AFTER_S = 50.0
"""After a minute a file is quiet; which minute, the product knows a little better."""

RECOVERED = "Recovered folder files"
"""So begins the name of the folder that shows what lay in a folder that is lost."""

Content = bytes | str | None
"""Bytes; None: a folder; or a word."""

_NOTHING, _UNCLOSED = "nothing", "a file that is being written"


def _contents_of(model: Model) -> dict[str, set[Content]]:
    passing = passing_with_mount(model)
    return {
        path: _contents_of_entry(entry) | ({_NOTHING} if path in passing else set())
        for path, entry in model.all()
    }


def _contents_of_entry(entry: Entry) -> set[Content]:
    if isinstance(entry, Folder):
        return {None}
    return {_UNCLOSED, *entry.promised} if entry.is_dirty else {bytes(entry.content)}


def may_be_after_kill(shown: dict[str, int], model: Model) -> bool:
    """Whether a killed daemon may leave that of the model: what was being written may be as it was closed last."""
    wanted = {path: (-1,) if isinstance(entry, Folder) else _sizes_of(entry) for path, entry in model.all()}
    return (
        shown.keys() <= wanted.keys()
        and wanted.keys() - shown.keys() <= passing_with_mount(model)
        and all(size in wanted[path] for path, size in shown.items())
    )


def passing_with_mount(model: Model) -> set[str]:
    """Paths of what need not outlive the daemon: what programs keep for themselves, and the folders for that alone."""
    passing: set[str] = set()
    for path, entry in sorted(model.all(), key=lambda item: -item[0].count("/")):
        if isinstance(entry, File):
            contents = (bytes(entry.content), *entry.promised)
            goes = any(is_junk_file(path, content) for content in contents)
        else:
            is_local = stay_of(path, None, encodes=model.encodes) is Stay.LOCAL
            goes = is_local and all(f"{path}/{name}" in passing for name in entry.children)
        if goes:
            passing.add(path)
    return passing


def drop_missing(folder: Folder, shown: Collection[str], above: str = "") -> None:
    """Take out of a model what is not there any more."""
    for name, entry in list(folder.children.items()):
        path = f"{above}/{name}".lstrip("/")
        if path not in shown:
            del folder.children[name]
        elif isinstance(entry, Folder):
            drop_missing(entry, shown, path)


def _sizes_of(file: File) -> tuple[int, ...]:
    return tuple(map(len, [file.content, *file.promised]))


def written_between(model: Model, before: Model) -> dict[str, File]:
    """The files of a model that had other bytes before, under the same names."""
    was = {path: entry.content for path, entry in before.all() if isinstance(entry, File)}
    return {
        path: entry
        for path, entry in model.all()
        if isinstance(entry, File) and entry.content != was.get(path, entry.content)
    }


class Quiet:
    """Notes which open files are left alone for so long that a snapshot of them may be sent."""

    def __init__(self) -> None:
        self._since: dict[File, tuple[float, bytes]] = {}

    def note(self, now_s: float, model: Model) -> None:
        """Before and after each operation."""
        dirty = [entry for _, entry in model.all() if isinstance(entry, File) and entry.is_dirty]
        self._since = {file: self._since[file] for file in dirty if file in self._since}
        for file in dirty:
            content = bytes(file.content)
            since_s, before = self._since.setdefault(file, (now_s, content))
            if content != before:
                self._since[file] = (now_s, content)
            elif now_s - since_s >= SNAPSHOT_AFTER_S and content not in file.snapshots:
                file.snapshots.append(content)


class Past:
    """What the model was lately, for a power cut: each entry may be as at any moment since the last sync.

    `synced_until_s`: the last moment at which a sync could begin.
    """

    def __init__(self, model: Model) -> None:
        self._moments: list[tuple[float, dict[str, set[Content]]]] = [(0.0, _contents_of(model))]

    def note(self, now_s: float, model: Model, synced_until_s: float) -> None:
        self._moments.append((now_s, _contents_of(model)))
        self._drop_old(synced_until_s)

    def _drop_old(self, synced_until_s: float) -> None:
        old_s = synced_until_s - SYNCED_AFTER_S
        while len(self._moments) > 1 and self._moments[1][0] < old_s:
            del self._moments[0]

    def fsynced(self) -> None:
        """All that was before is on disk."""
        del self._moments[:-1]

    def changed(self, path: str, synced_until_s: float) -> bool:
        """Whether a path was not the same all the time since the last sync."""
        self._drop_old(synced_until_s)
        return _has_changed(self._was(path))

    def _was(self, path: str) -> set[Content]:
        return {content for _, moment in self._moments for content in moment.get(path, {_NOTHING})}

    def wrong_in(
        self,
        found: dict[str, bytes | None],
        lost: Collection[str],
        doubted: Collection[str],
        synced_until_s: float,
    ) -> str:
        """What the mount must not show after the power was cut; empty: it may.

        What is `lost` was told of; what is `doubted` is incomplete: nobody sends that before somebody has seen it.
        """
        self._drop_old(synced_until_s)
        told = []
        for path in sorted({path for _, moment in self._moments for path in moment} | found.keys()):
            was = self._was(path)
            now = found.get(path, _NOTHING)
            if path in lost or path.startswith(RECOVERED):
                continue
            if now not in was and not (path in doubted and _may_be_torn(now, was)):
                told.append(f"{path} is {_short(now)} and was {', '.join(sorted(map(_short, was)))}")
        return "; ".join(told)


def _has_changed(was: set[Content]) -> bool:
    return len(was) > 1 or _UNCLOSED in was


def _may_be_torn(now: Content, was: set[Content]) -> bool:
    """A file whose bytes changed in these seconds may be zeros, or anything: it is incomplete."""
    return isinstance(now, bytes) and _has_changed(was)


def doubted_in(view: View) -> list[str]:
    """Paths whose bytes are incomplete, or will be when what was closed before has been sent."""
    return [
        view.path(change.inode)
        for change in view.changes()
        if change.unclosed is not None or change.state is ChangeState.INCOMPLETE
    ]


def failed_in(view: View) -> list[Inode]:
    """The documents whose change is failed."""
    changes = [change for change in view.changes() if change.state is ChangeState.FAILED]
    return [change.inode for change in changes if change.document is not None]


def _short(content: Content) -> str:
    if content is None:
        return "a folder"
    return content if isinstance(content, str) else f"{len(content)} bytes {content[:12]!r}"


def root_of(found: dict[str, bytes | None]) -> Folder:
    """A model's root with that."""
    root = Folder()
    for path, content in sorted(found.items()):
        *above, name = path.split("/")
        folder = root
        for component in above:
            below = folder.children[component]
            assert isinstance(below, Folder)
            folder = below
        folder.children[name] = Folder() if content is None else File(bytearray(content), content)
    return root
