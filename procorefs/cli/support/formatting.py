"""Makes the sentences about changes that are not in Procore, each with what to do."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from procorefs.config.units import show_duration, show_size
from procorefs.journal.states import STUCK, ChangeState
from procorefs.service.control_socket import Staying
from procorefs.storage.printable import printable, shell_word
from procorefs.upload.items import Counts, Item

_MOVING_LISTED = 20


def sentences(items: Iterable[Item], mountpoint: Path) -> Iterator[str]:
    """A sentence for each item that needs a person, and one sentence for all that are being sent."""
    moving, held = [], 0
    for item in items:
        if item.state is ChangeState.GUARDED:
            held += 1
        elif item.state in STUCK:
            yield _stuck(item, mountpoint)
        else:
            moving.append(item)
    if held:
        yield _guarded(held, mountpoint)
    if moving:
        yield _moving(moving, mountpoint)


def listed(items: Iterable[Item], total: int, mountpoint: Path) -> Iterator[str]:
    """Sentences after the daemon has ended: each item that needs a person, and some of the others."""
    moving = _MOVING_LISTED
    said = held = 0
    for item in items:
        if item.state is ChangeState.GUARDED:
            held += 1
            continue
        if item.state in STUCK:
            yield f"{_subject(item, mountpoint)} is not in Procore: {clause(item.why)}"
        elif moving:
            moving -= 1
            yield f"{_subject(item, mountpoint)} is not in Procore yet"
        else:
            continue
        said += 1
    if held:
        yield _guarded(held, mountpoint)
        said += held
    if total > said:
        yield f"{total - said:,} more are not in Procore yet"


def staying(left: Staying, mountpoint: Path) -> Iterator[str]:
    """Sentences about files that stay on this machine because of their names; this is not a failure."""
    for item in left.items:
        remedy = (
            "move it elsewhere"
            if item.state is ChangeState.LOCAL
            else "rename it, or leave it unchanged for an hour"
        )
        yield (
            f"{full_path(item, mountpoint)} ({show_size(item.bytes)}) stays on this machine: {clause(item.why)}; "
            f"to upload it, {remedy}"
        )
    more = left.total - len(left.items)
    if more:
        all_of_them = f"{counted(left.total, 'file')} of {show_size(left.bytes)} in all"
        yield f"{more:,} more stay on this machine for such reasons: {all_of_them}; `procorefs status` names them"


def shown_counts(counts: Counts) -> str:
    """`3 changes, 1.5 MiB, done in 4 min`, or the reason for the wait."""
    parts = [f"{counted(counts.moving, 'change')}", show_size(counts.bytes_pending)]
    if counts.warning:
        parts.append(f"waiting: {clause(counts.warning)}")
    elif counts.eta_seconds is not None:
        parts.append(f"done in {show_duration(counts.eta_seconds)}")
    return ", ".join(parts)


def counted(number: int, what: str, several: str = "") -> str:
    """`1 change`, `2,000 changes`; `several`: an irregular plural."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def full_path(item: Item, mountpoint: Path) -> str:
    """The path of an item, on one line."""
    return printable(str(mountpoint / item.path))


def _stuck(item: Item, mountpoint: Path) -> str:
    path = shell_word(mountpoint / item.path)
    retry, discard = f"`procorefs retry {path}`", f"`procorefs discard {path}`"
    match item.state:
        case ChangeState.CHECKED_OUT:
            remedy = "it is sent when the check-out ends"
        case ChangeState.READ_ONLY:
            remedy = "it is sent when the project is mounted without `ro`"
        case ChangeState.INCOMPLETE:
            remedy = f"write it again, send it as it is with {retry}, or throw it away with {discard}"
        case _:
            remedy = f"fix that and run {retry}, or throw the change away with {discard}"
    return f"{_subject(item, mountpoint)} is not in Procore: {clause(item.why)}; {remedy}"


def _guarded(number: int, mountpoint: Path) -> str:
    place = shell_word(mountpoint)
    are = "is" if number == 1 else "are"
    return (
        f"{counted(number, 'deletion or overwrite', 'deletions and overwrites')} {are} held by the delete guard and "
        f"not in Procore; `procorefs status {place}` lists the folders; send them with `procorefs retry {place}`, or "
        f"bring the documents back with `procorefs discard {place}`"
    )


def _moving(items: list[Item], mountpoint: Path) -> str:
    first = _subject(items[0], mountpoint)
    if len(items) == 1:
        return f"{first} is still being uploaded; `procorefs status` shows its progress"
    others = counted(len(items) - 1, "other")
    return f"{first} and {others} are still being uploaded; `procorefs status` shows their progress"


def _subject(item: Item, mountpoint: Path) -> str:
    # "The change to": the file itself may be in Procore, in an older version or at another path.
    return f"the change to {full_path(item, mountpoint)}"


def clause(text: str) -> str:
    """A reason as the middle of a sentence, on one line."""
    text = printable(" ".join(text.split()).rstrip(".;"))
    return text.replace("Could not", "could not", 1) if text.startswith("Could not") else text
