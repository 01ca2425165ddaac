"""Which addresses may be asked at all: https anywhere, plain http on this machine alone (procore-api.md, Hosts)."""

import functools
import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Does this host name mean the machine itself: `localhost`, ::1 and all of 127.0.0.0/8?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def acceptable_url(url: str) -> bool:
    """May it be fetched: https anywhere, http from loopback hosts alone."""
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
