"""Limits of the daemon's process: open files, of which it needs many, and core dumps."""

import resource
from contextlib import suppress

_USUAL: list[tuple[int, int]] = []
"""Soft and hard limit before the soft one was raised; empty: it was not."""


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one, which needs no right."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    with suppress(ValueError, OSError):  # a kernel whose nr_open was lowered; the daemon runs all the same
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _USUAL[:] = [(soft, hard)]


def forbid_core_dumps() -> None:
    """A crash must not leave tokens and document contents in a file, or send them to a service that collects those."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def give_usual_limit(pid: int) -> None:
    """Give a program that this process started the limit that it would have had: some loop over all descriptors."""
    with suppress(OSError):  # it has ended
        for usual in _USUAL:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
