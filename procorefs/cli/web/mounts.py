"""Asks the daemons of this user for their status, and records how the call budget is used over the last hours."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.registry import Entry
from procorefs.config import Paths
from procorefs.service.control_socket import ControlError, DetailsRequest, ask
from procorefs.service.details import MountDetails
from procorefs.service.status import MountStatus, Named

WAIT_S = 3.0

SAMPLE_S = 60.0
"""Interval of the samples."""
SAMPLES = 6 * 60
"""Six hours."""

_AT_ONCE = 8


def all_mounts(paths: Paths) -> list[MountDetails]:
    """The details of each mount, by mount point; one that does not answer has only its names and a state."""
    entries = registry.running(paths)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(_details, entries))


def find_mount(paths: Paths, key: str) -> Entry | None:
    """The daemon with this process id, which the page has as the key of a mount."""
    return next((entry for entry in registry.running(paths) if str(entry.pid) == key), None)


def _details(entry: Entry) -> MountDetails:
    try:
        return ask(Path(entry.socket), DetailsRequest(), MountDetails, timeout_s=WAIT_S)
    except ControlError:
        status = MountStatus(
            mountpoint=entry.mountpoint,
            project=Named(entry.project_id),
            company=Named(entry.company_id),
            state="not answering",
            pid=entry.pid,
            log=entry.log,
        )
        return MountDetails(status)


class Sample(NamedTuple):
    """The calls of the hour before a moment."""

    at_s: float
    people: int
    background: int
    others: int
    limit: int


class BudgetHistory:
    """Samples of the budget that all mounts of an account share, the oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    @property
    def samples(self) -> list[Sample]:
        return list(self._samples)

    def record(self, mounts: list[MountDetails], now_s: float) -> None:
        """Add a sample: that of the account with the largest limit, if there are mounts of several."""
        if mounts:
            limiter = max((mount.status.limiter for mount in mounts), key=lambda one: one.hourly.limit or 0)
            sample = Sample(
                now_s,
                limiter.used_by_people,
                limiter.used_by_background,
                limiter.used_by_others,
                limiter.hourly.limit or 0,
            )
            self._samples.append(sample)
