"""What `status --json` shows: the structs are the documented keys."""

import msgspec


class Named(msgspec.Struct, frozen=True):
    """A project or company; the name is empty until Procore has told it."""

    id: int
    name: str = ""


class TreeStatus(msgspec.Struct, frozen=True):
    """What is known of the project's documents."""

    documents: int = 0
    #: `listing` until the first listing is whole, then `complete`; `behind` when the last look at Procore failed
    state: str = "listing"
    #: since the last look at Procore; None: there was none yet
    age_seconds: float | None = None


class OutboxItem(msgspec.Struct, frozen=True):
    """A change that does not reach Procore by itself."""

    path: str
    reason: str
    #: ISO 8601, UTC
    since: str


class LocalFiles(msgspec.Struct, frozen=True):
    """Files that never go to Procore, because of their names or those of their folders."""

    #: of what no program keeps for itself
    count: int = 0
    bytes: int = 0
    #: the oldest 1,000 of these
    items: list[OutboxItem] = []
    #: files that programs keep for themselves beside documents, as .DS_Store: they are gone with the mount
    junk: int = 0


class OutboxStatus(msgspec.Struct, frozen=True):
    """Changes that have yet to reach Procore."""

    pending: int = 0
    uploading: int = 0
    #: under a temporary name, or checked out by somebody else
    held: int = 0
    #: refused by Procore, or cut off before they were whole
    failed: int = 0
    bytes_pending: int = 0
    #: None: nothing is under way, or nobody can tell
    eta_seconds: float | None = None
    #: the oldest 1,000 of those that failed
    failures: list[OutboxItem] = []
    #: the oldest 1,000 of those that are held
    held_items: list[OutboxItem] = []
    #: why Procore can't be reached just now; empty: it can
    warning: str = ""
    #: what stays on this machine for good
    local: LocalFiles = LocalFiles()


class CacheStatus(msgspec.Struct, frozen=True):
    """The content cache on disk; `bytes` and `limit` are bytes, the others counts since the mount."""

    bytes: int = 0
    limit: int = 0
    hits: int = 0
    misses: int = 0


class WindowStatus(msgspec.Struct, frozen=True):
    """One rate-limit window as the last headers told it; `reset` is Unix seconds; None: not told yet."""

    limit: int | None = None
    remaining: int | None = None
    reset: int | None = None


class LimiterStatus(msgspec.Struct, frozen=True):
    """The call budget."""

    hourly: WindowStatus = WindowStatus()
    spike: WindowStatus = WindowStatus()
    #: calls that wait for the budget now, in all processes that share it
    waiting: int = 0
    #: Unix seconds; None: calls may go
    paused_until: float | None = None
    #: the same by class: interactive, writing, refresh
    waiting_by_class: dict[str, int] = {}
    #: Unix seconds when the first of them may go; None: nobody waits, or only an answer to another call can tell
    next_at: float | None = None
    #: `user`: all mounts and commands of this user; `redis`: all that use the same Redis; `user (redis is away)`
    shared_by: str = ""
    #: the part of the budget that is used: less than 1 while those it is shared with can't be asked
    share: float = 1.0


class ApiCalls(msgspec.Struct, frozen=True):
    """Calls to Procore since the mount."""

    total: int = 0
    by_route: dict[str, int] = {}
    #: answers 429
    throttled: int = 0


class StatusWarning(msgspec.Struct, frozen=True):
    """Calls do not get through just now, and are tried again."""

    #: a sentence, without the full stop
    reason: str
    #: ISO 8601, UTC: when the first of them failed; empty: nobody knows
    since: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """Something that was refused to a program, with the reason."""

    path: str
    #: one sentence that begins with the path
    reason: str
    #: ISO 8601, UTC
    at: str


class MountStatus(msgspec.Struct, frozen=True):
    """One mount."""

    mountpoint: str
    project: Named
    company: Named
    #: `mounted`, `detached` (the mount point was taken away, and what waits is still being sent), or `closing` from the
    #: moment it was asked to stop
    state: str = "mounted"
    pid: int = 0
    log: str = ""
    tree: TreeStatus = TreeStatus()
    outbox: OutboxStatus = OutboxStatus()
    cache: CacheStatus = CacheStatus()
    limiter: LimiterStatus = LimiterStatus()
    api_calls: ApiCalls = ApiCalls()
    #: the last 20, newest first
    refusals: list[Refusal] = []
    #: None: whatever is asked of Procore gets an answer
    warning: StatusWarning | None = None


def as_file(status: MountStatus) -> bytes:
    """What `status --json` prints, as the content of a file."""
    return msgspec.json.encode(status) + b"\n"
