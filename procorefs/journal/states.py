"""The states that a change can be in, as the journal, the scheduler, attributes, `status` and commands name them.

A change records one of five states (`RECORDED`), and steps from one to another as `STEPS` says. What people see
(upload/item_states.py) is the recorded state, or one that follows from the name, the connection and the calls under
way: `HELD`, `UPLOADING` and the like are never written down.

                 ┌───────────── written again ──────────────┐
                 ▼                                          │
    created ─▶ OPEN ── flushed ─▶ PENDING ── refused ─▶ FAILED ── retry, or changed again ─▶ PENDING
                 │                   │                      │
                 └──── the daemon or the machine died ◀─────┘
                                     ▼
                                INCOMPLETE ── retry, closed again or renamed ─▶ PENDING

    PENDING ── too much is deleted or overwritten at once ─▶ GUARDED ── retry, or not wanted any more ─▶ PENDING
"""

import enum
import logging
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ChangeState(enum.StrEnum):
    """The state of a change; its value is the word in JSON, in the journal and in `user.procore.state`."""

    OPEN = "open"
    """A program writes it and it was never flushed: after a crash it is INCOMPLETE."""
    PENDING = "pending"
    """It waits for its delay, its folder, other changes or the network, and is sent automatically."""
    FAILED = "failed"
    """Procore refused it for good: it waits for `retry` or `discard`."""
    INCOMPLETE = "incomplete"
    """The daemon died while it was written: it is kept and shown, and not sent before `retry`."""
    GUARDED = "guarded"
    """The delete guard holds it (upload/delete_guard.py): it waits for `retry` or `discard`."""

    UPLOADING = "uploading"
    """A call for it is under way."""
    HELD = "held"
    """Its name is a temporary one: it is sent when it is renamed, or after an hour untouched."""
    LOCAL = "local"
    """Its name or folder is never uploaded, but its content is not that of junk."""
    JUNK = "junk"
    """A file that a program makes for itself, such as .DS_Store: it is only counted."""
    CHECKED_OUT = "checked_out"
    """Another user has the document checked out: it is sent when that ends."""
    READ_ONLY = "read_only"
    """The mount is read-only: the next read-write mount sends it."""

    DIRTY = "dirty"
    """A program is writing the file."""
    CLEAN = "clean"
    """Nothing of the file waits."""

    __hash__ = str.__hash__  # Enum's own is Python code: it takes a fifth of the time to count a change


RECORDED = frozenset(
    {
        ChangeState.OPEN,
        ChangeState.PENDING,
        ChangeState.FAILED,
        ChangeState.INCOMPLETE,
        ChangeState.GUARDED,
    },
)
"""The states that the journal records; all others are derived."""

STEPS: Mapping[ChangeState, frozenset[ChangeState]] = {
    # Flushed or closed; cut off by a crash; its staged bytes are lost.
    ChangeState.OPEN: frozenset({ChangeState.PENDING, ChangeState.INCOMPLETE, ChangeState.FAILED}),
    # Written again; refused for good; a power cut took bytes of it, or a crash left only bytes that were never flushed;
    # held by the delete guard.
    ChangeState.PENDING: frozenset(
        {ChangeState.OPEN, ChangeState.FAILED, ChangeState.INCOMPLETE, ChangeState.GUARDED}
    ),
    # Written again; retried or changed again; its bytes are doubted after a power cut.
    ChangeState.FAILED: frozenset({ChangeState.OPEN, ChangeState.PENDING, ChangeState.INCOMPLETE}),
    # Retried, or closed by a new writer; its staged bytes are lost. It stays incomplete while it is written again.
    ChangeState.INCOMPLETE: frozenset({ChangeState.PENDING, ChangeState.FAILED}),
    # Written again; retried, or no longer what the guard counts; its call failed, or its staged bytes are lost; a power
    # cut took bytes of it.
    ChangeState.GUARDED: frozenset(
        {ChangeState.OPEN, ChangeState.PENDING, ChangeState.FAILED, ChangeState.INCOMPLETE}
    ),
}
"""The legal steps of a recorded state."""

MOVING = frozenset({ChangeState.PENDING, ChangeState.UPLOADING})
"""States that are sent automatically."""

COUNTED_AS_FAILED = frozenset({ChangeState.FAILED, ChangeState.INCOMPLETE})
"""States that `status` counts as failed."""

WAITING_FOR_PEOPLE = COUNTED_AS_FAILED | {ChangeState.GUARDED}
"""States that end with `retry` or `discard`."""

WAITING_FOR_OTHERS = frozenset({ChangeState.HELD, ChangeState.CHECKED_OUT, ChangeState.READ_ONLY})
"""States that end when a name, another user or the mount changes."""

COUNTED_AS_HELD = WAITING_FOR_OTHERS | {ChangeState.GUARDED}
"""States that `status` counts as held."""

STAYING = frozenset({ChangeState.HELD, ChangeState.LOCAL})
"""States of files that stay on this machine because of their name: no failure, but listed as not in Procore."""

TO_RETRY = WAITING_FOR_PEOPLE | {ChangeState.CHECKED_OUT}
"""States that `retry` applies to."""

TO_DISCARD = WAITING_FOR_PEOPLE | {ChangeState.HELD}
"""States that `discard` applies to: what is sent automatically is never thrown away."""

STUCK = WAITING_FOR_PEOPLE | WAITING_FOR_OTHERS | {ChangeState.LOCAL}
"""States that waiting does not end."""


def check_step(before: ChangeState, after: ChangeState, inode: int) -> None:
    """Log a step that `STEPS` does not have.

    The step is made nevertheless, because refusing it would lose what a program wrote. Tests fail on the message.
    """
    if after is not before and after not in STEPS.get(before, frozenset()):
        log.error("Inode %d went from %s to %s, which is no legal step.", inode, before, after)
