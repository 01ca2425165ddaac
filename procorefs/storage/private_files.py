"""Creates, checks and replaces files and folders that only their owner may access.

In a folder that another user owns or may write to, that user could choose what we read, delete and connect to. So a
folder is used only after `lstat` shows a directory that this user owns and no other user may write to, below folders
in which no other user may put something else in its place.
"""

import os
import stat
import tempfile
from pathlib import Path

from procorefs.storage.printable import shell_word

_OUR_NAME = "procorefs"

_OVERFLOW_UID = 65534
"""In a user namespace, the owner of what belongs to a user outside, such as root of the machine."""


class NotPrivate(OSError):
    """A file or folder that other users may have written; `strerror` says why, as the end of a sentence."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(0, why, str(path))

    def __str__(self) -> str:
        return f"{self.filename} is not used: {self.strerror}"


def make_private_folder(path: Path) -> None:
    """Create the directory `path` for its owner only, with missing parents as `mkdir -p` creates them.

    A folder gets mode 0700 if this call creates it or if it is in a folder named `procorefs`; any other folder is only
    checked. Raises NotPrivate and other OSErrors.
    """
    _check_parents(path)
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        is_ours = folder == path or _OUR_NAME in folder.parts
        folder.mkdir(mode=0o700 if is_ours else 0o755, exist_ok=True)
    found = path.lstat()
    if _OUR_NAME in path.parts and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        if found.st_mode & 0o077:
            path.chmod(0o700)
    else:
        _check_folder(path, found)


def is_private_folder(path: Path) -> bool:
    """Whether this user owns the directory `path` and no other user may write to it."""
    try:
        _check_folder(path, path.lstat())
        _check_parents(path)
    except OSError:
        return False
    return True


def _check_folder(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivate(path, "it is not a directory")
    if found.st_uid != os.geteuid():
        raise NotPrivate(path, f"it belongs to user id {found.st_uid}")
    if found.st_mode & 0o022:
        raise NotPrivate(path, "other users may write in it")


def _check_parents(path: Path) -> None:
    """Raise NotPrivate if a user other than this one and root could put another folder in the place of `path`.

    So a folder in the home directory of another user (`sudo -E`) is not used. A folder that its group may write to is:
    some systems give each user a group.
    """
    trusted = (os.geteuid(), 0, _OVERFLOW_UID)
    for folder in path.absolute().parents:
        if not os.path.lexists(folder):
            continue
        found = folder.stat()
        for uid in (folder.lstat().st_uid, found.st_uid):
            if uid not in trusted:
                raise NotPrivate(folder, f"it belongs to user id {uid}")
        if found.st_mode & 0o002 and not found.st_mode & stat.S_ISVTX:
            raise NotPrivate(folder, "all users may write in it")


def check_private_file(path: Path, found: os.stat_result) -> None:
    """Raise NotPrivate unless this user or root owns the file and no other user may read or write it."""
    if found.st_uid not in (os.geteuid(), 0):
        raise NotPrivate(path, f"it belongs to user id {found.st_uid}")
    if found.st_mode & 0o077:
        remedy = f"; run: chmod 600 {shell_word(path)}" if stat.S_ISREG(found.st_mode) else ""
        raise NotPrivate(path, f"other users may read it{remedy}")


def read_private_file(path: Path) -> bytes:
    """The content of a private file. Raises NotPrivate and other OSErrors."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        check_private_file(path, os.fstat(file.fileno()))
        return file.read()


def replace_private_file(path: Path, content: bytes) -> None:
    """Replace the content of `path`, with mode 0600; a crash leaves the old or the new content. Raises OSError."""
    make_private_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_lock_file(path: Path) -> int:
    """A descriptor for flock(2); creates the file if needed, and follows no symbolic link. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def remove_socket(path: Path) -> None:
    """Delete a socket that a process of this user left; a file of another kind stays. Raises OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid():
        path.unlink(missing_ok=True)
