"""Files and folders that only their owner may read, written in one step."""

import os
import tempfile
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Make `path` a directory for its owner alone, and each missing one above it. Raises OSError."""
    # one by one: mkdir's parents=True would leave the upper ones open to others
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def replace_private_file(path: Path, content: bytes) -> None:
    """Put `content` in place of `path`, with mode 0600; a crash leaves the old or the new content. Raises OSError."""
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
