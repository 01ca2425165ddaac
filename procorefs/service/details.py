"""Defines what the status page and the metrics show beyond the status: times, answers, uploads, changes of others."""

from collections import Counter

import msgspec

from procorefs.procore.api.client import ApiCalls
from procorefs.service.status import MountStatus
from procorefs.tree.recent_changes import RecentChange
from procorefs.upload.commands import RunningUpload

UPLOADS_SHOWN = 20

_ANSWERS = frozenset((200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504))


class RequestTimes(msgspec.Struct, frozen=True):
    """How long the kernel's requests of one kind took."""

    counts: list[int]
    """By bucket; the last one has no upper bound."""
    seconds: float
    """All together."""


class KernelFigures(msgspec.Struct, frozen=True):
    """The kernel's requests, and the notifications to it, since the mount."""

    bounds: list[float] = []
    """The upper bounds of the buckets, in seconds."""
    requests: dict[str, RequestTimes] = {}
    notifications: dict[str, int] = {}
    """By what the kernel drops: entry, inode, listing, attributes."""


class CallCount(msgspec.Struct, frozen=True):
    """The calls of one route with one answer."""

    route: str
    answer: str
    """The status, its class such as `4xx`, or `none`."""
    count: int


class MountDetails(msgspec.Struct, frozen=True):
    """One mount."""

    status: MountStatus
    kernel: KernelFigures = KernelFigures()
    calls: list[CallCount] = []
    uploads: list[RunningUpload] = []
    """The first UPLOADS_SHOWN that run."""
    recent: list[RecentChange] = []
    """What others changed, the newest first."""


def call_counts(calls: ApiCalls) -> list[CallCount]:
    """The calls by route and answer; of statuses that are not expected, only the class."""
    found: Counter[tuple[str, str]] = Counter()
    for (route, status), count in calls.by_answer.items():
        found[route, answer_label(status)] += count
    return [CallCount(route, answer, count) for (route, answer), count in sorted(found.items())]


def answer_label(status: int) -> str:
    """An answer's status as a label of a metric; there are only a few labels."""
    if status == 0:
        return "none"
    return str(status) if status in _ANSWERS else f"{min(max(status // 100, 1), 6)}xx"
