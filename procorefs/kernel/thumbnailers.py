"""Who reads files only to make small pictures of them: `thumbnails=off` lets no photo be fetched for that."""

from pathlib import Path


def is_thumbnailer(arguments: list[bytes]) -> bool:
    """Whether a command line is that of a thumbnailer: most say so in their name, KDE's in an argument."""
    if not arguments:
        return False
    program = arguments[0].rpartition(b"/")[2]
    if program.startswith(b"kio"):
        return any(b"thumbnail" in argument for argument in arguments[1:])
    return b"thumbnail" in program or program.startswith(b"tumbler")


def asks_for_thumbnail(tid: int) -> bool:
    """Whether the thread belongs to a thumbnailer; one that can't be seen does not."""
    try:
        return is_thumbnailer(Path(f"/proc/{tid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0"))
    except OSError:
        return False
