"""Listens for the status page: at a port of the loopback address, or at a socket file that only its user can open."""

import errno
import os
import socket
import stat
from pathlib import Path

from procorefs.config import Failure


class NotServed(Failure):
    """The page is not served, or cannot be."""


def listen_at_port(port: int) -> socket.socket:
    """A listener at 127.0.0.1. Raises NotServed."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "another program uses it" if in_use else os.strerror(error.errno or errno.EIO)
        raise NotServed(
            f"port {port} of this machine cannot be used ({reason}); give another one with --port"
        ) from error


def listen_at_file(path: Path) -> socket.socket:
    """A listener at a socket file of mode 0600; one that a killed server left is replaced. Raises NotServed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _remove_leftover(path)
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # before `listen`, so nobody could connect
        listener.listen()
    except OSError as error:
        listener.close()
        # A path that is too long has no errno.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise NotServed(f"the socket file {path} cannot be made ({reason})") from error
    return listener


def _remove_leftover(path: Path) -> None:
    """Remove a socket at which nobody listens. Raises OSError if there is anything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "")
