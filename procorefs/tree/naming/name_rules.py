"""What Procore takes as a name, and what is wrong with one that it does not.

Pure functions over names and paths (procore-api.md, Names). They hold for what is made here; what is already in Procore
is always shown (shown_names.py).
"""

import enum
from dataclasses import dataclass

from procorefs.tree.naming.shown_names import MAX_COMPONENT_BYTES

MAX_PATH_CHARACTERS = 255
"""From the project's root, components joined by '/'; characters, not bytes."""

FORBIDDEN = frozenset('?<>:|\\*/"') - {'"'}
"""Of the usual suspects only the double quote is allowed."""


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
    """Why a name is not taken."""

    rule: Rule
    character: str = ""
    """The first one that breaks the rule; empty where the length does."""

    def __str__(self) -> str:
        shown = f" ({self.character!r}, U+{ord(self.character):04X})" if self.character else ""
        return f"its name {self.rule.value}{shown}"


def entry_refusal(name: bytes) -> Refusal | None:
    """What is wrong with the name of something that stays here, which obeys none of Procore's rules."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return Refusal(Rule.ENCODING)
    return Refusal(Rule.COMPONENT_LENGTH) if len(name) > MAX_COMPONENT_BYTES else None


def name_refusal(name: bytes) -> Refusal | None:
    """What is wrong with a single name; None: nothing."""
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
    """What is wrong with a path of so many characters from the project's root."""
    return Refusal(Rule.PATH_LENGTH) if characters > MAX_PATH_CHARACTERS else None
