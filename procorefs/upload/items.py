"""Defines the items that are not in Procore yet, with their state and reason, for commands, status and attributes.

Paths are those that programs see, from the root of the mount, with `/` between the components. The empty path is the
root and means everything. The structs are sent over the control socket as they are.
"""

from collections.abc import Iterable

import msgspec

from procorefs.journal.states import ChangeState

TEMPORARY = "it has a temporary name: programs write under such names, and an interrupted copy leaves one"
TOO_MANY = "more documents were deleted or overwritten at once than delete_guard allows; `retry` sends it"

_WHY: dict[ChangeState, str] = {
    ChangeState.HELD: TEMPORARY,
    ChangeState.LOCAL: "nothing in a folder of that name is uploaded",
    ChangeState.CHECKED_OUT: "another user has it checked out",
    ChangeState.READ_ONLY: "the mount is read-only",
    ChangeState.INCOMPLETE: "the program that wrote it was interrupted",
    ChangeState.FAILED: "it was refused",
    ChangeState.GUARDED: TOO_MANY,
}


class Item(msgspec.Struct, frozen=True):
    """A file or folder that is not wholly in Procore yet."""

    path: str
    state: ChangeState
    reason: str = ""
    """The reason, as the end of a sentence without a full stop; empty while nothing is wrong."""
    since: float = 0.0
    """Unix seconds since when it is in this state."""
    bytes: int = 0
    """The size of a file that stays on this machine."""

    @property
    def why(self) -> str:
        """The reason, or a description of the state."""
        return self.reason or _WHY.get(self.state, "")


class Counts(msgspec.Struct, frozen=True):
    """How much is not in Procore yet; known without a scan of the journal."""

    pending: int = 0
    uploading: int = 0
    held: int = 0
    """`held`, `checked_out`, `read_only` and `guarded`."""
    failed: int = 0
    """`failed` and `incomplete`."""
    bytes_pending: int = 0
    """Bytes of the pending and uploading changes, without those that are sent."""
    eta_seconds: float | None = None
    """Seconds until nothing is pending or uploading, at the present pace; None if nothing is, or if it is unknown."""
    warning: str = ""
    """Why Procore cannot be reached, as Item.reason; empty if it can. A used-up budget is shown by `eta_s` instead."""
    local: int = 0
    local_bytes: int = 0
    """Files with content of their own that stay on this machine, and their bytes."""
    junk: int = 0
    """Files that programs make for themselves, such as .DS_Store."""

    @property
    def moving(self) -> int:
        """How many changes are sent automatically."""
        return self.pending + self.uploading


def is_at_or_below(path: str, below: Iterable[str]) -> bool:
    """Whether a path is one of these or below one of them."""
    return any(not folder or path == folder or path.startswith(f"{folder}/") for folder in below)
