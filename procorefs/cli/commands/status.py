"""`procorefs status`: asks the daemons for their status and shows it."""

import os
import time
from pathlib import Path

import click

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.locate import given_path, locate, split_path
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.support.terminal import say_json
from procorefs.config import Failure, Paths, find_paths
from procorefs.service.control_socket import ControlError, NotListening, StatusRequest, ask
from procorefs.service.status import MountStatus, Named
from procorefs.storage.mountinfo import mount_at, read_mounts

_WATCH_S = 2.0


class NoMount(Failure):
    """There is no ProcoreFS mount to ask."""


@click.command(short_help="Show what the mounts are doing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object for MOUNTPOINT, or a list for all mounts."
)
@click.option("--watch", is_flag=True, help="Repeat every two seconds until Ctrl-C.")
@click.argument("mountpoint", required=False)
def status(as_json: bool, watch: bool, mountpoint: str | None) -> None:
    """Show what MOUNTPOINT, or each of your mounts, is doing.

    Any path below MOUNTPOINT works too.
    """
    paths = find_paths(os.environ)
    while True:
        if watch and not as_json:
            click.clear()
        _show(paths, mountpoint, as_json)
        if not watch:
            return
        time.sleep(_WATCH_S)


def status_of(path: Path, paths: Paths) -> MountStatus:
    """Ask the daemon of the mount that the path is in. Raises NoMount, ControlError."""
    mounts = read_mounts()
    place, _ = split_path(str(path), mounts)
    mount = mount_at(place, mounts)
    if mount is None or not mount.is_ours:
        place = locate(path, mounts)  # a daemon may be starting or closing there
    entry = registry.find(place, paths) or registry.find_detached(place, paths)
    if entry is not None:
        return ask(Path(entry.socket), StatusRequest(), MountStatus)
    if mount is not None and mount.is_ours:
        raise NoMount(
            f"the daemon of {place} has ended or belongs to another user; `procorefs mount` mounts it again"
        )
    raise NoMount(f"{place} is not in a ProcoreFS mount; `procorefs status` lists the mounts")


def _show(paths: Paths, mountpoint: str | None, as_json: bool) -> None:
    if mountpoint is not None:
        found = [status_of(given_path(mountpoint), paths)]
        answer: object = found[0]
    else:
        answer = found = [_status_or_silence(entry) for entry in registry.running(paths)]
    if as_json:
        say_json(answer)
    else:
        from procorefs.cli.support.status_view import show  # rich is slow to import

        show(found)


def _status_or_silence(entry: Entry) -> MountStatus:
    try:
        return ask(Path(entry.socket), StatusRequest(), MountStatus, timeout_s=3.0)
    except ControlError as error:
        return MountStatus(
            mountpoint=entry.mountpoint,
            project=Named(entry.project_id),
            company=Named(entry.company_id),
            # A daemon opens its socket last and closes it first.
            state="starting or closing" if isinstance(error, NotListening) else "not answering",
            pid=entry.pid,
            log=entry.log,
        )
