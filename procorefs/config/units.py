"""Parses durations, sizes and file modes as people write them, and formats durations and sizes."""

import math
import re

from procorefs.storage.failures import ConfigError

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LONGEST_S = 366 * 86400.0


def parse_duration_s(text: str) -> float:
    """Seconds from `2`, `0.5`, `500ms`, `1.5m`, `2h`, `1d`. Raises ConfigError."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip(), re.ASCII)
    if match is None or match[2] not in _SECONDS:
        raise ConfigError(f"'{text}' is not a duration; write seconds such as 2 or 0.5, or 500ms, 5m, 2h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not math.isfinite(seconds) or seconds > _LONGEST_S:
        raise ConfigError(f"'{text}' is longer than a year; write a shorter duration")
    return seconds


def parse_size_bytes(text: str) -> int:
    """Bytes from `1048576`, `512M`, `1.5G`, `10GiB`; K, M, G, T are powers of 1,024. Raises ConfigError."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise ConfigError(f"'{text}' is not a size; write bytes, or a number with K, M, G or T such as 10G")
    size_bytes = float(match[1]) * 2.0 ** _BYTES[match[2].upper()]
    if size_bytes > 2.0**60:
        raise ConfigError(f"'{text}' is larger than any disk; write a smaller size")
    return int(size_bytes)


def parse_octal(text: str) -> int:
    """A mask of permission bits from `022` or `0077`. Raises ConfigError."""
    if not re.fullmatch(r"0?o?[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise ConfigError(f"'{text}' is not a mask; write it in octal such as 022")
    return int(text, 8)


def parse_number(text: str) -> int:
    """A user or group id from its digits. Raises ConfigError."""
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or int(text) >= 2**32 - 1:
        raise ConfigError(f"'{text}' is not a user or group id; write a number such as 1000")
    return int(text)


def show_size(size_bytes: int) -> str:
    """A size for people: `1.5 GiB`."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def show_duration(seconds: float) -> str:
    """A duration for people: `4 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
