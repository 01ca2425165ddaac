"""Defines what a check of `procorefs doctor` finds: all right, to be looked at, or wrong, and what mends it."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """ProcoreFS works, but not in all cases."""
    PROBLEM = "problem"
    """ProcoreFS does not work."""


class Finding(msgspec.Struct, frozen=True):
    """What one check has found."""

    check: str
    """What was checked, in one or two words."""
    verdict: Verdict
    text: str
    """What is so, as a clause."""
    mend: str = ""
    """What to do, or the command to run; empty if nothing has to be done."""


def ok(check: str, text: str) -> Finding:
    """Nothing has to be done."""
    return Finding(check, Verdict.OK, text)


def warning(check: str, text: str, mend: str) -> Finding:
    """It works, but not in all cases."""
    return Finding(check, Verdict.WARNING, text, mend)


def problem(check: str, text: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.PROBLEM, text, mend)
