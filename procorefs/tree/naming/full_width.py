"""Twins of the characters that Procore refuses: `What?.pdf` becomes `What？.pdf`, and back.

    name that a program gives  ─ encode ─▶  name in Procore  ─ decode ─▶  name that programs see

Pure functions over single names. The twins are those of rclone: full-width forms, the pictures of control characters,
and `␠` for a space at a place where Procore takes none. Whoever gives a twin means it, so it gets a `‛` before it, and
quotes that stand before a twin anyway are doubled; elsewhere `‛` is a character like any other (rclone doubles it
everywhere). The other white spaces of Unicode have no twins: at a place where Procore takes none, `‛` follows them.

For every name n, decode(encode(n)) == n; for every name p that Procore takes, encode(decode(p)) == p. So no two names
meet. Dots are left alone: a name has its extension, and its places, before and after.

Procore may have names all the same that it would refuse today. In a folder, a document with such a name shows under it;
another one whose decoded name that is shows under the name that Procore has. So it is wherever a name is taken by who
shows as Procore has it, and what a folder shows is one to one with what Procore has in it.
"""

# ruff: noqa: RUF001, RUF002 - characters that look like others are what this is about

import re
from collections.abc import Callable

QUOTE = "‛"

_REFUSED = "?<>:|\\*"
_CONTROLS = "".join(map(chr, range(1, 32)))
"""NUL has a picture too, but no name can have a NUL."""
_TWIN = {character: chr(ord(character) + 0xFEE0) for character in _REFUSED}
_TWIN |= {control: chr(0x2400 + ord(control)) for control in _CONTROLS}
_TWIN |= {"\x7f": "␡", " ": "␠"}
_PLAIN = {twin: plain for plain, twin in _TWIN.items()}

_ANYWHERE = "".join(plain for plain in _TWIN if plain != " ")
_TWINS_ANYWHERE = "".join(_TWIN[plain] for plain in _ANYWHERE)

_TO_ENCODE = re.compile(f"({QUOTE}*)([{re.escape(_ANYWHERE + _TWINS_ANYWHERE)}]|[ ␠]\\Z)")
"""Quotes, and what they stand before: the two spaces count at the end of a part alone."""
_TO_DECODE = re.compile(f"({QUOTE}*)([{_TWINS_ANYWHERE}]|␠\\Z)")
_OTHER_WHITE = "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Python calls a space, which is what name_rules.py refuses, less what has a twin."""
_WHITE_AT_END = re.compile(f"([{_OTHER_WHITE}])({QUOTE}*)\\Z")


_SPECIAL = re.compile(
    f"[{re.escape(_ANYWHERE + _TWINS_ANYWHERE)}]|[ ␠{_OTHER_WHITE}]{QUOTE}*(?:\\.[^.]*)?\\Z"
)
"""What no name can do without that is not the same for Procore and for programs."""


def encode(name: str) -> str:
    """The name in Procore: no rule of characters speaks against it, though it may be too long."""
    stem, dot, rest = name.rpartition(".")
    return f"{_encode_part(stem)}{dot}{_encode_part(rest)}"


def decode(name: str) -> str:
    """The name that programs see."""
    stem, dot, rest = name.rpartition(".")
    return f"{_decode_part(stem)}{dot}{_decode_part(rest)}"


def is_plain(name: str) -> bool:
    """Whether a name is the same for Procore and for programs, whatever else is in its folder."""
    return _SPECIAL.search(name) is None or encode(name) == name == decode(name)


def shows_itself(name: str, has: Callable[[str], bool]) -> bool:
    """Whether an entry shows under the name that Procore has. `has`: whether there is an entry beside it, by that."""
    plain = decode(name)
    if encode(plain) != name:
        return True  # no program's name leads to it
    return plain != name and has(plain) and shows_itself(plain, has)


def to_programs(name: str, has: Callable[[str], bool]) -> str:
    """The name under which an entry shows."""
    return name if shows_itself(name, has) else decode(name)


def to_procore(name: str, has: Callable[[str], bool]) -> str:
    """The entry that shows under a name, or what a new one is called in Procore."""
    return name if has(name) and shows_itself(name, has) else encode(name)


def _encode_part(part: str) -> str:
    return _WHITE_AT_END.sub(rf"\1\2{QUOTE}", _TO_ENCODE.sub(_encoded, part))


def _decode_part(part: str) -> str:
    return _TO_DECODE.sub(_decoded, _WHITE_AT_END.sub(lambda match: match[1] + match[2][1:], part))


def _encoded(match: re.Match[str]) -> str:
    quotes, character = match[1], match[2]
    if character in _PLAIN:
        return f"{quotes}{quotes}{QUOTE}{character}"
    return f"{quotes}{quotes}{_TWIN[character]}"


def _decoded(match: re.Match[str]) -> str:
    quotes, twin = match[1], match[2]
    half, is_meant = divmod(len(quotes), 2)
    return QUOTE * half + (twin if is_meant else _PLAIN[twin])
