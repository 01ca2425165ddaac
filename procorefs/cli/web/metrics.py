"""Turns the details of mounts into metrics for Prometheus; labels have project ids, and no names or paths."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from procorefs.service.details import MountDetails, RequestTimes
from procorefs.service.status import MountStatus

_OUTBOX = ("pending", "uploading", "held", "failed")
_WAITING = ("interactive", "writing", "refresh")

_SIMPLE: tuple[tuple[str, str, Callable[[MountStatus], float | None]], ...] = (
    ("documents", "Documents in the tree.", lambda one: one.tree.documents),
    ("tree_age_seconds", "Time since the last poll.", lambda one: one.tree.age_seconds),
    ("outbox_bytes", "Bytes that wait for their upload.", lambda one: one.outbox.bytes_pending),
    ("outbox_eta_seconds", "Time until everything is sent.", lambda one: one.outbox.eta_seconds),
    ("cache_bytes", "Bytes in the content cache.", lambda one: one.cache.bytes),
    ("cache_limit_bytes", "Size limit of the content cache.", lambda one: one.cache.limit),
    ("calls_waiting", "Calls that wait for the budget.", lambda one: one.limiter.waiting),
    ("budget_limit", "Calls that an hour grants.", lambda one: one.limiter.hourly.limit),
    ("budget_remaining", "Calls that are left in the hour.", lambda one: one.limiter.hourly.remaining),
    (
        "budget_kept_for_people",
        "Calls that people may need in the next hour, by the forecast.",
        lambda one: one.limiter.kept_for_people,
    ),
    ("read_only", "Whether the mount refuses changes.", lambda one: one.settings.read_only),
)
"""Gauges of one number: name, description, value of a MountStatus; None leaves the mount out."""

_COUNTERS: tuple[tuple[str, str, Callable[[MountStatus], float]], ...] = (
    ("cache_hits", "Reads that the cache answered.", lambda one: one.cache.hits),
    ("cache_misses", "Reads that fetched bytes.", lambda one: one.cache.misses),
    ("calls_throttled", "Answers 429.", lambda one: one.api_calls.throttled),
)


def metrics_text(mounts: Sequence[MountDetails]) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Mounts(mounts))
    return generate_latest(registry)


class _Mounts(Collector):
    """Yields the metrics of some mounts."""

    def __init__(self, mounts: Sequence[MountDetails]) -> None:
        self._mounts = mounts
        self._statuses = [mount.status for mount in mounts]

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "procorefs_up", "Whether the mount answers and reaches Procore.", labels=["project"]
        )
        for one in self._statuses:
            is_up = one.state in ("mounted", "detached") and one.warning is None
            up.add_metric([str(one.project.id)], float(is_up))
        yield up
        for name, text, value in _SIMPLE:
            gauge = GaugeMetricFamily(f"procorefs_{name}", text, labels=["project"])
            for one in self._statuses:
                number = value(one)
                if number is not None:
                    gauge.add_metric([str(one.project.id)], float(number))
            yield gauge
        for name, text, count in _COUNTERS:
            counter = CounterMetricFamily(f"procorefs_{name}", text, labels=["project"])
            for one in self._statuses:
                counter.add_metric([str(one.project.id)], float(count(one)))
            yield counter
        yield from self._of_the_budget()
        yield from self._of_the_kernel()

    def _of_the_budget(self) -> Iterator[Metric]:
        outbox = GaugeMetricFamily(
            "procorefs_outbox_changes", "Changes by state.", labels=["project", "state"]
        )
        used = GaugeMetricFamily("procorefs_budget_used", "Calls of the last hour.", labels=["project", "by"])
        waiting = GaugeMetricFamily(
            "procorefs_calls_waiting_by_class",
            "Calls that wait for the budget.",
            labels=["project", "class"],
        )
        calls = CounterMetricFamily(
            "procorefs_calls", "Calls since the mount.", labels=["project", "route", "answer"]
        )
        for mount in self._mounts:
            one, project = mount.status, str(mount.status.project.id)
            for state in _OUTBOX:
                outbox.add_metric([project, state], float(getattr(one.outbox, state)))
            for by, number in (
                ("people", one.limiter.used_by_people),
                ("background", one.limiter.used_by_background),
                ("others", one.limiter.used_by_others),
            ):
                used.add_metric([project, by], float(number))
            for name in _WAITING:
                waiting.add_metric([project, name], float(one.limiter.waiting_by_class.get(name, 0)))
            for call in mount.calls:
                calls.add_metric([project, call.route, call.answer], float(call.count))
        yield from (outbox, used, waiting, calls)

    def _of_the_kernel(self) -> Iterator[Metric]:
        times = HistogramMetricFamily(
            "procorefs_request_seconds",
            "The kernel's requests until their answer.",
            labels=["project", "kind"],
        )
        sent = CounterMetricFamily(
            "procorefs_notifications",
            "What the kernel was told to drop.",
            labels=["project", "what"],
        )
        for mount in self._mounts:
            project = str(mount.status.project.id)
            for kind, found in mount.kernel.requests.items():
                buckets = _cumulative(mount.kernel.bounds, found)
                times.add_metric([project, kind], buckets, found.seconds)
            for what, number in mount.kernel.notifications.items():
                sent.add_metric([project, what], float(number))
        yield from (times, sent)


def _cumulative(bounds: Sequence[float], times: RequestTimes) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each counts all requests up to its bound."""
    total, buckets = 0, []
    for bound, count in zip([*map(str, bounds), "+Inf"], times.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
