"""What the locks ask of the rest of the program: who holds a document, the call that checks one out, the journal."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.tree.nodes import Inode


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a document checked out, and until when."""

    user: UserId
    name: str
    """For people; may be empty."""
    until_s: int | None
    """Unix seconds; None: Procore named no end."""


@dataclass(frozen=True, slots=True)
class Held:
    """A document as far as locks go. The holder may be ourselves, and may be one whose time is over."""

    document: DocumentId
    holder: Holder | None


class HeldByAnother(Exception):
    """Somebody else has the document checked out."""

    def __init__(self, holder: Holder | None) -> None:
        name = (holder.name if holder else "") or "another user"
        super().__init__(f"{name} has it checked out")
        self.holder = holder
        """None: Procore refused, and did not say who."""


class Documents(Protocol):
    """The tree, as the locks see it."""

    def held(self, inode: Inode) -> Held | None:
        """What is known now, without a call; None for a file that Procore does not have yet."""
        ...

    def inode_of(self, document: DocumentId) -> Inode | None:
        """The file that a document is; None when the tree does not have it."""
        ...

    def is_unsent(self, inode: Inode) -> bool:
        """Whether bytes of it are on their way to Procore (and neither failed nor held back)."""
        ...

    def holder_of(self, document: DocumentId) -> Holder | None:
        """Who is known to have it checked out, whatever file it is now."""
        ...

    async def refresh(self, document: DocumentId) -> None:
        """Ask Procore how the document is now; `held` and `holder_of` know it afterwards. Raises ProcoreError."""
        ...


class CheckOutCalls(Protocol):
    """The one call that locks send."""

    async def check_out(self, document: DocumentId, until_s: int | None) -> None:
        """Check out until then, or in (None); the tree knows the answer afterwards.

        Raises HeldByAnother for a 409 and ProcoreError for everything else.
        """
        ...


class LockJournal(Protocol):
    """What survives the daemon: all ends that were asked for (check_out_ends.py)."""

    def remember(self, document: DocumentId, until_s: int) -> None:
        """Note an end before it is asked for; others of the document stay."""
        ...

    def forget(self, document: DocumentId, until_s: int) -> None:
        """That end is over, or will not come."""
        ...

    def known(self) -> Iterable[tuple[DocumentId, int]]:
        """All that was remembered and not forgotten."""
        ...
