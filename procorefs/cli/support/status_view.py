"""Formats and prints the status of mounts."""

from collections.abc import Iterator
from datetime import date, datetime

from rich.console import Console
from rich.text import Text

from procorefs.cli.support.formatting import clause, counted
from procorefs.cli.support.terminal import console
from procorefs.config.units import show_duration, show_size
from procorefs.service.status import (
    GuardedFolder,
    LimiterStatus,
    MountStatus,
    Named,
    OutboxItem,
    StatusWarning,
    WindowStatus,
)
from procorefs.storage import clocks
from procorefs.storage.printable import printable, shell_word

_BAR_CELLS = 20  # of the bar that shows what is left of a window
_ITEMS_SHOWN = 20
_LABEL_CELLS = 17  # of the column before the values, with the space around it
_LEAST_VALUE_CELLS = 20  # however narrow the terminal is
_STATES = {"detached": "not mounted, still uploading"}
_TREE_STATES = {"behind": "as last known: the last poll failed"}


def show(mounts: list[MountStatus]) -> None:
    """Print one block a mount."""
    out = console()
    if not mounts:
        out.print("Nothing is mounted.")
    for number, mount in enumerate(mounts):
        if number:
            out.print()
        _print(out, Text(printable(mount.mountpoint), style="bold"))
        for label, value in _rows(mount):
            _print_row(out, label, value)


def _print_row(out: Console, label: str, value: str) -> None:
    """Print a label and its value; on a terminal a long value takes several lines."""
    lines = [Text(printable(value))]
    if out.is_terminal:
        width = max(out.width - _LABEL_CELLS, _LEAST_VALUE_CELLS)
        lines = list(Text(printable(value), overflow="fold").wrap(out, width))
    for line in lines:
        line.rstrip()
        _print(out, Text.assemble((f"  {label}".ljust(_LABEL_CELLS), "dim"), line))
        label = ""


def _print(out: Console, line: Text) -> None:
    out.print(line, no_wrap=True, overflow="ignore", crop=False)


def _rows(mount: MountStatus) -> Iterator[tuple[str, str]]:
    yield "project", f"{_named(mount.project)} of {_named(mount.company)}"
    yield "state", f"{_STATES.get(mount.state, mount.state)} (process {mount.pid})"
    looked = "none yet" if mount.tree.age_seconds is None else f"{show_duration(mount.tree.age_seconds)} ago"
    state = _TREE_STATES.get(mount.tree.state, mount.tree.state)
    yield "documents", f"{mount.tree.documents:,}, {state}; last poll: {looked}"
    warning = mount.warning or (StatusWarning(mount.outbox.warning) if mount.outbox.warning else None)
    if warning is not None:
        yield "warning", _warning(warning)
    if mount.rights.restriction:
        yield "rights", mount.rights.restriction
    yield from _outbox(mount)
    cache = mount.cache
    used = f"{show_size(cache.bytes)} of {show_size(cache.limit)}"
    yield "cache", f"{used}; {counted(cache.hits, 'hit')}, {counted(cache.misses, 'miss', 'misses')}"
    calls = mount.api_calls
    yield "API calls", f"{calls.total:,}" + (f", {calls.throttled:,} throttled" if calls.throttled else "")
    yield from _budget(mount.limiter)
    yield "log", printable(mount.log) or "stderr"
    yield from _refusals(mount)


def _warning(warning: StatusWarning) -> str:
    since = f"since {_when(warning.since)}: " if warning.since else ""
    return f"{since}{clause(warning.reason)}; trying again"


def _refusals(mount: MountStatus) -> Iterator[tuple[str, str]]:
    """Refused requests that are not shown as failed changes."""
    said = {_about(item) for item in mount.outbox.failures[:_ITEMS_SHOWN]}
    for refusal in mount.refusals:
        if refusal.reason not in said:
            yield "refused", _happened(refusal.at, refusal.reason)


def _outbox(mount: MountStatus) -> Iterator[tuple[str, str]]:
    box = mount.outbox
    counts = {"waiting": box.pending, "uploading": box.uploading, "held": box.held, "failed": box.failed}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    if box.pending or box.uploading:
        said.append(f"{show_size(box.bytes_pending)} to send")
    if box.eta_seconds is not None:
        at = _clock(clocks.wall_s() + box.eta_seconds)
        said.append(f"empty in {show_duration(box.eta_seconds)}, at {at}")
    yield "outbox", ", ".join(said) or f"empty: everything {'else ' if box.local.count else ''}is in Procore"
    if box.local.count:
        yield (
            "local",
            f"{counted(box.local.count, 'file')} of {show_size(box.local.bytes)} on this machine alone",
        )
        yield from _stuck("local", box.local.items, box.local.count)
    if box.local.junk:
        yield (
            "junk",
            f"{counted(box.local.junk, 'file')} that programs keep for themselves, such as .DS_Store",
        )
    yield from _stuck("failed", box.failures, box.failed)
    yield from _guarded(mount)
    yield from _stuck("held", box.held_items, box.held - sum(map(_documents, box.guarded)))


def _guarded(mount: MountStatus) -> Iterator[tuple[str, str]]:
    """The folders in which the delete guard holds something, and what to do."""
    folders = sorted(mount.outbox.guarded, key=_documents, reverse=True)
    for folder in folders[:_ITEMS_SHOWN]:
        counts = {"deletion": folder.deletions, "overwrite": folder.overwrites}
        said = ", ".join(counted(count, what) for what, count in counts.items() if count)
        yield "guarded", f"{said} in {printable(folder.path) or 'the root'}"
    more = folders[_ITEMS_SHOWN:]
    if more:
        yield "guarded", f"{sum(map(_documents, more)):,} in {counted(len(more), 'more folder')}"
    if folders:
        place = shell_word(mount.mountpoint)
        yield (
            "guarded",
            f"nothing of this is sent: `procorefs retry {place}` sends it, `procorefs discard {place}` brings it "
            "back; both take a folder, too",
        )


def _documents(folder: GuardedFolder) -> int:
    return folder.deletions + folder.overwrites


def _stuck(label: str, items: list[OutboxItem], total: int) -> Iterator[tuple[str, str]]:
    shown = items[:_ITEMS_SHOWN]
    for item in shown:
        yield label, _happened(item.since, _about(item))
    if total > len(shown):
        yield label, f"{total - len(shown):,} more; --json shows {len(items):,}"


def _about(item: OutboxItem) -> str:
    return f"{item.path}: {item.reason}"


def _happened(at: str, sentence: str) -> str:
    return f"{_when(at)}  {printable(sentence)}"


def _budget(limiter: LimiterStatus) -> Iterator[tuple[str, str]]:
    yield "calls, hour", _window(limiter.hourly) + f" ({limiter.source})" + _shared(limiter)
    used = f"{limiter.used_by_people:,} by people, {limiter.used_by_background:,} by migrations and polls"
    yield "used, 60 min", used
    yield "calls, 10 s", _window(limiter.spike)
    if limiter.waiting:
        classes = ", ".join(f"{count:,} {name}" for name, count in limiter.waiting_by_class.items() if count)
        until = f", next at {_clock(limiter.next_at)}" if limiter.next_at is not None else ""
        yield "waiting", f"{counted(limiter.waiting, 'call')} ({classes}){until}"
    if limiter.paused_until is not None:
        yield "paused", f"until {_clock(limiter.paused_until)}"


def _shared(limiter: LimiterStatus) -> str:
    if not limiter.shared_by:
        return ""
    part = f", limited to {limiter.share * 100:.0f} %" if limiter.share < 1 else ""
    return f"  shared by {limiter.shared_by}{part}"


def _window(window: WindowStatus) -> str:
    if not window.limit or window.remaining is None:
        return "not known yet"
    full = round(_BAR_CELLS * window.remaining / window.limit)
    until = f", until {_clock(window.reset)}" if window.reset is not None else ""
    bar = "█" * full + "░" * (_BAR_CELLS - full)
    return f"{bar} {window.remaining:,} of {window.limit:,} left{until}"


def _when(iso: str) -> str:
    """A local time, with the date unless it is today."""
    at = datetime.fromisoformat(iso).astimezone()
    return f"{at:%H:%M:%S}" if at.date() == date.today() else f"{at:%Y-%m-%d %H:%M:%S}"


def _clock(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s):%H:%M:%S}"


def _named(thing: Named) -> str:
    return f"{printable(thing.name)} ({thing.id})" if thing.name else str(thing.id)
