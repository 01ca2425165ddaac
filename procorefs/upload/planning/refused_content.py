"""Decides whether Procore refused a file because it is empty or of a blocked type, and refuses the next ones at once.

A company may switch on "strict file uploads", and whether Procore takes empty files is unknown (procore-api.md,
Names). A rule counts as known only when the words of a refusal name it, and for some minutes: it may be switched off.
"""

import enum
import re

from procorefs.procore.errors import Invalid, ProcoreError, error_messages
from procorefs.storage import clocks
from procorefs.tree.naming.name_rules import split_extension

KNOWN_S = 600.0
"""So long after a refusal that named a rule, no file that breaks it is sent."""

_TYPES = (
    "apk app bat bin cmd com command cpl csh exe gadget inf1 ins inx ipa isu job jse ksh lnk msc msi msp mst osx out"
    " paf pif prg ps1 reg rgs run sct shb shs u3p vb vbe vbs vbscript workflow ws wsf"
)
STRICT_TYPES = frozenset(_TYPES.split())
"""The types that "strict file uploads" blocks."""


class ContentRule(enum.Enum):
    """What Procore may refuse about a file; the value matches the words of a refusal that name the rule."""

    EMPTY = re.compile(r"\bempty\b|\bzero\b|\b0 bytes?\b|\bsize\b|\bno content\b", re.IGNORECASE)
    TYPE = re.compile(r"\b(file)?[ _]?type\b|\bextension\b|\bformat\b|\bstrict\b", re.IGNORECASE)


class RefusedContent:
    """The rules that are known at present."""

    def __init__(self) -> None:
        self._known_s: dict[ContentRule, float] = {}

    def refusal(self, name: str, size_bytes: int) -> str:
        """Why a file is not sent, by a known rule; empty if no rule is known that it breaks."""
        for rule in _broken(name, size_bytes):
            known_s = self._known_s.get(rule)
            if known_s is not None and clocks.age_s(known_s) < KNOWN_S:
                return _sentence(rule, name)
        return ""

    def explain(self, name: str, size_bytes: int, error: ProcoreError) -> str:
        """Why Procore refused a file, where a rule may be the reason: as a sentence; empty where none can be.

        The rule is known from now on if the refusal names it.
        """
        broken = _broken(name, size_bytes)
        said = " ".join(error_messages(error.answer))
        for rule in broken:
            if rule.value.search(said):
                self._known_s[rule] = clocks.unix_s()
                return f"{_sentence(rule, name)} ({error})"
        if not broken or type(error) is not Invalid:
            return ""
        what = "empty" if broken[0] is ContentRule.EMPTY else f"of the type {_extension(name)}"
        return f"{error}; it is {what}, which Procore may refuse"


def _broken(name: str, size_bytes: int) -> list[ContentRule]:
    """The rules that a file breaks, should they hold."""
    found = [ContentRule.EMPTY] if size_bytes == 0 else []
    is_blocked = _extension(name)[1:].lower() in STRICT_TYPES
    return [*found, ContentRule.TYPE] if is_blocked else found


def _sentence(rule: ContentRule, name: str) -> str:
    if rule is ContentRule.EMPTY:
        return "Procore does not take empty files: write something into it"
    why = 'the company has switched on "strict file uploads"'
    return f"Procore does not take files of the type {_extension(name)}: {why}"


def _extension(name: str) -> str:
    return split_extension(name)[1]
