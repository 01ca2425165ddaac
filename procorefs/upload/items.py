"""What the rest of the daemon may ask of the outbox, and the values in its answers.

Paths are those that programs see, from the root of the mount, with `/` between the components; the empty path is the
root, and so everything. The structs go over the control socket as they are.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

ItemState = Literal[
    "pending", "uploading", "held", "local", "checked_out", "read_only", "failed", "incomplete"
]
"""Where a change stands:

- `pending`: it waits for its time, its turn, its folder or the network, and goes by itself
- `uploading`: a call for it is under way
- `held`: its name is a temporary one; it goes when it is renamed, or after an hour untouched
- `local`: it lies in a folder, or has a name, that never goes to Procore, and no program keeps it for itself
- `checked_out`: somebody else has the document checked out; it goes when that ends
- `read_only`: the mount sends nothing; it goes with the next one that does
- `failed`: Procore refused it for good; it waits for `retry` or `discard`
- `incomplete`: its writer was cut off before the first flush; it waits for `retry` or `discard`
"""

STUCK: frozenset[ItemState] = frozenset({"held", "local", "checked_out", "read_only", "failed", "incomplete"})
"""What does not reach Procore by waiting a little, however hard the outbox tries."""

STAYING: frozenset[ItemState] = frozenset({"held", "local"})
"""What stays here because of its name: no failure, but said whenever somebody asks what is not in Procore."""

TEMPORARY = "it has a temporary name: programs write under such names, and an interrupted copy leaves one"

_WHY: dict[ItemState, str] = {
    "held": TEMPORARY,
    "local": "nothing in a folder of that name is uploaded",
    "checked_out": "somebody else has it checked out",
    "read_only": "the mount is read-only",
    "incomplete": "the program that wrote it was interrupted",
    "failed": "it was refused",
}


class Item(msgspec.Struct, frozen=True):
    """One file or folder of which something is not in Procore yet."""

    path: str
    state: ItemState
    #: why, as the end of a sentence without a full stop; empty while nothing is wrong
    reason: str = ""
    #: Unix seconds since when it is in this state
    since: float = 0.0
    #: of what stays here
    bytes: int = 0

    @property
    def why(self) -> str:
        """The reason, or what the state alone says."""
        return self.reason or _WHY.get(self.state, "")


class Counts(msgspec.Struct, frozen=True):
    """How much is not in Procore yet; costs no look through the journal."""

    pending: int = 0
    uploading: int = 0
    #: `held`, `checked_out` and `read_only`
    held: int = 0
    #: `failed` and `incomplete`
    failed: int = 0
    #: bytes of what is pending or uploading, less what was sent of it
    bytes_pending: int = 0
    #: until nothing is pending or uploading at the present pace; None: nothing is, or nobody can tell
    eta_seconds: float | None = None
    #: why Procore can't be reached just now, as Item.reason; empty: it can (a closed budget is no warning but an eta)
    warning: str = ""
    #: files that stay here and that no program keeps for itself, and their bytes
    local: int = 0
    local_bytes: int = 0
    #: files that programs keep for themselves, such as .DS_Store
    junk: int = 0

    @property
    def moving(self) -> int:
        """How many reach Procore by themselves."""
        return self.pending + self.uploading


class OutboxCommands(Protocol):
    """The outbox as commands, fsync and status see it."""

    def counts(self) -> Counts:
        """Everything, by state."""

    def stuck(self) -> list[Item]:
        """All items whose state is in STUCK, oldest first."""

    def waiting(self, below: Sequence[str]) -> list[Item]:
        """All items at or below these paths, in any state; a moved or removed one also below where it was."""

    def hurry(self, below: Sequence[str]) -> None:
        """What waits its time (write_back, deletes, backoff) at or below these paths goes at once.

        Once: what is changed afterwards waits again. `held` stays held.
        """

    async def settled(self, below: Sequence[str]) -> list[Item]:
        """Hurry, and wait until nothing that is now at or below these paths can move; returns what is left of it.

        May be cancelled at any time, without effect.
        """

    def retry(self, below: Sequence[str]) -> list[Item]:
        """Send what is failed, incomplete or checked out at or below these paths; returns what it was.

        What these wait for, wherever it is, is sent as well.
        """

    def discard(self, below: Sequence[str]) -> list[Item]:
        """Throw away what is failed, incomplete or held at or below these paths; returns what it was.

        The tree shows what Procore has again. What moves is never touched.
        """


def is_at_or_below(path: str, below: Iterable[str]) -> bool:
    """Whether a path is one of these, or in one of these folders."""
    return any(not folder or path == folder or path.startswith(f"{folder}/") for folder in below)
