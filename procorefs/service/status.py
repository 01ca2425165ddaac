"""Defines the structure of `status --json`: the fields of these structs are the documented keys."""

import msgspec


class Named(msgspec.Struct, frozen=True):
    """A project or company; the name is empty while it is unknown."""

    id: int
    name: str = ""


class TreeStatus(msgspec.Struct, frozen=True):
    """How far the tree follows Procore."""

    documents: int = 0
    state: str = "listing"
    """`listing` until the first full listing is done, then `complete`; `behind` when the last poll failed."""
    age_seconds: float | None = None
    """Time since the last poll; None: there was none yet."""


class OutboxItem(msgspec.Struct, frozen=True):
    """A change that is not sent automatically."""

    path: str
    reason: str
    since: str
    """ISO 8601, UTC."""


class GuardedFolder(msgspec.Struct, frozen=True):
    """What the delete guard holds in one folder; of a removed folder, with all that was below it."""

    path: str
    deletions: int
    overwrites: int
    """Documents that got bytes of another type."""


class LocalFiles(msgspec.Struct, frozen=True):
    """Files that are never sent, because of their names or the names of their folders."""

    count: int = 0
    """Without `junk`."""
    bytes: int = 0
    items: list[OutboxItem] = []
    """The oldest 1,000 of these files."""
    junk: int = 0
    """Private files of programs beside documents, such as .DS_Store; they end with the mount."""


class OutboxStatus(msgspec.Struct, frozen=True):
    """Changes that are not in Procore yet."""

    pending: int = 0
    uploading: int = 0
    held: int = 0
    """Files with a temporary name, documents that another user has checked out, and what the delete guard holds."""
    failed: int = 0
    """Changes that Procore refused, and files that a crash left incomplete."""
    bytes_pending: int = 0
    eta_seconds: float | None = None
    """None: nothing is under way, or the time is unknown."""
    failures: list[OutboxItem] = []
    """The oldest 1,000 that failed."""
    held_items: list[OutboxItem] = []
    """The oldest 1,000 that are held, but for what the delete guard holds."""
    guarded: list[GuardedFolder] = []
    """The folders in which the delete guard holds deletions or overwrites."""
    warning: str = ""
    """Why Procore cannot be reached; empty: it can."""
    local: LocalFiles = LocalFiles()
    """Files that stay on this machine."""


class CacheStatus(msgspec.Struct, frozen=True):
    """The content cache on disk; `bytes` and `limit` are bytes, the others counts since the mount."""

    bytes: int = 0
    limit: int = 0
    hits: int = 0
    misses: int = 0


class WindowStatus(msgspec.Struct, frozen=True):
    """One rate-limit window according to the last headers; `reset` is Unix seconds; None: unknown."""

    limit: int | None = None
    remaining: int | None = None
    reset: int | None = None


class LimiterStatus(msgspec.Struct, frozen=True):
    """The call budget."""

    hourly: WindowStatus = WindowStatus()
    spike: WindowStatus = WindowStatus()
    waiting: int = 0
    """Calls that wait for the budget, in all processes that share it."""
    paused_until: float | None = None
    """Unix seconds; None: not paused."""
    waiting_by_class: dict[str, int] = {}
    """`waiting` by class: interactive, writing, refresh."""
    next_at: float | None = None
    """Unix seconds when the first may start; None: no call waits, or only the answer to another call can tell."""
    shared_by: str = ""
    """`user`: all mounts and commands of this user; `redis`: all that use the same Redis; `user (redis is away)`."""
    share: float = 1.0
    """The part of the budget that this mount may use: less than 1 while the shared store is unreachable."""
    source: str = "assumed"
    """Where the hourly limit comes from: `told` by Procore, `configured` or `assumed`."""
    used_by_people: int = 0
    """Calls of the last 60 minutes that a person waited for."""
    used_by_background: int = 0
    """Calls of the last 60 minutes for writing and refreshing."""
    used_by_others: int = 0
    """Calls of the last 60 minutes by other programs with the same client id, as answers revealed them."""
    kept_for_people: int = 0
    """Calls that people may need in the next 60 minutes, by the forecast."""


class ApiCalls(msgspec.Struct, frozen=True):
    """Calls to Procore since the mount."""

    total: int = 0
    by_route: dict[str, int] = {}
    throttled: int = 0
    """Answers 429."""


class StatusWarning(msgspec.Struct, frozen=True):
    """Calls fail and are tried again."""

    reason: str
    """A sentence without its full stop."""
    since: str = ""
    """ISO 8601, UTC: when the first call failed; empty: unknown."""


class RightsStatus(msgspec.Struct, frozen=True):
    """What the account may do with the project's documents."""

    restriction: str = ""
    """What it may not do, as a clause; empty: nothing is known to be refused."""
    known: dict[str, bool] = {}
    """By right; a right that is not in it is unknown, and tried."""


class Refusal(msgspec.Struct, frozen=True):
    """A request of a program that was refused, with the reason."""

    path: str
    reason: str
    """One sentence that begins with the path."""
    at: str
    """ISO 8601, UTC."""


class Settings(msgspec.Struct, frozen=True):
    """The options that `procorefs set` and `mount -o remount` change, with their present values."""

    freshness: float = 30.0
    """Seconds."""
    cache_size: int = 0
    """Bytes."""
    delete_guard: int | None = None
    """Documents; None: off."""
    log_level: str = "info"
    read_only: bool = False


class MountStatus(msgspec.Struct, frozen=True):
    """One mount."""

    mountpoint: str
    project: Named
    company: Named
    state: str = "mounted"
    """`mounted`; `detached`: unmounted from outside, and still sending; `closing`: told to stop."""
    pid: int = 0
    log: str = ""
    tree: TreeStatus = TreeStatus()
    outbox: OutboxStatus = OutboxStatus()
    cache: CacheStatus = CacheStatus()
    limiter: LimiterStatus = LimiterStatus()
    api_calls: ApiCalls = ApiCalls()
    rights: RightsStatus = RightsStatus()
    settings: Settings = Settings()
    refusals: list[Refusal] = []
    """The last 20, newest first."""
    warning: StatusWarning | None = None
    """None: calls get answers."""


def as_file(status: MountStatus) -> bytes:
    """The output of `status --json`, as the content of a file."""
    return msgspec.json.encode(status) + b"\n"
