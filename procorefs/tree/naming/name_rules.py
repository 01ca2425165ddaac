"""Decides which names Procore takes, and how a document is shown whose name Linux cannot hold.

Pure functions over names and paths. The rules apply to what is made here; what is already in Procore is always shown.
Procore allows names that Linux cannot hold, and the same name for a file and a folder; such a document is shown as
`stem ~<id>.ext`, which is unique because the id is.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of every Linux filesystem, and what statfs reports as f_namemax."""

MAX_PATH_CHARACTERS = 255
"""From the project's root, components joined by '/'; characters, not bytes."""

FORBIDDEN = frozenset("?<>:|\\*/")
"""Windows refuses the double quote too, Procore does not."""


class Rule(enum.Enum):
    """The rules of a name; the value completes "its name …"."""

    CHARACTER = "has a character that Procore does not take"
    CONTROL = "has a control character"
    SPACE_BEFORE_EXTENSION = "has white space right before its extension"
    SPACE_AT_END = "ends in white space"
    ENCODING = "is not UTF-8"
    COMPONENT_LENGTH = f"is longer than {MAX_COMPONENT_BYTES} bytes"
    PATH_LENGTH = f"makes a path of more than {MAX_PATH_CHARACTERS} characters"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a name is refused."""

    rule: Rule
    character: str = ""
    """The first one that breaks the rule; empty where the length does."""

    def __str__(self) -> str:
        shown = f" ({self.character!r}, U+{ord(self.character):04X})" if self.character else ""
        return f"its name {self.rule.value}{shown}"


def entry_refusal(name: bytes) -> Refusal | None:
    """Why an entry that stays here cannot have the name: none of Procore's rules apply, only those of Linux."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return Refusal(Rule.ENCODING)
    return Refusal(Rule.COMPONENT_LENGTH) if len(name) > MAX_COMPONENT_BYTES else None


def name_refusal(name: bytes) -> Refusal | None:
    """Why Procore refuses a single name; None: it does not."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return Refusal(Rule.ENCODING)
    for character in text:
        if character in FORBIDDEN:
            return Refusal(Rule.CHARACTER, character)
        if character < " " or character == "\x7f":
            return Refusal(Rule.CONTROL, character)
    stem, dot, _ = text.rpartition(".")
    if dot and stem[-1:].isspace():
        return Refusal(Rule.SPACE_BEFORE_EXTENSION, stem[-1])
    if text[-1:].isspace():
        return Refusal(Rule.SPACE_AT_END, text[-1])
    if len(name) > MAX_COMPONENT_BYTES:
        return Refusal(Rule.COMPONENT_LENGTH)
    return None


def path_refusal(characters: int) -> Refusal | None:
    """Why Procore refuses a path of this many characters from the project's root; None: it does not."""
    return Refusal(Rule.PATH_LENGTH) if characters > MAX_PATH_CHARACTERS else None


_UNHOLDABLE = str.maketrans({"/": "_", "\0": "_"})


def encode(name: str) -> bytes:
    """The bytes of a name; a lone surrogate, which JSON can carry and UTF-8 cannot, becomes '?'."""
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
    left = MAX_COMPONENT_BYTES - len(tail)
    head = encode(stem.rstrip(" ") if stem.strip(". ") else "_")[:left]
    return head.decode("utf-8", "ignore").encode() + tail


def shown_name(name: str, document_id: int, taken: Callable[[bytes], bool]) -> bytes:
    """The directory entry of a document: its name if Linux can hold it and no sibling has it, else the marked name.

    `taken`: whether another entry of the folder has that name. A colleague may have given a file exactly the marked
    name; then a counter follows the id.
    """
    if holdable(name) and not taken(plain := encode(name)):
        return plain
    mark, number = str(document_id), 1
    while taken(entry := marked(name, mark)):
        number += 1
        mark = f"{document_id}-{number}"
    return entry
