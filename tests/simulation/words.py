"""What went wrong, in a few words."""

import errno
from typing import Any


class Wrong(AssertionError):
    """The product did what it must not."""


def named(number: int) -> str:
    return errno.errorcode.get(number, "done")


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 120 else f"{text[:80]}… ({len(value)})"


def differences(got: dict[str, Any], wanted: dict[str, Any]) -> str:
    """In a few words."""
    told = [f"{path} is missing" for path in wanted if path not in got]
    told += [f"{path} is there ({got[path]})" for path in got if path not in wanted]
    told += [
        f"{path} is {short(got[path])} instead of {short(wanted[path])}"
        for path in got
        if path in wanted and got[path] != wanted[path]
    ]
    return "; ".join(told)
