"""Turns the status of mounts into metrics for Prometheus; labels have project ids, and no names or paths."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from procorefs.service.status import MountStatus

_OUTBOX = ("pending", "uploading", "held", "failed")

_SIMPLE: tuple[tuple[str, str, Callable[[MountStatus], float | None]], ...] = (
    ("documents", "Documents in the tree.", lambda one: one.tree.documents),
    ("tree_age_seconds", "Time since the last poll.", lambda one: one.tree.age_seconds),
    ("outbox_bytes", "Bytes that wait for their upload.", lambda one: one.outbox.bytes_pending),
    ("outbox_eta_seconds", "Time until everything is sent.", lambda one: one.outbox.eta_seconds),
    ("cache_bytes", "Bytes in the content cache.", lambda one: one.cache.bytes),
    ("calls_waiting", "Calls that wait for the budget.", lambda one: one.limiter.waiting),
    ("budget_limit", "Calls that an hour grants.", lambda one: one.limiter.hourly.limit),
    ("budget_remaining", "Calls that are left in the hour.", lambda one: one.limiter.hourly.remaining),
)
"""Gauges of one number: name, description, value of a MountStatus; None leaves the mount out."""

_COUNTERS: tuple[tuple[str, str, Callable[[MountStatus], float]], ...] = (
    ("cache_hits", "Reads that the cache answered.", lambda one: one.cache.hits),
    ("cache_misses", "Reads that fetched bytes.", lambda one: one.cache.misses),
    ("calls_throttled", "Answers 429.", lambda one: one.api_calls.throttled),
)


def metrics_text(statuses: Sequence[MountStatus]) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Statuses(statuses))
    return generate_latest(registry)


class _Statuses(Collector):
    """Yields the metrics of some mounts."""

    def __init__(self, statuses: Sequence[MountStatus]) -> None:
        self._statuses = statuses

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
        yield from self._by_label()

    def _by_label(self) -> Iterator[Metric]:
        outbox = GaugeMetricFamily(
            "procorefs_outbox_changes", "Changes by state.", labels=["project", "state"]
        )
        used = GaugeMetricFamily("procorefs_budget_used", "Calls of the last hour.", labels=["project", "by"])
        calls = CounterMetricFamily("procorefs_calls", "Calls since the mount.", labels=["project", "route"])
        for one in self._statuses:
            project = str(one.project.id)
            for state in _OUTBOX:
                outbox.add_metric([project, state], float(getattr(one.outbox, state)))
            used.add_metric([project, "people"], float(one.limiter.used_by_people))
            used.add_metric([project, "background"], float(one.limiter.used_by_background))
            for route, number in one.api_calls.by_route.items():
                calls.add_metric([project, route], float(number))
        yield from (outbox, used, calls)
