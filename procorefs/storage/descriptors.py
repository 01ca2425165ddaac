"""The limit of open files: the daemon holds a descriptor for every file that somebody writes."""

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


def give_usual_limit(pid: int) -> None:
    """Give a program that this process started the limit that it would have had: some loop over all descriptors."""
    with suppress(OSError):  # it has ended
        for usual in _USUAL:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
