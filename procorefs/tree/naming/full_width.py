"""Maps names for `invalid_names=encode`: characters that Procore refuses become full-width ones, and back.

    name that a program gives  ─ encode ─▶  name in Procore  ─ decode ─▶  name that programs see

`What?.pdf` becomes `What？.pdf`. The substitutes are those of rclone: full-width forms, pictures of control characters,
and `␠` for a space where Procore takes none. A substitute that a program gives is meant, so a quote `‛` precedes it in
Procore, and quotes before a substitute are doubled; elsewhere `‛` is an ordinary character (rclone doubles it
everywhere). The other white space of Unicode has no substitutes: where Procore takes none, `‛` follows it.

For every name n, decode(encode(n)) == n; for every name p that Procore takes, encode(decode(p)) == p. So two names
never become one. Dots stay as they are, so the extension stays what it is.

Procore may still have names that it would refuse today. A document with such a name shows under it, and one whose
decoded name equals it shows under its encoded name. The same holds for every name that is already taken: what a folder
shows is one to one with what Procore has in it.
"""

# ruff: noqa: RUF001, RUF002 - characters that look like others are what this is about

import re
from collections.abc import Callable, Iterator

from procorefs.tree.nodes import Inode

QUOTE = "‛"

_REFUSED = "?<>:|\\*"
_CONTROLS = "".join(map(chr, range(1, 32)))
"""NUL has a picture too, but no name has a NUL."""
_SUBSTITUTE = {character: chr(ord(character) + 0xFEE0) for character in _REFUSED}
_SUBSTITUTE |= {control: chr(0x2400 + ord(control)) for control in _CONTROLS}
_SUBSTITUTE |= {"\x7f": "␡", " ": "␠"}
_PLAIN = {substitute: plain for plain, substitute in _SUBSTITUTE.items()}

_ANYWHERE = "".join(plain for plain in _SUBSTITUTE if plain != " ")
_SUBSTITUTES_ANYWHERE = "".join(_SUBSTITUTE[plain] for plain in _ANYWHERE)

_TO_ENCODE = re.compile(f"({QUOTE}*)([{re.escape(_ANYWHERE + _SUBSTITUTES_ANYWHERE)}]|[ ␠]\\Z)")
"""Quotes and the character after them; the two spaces only at the end of a part."""
_TO_DECODE = re.compile(f"({QUOTE}*)([{_SUBSTITUTES_ANYWHERE}]|␠\\Z)")
_OTHER_WHITE = "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Python calls a space, and name_rules.py refuses, without those that have a substitute."""
_WHITE_AT_END = re.compile(f"([{_OTHER_WHITE}])({QUOTE}*)\\Z")


_SPECIAL = re.compile(
    f"[{re.escape(_ANYWHERE + _SUBSTITUTES_ANYWHERE)}]|[ ␠{_OTHER_WHITE}]{QUOTE}*(?:\\.[^.]*)?\\Z"
)
"""Every name that is not the same in Procore and for programs has this."""


def encode(name: str) -> str:
    """The name in Procore, which obeys its rules about characters but may be too long."""
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
    return f"{quotes}{quotes}{_SUBSTITUTE[character]}"


def _decoded(match: re.Match[str]) -> str:
    quotes, substitute = match[1], match[2]
    half, is_meant = divmod(len(quotes), 2)
    return QUOTE * half + (substitute if is_meant else _PLAIN[substitute])


_MOST_SHIFTED = 8
"""Names in one folder that are taken in turn, each by the entry that the next one would show as."""


class EntryNames:
    """Maps the names of entries between programs and Procore; maps nothing unless `encodes`."""

    __slots__ = ("_has", "encodes")

    def __init__(self, has: Callable[[Inode, bytes], bool], *, encodes: bool) -> None:
        """`has`: whether a folder has an entry of that name, which is Procore's, here or still in Procore."""
        self._has = has
        self.encodes = encodes

    def to_programs(self, folder: Inode, shown: bytes) -> bytes:
        """The name under which programs see an entry."""
        text = self._text(shown)
        return shown if text is None else to_programs(text, self._beside(folder)).encode()

    def to_procore(self, folder: Inode, name: bytes) -> bytes:
        """The entry that programs see under a name, or that a new one gets."""
        text = self._text(name)
        return name if text is None else to_procore(text, self._beside(folder)).encode()

    def encoded(self, name: bytes) -> bytes:
        """The name of a new entry in Procore when no existing document continues as it."""
        text = self._text(name)
        return name if text is None else encode(text).encode()

    def plain(self, name: str) -> str:
        """A name as programs would see it if it were alone in its folder."""
        return decode(name) if self.encodes else name

    def affected(self, folder: Inode, shown: bytes) -> Iterator[bytes]:
        """All names that lead to another inode when an entry is added or removed."""
        yield shown
        text = self._text(shown)
        if text is None:
            return
        if (plain := decode(text)) != text:
            yield plain.encode()
        for _ in range(_MOST_SHIFTED):
            text = encode(text)
            yield text.encode()
            if not self._has(folder, text.encode()):
                return

    def _text(self, name: bytes) -> str | None:
        """The name to map; None: it is mapped to itself, as is a name that is not UTF-8, which the rules refuse."""
        if not self.encodes:
            return None
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        return None if is_plain(text) else text

    def _beside(self, folder: Inode) -> Callable[[str], bool]:
        return lambda name: self._has(folder, name.encode())
