"""What is not in Procore yet, with its state and why, as commands, status and attributes show them.

Paths are those that programs see, from the root of the mount, with `/` between the components; the empty path is the
root, and so everything. The structs go over the control socket as they are.
"""

from collections.abc import Iterable

import msgspec

from procorefs.journal.states import ChangeState

TEMPORARY = "it has a temporary name: programs write under such names, and an interrupted copy leaves one"

_WHY: dict[ChangeState, str] = {
    ChangeState.HELD: TEMPORARY,
    ChangeState.LOCAL: "nothing in a folder of that name is uploaded",
    ChangeState.CHECKED_OUT: "another user has it checked out",
    ChangeState.READ_ONLY: "the mount is read-only",
    ChangeState.INCOMPLETE: "the program that wrote it was interrupted",
    ChangeState.FAILED: "it was refused",
}


class Item(msgspec.Struct, frozen=True):
    """One file or folder of which something is not in Procore yet."""

    path: str
    state: ChangeState
    reason: str = ""
    """Why, as the end of a sentence without a full stop; empty while nothing is wrong."""
    since: float = 0.0
    """Unix seconds since when it is in this state."""
    bytes: int = 0
    """Of what stays here."""

    @property
    def why(self) -> str:
        """The reason, or what the state alone says."""
        return self.reason or _WHY.get(self.state, "")


class Counts(msgspec.Struct, frozen=True):
    """How much is not in Procore yet; costs no look through the journal."""

    pending: int = 0
    uploading: int = 0
    held: int = 0
    """`held`, `checked_out` and `read_only`."""
    failed: int = 0
    """`failed` and `incomplete`."""
    bytes_pending: int = 0
    """Bytes of what is pending or uploading, less what was sent of it."""
    eta_seconds: float | None = None
    """Until nothing is pending or uploading at the present pace; None: nothing is, or it is not known."""
    warning: str = ""
    """Why Procore can't be reached now, as Item.reason; empty: it can. A closed budget is no warning but an eta."""
    local: int = 0
    local_bytes: int = 0
    """Files that stay here and that no program keeps for itself, and their bytes."""
    junk: int = 0
    """Files that programs keep for themselves, such as .DS_Store."""

    @property
    def moving(self) -> int:
        """How many reach Procore by themselves."""
        return self.pending + self.uploading


def is_at_or_below(path: str, below: Iterable[str]) -> bool:
    """Whether a path is one of these, or in one of these folders."""
    return any(not folder or path == folder or path.startswith(f"{folder}/") for folder in below)
