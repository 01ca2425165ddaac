"""Names of entries as programs have them, and as Procore has them where `invalid_names=encode` maps some."""

from collections.abc import Callable, Iterator

from procorefs.tree.naming import full_width
from procorefs.tree.nodes import Inode

_MOST_SHIFTED = 8
"""Twins of twins in one folder, of which each has the name that the next would show under."""


class EntryNames:
    """Maps nothing unless `encodes`. `has`: whether a folder has an entry, or Procore still has, by Procore's name."""

    __slots__ = ("_has", "encodes")

    def __init__(self, has: Callable[[Inode, bytes], bool], *, encodes: bool) -> None:
        self._has = has
        self.encodes = encodes

    def to_programs(self, folder: Inode, shown: bytes) -> bytes:
        """The name under which programs see an entry."""
        text = self._text(shown)
        return shown if text is None else full_width.to_programs(text, self._beside(folder)).encode()

    def to_procore(self, folder: Inode, name: bytes) -> bytes:
        """The entry that programs see under a name, or that a new one gets."""
        text = self._text(name)
        return name if text is None else full_width.to_procore(text, self._beside(folder)).encode()

    def encoded(self, name: bytes) -> bytes:
        """What a new entry is called in Procore when no other document goes on as it."""
        text = self._text(name)
        return name if text is None else full_width.encode(text).encode()

    def plain(self, name: str) -> str:
        """A name as programs would see it if it were alone in its folder."""
        return full_width.decode(name) if self.encodes else name

    def affected(self, folder: Inode, shown: bytes) -> Iterator[bytes]:
        """All names that lead elsewhere when an entry comes or goes."""
        yield shown
        text = self._text(shown)
        if text is None:
            return
        if (plain := full_width.decode(text)) != text:
            yield plain.encode()
        for _ in range(_MOST_SHIFTED):
            text = full_width.encode(text)
            yield text.encode()
            if not self._has(folder, text.encode()):
                return

    def _text(self, name: bytes) -> str | None:
        """None: it is mapped to itself; so is one that is not UTF-8, which the rules refuse."""
        if not self.encodes:
            return None
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        return None if full_width.is_plain(text) else text

    def _beside(self, folder: Inode) -> Callable[[str], bool]:
        return lambda name: self._has(folder, name.encode())
