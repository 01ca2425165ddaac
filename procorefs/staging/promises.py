"""Which rows promise the bytes of one staged file as closed, and whether a power cut can bring such a row back.

    row: closed ─▶ sync ─▶ (on disk) ─▶ row: written over ─▶ sync ─▶ bytes may change

Rows reach the disk in order, and up to a second late; bytes may reach it at any time. A row that is on disk
and promises bytes must therefore be replaced there before these bytes change: after a power cut nothing would tell that
half of them are other ones. A row that is not on disk by a sync is doubted after a power cut anyway.
"""


class Promises:
    """Counts rows that promise the file, and remembers which of them no power cut can bring back."""

    __slots__ = ("_made", "_since", "_withdrawn")

    def __init__(self) -> None:
        self._made = self._withdrawn = 0
        self._since = 0  # the sequence of the first that is not withdrawn

    def make(self, sequence: int) -> None:
        """A row with that sequence says that the file is closed; 0: an earlier run wrote it."""
        if self._made == self._withdrawn:
            self._since = sequence
        self._made += 1

    @property
    def made(self) -> int:
        """How many there were, for `withdraw`."""
        return self._made

    def withdraw(self, made: int) -> None:
        """A later row than the first `made` ones is on disk, and says that the file is being written."""
        self._withdrawn = max(self._withdrawn, made)

    def is_on_disk(self, synced: int) -> bool:
        """Whether a power cut may bring a row that promises the file; `synced`: up to there rows are on disk."""
        return self._made > self._withdrawn and self._since <= synced
