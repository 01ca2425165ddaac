"""The states of what is not in Procore yet, as commands, status and attributes show them.

Paths are those that programs see, from the root of the mount, with `/` between the components; the empty path is the
root, and so everything. The structs go over the control socket as they are.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

ItemState = Literal[
    "pending", "uploading", "held", "local", "checked_out", "read_only", "failed", "incomplete"
]
"""Where a change stands:

- `pending`: it waits for its time, its turn, its folder or the network, and goes by itself
- `uploading`: a call for it is under way
- `held`: its name is a temporary one; it goes when it is renamed, or after an hour untouched
- `local`: it is in a folder, or has a name, that is never uploaded, and it is no file that programs keep for themselves
- `checked_out`: another user has the document checked out; it goes when that ends
- `read_only`: the mount sends nothing; it goes with the next one that does
- `failed`: Procore refused it for good; it waits for `retry` or `discard`
- `incomplete`: its writer was cut off before the first flush; it waits for `retry` or `discard`
"""

STUCK: frozenset[ItemState] = frozenset({"held", "local", "checked_out", "read_only", "failed", "incomplete"})
"""States that waiting does not change."""

STAYING: frozenset[ItemState] = frozenset({"held", "local"})
"""What stays here because of its name: no failure, but listed with what is not in Procore."""

TEMPORARY = "it has a temporary name: programs write under such names, and an interrupted copy leaves one"

_WHY: dict[ItemState, str] = {
    "held": TEMPORARY,
    "local": "nothing in a folder of that name is uploaded",
    "checked_out": "another user has it checked out",
    "read_only": "the mount is read-only",
    "incomplete": "the program that wrote it was interrupted",
    "failed": "it was refused",
}


class Item(msgspec.Struct, frozen=True):
    """One file or folder of which something is not in Procore yet."""

    path: str
    state: ItemState
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
