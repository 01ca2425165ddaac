"""Loads the native bridge before libfuse, then pyfuse3; no other module imports either.

The order matters: pyfuse3 must find fuse_session_new in our extension, so the extension is loaded first, with
RTLD_GLOBAL; src/bridge.h says what it adds. All other modules import pyfuse3 from here.
"""

import os
import sys
from collections.abc import Callable
from types import ModuleType

INTERFACE = 3
"""The same number as in src/bridge.h; a change of what the extension offers raises both."""


class BridgeMissing(ImportError):
    """The bridge is not between pyfuse3 and libfuse."""


def _load_bridge() -> ModuleType:
    """Load the extension so that its symbols are found before libfuse's. Raises BridgeMissing."""
    if "pyfuse3" in sys.modules:
        raise BridgeMissing(
            "pyfuse3 was imported before procorefs.kernel.bridge.native, so the native bridge cannot get between it"
            " and libfuse: import pyfuse3 from procorefs.kernel.bridge.native only."
        )
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        from procorefs.kernel.bridge import _bridge
    except ImportError as error:
        raise BridgeMissing(
            f"The native bridge cannot be loaded ({error}): install libfuse3-dev, then build it"
            " with 'python setup.py build_ext --inplace'."
        ) from error
    finally:
        sys.setdlopenflags(flags)
    if getattr(_bridge, "INTERFACE", 0) != INTERFACE:
        raise BridgeMissing(
            "The native bridge was built from other sources: build it again with `make setup`."
        )
    others = _bridge.overridden()
    if others:
        symbol, file = next(iter(others.items()))
        raise BridgeMissing(
            f"The native bridge cannot get between pyfuse3 and libfuse: {symbol} is found in"
            f" {file or 'no global library'} first. Start procorefs without LD_PRELOAD."
        )
    return _bridge


_load_bridge()

import pyfuse3  # noqa: E402  (after the bridge, or it would find libfuse's own functions)

from procorefs.kernel.bridge import _bridge  # noqa: E402  (loaded by now, as the bridge)
from procorefs.kernel.bridge._bridge import (  # noqa: E402  (loaded by now, too)
    Flock,
    NotificationBatch,
    Request,
    abort_connection,
    invalidate_listing,
    start_guard,
)

__all__ = [
    "Bridge",
    "BridgeMissing",
    "Flock",
    "NotificationBatch",
    "Request",
    "abort_connection",
    "invalidate_listing",
    "pyfuse3",
    "start_guard",
]


class Bridge:
    """The functions of the bridge that handlers and session use. A process has one session, so one bridge."""

    __slots__ = ("_sessions_before",)

    def __init__(self) -> None:
        self._sessions_before = _bridge.session_count()

    take_request: Callable[[], Request | None] = staticmethod(_bridge.take_request)
    """The kernel's request, at the first line of its handler; None when it was taken already."""

    setxattr_flags: Callable[[], int] = staticmethod(_bridge.setxattr_flags)
    """XATTR_CREATE and XATTR_REPLACE, at the first line of setxattr's handler."""

    interrupt_count: Callable[[], int] = staticmethod(_bridge.interrupt_count)
    """How many interrupts the kernel has sent, to handlers that listened and to others."""

    request_times: Callable[[], dict[str, tuple[tuple[int, ...], float]]] = staticmethod(
        _bridge.request_times
    )
    """By kind of request: how many took how long, for each bucket of `latency_bounds_s`, and all seconds together."""

    latency_bounds_s: tuple[float, ...] = _bridge.LATENCY_BOUNDS_S
    """The upper bounds of all buckets but the last one."""

    def set_opendir_policy(self, keep: Callable[[int], bool]) -> None:
        """Ask *keep* at every opendir whether the kernel may answer from the listing that it has kept.

        It runs before the handler, must not block, and gets the directory's inode.
        """
        _bridge.set_opendir_policy(keep)

    def set_writer(self, write: Callable[[int, int, memoryview], bool]) -> None:
        """Ask *write* first at every write: True, it has written all bytes; False or an exception, the handler does.

        It must not block, gets (handle, offset, bytes) and may not keep the bytes.
        """
        _bridge.set_writer(write)

    request_comes: Callable[[int], bool] = staticmethod(_bridge.request_comes)
    """Whether the kernel has a request for us, now or within so many nanoseconds, for which it blocks."""

    grant_read: Callable[[int, int, int], None] = staticmethod(_bridge.grant_read)
    """Answer reads of this handle from this descriptor, which has all bytes, of this size, without Python until it runs
    again. To be called by the handler of a read that replies without waiting."""

    end_read_grants: Callable[[], None] = staticmethod(_bridge.end_read_grants)
    """End all grants; to be called before other tasks run."""

    granted_reads: Callable[[], int] = staticmethod(_bridge.granted_reads)
    """How many reads were answered without Python."""

    def set_flock_handler(
        self, lock: Callable[[Flock], object], closed: Callable[[int, int, int], object]
    ) -> None:
        """Have flock(2) come to us: to be called before the session is made, or the kernel keeps its own.

        *lock* must not block and sees that each Flock is answered later, on the loop; one that it drops is answered
        with EIO. *closed* gets (inode, handle, lock owner) at the last close of a file on which flock was called.
        """
        _bridge.set_flock_handler(lock)
        _bridge.set_release_hook(closed)

    def check(self) -> None:
        """Say after pyfuse3.init() whether the session was made through us. Raises BridgeMissing."""
        if _bridge.session_count() == self._sessions_before:
            raise BridgeMissing(
                "pyfuse3 made its session without the native bridge, so locks, interrupts and cached listings"
                " would not work: rebuild pyfuse3 against the installed libfuse 3, as a shared library."
            )
