"""Collects the status of a mount from its parts."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.config import ResolvedMount
from procorefs.journal.states import COUNTED_AS_FAILED, COUNTED_AS_HELD, ChangeState
from procorefs.limiter import LimiterStatus, WindowStatus
from procorefs.procore.api.client import Client
from procorefs.procore.wire.rights import restriction
from procorefs.service import status
from procorefs.service.details import UPLOADS_SHOWN, KernelFigures, MountDetails, call_counts
from procorefs.service.display_names import DisplayNames
from procorefs.service.running_settings import RunningSettings
from procorefs.service.status import StatusWarning
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.recent_changes import RecentChanges
from procorefs.tree.sync.account_rights import AccountRights
from procorefs.tree.sync.follower import Follower
from procorefs.upload.commands import Commands
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.items import Item

_MOST_ITEMS = 1000


@dataclass(slots=True)
class Reporter:
    """Makes a MountStatus of one mount."""

    mount: ResolvedMount
    client: Client
    display_names: DisplayNames
    follower: Follower
    cache: ChunkCache
    refusals: RefusedCalls
    rights: AccountRights
    settings: RunningSettings
    recent: RecentChanges
    outbox: Commands | None = None
    """None: the mount sends nothing."""
    guard: DeleteGuard | None = None

    async def update(self) -> None:
        """Update the values that take time to get, before `status`; waits for two seconds at most."""
        await self.client.limiter.look()

    def status(self, state: str) -> status.MountStatus:
        """The status from known values; makes no call."""
        poll_state = self.follower.poll_state()
        cache = self.cache.stats()
        calls = self.client.stats
        return status.MountStatus(
            mountpoint=str(self.mount.mountpoint),
            project=status.Named(self.mount.project_id, self.display_names.project),
            company=status.Named(self.mount.company_id, self.display_names.company),
            state=state,
            pid=os.getpid(),
            log=str(self.mount.log_file or ""),
            tree=status.TreeStatus(poll_state.documents, poll_state.state, poll_state.age_s),
            outbox=outbox_status(self.outbox, self.guard),
            cache=status.CacheStatus(cache.bytes, cache.limit, cache.hits, cache.misses),
            limiter=_limiter(self.client.limiter.snapshot()),
            api_calls=status.ApiCalls(calls.total, calls.by_route, calls.throttled),
            rights=status.RightsStatus(
                restriction(self.rights.current), msgspec.to_builtins(self.rights.current)
            ),
            settings=self.settings.now(),
            refusals=[status.Refusal(r.path, r.sentence, _iso(r.at_s)) for r in self.refusals],
            warning=self._warning(),
        )

    def details(self, state: str, kernel: KernelFigures) -> MountDetails:
        """The status, with what the page and the metrics show beyond it."""
        return MountDetails(
            self.status(state),
            kernel,
            call_counts(self.client.stats),
            self.outbox.uploads(UPLOADS_SHOWN) if self.outbox is not None else [],
            self.recent.newest(),
        )

    def _warning(self) -> StatusWarning | None:
        """The warning about failing calls; for changes also between their tries."""
        connectivity = self.client.connectivity
        reason = connectivity.warning or (self.outbox.counts().warning if self.outbox is not None else "")
        if not reason:
            return None
        return StatusWarning(reason, "" if connectivity.since_s is None else _iso(connectivity.since_s))


def outbox_status(outbox: Commands | None, guard: DeleteGuard | None = None) -> status.OutboxStatus:
    """The numbers of the outbox, and the oldest items that are not sent automatically."""
    if outbox is None:
        return status.OutboxStatus()
    counts = outbox.counts()
    return status.OutboxStatus(
        pending=counts.pending,
        uploading=counts.uploading,
        held=counts.held,
        failed=counts.failed,
        bytes_pending=counts.bytes_pending,
        eta_seconds=counts.eta_seconds,
        failures=_items(outbox.stuck(COUNTED_AS_FAILED, _MOST_ITEMS)),
        held_items=_items(outbox.stuck(COUNTED_AS_HELD, _MOST_ITEMS)),
        guarded=[status.GuardedFolder(*folder) for folder in guard.held_folders()] if guard else [],
        warning=counts.warning,
        local=status.LocalFiles(
            counts.local,
            counts.local_bytes,
            _items(outbox.stuck((ChangeState.LOCAL,), _MOST_ITEMS)),
            counts.junk,
        ),
    )


def _items(items: Iterable[Item]) -> list[status.OutboxItem]:
    return [status.OutboxItem(item.path, item.why, _iso(item.since)) for item in items]


def _limiter(known: LimiterStatus) -> status.LimiterStatus:
    return status.LimiterStatus(
        hourly=_window(known.hourly),
        spike=_window(known.spike),
        waiting=known.waiting,
        paused_until=known.paused_until,
        waiting_by_class=known.waiting_by_class,
        next_at=known.next_at,
        shared_by=known.shared_by,
        share=known.share,
        source=known.source,
        used_by_people=known.used_by_people,
        used_by_background=known.used_by_background,
        used_by_others=known.used_by_others,
        kept_for_people=known.kept_for_people,
    )


def _window(window: WindowStatus) -> status.WindowStatus:
    reset = None if window.reset is None else int(window.reset)
    return status.WindowStatus(window.limit, window.remaining, reset)


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
