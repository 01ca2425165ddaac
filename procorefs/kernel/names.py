"""Names at the border: as programs write them, and as Procore has them where `invalid_names=encode` maps some."""

from procorefs.tree import twins


class Names:
    """Maps nothing unless `encodes`."""

    __slots__ = ("_encodes",)

    def __init__(self, *, encodes: bool) -> None:
        self._encodes = encodes

    def to_procore(self, name: bytes) -> bytes:
        """A program's name; one that is not UTF-8 is left to the rules, which refuse it."""
        if not self._encodes:
            return name
        try:
            return twins.encode(name.decode("utf-8")).encode()
        except UnicodeDecodeError:
            return name

    def to_programs(self, name: bytes) -> bytes:
        if not self._encodes:
            return name
        return twins.decode(name.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
