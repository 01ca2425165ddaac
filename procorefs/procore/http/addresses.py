"""Decides which addresses may be fetched: https anywhere, plain http on this machine alone.

docs/procore-api.md (Hosts) says which ones Procore names.
"""

import functools
import ipaddress
from urllib.parse import urljoin, urlsplit

_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
"""Beside it are ranges that lead to an IPv4 address, such as 64:ff9b::/96 for 127.0.0.1."""

_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
"""Each of its addresses contains one of IPv4."""

_LOCAL_DOMAINS = frozenset(
    {
        "arpa",
        "corp",
        "home",
        "internal",
        "lan",
        "local",
        "localdomain",
        "localdomain4",
        "localdomain6",
        "localhost",
    }
)
"""Last parts of names that the public DNS does not have. A name of one part is a local one too, as `metadata`."""


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine: `localhost`, ::1 and all of 127.0.0.0/8."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AddressRule:
    """Which of the addresses that the server names may be fetched, redirects included.

    A Procore elsewhere must not send requests to this machine or into its network: with `api_host` outside of it, plain
    http, names that only this network can have, and literal addresses of private, link-local and loopback ranges are
    refused. The API's own host is always allowed: a company's proxy may have a private address.
    """

    def __init__(self, api_host: str) -> None:
        self._api_host = api_host
        self._is_local = is_loopback(api_host)

    def accepts(self, url: str) -> bool:
        """Whether a request may go there."""
        if not acceptable_url(url):
            return False
        if self._is_local:
            return True
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        return parts.scheme == "https" and (host == self._api_host or not _is_inside(host))


def _is_inside(host: str) -> bool:
    """Whether a host name can only mean this machine or its network."""
    host = host.rstrip(".")  # the root of the DNS: the same host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        first, _, last = host.rpartition(".")
        # what inet_aton(3) takes for an address though it has no four decimal parts, as 2130706433 or 0x7f.1
        return not first or last in _LOCAL_DOMAINS or last.startswith("0x") or last.isdecimal()
    is_translated = address.version == 6 and (address not in _GLOBAL_IPV6 or address in _SIX_TO_FOUR)
    return not address.is_global or address.is_multicast or is_translated


def redirected(url: str, location: str) -> str:
    """The address that a Location header leads to; empty, which no rule accepts, when it is none."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def acceptable_url(url: str) -> bool:
    """Whether it may be fetched: https from any host, http from loopback hosts alone."""
    if not url.isprintable():
        return False
    end = url.find("/", 8)
    return _acceptable_origin(url if end < 0 else url[:end])


@functools.lru_cache(maxsize=256)
def _acceptable_origin(origin: str) -> bool:
    if not origin.isascii() or " " in origin:
        return False
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname, parts.port  # an impossible port raises
    except ValueError:
        return False
    if not host or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
