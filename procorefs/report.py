"""What `status` shows of a mount: every room is asked for its own numbers."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from procorefs import status
from procorefs.config import ResolvedMount
from procorefs.content.cache import ChunkCache
from procorefs.kernel.refusals import Refusals
from procorefs.limiter import LimiterStatus, Priority, WindowStatus
from procorefs.procore.client import Client
from procorefs.procore.errors import ProcoreError
from procorefs.tree.follow import Follower
from procorefs.tree.store import TreeStore

log = logging.getLogger(__name__)

NAMES_WAIT_S = 2.0


@dataclass(slots=True)
class Reporter:
    """Makes a MountStatus of one mount."""

    mount: ResolvedMount
    client: Client
    store: TreeStore
    follower: Follower
    cache: ChunkCache
    refusals: Refusals

    async def status(self, *, closing: bool) -> status.MountStatus:
        """All numbers of one moment; the first time, the names are asked of Procore."""
        project, company = await self._names()
        standing = self.follower.standing()
        cache = self.cache.stats()
        calls = self.client.stats
        return status.MountStatus(
            mountpoint=str(self.mount.mountpoint),
            project=status.Named(self.mount.project_id, project),
            company=status.Named(self.mount.company_id, company),
            state="closing" if closing else "mounted",
            pid=os.getpid(),
            log=str(self.mount.log_file or ""),
            tree=status.TreeStatus(standing.documents, standing.state, standing.age_s),
            cache=status.CacheStatus(cache.bytes, cache.limit, cache.hits, cache.misses),
            limiter=_limiter(self.client.limiter.snapshot()),
            api_calls=status.ApiCalls(calls.total, calls.by_route, calls.throttled),
            refusals=[status.Refusal(r.path, r.reason, _iso(r.at_s)) for r in self.refusals],
        )

    async def _names(self) -> tuple[str, str]:
        """Names of project and company: two calls in the life of a tree, spent when somebody looks at them."""
        project, company = self.store.fact("project_name"), self.store.fact("company_name")
        if project is not None and company is not None:
            return str(project), str(company)
        if self.client.limiter.would_wait(Priority.REFRESH):
            return "", ""
        with trio.move_on_after(NAMES_WAIT_S):
            try:
                project = await self.client.project_name(priority=Priority.REFRESH)
                company = await self.client.company_name(priority=Priority.REFRESH)
            except ProcoreError as error:
                log.info("The names of project and company are not known: %s", error)
                return "", ""
            with self.store.transaction():
                self.store.remember("project_name", project)
                self.store.remember("company_name", company)
            return project, company
        return "", ""


def _limiter(known: LimiterStatus) -> status.LimiterStatus:
    return status.LimiterStatus(
        hourly=_window(known.hourly),
        spike=_window(known.spike),
        waiting=known.waiting,
        paused_until=known.paused_until,
    )


def _window(window: WindowStatus) -> status.WindowStatus:
    reset = None if window.reset is None else int(window.reset)
    return status.WindowStatus(window.limit, window.remaining, reset)


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
