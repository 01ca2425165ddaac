"""How people see the status of mounts."""

import time
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from procorefs.cli.wording import printable
from procorefs.config.units import show_duration, show_size
from procorefs.status import LimiterStatus, MountStatus, Named, OutboxItem, WindowStatus

_BAR_CELLS = 20  # of the bar that shows what is left of a window
_ITEMS_SHOWN = 20


def show(mounts: list[MountStatus]) -> None:
    """Print one block a mount."""
    console = wide_console()
    if not mounts:
        console.print("Nothing is mounted.")
    for mount in mounts:
        console.print(_block(mount))


def wide_console() -> Console:
    """A console that breaks lines for a terminal, but not for a pipe or a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=1000)


def _block(mount: MountStatus) -> Table:
    table = Table(
        title=Text(mount.mountpoint, style="bold"),
        title_justify="left",
        show_header=False,
        box=None,
        padding=(0, 2),
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(mount):
        # names from Procore may hold what rich would take for markup
        table.add_row(label, Text(value))
    return table


def _rows(mount: MountStatus) -> Iterator[tuple[str, str]]:
    yield "project", f"{_named(mount.project)} of {_named(mount.company)}"
    yield "state", f"{mount.state} (process {mount.pid})"
    looked = (
        "not looked yet" if mount.tree.age_seconds is None else f"{show_duration(mount.tree.age_seconds)} ago"
    )
    yield "documents", f"{mount.tree.documents:,}, {mount.tree.state}; last look at Procore: {looked}"
    yield from _outbox(mount)
    cache = mount.cache
    yield (
        "cache",
        f"{show_size(cache.bytes)} of {show_size(cache.limit)}; {cache.hits:,} hits, {cache.misses:,} misses",
    )
    calls = mount.api_calls
    yield "API calls", f"{calls.total:,}" + (f", {calls.throttled:,} throttled" if calls.throttled else "")
    yield from _budget(mount.limiter)
    yield "log", mount.log or "stderr"
    for refusal in mount.refusals:
        yield "refused", f"{refusal.at}  {refusal.path}: {refusal.reason}"


def _outbox(mount: MountStatus) -> Iterator[tuple[str, str]]:
    box = mount.outbox
    counts = {"waiting": box.pending, "uploading": box.uploading, "held": box.held, "failed": box.failed}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    if box.pending or box.uploading:
        said.append(f"{show_size(box.bytes_pending)} to send")
    if box.eta_seconds is not None:
        at = _clock(time.time() + box.eta_seconds)
        said.append(f"empty in {show_duration(box.eta_seconds)}, at {at}")
    yield "outbox", ", ".join(said) or "empty: all is in Procore"
    if box.trouble:
        yield "trouble", box.trouble
    yield from _stuck("failed", box.failures, box.failed)
    yield from _stuck("held", box.held_items, box.held)


def _stuck(label: str, items: list[OutboxItem], total: int) -> Iterator[tuple[str, str]]:
    shown = items[:_ITEMS_SHOWN]
    for item in shown:
        yield label, f"{item.since}  {printable(item.path)}: {item.reason}"
    if total > len(shown):
        yield label, f"{total - len(shown):,} more; --json lists {len(items):,}"


def _budget(limiter: LimiterStatus) -> Iterator[tuple[str, str]]:
    shared = f"  shared by {limiter.shared_by}" if limiter.shared_by else ""
    yield "calls, hour", _window(limiter.hourly) + shared
    yield "calls, 10 s", _window(limiter.spike)
    if limiter.waiting:
        classes = ", ".join(f"{count:,} {name}" for name, count in limiter.waiting_by_class.items() if count)
        until = f", the next goes at {_clock(limiter.next_at)}" if limiter.next_at is not None else ""
        yield "waiting", f"{limiter.waiting:,} calls ({classes}){until}"
    if limiter.paused_until is not None:
        yield "paused", f"until {_clock(limiter.paused_until)}"


def _window(window: WindowStatus) -> str:
    if not window.limit or window.remaining is None:
        return "not known yet"
    full = round(_BAR_CELLS * window.remaining / window.limit)
    until = f", until {_clock(window.reset)}" if window.reset is not None else ""
    bar = "█" * full + "░" * (_BAR_CELLS - full)
    return f"{bar} {window.remaining:,} of {window.limit:,} left{until}"


def _clock(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s):%H:%M:%S}"


def _named(thing: Named) -> str:
    return f"{thing.name} ({thing.id})" if thing.name else str(thing.id)
