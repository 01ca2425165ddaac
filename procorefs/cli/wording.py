"""What people read about changes that are not in Procore: one sentence each, with what to do."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from procorefs.config.units import show_duration, show_size
from procorefs.outbox.face import STUCK, Counts, Item


def printable(path: str) -> str:
    """The path on one line: control characters would move the terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def sentences(items: Iterable[Item], mountpoint: Path) -> Iterator[str]:
    """What to do about each that is stuck, and one sentence about all that are on their way."""
    moving = []
    for item in items:
        if item.state in STUCK:
            yield _stuck(item, mountpoint)
        else:
            moving.append(item)
    if moving:
        yield _moving(moving, mountpoint)


def shown_counts(counts: Counts) -> str:
    """`3 changes, 1.5 MiB, done in 4 min`, or why nothing moves."""
    parts = [f"{counted(counts.moving, 'change')}", show_size(counts.bytes_pending)]
    if counts.trouble:
        parts.append(f"waiting, because {_reason(counts.trouble)}")
    elif counts.eta_seconds is not None:
        parts.append(f"done in {show_duration(counts.eta_seconds)}")
    return ", ".join(parts)


def counted(number: int, what: str) -> str:
    """`1 change`, `2,000 changes`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def full_path(item: Item, mountpoint: Path) -> str:
    """Where programs see it, on one line."""
    return printable(str(mountpoint / item.path))


def _stuck(item: Item, mountpoint: Path) -> str:
    path, reason = full_path(item, mountpoint), _reason(item.reason)
    quoted = shlex.quote(str(mountpoint / item.path))
    match item.state:
        case "held":
            why = reason or "its name is a temporary one"
            return f"{path} is not in Procore: {why}; rename it, or leave it alone for an hour"
        case "checked_out":
            why = reason or "somebody else has it checked out"
            return f"{path} is not in Procore: {why}; it goes when that ends"
        case "incomplete":
            why = reason or "the program that wrote it was cut off"
            return (
                f"{path} is not in Procore: {why}; write it anew, or send it as it is with "
                f"`procorefs retry {quoted}`, or throw it away with `procorefs discard {quoted}`"
            )
        case _:
            why = reason or "it was refused"
            return (
                f"{path} is not in Procore: {why}; when that is mended run `procorefs retry {quoted}`, or throw "
                f"the change away with `procorefs discard {quoted}`"
            )


def _moving(items: list[Item], mountpoint: Path) -> str:
    first = full_path(items[0], mountpoint)
    if len(items) == 1:
        return f"{first} is still on its way to Procore; `procorefs status` says how far it is"
    others = counted(len(items) - 1, "other")
    return f"{first} and {others} are still on their way to Procore; `procorefs status` says how far they are"


def _reason(text: str) -> str:
    """As the middle of a sentence, on one line."""
    return printable(" ".join(text.split()).rstrip(".;"))
