"""Finds the user whose process is at the other end of a connection over loopback.

All users of a machine can connect to its loopback addresses, read what other users start in the list of processes, and
listen at other ports of the host that a browser's cookies belong to. So an address or a cookie alone does not prove
that a request comes from this user.
"""

import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

Address = tuple[str, int]
"""Host and port."""

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_ESTABLISHED = b"01"
"""In all other states the socket may have no owner any more, and the kernel shows root's id."""

_MAPPED = b"\0" * 10 + b"\xff\xff"
"""Before an IPv4 address in a socket of IPv6."""

_TRIES = 2
"""The kernel may leave out a connection while others begin and end."""


def is_own_user(peer: Address, here: Address, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the process at `peer`, connected to our address `here`, is of this user or root.

    After `sudo` also of the user who called it, who has the browser. An unknown user is another one.
    """
    own = {0, os.geteuid()}
    caller = environment.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdecimal() and len(caller) <= 10:  # an id has 32 bits
        own.add(int(caller))
    return user_at(peer, here) in own


def user_at(peer: Address, here: Address) -> int | None:
    """The user id of the socket at `peer` that is connected to `here`; None: there is none."""
    wanted = {(_shown(peer, is_mapped), _shown(here, is_mapped)) for is_mapped in (False, True)}
    for _ in range(_TRIES):
        for table in _TABLES:
            with suppress(OSError):  # a kernel without IPv6
                for line in table.read_bytes().splitlines()[1:]:
                    fields = line.split()
                    if (fields[1], fields[2]) in wanted and fields[3] == _ESTABLISHED:
                        return int(fields[7])
    return None


def _shown(address: Address, is_mapped: bool) -> bytes:
    """An address as the kernel's tables show it: words in the byte order of the machine, and the port."""
    host = ip_address(address[0])
    packed = _MAPPED + host.packed if is_mapped and not isinstance(host, IPv6Address) else host.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return ("".join(f"{word:08X}" for word in words) + f":{address[1]:04X}").encode()
