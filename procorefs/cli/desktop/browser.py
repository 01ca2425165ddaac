"""Opens an address or a folder with the program that the desktop has for it."""

import subprocess

from procorefs.config import Failure
from procorefs.storage.printable import printable
from procorefs.storage.processes import child_environment

_START_S = 5.0
"""A browser that runs longer is open: some versions of xdg-open wait for its end."""


class NotOpened(Failure):
    """The desktop has no program for it."""


def open_address(address: str) -> None:
    """Start xdg-open. Raises NotOpened if it fails at once."""
    silent = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            ["xdg-open", address], env=child_environment(), stdin=silent, stdout=silent, stderr=silent
        )
    except OSError as error:
        raise NotOpened(_sentence(address, f"xdg-open cannot be started, {error.strerror}")) from error
    try:
        status = process.wait(_START_S)
    except subprocess.TimeoutExpired:
        return
    if status:
        raise NotOpened(_sentence(address, "xdg-open found no program for it"))


def _sentence(address: str, reason: str) -> str:
    return f"{printable(address)} cannot be opened ({reason}); open it yourself, on this machine"
