"""Applies the consequence of a failed try: wait for another change, try again later, take back, or fail for good.

`outcomes.reaction_to` decides which; this module records, logs and reports it.
"""

import logging
import random
import sqlite3
from collections.abc import Callable

from procorefs.journal.change import Change
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.procore.errors import ProcoreError
from procorefs.tree.nodes import Inode
from procorefs.upload.attempts import Attempts
from procorefs.upload.item_states import ItemStates
from procorefs.upload.outcomes import (
    Blocked,
    NotYet,
    Reaction,
    Refused,
    is_foreseen,
    reaction_to,
    retry_pause_s,
)
from procorefs.upload.planning.blocking import Blocking
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

CHECKED_OUT_S = 15.0
"""A document that another user has checked out is tried again after this time."""

WARNED_ATTEMPTS = 5
"""The temporary failure of this number is logged as a warning, all others as information."""


class Failures:
    """Handles failures. `refused` reports final ones to people."""

    def __init__(
        self,
        view: View,
        edits: LocalEdits,
        calls: InFlightCalls,
        attempts: Attempts,
        states: ItemStates,
        blocking: Blocking,
        results: ResultApplier,
        refused: Callable[[str, str], None],
    ) -> None:
        self._view = view
        self._edits = edits
        self._calls = calls
        self._attempts = attempts
        self._states = states
        self._blocking = blocking
        self._results = results
        self._refused = refused

    def take_up(self, inode: Inode, change: Change, error: Exception) -> None:
        """Handle the failure of a try of this change, which was the inode's when the try began."""
        try:
            self._react(inode, change, error)
        except (sqlite3.Error, OSError) as refused:
            # a full disk must not end the mount: the failure is known in memory
            log.error("%s: %s; that cannot be journaled: %s", self._view.path(inode), error, refused)
            self._try_later(change, error)

    def _react(self, inode: Inode, change: Change, error: Exception) -> None:
        self._edits.changes.keep_unconfirmed(inode)
        if self._view.change(inode) is not change:
            self._edits.changes.touched(inode)
            log.debug("What was sent of inode %d is not wanted any more: %r", inode, error)
            return
        match reaction_to(error, change.attempts):
            case Reaction.PLAN_AGAIN:
                log.debug("What was sent of inode %d is not wanted any more: %r", inode, error)
            case Reaction.WAIT_FOR_OTHER:
                assert isinstance(error, Blocked)
                self._blocking.block(inode, error.wait)
            case Reaction.WAIT_A_WHILE:
                assert isinstance(error, NotYet)
                change.give_reason(str(error))
                self._attempts.delay(inode, error.wait_s)
                self._edits.changes.touched(inode)
            case Reaction.WAIT_FOR_CHECK_IN:
                self._try_later(change, error, CHECKED_OUT_S)
            case Reaction.TAKE_BACK:
                self._take_back(change, error)
            case Reaction.PAUSE:
                self._attempts.pause(error)
                self._try_later(change, error)
            case Reaction.TRY_AGAIN:
                if not isinstance(error, ProcoreError) and not change.attempts:
                    log.error("%s waits: %s", self._view.path(inode), error)
                self._try_later(change, error)
            case Reaction.FAIL:
                if not is_foreseen(error):
                    path = self._view.path(inode)
                    log.error("%s cannot be sent: unexpected error", path, exc_info=error)
                self._fail(change, error)

    def _try_later(self, change: Change, error: Exception, wait_s: float | None = None) -> None:
        """Let the next try begin after `wait_s` seconds; None means a pause that grows with each failure."""
        if wait_s is None:
            wait_s = retry_pause_s(change.attempts + 1, random.random())
        change.failed_passing(str(error))
        self._attempts.delay(change.inode, wait_s)
        self._attempts.failed(change.inode, error)
        level = logging.WARNING if change.attempts == WARNED_ATTEMPTS else logging.INFO
        log.log(level, "%s is tried again in %.0f s: %s", self._view.path(change.inode), wait_s, error)
        self._edits.changes.touched(change.inode)

    def _take_back(self, change: Change, error: Exception) -> None:
        assert isinstance(error, Refused)
        if error.take_back and change.document is not None:
            self._tell_of(change, error)
            self._results.give_back(change, str(error))
        elif error.metadata is not None:
            self._tell_of(change, error)
            self._results.give_up_metadata(change, error.metadata, str(error))
        else:
            self._fail(change, error)

    def _fail(self, change: Change, error: Exception) -> None:
        if is_unknown(change):
            for call in self._calls.given_up(change.inode, None):
                self._calls.forget(call)
            self._results.dismiss(change)  # removed here while Procore refused to create it
            return
        self._tell_of(change, error)
        self._results.fail(change, str(error))

    def _tell_of(self, change: Change, error: Exception) -> None:
        path = self._states.path(change)
        log.warning("%s was refused: %s", path, error)
        cause = error.__cause__ if isinstance(error, Refused) else None
        self._attempts.failed(change.inode, cause if isinstance(cause, Exception) else error)
        self._refused(path, str(error))
