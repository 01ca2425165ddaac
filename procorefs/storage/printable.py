"""Escapes control, bidirectional and line-breaking characters in untrusted text, for terminals and logs."""

import re
import shlex

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    """The text on one line: characters that move the cursor, colour, reorder or break lines become `\\uXXXX`.

    In JSON such an escape means the same as the character.
    """
    return _UNPRINTABLE.sub(_escaped, text) if not text.isascii() or not text.isprintable() else text


def shell_word(path: object) -> str:
    """A path as one word of a command that people copy into a shell: a colleague may have named it `$(…)`."""
    return shlex.quote(printable(str(path)))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code > 0xFFFF:  # two surrogates, as in JSON
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
