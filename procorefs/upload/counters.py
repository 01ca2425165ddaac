"""Counts changes and their bytes by item state; updated with every change, so that reading costs nothing."""

from collections import Counter
from collections.abc import Collection

from procorefs.journal.states import COUNTED_AS_FAILED, COUNTED_AS_HELD, MOVING, ChangeState
from procorefs.tree.nodes import Inode
from procorefs.upload.items import Counts
from procorefs.upload.sending.byte_upload import Uploader


class Counters:
    """Counts by ChangeState."""

    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader
        self._states: dict[Inode, tuple[ChangeState, int]] = {}
        self._counted: Counter[ChangeState] = Counter()
        self._bytes = 0
        self._local_bytes = 0

    def count(self, inode: Inode, state: ChangeState | None, size_bytes: int) -> None:
        """Set the state of a change; None if it does not count or has ended."""
        before = self._states.pop(inode, None)
        if before is not None:
            self._add(*before, sign=-1)
        if state is not None:
            self._states[inode] = (state, size_bytes)
            self._add(state, size_bytes, sign=1)

    def _add(self, state: ChangeState, size_bytes: int, *, sign: int) -> None:
        self._counted[state] += sign
        if state in MOVING:
            self._bytes += sign * size_bytes
        elif state == ChangeState.LOCAL:
            self._local_bytes += sign * size_bytes

    def sent_bytes(self, number: int | None) -> int:
        """Set how many bytes of the running generation are sent; 0 if none is running."""
        return self._uploader.sent_bytes.get(number, 0) if number is not None else 0

    def uncounted(self, inodes: set[Inode]) -> set[Inode]:
        """Those of the changes that are not counted."""
        return inodes - self._states.keys()

    def inodes(self, states: Collection[ChangeState]) -> list[Inode]:
        """The changes that are in one of these states."""
        if not any(self._counted[state] for state in states):
            return []
        return [inode for inode, (state, _) in self._states.items() if state in states]

    @property
    def moving(self) -> int:
        return sum(self._counted[state] for state in MOVING)

    def counts(self, warning: str, pace_s: float | None) -> Counts:
        """All counts. `warning`: why Procore cannot be reached. `pace_s`: seconds that a change takes at present."""
        moving = self.moving
        return Counts(
            pending=self._counted[ChangeState.PENDING],
            uploading=self._counted[ChangeState.UPLOADING],
            held=sum(self._counted[state] for state in COUNTED_AS_HELD),
            failed=sum(self._counted[state] for state in COUNTED_AS_FAILED),
            bytes_pending=max(self._bytes - sum(self._uploader.sent_bytes.values()), 0),
            eta_seconds=moving * pace_s if moving and pace_s is not None and not warning else None,
            warning=warning if moving else "",
            local=self._counted[ChangeState.LOCAL],
            local_bytes=self._local_bytes,
            junk=self._counted[ChangeState.JUNK],
        )
