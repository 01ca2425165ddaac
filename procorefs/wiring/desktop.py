"""Builds the desktop notifications of a mount, and collects what they tell from its parts."""

import logging
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from procorefs.config import ResolvedMount
from procorefs.desktop.notices import Known, Subject, unsent
from procorefs.journal.states import COUNTED_AS_FAILED, ChangeState
from procorefs.procore.api.client import Client
from procorefs.service.display_names import DisplayNames
from procorefs.storage import clocks
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.upload.commands import Commands
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.items import Counts, Item

if TYPE_CHECKING:
    from procorefs.desktop.notifier import DesktopNotifier

log = logging.getLogger(__name__)

_MOST_SUBJECTS = 1000
_LISTED_S = 60.0
"""The list of stuck changes is read this often when their numbers stay the same."""

_LONG_WAIT_S = 20.0
"""A shorter wait for a call is not worth a notification."""


@dataclass(slots=True)
class DesktopView:
    """Collects what people are told of one mount."""

    mount: ResolvedMount
    client: Client
    display_names: DisplayNames
    commands: Commands
    guard: DeleteGuard
    refusals: RefusedCalls
    _counts: tuple[int, int] = (0, 0)
    """Failed and held changes when the lists below were read."""
    _listed_at_s: float = 0.0
    _lists: Known = field(default_factory=lambda: Known(""))

    @property
    def project(self) -> str:
        """The project's name, as far as it is known."""
        return self.display_names.project or self.mount.source

    def known(self) -> Known:
        """What is known now; reads lists only when numbers have changed, or after a while."""
        counts = self.commands.counts()
        stuck = (counts.failed, counts.held)
        if stuck != self._counts or clocks.boot_s() >= self._listed_at_s + _LISTED_S:
            self._counts, self._listed_at_s = stuck, clocks.boot_s()
            self._lists = self._listed(counts)
        lists = self._lists
        return Known(
            project=self.project,
            failed=lists.failed,
            failed_count=counts.failed,
            checked_out=lists.checked_out,
            guarded=lists.guarded,
            guarded_count=lists.guarded_count,
            refused=[Subject(call.path, call.reason) for call in self.refusals],
            login_error=self.client.auth.refusal,
            budget_ends_at=self._budget_ends_at(),
        )

    def unsent(self, *, continues: bool) -> tuple[str, str] | None:
        """The notice for the end of the mount, or None."""
        counts = self.commands.counts()
        return unsent(self.project, counts.moving, counts.held, counts.failed, continues=continues)

    def _listed(self, counts: Counts) -> Known:
        if not (counts.failed or counts.held):
            return Known("")
        folders = self.guard.held_folders()
        return Known(
            "",
            failed=_subjects(self.commands.stuck(COUNTED_AS_FAILED, _MOST_SUBJECTS)),
            checked_out=_subjects(self.commands.stuck((ChangeState.CHECKED_OUT,), _MOST_SUBJECTS)),
            guarded=[Subject(folder.path, _guarded(*folder[1:])) for folder in folders],
            guarded_count=sum(sum(folder[1:]) for folder in folders),
        )

    def _budget_ends_at(self) -> str:
        """The local time at which a person's call may start, if one has to wait long."""
        budget = self.client.limiter.snapshot()
        if not budget.waiting_by_class.get("interactive") or budget.next_at is None:
            return ""
        if budget.next_at < clocks.wall_s() + _LONG_WAIT_S:
            return ""
        return datetime.fromtimestamp(budget.next_at).strftime("%H:%M")


def open_desktop(view: DesktopView, environment: Mapping[str, str] = os.environ) -> "DesktopNotifier | None":
    """The notifications of a mount; None: there is no desktop session, or they are switched off."""
    address = session_address(environment)
    if not view.mount.options.notifications or address is None:
        return None
    if find_spec("jeepney") is None:
        log.info("No desktop notifications: they need the Python package jeepney.")
        return None
    from procorefs.desktop.notifier import DesktopNotifier  # here: it needs that package

    return DesktopNotifier(address, view.mount.mountpoint, view.known, view.commands.retry)


def session_address(environment: Mapping[str, str]) -> str | None:
    """The address of the session's bus; None: this process has none, as on a server."""
    address = environment.get("DBUS_SESSION_BUS_ADDRESS", "")
    if address:
        return address
    socket = Path(environment.get("XDG_RUNTIME_DIR", "/nonexistent"), "bus")
    with suppress(OSError):
        if stat.S_ISSOCK(socket.stat().st_mode):
            return f"unix:path={socket}"
    return None


def _subjects(items: list[Item]) -> list[Subject]:
    return [Subject(item.path, item.why) for item in items]


def _guarded(deletions: int, overwrites: int) -> str:
    parts = [f"{deletions:,} deletions"] if deletions else []
    return " and ".join([*parts, f"{overwrites:,} overwrites"] if overwrites else parts)
