"""Why carrying out a change ended without doing it, other than Procore's own errors."""

from procorefs.journal.change import MetadataPatch
from procorefs.journal.metadata_patch import attribute_names
from procorefs.tree.nodes import Inode


class Blocked(Exception):
    """Another change must be carried out first."""

    def __init__(self, by: Inode, why: str) -> None:
        super().__init__(why)
        self.by = by


class Refused(Exception):
    """It can't be done, for good; the text is the reason as a sentence.

    `take_back`: the wanted place is given up; `wishes`: this metadata is.
    """

    def __init__(self, why: str, *, take_back: bool = False, wishes: MetadataPatch | None = None) -> None:
        super().__init__(why)
        self.take_back = take_back
        self.wishes = wishes


def refused_metadata(wishes: MetadataPatch, error: Exception) -> Refused:
    """Procore did not take this metadata."""
    names = attribute_names(wishes)
    verb = "was" if len(names) == 1 else "were"
    why = str(error).replace("Could not", "could not", 1)
    return Refused(f"{' and '.join(names)} {verb} refused: {why}", wishes=wishes)


class NotYet(Exception):
    """An earlier call may still be carried out, and would undo this: it waits `wait_s` seconds, until that is over."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"an earlier call about it got no answer and may still take effect: it waits {wait_s:.0f} s"
        )
        self.wait_s = wait_s


class Superseded(Exception):
    """What was being sent is not what is wanted any more; the change is looked at anew."""
