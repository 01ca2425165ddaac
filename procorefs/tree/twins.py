"""Twins of the characters that Procore refuses: `What?.pdf` becomes `What？.pdf`, and back.

    name that a program gives  ─ encode ─▶  name in Procore  ─ decode ─▶  name that programs see

Pure functions over single names. The twins are those of rclone: full-width forms, the pictures of control characters,
and `␠` for a space at a place where Procore takes none. Whoever gives a twin means it, so it gets a `‛` before it, and
quotes that stand before a twin anyway are doubled; elsewhere `‛` is a character like any other (rclone doubles it
everywhere). The other white spaces of Unicode have no twins: at a place where Procore takes none, `‛` follows them.

For every name n, decode(encode(n)) == n; for every name p that Procore takes, encode(decode(p)) == p. So no two names
meet. Dots are left alone: a name has its extension, and its places, before and after.
"""

# ruff: noqa: RUF001, RUF002 - characters that look like others are what this is about

import re

QUOTE = "‛"

_REFUSED = "?<>:|\\*"
#: NUL has a picture too, but no name can have a NUL
_CONTROLS = "".join(map(chr, range(1, 32)))
_TWIN = {character: chr(ord(character) + 0xFEE0) for character in _REFUSED}
_TWIN |= {control: chr(0x2400 + ord(control)) for control in _CONTROLS}
_TWIN |= {"\x7f": "␡", " ": "␠"}
_PLAIN = {twin: plain for plain, twin in _TWIN.items()}

_ANYWHERE = "".join(plain for plain in _TWIN if plain != " ")
_TWINS_ANYWHERE = "".join(_TWIN[plain] for plain in _ANYWHERE)

#: quotes, and what they stand before: the two spaces count at the end of a part alone
_TO_ENCODE = re.compile(f"({QUOTE}*)([{re.escape(_ANYWHERE + _TWINS_ANYWHERE)}]|[ ␠]\\Z)")
_TO_DECODE = re.compile(f"({QUOTE}*)([{_TWINS_ANYWHERE}]|␠\\Z)")
#: what Python calls a space, which is what rules.py refuses, less what has a twin
_OTHER_WHITE = "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WHITE_AT_END = re.compile(f"([{_OTHER_WHITE}])({QUOTE}*)\\Z")


def encode(name: str) -> str:
    """The name in Procore: no rule of characters speaks against it, though it may be too long."""
    stem, dot, rest = name.rpartition(".")
    return f"{_encode_part(stem)}{dot}{_encode_part(rest)}"


def decode(name: str) -> str:
    """The name that programs see."""
    stem, dot, rest = name.rpartition(".")
    return f"{_decode_part(stem)}{dot}{_decode_part(rest)}"


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
