"""Checks what mounts have left and do: running daemons, dead mounts, and damaged files that were moved aside."""

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from procorefs.cli.doctor.findings import Finding, ok, problem, warning
from procorefs.cli.mounts import registry
from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.cli.mounts.mountpoint import DEAD
from procorefs.config import Paths
from procorefs.service.control_socket import ControlError, StatusRequest, ask
from procorefs.service.status import MountStatus
from procorefs.storage.mountinfo import read_mounts
from procorefs.storage.printable import shell_word

PROBE_S = 3.0


def check_state(paths: Paths, mountpoint: Path | None) -> Iterator[Finding]:
    """The mounts of this user, or only that one, and the state directory."""
    found: list[Finding] = []
    for entry in registry.running(paths):
        if mountpoint is None or Path(entry.mountpoint) == mountpoint:
            found += _daemon(entry)
    found += _dead_mounts(mountpoint)
    if mountpoint is not None and not found:
        found.append(
            problem(f"mount {mountpoint}", "nothing is mounted there", "`procorefs status` lists the mounts")
        )
    yield from found
    yield _set_aside(paths.state_dir)


def _daemon(entry: registry.Entry) -> Iterator[Finding]:
    check = f"mount {entry.mountpoint}"
    try:
        status = ask(Path(entry.socket), StatusRequest(), MountStatus, timeout_s=PROBE_S)
    except ControlError as error:
        yield problem(check, f"{error} (process {entry.pid})", f"read {entry.log}")
        return
    outbox = status.outbox
    if status.warning is not None:
        yield problem(check, status.warning.reason, "calls are tried again; see `procorefs status`")
    elif outbox.failed or outbox.held:
        stuck = f"{outbox.failed} failed and {outbox.held} held changes"
        yield warning(check, stuck, f"procorefs status {shell_word(entry.mountpoint)}")
    else:
        yield ok(check, f"{status.state}, {outbox.pending + outbox.uploading} changes waiting")
    if "redis is away" in status.limiter.shared_by:
        yield warning("Redis", "the shared budget cannot be reached", "start Redis, or check `limiter=`")


def _dead_mounts(mountpoint: Path | None) -> Iterator[Finding]:
    for mount in read_mounts():
        path = mount.mountpoint
        if not mount.is_ours or (mountpoint is not None and path != mountpoint):
            continue
        result = errno_of(partial(os.statvfs, path), PROBE_S)
        if result in DEAD:
            yield problem(f"mount {path}", "its daemon has ended", f"procorefs umount {shell_word(path)}")
        elif result == errno.ETIMEDOUT:
            yield problem(f"mount {path}", "it does not answer", f"umount -l {shell_word(path)}")


def _set_aside(state_dir: Path) -> Finding:
    """Damaged databases keep their name with `.damaged-` and a time (storage/sqlite_files.py)."""
    found = sorted(path for path in state_dir.rglob("*.damaged-*") if path.suffix not in ("-wal", "-shm"))
    if not found:
        return ok("state", str(state_dir))
    return warning("state", f"{len(found)} damaged files were moved aside, such as {found[0]}", "delete them")
