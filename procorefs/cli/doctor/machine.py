"""Checks this machine: kernel, FUSE, the native bridge, and the disks of state and cache."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from procorefs.cli.doctor.findings import Finding, ok, problem, warning
from procorefs.cli.mounts.mountpoint import MountRefused, check_fuse, others_allowed
from procorefs.cli.mounts.unmounting import fusermount
from procorefs.cli.support.versions import versions
from procorefs.config import MountOptions, Paths
from procorefs.config.units import show_size

OLDEST_KERNEL = (4, 20)
"""FUSE requests of 1 MiB (max_pages) and cached listings (FOPEN_CACHE_DIR) came with it."""

DIRECT_IO_KERNEL = (6, 6)
"""From here on large writes need no copy in the kernel's page cache (kernel/open_handles.py)."""

LOW_BYTES = 1 << 30
LOW_INODES = 10_000


def check_machine(paths: Paths) -> Iterator[Finding]:
    """All checks of the machine; none of them waits for the network."""
    yield of_kernel(os.uname().release)
    yield _fuse()
    yield _sharing()
    yield _bridge()
    for name, folder in (("state", paths.state_dir), ("cache", paths.cache_dir)):
        yield _disk(name, folder)


def of_kernel(release: str) -> Finding:
    """`release` as uname(2) gives it."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else OLDEST_KERNEL
    if version < OLDEST_KERNEL:
        return problem("kernel", f"Linux {release} is too old", "run Linux 4.20 or newer")
    if version < DIRECT_IO_KERNEL:
        return warning(
            "kernel", f"Linux {release} writes large files more slowly", "Linux 6.6 or newer is faster"
        )
    return ok("kernel", f"Linux {release}")


def _fuse() -> Finding:
    try:
        check_fuse(MountOptions())
    except MountRefused as error:
        text, _, mend = str(error).partition("; ")
        return problem("FUSE", text, mend)
    if fusermount() is None:
        return warning("FUSE", "fusermount3 is missing, so only root can mount", "install the package fuse3")
    return ok("FUSE", f"libfuse {versions().get('libfuse', 'of unknown version')}")


def _sharing() -> Finding:
    if os.geteuid() == 0 or others_allowed():
        return ok("sharing", "allow_other is possible")
    return ok(
        "sharing",
        "only you can use your mounts; allow_other needs the line user_allow_other in /etc/fuse.conf",
    )


def _bridge() -> Finding:
    try:
        from procorefs.kernel.bridge import native
    except ImportError as error:
        return problem(
            "bridge", f"the native extension cannot be loaded ({error})", "install ProcoreFS again"
        )
    return ok("bridge", f"{Path(native.__file__).parent} is loaded")


def _disk(name: str, folder: Path) -> Finding:
    """The disk of a folder that need not exist yet."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    disk = os.statvfs(there)
    free_bytes = disk.f_bavail * disk.f_frsize
    text = f"{show_size(free_bytes)} free for {folder}"
    if free_bytes < LOW_BYTES:
        return warning(f"{name} disk", text, "free some space: uploads and the cache need it")
    if disk.f_files and disk.f_favail < LOW_INODES:
        return warning(
            f"{name} disk", f"{disk.f_favail} free inodes for {folder}", "delete files that you do not need"
        )
    if not os.access(there, os.W_OK):
        return problem(f"{name} disk", f"{there} is not writable for you", f"chown {there} to your user")
    return ok(f"{name} disk", text)
