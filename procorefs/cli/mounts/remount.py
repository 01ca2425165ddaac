"""Remounts for `mount -o remount,…`: changes the kernel's flags of the mount, and what its daemon accepts and sends.

The kernel comes first, which refuses `ro` while files are open for writing: then nothing has changed. Until the daemon
follows, a change may fail with EROFS, as it did before `rw` and does after `ro`.

The kernel knows `ro`, `nodev`, `noexec` and `nosuid`. mount(8) adds the options of /etc/fstab and the present flags.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.locate import locate
from procorefs.config import Failure, find_paths
from procorefs.config.options import SETTABLE, parse_options
from procorefs.service.control_socket import AccessRequest, SetRequest, ask
from procorefs.service.status import Settings
from procorefs.storage.mountinfo import mount_at, read_mounts
from procorefs.storage.printable import shell_word

REMOUNT = "remount"

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
"""mount(2)."""

_FLAGS = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}

_OF_THE_KERNEL = ("user_id=", "group_id=", "max_read=", "blksize=", "fd=", "rootmode=")
"""Options that mount(8) reads in the kernel's list of mounts."""


class RemountRefused(Failure):
    """The mount stays as it is."""


def is_remount(words: Sequence[str]) -> bool:
    """Whether these values of `-o` ask for a remount."""
    return REMOUNT in _single(words)


def remount(path: Path, words: Sequence[str]) -> None:
    """Remount with these values of `-o`. Raises Failure; ConfigError for a wrong option."""
    single = [word for word in _single(words) if word != REMOUNT and not word.startswith(_OF_THE_KERNEL)]
    options = parse_options(single)
    if os.geteuid() != 0:
        raise RemountRefused(f"only root can remount {path}")
    mounts = read_mounts()
    mountpoint = locate(path, mounts)
    mount = mount_at(mountpoint, mounts)
    if mount is None or not mount.is_ours:
        raise RemountRefused(f"{mountpoint} is not a ProcoreFS mount, so it cannot be remounted")
    daemon = registry.find(mountpoint, find_paths(os.environ))
    if daemon is None:
        raise RemountRefused(
            f"the daemon of {mountpoint} has ended or belongs to another user, so it cannot be remounted; unmount it "
            "and mount it again"
        )
    socket = Path(daemon.socket)
    named = dict(word.split("=", 1) for word in single if "=" in word)
    settings = {name: text for name, text in named.items() if name in SETTABLE}
    _remount_in_kernel(mountpoint, is_read_only=options.ro, restrictions=options.restrictions)
    ask(socket, AccessRequest(read_only=options.ro), Settings)
    ask(socket, SetRequest(settings), Settings)


def _single(words: Sequence[str]) -> list[str]:
    return [word.strip() for text in words for word in text.split(",") if word.strip()]


def _remount_in_kernel(mountpoint: Path, *, is_read_only: bool, restrictions: frozenset[str]) -> None:
    flags = MS_REMOUNT | (MS_RDONLY if is_read_only else 0)
    for word in restrictions:
        flags |= _FLAGS[word]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, os.fsencode(mountpoint), None, ctypes.c_ulong(flags), None) == 0:
        return
    error = ctypes.get_errno()
    if error == errno.EBUSY:
        raise RemountRefused(
            f"files in {mountpoint} are open for writing, so it stays writable; `fuser -vm {shell_word(mountpoint)}` "
            "lists the programs"
        )
    raise RemountRefused(f"the kernel does not remount {mountpoint} ({os.strerror(error)})")
