"""Builds the handlers of the kernel's requests for one mount."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from procorefs.config import MountOptions
from procorefs.kernel.attributes import Ownership
from procorefs.kernel.bridge.native import Bridge
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.entry_changes import EntryChanges
from procorefs.kernel.file_changes import FileChanges, SetIdBits, UploadWait, WritePolicy
from procorefs.kernel.flocks import Flocks
from procorefs.kernel.node_lookup import NodeLookup
from procorefs.kernel.open_handles import OpenHandles
from procorefs.kernel.operations import ErrorAnswers, Operations
from procorefs.kernel.procore_directory import ProcoreDirectory
from procorefs.kernel.read_handlers import ReadHandlers
from procorefs.project import Projects
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.sync.account_rights import AccountRights
from procorefs.upload.mount_access import MountAccess

DEFAULT_UMASK = 0o022


@dataclass(frozen=True, slots=True)
class StatusFile:
    """The source of `.procore/status`."""

    content: Callable[[], bytes]
    update: Callable[[], Awaitable[None]]
    """Updates the values that take time to get; called before the file is opened."""


@dataclass(frozen=True, slots=True)
class KernelSide:
    """The parts that the session and the daemon use."""

    operations: Operations
    flocks: Flocks


def open_kernel_side(
    projects: Projects,
    options: MountOptions,
    access: MountAccess,
    notifier: Notifier,
    refusals: RefusedCalls,
    status: StatusFile,
    rights: AccountRights,
) -> KernelSide:
    bridge, ownership = Bridge(), _ownership(options, rights)
    handles, nodes = OpenHandles(projects), NodeLookup(projects, notifier)
    reads = ReadHandlers(projects, nodes, handles, ownership, thumbnails=options.thumbnails)
    directory = ProcoreDirectory(projects, status.content, status.update, ownership)
    errors = ErrorAnswers(projects, directory, refusals)
    policy = WritePolicy(is_through=options.write_mode == "through", syncs_remotely=options.fsync == "remote")
    set_id_bits, upload_wait = SetIdBits(projects, nodes), UploadWait(projects, policy)
    entries = EntryChanges(projects, nodes, handles, notifier, ownership, set_id_bits, upload_wait)
    files = FileChanges(bridge, projects, nodes, handles, reads, ownership, set_id_bits, upload_wait)
    operations = Operations(bridge, projects, handles, errors, reads, entries, files, directory)
    operations.set_read_only(access.is_read_only)
    access.changed.subscribe(operations.set_read_only)
    flocks = Flocks(lambda inode: projects.of(inode).locks.flocks, errors.errno_of_flock, os.getuid())
    return KernelSide(operations, flocks)


def _ownership(options: MountOptions, rights: AccountRights) -> Ownership:
    return Ownership(
        uid=os.getuid() if options.uid is None else options.uid,
        gid=os.getgid() if options.gid is None else options.gid,
        umask=DEFAULT_UMASK if options.umask is None else options.umask,
        masks_kept=options.umask is not None,
        hides_private=options.allow_other,
        reads_only=lambda: rights.current.write is False,
    )
