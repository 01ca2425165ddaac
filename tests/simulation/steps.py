"""Histories: lists of steps, each with its pause and its faults, so that shorter lists are histories, too."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.simulation.names import program_content

FaultKind = Literal[
    "refused", "lost_before", "lost_after", "status_before", "status_after", "gateway", "late"
]


class Fault(msgspec.Struct, omit_defaults=True):
    """What befalls one request."""

    kind: FaultKind
    """refused: no connection. lost: no answer; nothing was done, or all. status: an error, before or after the work.
    gateway: 504 after a while, done all the same, later. late: no answer at all, and done later."""
    match: str = "change"
    """change, upload, storage, look, login, or a method: the next such request, but for `skip`."""
    skip: int = 0
    status: int = 503
    seconds: float = 0.0
    """gateway, late: how much later it is done."""

    def __str__(self) -> str:
        told = [self.kind, self.match, f"after {self.skip}" if self.skip else ""]
        told += [str(self.status)] if "status" in self.kind else []
        told += [f"{self.seconds:g}s"] if self.seconds else []
        return " ".join(filter(None, told))


class Step(msgspec.Struct, omit_defaults=True):
    """One operation of a program, of a colleague, or of fate."""

    number: int
    """Stays the same when other steps are left out: bytes, latencies and the order of tasks follow from it."""
    op: str
    path: str = ""
    to: str = ""
    slot: int = 0
    """Which of the open files."""
    flags: str = "r"
    """As for Python's open: r, r+, w, w+, a, x."""
    offset: int = 0
    size: int = 0
    value: str = ""
    """setxattr: the text, of the attribute in `to`; colleague: the tag, the description."""
    program: str = ""
    """write: the program whose own file it is; empty: a person's."""
    pause_s: float = 0.0
    """Virtual time before it."""
    faults: list[Fault] = []
    """They strike from here on, after the pause."""

    def __str__(self) -> str:
        told = [f"{self.number:3d}", f"+{self.pause_s:g}s" if self.pause_s else "", self.op, self.path]
        told += [f"-> {self.to}"] if self.to else []
        if self.op in ("open", "write", "read", "close", "fsync", "flush", "ftruncate", "flock"):
            told.append(f"slot={self.slot}")
        if self.op in ("open", "flock", "full"):
            told.append(f"flags={self.flags}")
        if self.op in ("write", "read", "ftruncate", "truncate", "save"):
            told.append(f"offset={self.offset} size={self.size}")
        if self.value:
            told.append(repr(self.value))
        if self.program:
            told.append(f"by {self.program}")
        if self.op == "role":
            told.append(self.flags)
        if self.op == "crash":
            told.append(f"{self.flags} {self.size}")
        if self.op == "colleague":
            told.append(f"{self.flags} size={self.size}")
        if self.op in ("away", "clock"):
            told.append(f"{self.offset} s")
        if self.op == "rename" and self.flags != "r":
            told.append(self.flags)
        told += [f"[{fault}]" for fault in self.faults]
        return " ".join(filter(None, told))


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is as it is for a whole history."""

    write_back_s: float = 2.0
    per_page: int | None = None
    """Documents on a page of Procore's lists, at most."""
    dialect: dict[str, Any] = {}
    """Answers to questions that Procore's documentation leaves open: fields of procorefs/sandbox/faults/dialect.py."""
    delete_guard: int = 500
    takes_back: bool = False
    """What the delete guard holds at the end is discarded; else it is let go."""
    encodes: bool = False
    """Names that Procore refuses are encoded."""
    made_before: list[str] = []
    """What a colleague made before the first mount: files, and folders with a `/` at the end."""
    is_limited: bool = False
    """The account has no administrator's rights: it may set no descriptions, and Procore lists no deletions to it."""


class History(msgspec.Struct):
    """What is played."""

    seed: int
    steps: list[Step]
    setting: Setting = Setting()


def content_of(step: Step) -> bytes:
    """The bytes that a step writes: no other step of a usual history writes the same, however few they are."""
    word = b"%c<%d>" % (33 + step.number % 90, step.number)
    content = (word * (step.size // len(word) + 1))[: step.size]
    return program_content(step.program, step.number, content) if step.program else content


class _Head(msgspec.Struct):
    seed: int
    setting: Setting = Setting()


def write_history(path: Path, history: History) -> None:
    """For replaying, one step a line."""
    head = msgspec.json.encode(_Head(history.seed, history.setting))
    path.write_bytes(b"\n".join([head, *(msgspec.json.encode(step) for step in history.steps)]) + b"\n")


def read_history(path: Path) -> History:
    first, *lines = path.read_bytes().splitlines()
    head = msgspec.json.decode(first, type=_Head)
    return History(head.seed, [msgspec.json.decode(line, type=Step) for line in lines], head.setting)
