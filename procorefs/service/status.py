"""The structs of `status --json`: their fields are the documented keys."""

import msgspec


class Named(msgspec.Struct, frozen=True):
    """A project or company; the name is empty until Procore has told it."""

    id: int
    name: str = ""


class TreeStatus(msgspec.Struct, frozen=True):
    """What is known of the project's documents."""

    documents: int = 0
    state: str = "listing"
    """`listing` until the first listing is whole, then `complete`; `behind` when the last look at Procore failed."""
    age_seconds: float | None = None
    """Since the last look at Procore; None: there was none yet."""


class OutboxItem(msgspec.Struct, frozen=True):
    """A change that does not reach Procore by itself."""

    path: str
    reason: str
    since: str
    """ISO 8601, UTC."""


class LocalFiles(msgspec.Struct, frozen=True):
    """Files that never go to Procore, because of their names or those of their folders."""

    count: int = 0
    """Of what no program keeps for itself."""
    bytes: int = 0
    items: list[OutboxItem] = []
    """The oldest 1,000 of these."""
    junk: int = 0
    """Files that programs keep for themselves beside documents, as .DS_Store: they are gone with the mount."""


class OutboxStatus(msgspec.Struct, frozen=True):
    """Changes that have yet to reach Procore."""

    pending: int = 0
    uploading: int = 0
    held: int = 0
    """Under a temporary name, or checked out by somebody else."""
    failed: int = 0
    """Refused by Procore, or cut off before they were whole."""
    bytes_pending: int = 0
    eta_seconds: float | None = None
    """None: nothing is under way, or nobody can tell."""
    failures: list[OutboxItem] = []
    """The oldest 1,000 of those that failed."""
    held_items: list[OutboxItem] = []
    """The oldest 1,000 of those that are held."""
    warning: str = ""
    """Why Procore can't be reached just now; empty: it can."""
    local: LocalFiles = LocalFiles()
    """What stays on this machine for good."""


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
    waiting: int = 0
    """Calls that wait for the budget now, in all processes that share it."""
    paused_until: float | None = None
    """Unix seconds; None: calls may go."""
    waiting_by_class: dict[str, int] = {}
    """The same by class: interactive, writing, refresh."""
    next_at: float | None = None
    """Unix seconds when the first of them may go; None: nobody waits, or only an answer to another call can tell."""
    shared_by: str = ""
    """`user`: all mounts and commands of this user; `redis`: all that use the same Redis; `user (redis is away)`."""
    share: float = 1.0
    """The part of the budget that is used: less than 1 while those it is shared with can't be asked."""


class ApiCalls(msgspec.Struct, frozen=True):
    """Calls to Procore since the mount."""

    total: int = 0
    by_route: dict[str, int] = {}
    throttled: int = 0
    """Answers 429."""


class StatusWarning(msgspec.Struct, frozen=True):
    """Calls do not get through just now, and are tried again."""

    reason: str
    """A sentence, without the full stop."""
    since: str = ""
    """ISO 8601, UTC: when the first of them failed; empty: nobody knows."""


class Refusal(msgspec.Struct, frozen=True):
    """Something that was refused to a program, with the reason."""

    path: str
    reason: str
    """One sentence that begins with the path."""
    at: str
    """ISO 8601, UTC."""


class MountStatus(msgspec.Struct, frozen=True):
    """One mount."""

    mountpoint: str
    project: Named
    company: Named
    state: str = "mounted"
    """`mounted`, `detached` (the mount point was taken away, and what waits is still being sent), or `closing`
    from the moment it was asked to stop."""
    pid: int = 0
    log: str = ""
    tree: TreeStatus = TreeStatus()
    outbox: OutboxStatus = OutboxStatus()
    cache: CacheStatus = CacheStatus()
    limiter: LimiterStatus = LimiterStatus()
    api_calls: ApiCalls = ApiCalls()
    refusals: list[Refusal] = []
    """The last 20, newest first."""
    warning: StatusWarning | None = None
    """None: whatever is asked of Procore gets an answer."""


def as_file(status: MountStatus) -> bytes:
    """What `status --json` prints, as the content of a file."""
    return msgspec.json.encode(status) + b"\n"
