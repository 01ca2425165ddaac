"""Names: how a name from Procore is shown on Linux, which can't hold every name.

Pure functions. Procore allows names that Linux can't hold and, between a file and a folder, names that are the same;
such a document is shown as `stem ~<id>.ext`, which is unique because the id is.
"""

from collections.abc import Callable

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of every Linux filesystem, and what statfs reports as f_namemax."""

_UNHOLDABLE = str.maketrans({"/": "_", "\0": "_"})


def encode(name: str) -> bytes:
    """The bytes of a name; a lone surrogate, which JSON can carry and UTF-8 can't, becomes '?'."""
    return name.encode("utf-8", "replace")


def holdable(name: str) -> bool:
    """Whether Linux can have a directory entry of this name as it is."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    return len(encode(name)) <= MAX_COMPONENT_BYTES


def split_extension(name: str) -> tuple[str, str]:
    """Stem and extension with its dot; a leading dot starts a name, not an extension."""
    dot = name.rfind(".")
    if dot <= 0 or len(encode(name[dot:])) > 32:
        return name, ""
    return name[:dot], name[dot:]


def marked(name: str, mark: str) -> bytes:
    """The name with ` ~mark` before its extension, free of what Linux refuses and at most 255 bytes long."""
    stem, extension = split_extension(name.translate(_UNHOLDABLE))
    tail = f" ~{mark}".encode() + encode(extension)
    room = MAX_COMPONENT_BYTES - len(tail)
    head = encode(stem.rstrip(" ") if stem.strip(". ") else "_")[:room]
    return head.decode("utf-8", "ignore").encode() + tail


def shown_name(name: str, document_id: int, taken: Callable[[bytes], bool]) -> bytes:
    """The directory entry of a document: its name if Linux can hold it and no sibling has it, else the marked one.

    `taken` says whether another entry of the folder has that name. A colleague may have named a file just like a marked
    name; then a counter joins the id.
    """
    if holdable(name) and not taken(plain := encode(name)):
        return plain
    mark, turn = str(document_id), 1
    while taken(entry := marked(name, mark)):
        turn += 1
        mark = f"{document_id}-{turn}"
    return entry
