"""Installs what a user's desktop needs below the XDG directories, and removes exactly that.

A list in the state directory has each file with the hash of what was written. `remove` leaves a file that somebody has
changed since, and says so.
"""

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import msgspec

from procorefs.config import Paths, private_dir
from procorefs.config.paths import write_private
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.processes import child_environment

_EXTENSION = "procorefs_extension.py"
_FILE_MANAGERS = ("nautilus-python", "nemo-python", "caja-python")
_EMBLEMS = ("failed", "locked", "readonly", "waiting")


class Installed(msgspec.Struct):
    """What was installed."""

    files: dict[str, str] = {}
    """SHA-256 by path."""
    bookmark: str = ""
    """The line in the file managers' bookmarks."""


class Targets(msgspec.Struct, frozen=True):
    """Where a desktop looks for the files of one user."""

    data: Path
    config: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Targets":
        """By the XDG Base Directory Specification."""
        home = Path(environment.get("HOME") or "~").expanduser()
        return cls(
            _base(environment.get("XDG_DATA_HOME", ""), home / ".local/share"),
            _base(environment.get("XDG_CONFIG_HOME", ""), home / ".config"),
        )

    @property
    def bookmarks(self) -> Path:
        """The bookmarks of GTK, which Nautilus, Nemo, Caja, Thunar and PCManFM show."""
        return self.config / "gtk-3.0" / "bookmarks"


def _base(value: str, default: Path) -> Path:
    return Path(value) if value.startswith("/") else default


def contents(targets: Targets, command: str) -> Iterator[tuple[Path, bytes]]:
    """Each file that every desktop gets, and what is in it; `command`: the absolute path of `procorefs`."""
    extension = _read(_EXTENSION).replace(b'COMMAND = "procorefs"', f"COMMAND = {command!r}".encode(), 1)
    for name in _FILE_MANAGERS:
        yield targets.data / name / "extensions" / _EXTENSION, extension
    menu = _read("procorefs-dolphin.desktop").replace(b"@COMMAND@", _quoted(command).encode())
    yield targets.data / "kio" / "servicemenus" / "procorefs.desktop", menu
    yield targets.data / "mime" / "packages" / "procorefs.xml", _read("procorefs-mime.xml")
    for name in _EMBLEMS:
        emblem = f"emblem-procorefs-{name}.svg"
        yield targets.data / "icons/hicolor/scalable/emblems" / emblem, _read(emblem)


def autostart(targets: Targets, command: str, words: tuple[str, ...]) -> tuple[Path, bytes]:
    """The file that mounts a project when the session starts."""
    line = " ".join(_quoted(word) for word in (command, "mount", *words))
    text = (
        "[Desktop Entry]\nType=Application\nName=ProcoreFS\nComment=Mount a Procore project\n"
        f"Exec={line}\nTerminal=false\nNoDisplay=true\n"
    )
    return targets.config / "autostart" / "procorefs.desktop", text.encode()


def install(
    targets: Targets, paths: Paths, wanted: Mapping[Path, bytes], mountpoint: Path | None
) -> list[Path]:
    """Write files and bookmark, and note them; returns the files. Raises OSError."""
    installed = read_installed(paths)
    for path, data in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if path.parent.name == "servicemenus" else 0o644)  # KDE takes no other service menu
        installed.files[str(path)] = hashlib.sha256(data).hexdigest()
        _note(paths, installed)
    if mountpoint is not None:
        _unmark(targets, installed.bookmark)
        installed.bookmark = f"file://{quote(str(mountpoint))} {mountpoint.name}"
        _mark(targets, installed.bookmark)
        _note(paths, installed)
    _update_caches(targets)
    return list(wanted)


def remove(targets: Targets, paths: Paths) -> tuple[list[Path], list[Path]]:
    """Take away what was installed; returns what went, and what stays because somebody has changed it."""
    installed, gone, kept = read_installed(paths), [], []
    for name, digest in installed.files.items():
        path = Path(name)
        try:
            changed = hashlib.sha256(path.read_bytes()).hexdigest() != digest
        except FileNotFoundError:
            continue
        if changed:
            kept.append(path)
            continue
        path.unlink()
        gone.append(path)
        with contextlib.suppress(OSError):  # not empty: somebody else's files are in it
            path.parent.rmdir()
    _unmark(targets, installed.bookmark)
    _note_file(paths).unlink(missing_ok=True)
    _update_caches(targets)
    return gone, kept


def read_installed(paths: Paths) -> Installed:
    """What was installed, as far as it is known."""
    try:
        return msgspec.json.decode(_note_file(paths).read_bytes(), type=Installed)
    except (OSError, *UNDECODABLE):
        return Installed()


def command_path() -> str:
    """The absolute path of the command, for files that the desktop runs without our PATH."""
    return shutil.which("procorefs") or "procorefs"


def _read(name: str) -> bytes:
    return files("procorefs.cli.desktop").joinpath("files", name).read_bytes()


def _quoted(word: str) -> str:
    """A word of an Exec line (Desktop Entry Specification): quoted, with doubled percent signs."""
    for character in '\\"`$':
        word = word.replace(character, f"\\{character}")
    return '"' + word.replace("\\", "\\\\").replace("%", "%%") + '"'


def _note_file(paths: Paths) -> Path:
    return paths.state_dir / "desktop.json"


def _note(paths: Paths, installed: Installed) -> None:
    private_dir(paths.state_dir)
    write_private(_note_file(paths), msgspec.json.encode(installed))


def _lines(targets: Targets) -> list[str]:
    try:
        return targets.bookmarks.read_text().splitlines()
    except FileNotFoundError:
        return []


def _mark(targets: Targets, line: str) -> None:
    lines = _lines(targets)
    if line not in lines:
        targets.bookmarks.parent.mkdir(parents=True, exist_ok=True)
        _replace(targets.bookmarks, [*lines, line])


def _unmark(targets: Targets, line: str) -> None:
    lines = _lines(targets)
    if line and line in lines:
        _replace(targets.bookmarks, [one for one in lines if one != line])


def _replace(path: Path, lines: list[str]) -> None:
    aside = path.with_name(f".{path.name}.procorefs")
    aside.write_text("".join(f"{line}\n" for line in lines))
    aside.replace(path)


def _update_caches(targets: Targets) -> None:
    """Let the desktop notice; without these programs it does so at the next login."""
    environment = {**child_environment(), "LC_ALL": "C.UTF-8"}
    for command in (
        ["update-mime-database", str(targets.data / "mime")],
        ["gtk-update-icon-cache", "-q", "-t", "-f", str(targets.data / "icons/hicolor")],
    ):
        if shutil.which(command[0]) and Path(command[-1]).is_dir():
            subprocess.run(command, env=environment, capture_output=True, check=False)
