"""`procorefs check`: lists local names that Procore would refuse, and what copying the rest costs; sends nothing."""

import os
from collections import Counter

import click
import msgspec

from procorefs.cli.support.preflight import Preflight, preflight
from procorefs.cli.support.terminal import say, say_json
from procorefs.config import Failure, find_paths, read_config
from procorefs.config.account import find_client
from procorefs.config.profiles import Profile
from procorefs.config.units import show_duration, show_size
from procorefs.storage.printable import printable

USUAL_LIMITS = (600, 3600)
"""Calls per hour of new apps and of older ones: an unknown limit is one of them or more."""

TYPES_SHOWN = 8


class Unreadable(Failure):
    """A tree that cannot be read."""


class Checked(msgspec.Struct, frozen=True):
    """One DIR with what was found."""

    dir: str
    hours: float
    hourly_calls: int
    """The budget that `hours` assumes: the known one, else the least."""
    hours_by_limit: dict[int, float]
    """Hours for each limit that is possible: one where it is known."""
    preflight: Preflight


@click.command(short_help="List the names that Procore would refuse.")
@click.option("--into", metavar="FOLDER", default="", help="Folder of the project to copy into.")
@click.option(
    "--hourly", metavar="CALLS", type=click.IntRange(min=1),
    help="Calls that Procore grants per hour. Default: as last reported or configured.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.argument("dirs", nargs=-1, required=True, metavar="DIR…")
def check(dirs: tuple[str, ...], into: str, hourly: int | None, as_json: bool) -> int:
    """List the files below DIR… that Procore would refuse, and what copying the others costs. Nothing is sent.

    Exit status 1 when something would be refused.
    """
    known = hourly or _known_limit()
    found = [_checked(path, into, (known,) if known else USUAL_LIMITS) for path in dirs]
    if as_json:
        say_json(found)
    else:
        for checked in found:
            _show(checked)
    return int(any(checked.preflight.refused for checked in found))


def _checked(path: str, into: str, limits: tuple[int, ...]) -> Checked:
    try:
        found = preflight(path, into)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}); name a directory") from error
    hours = {limit: found.hours(limit) for limit in limits}
    return Checked(path, hours[limits[0]], limits[0], hours, found)


def _known_limit() -> int | None:
    """The hourly limit of the default account, as last told or configured; makes no call."""
    paths = find_paths(os.environ)
    try:
        config = read_config(paths.config_file)
        client = find_client(os.environ, config)
    except Failure:
        return None  # a mount would report wrong settings; checking names needs none
    if client is None:
        return None
    from procorefs.limiter.opening import budget_key, known_hourly_limit  # trio takes its time to import

    told = known_hourly_limit(paths.budgets_dir, budget_key(*client))
    configured = config.profiles.get(config.chosen(None) or "", Profile()).calls_per_hour
    if configured == "auto":
        return told
    return min(configured, told or configured)


def _show(checked: Checked) -> None:
    found = checked.preflight
    for refused in found.refused:
        say(f"{printable(refused.path)}: {refused.reason}")
    longest = (
        f"{len(found.longest_path)} characters: {printable(found.longest_path)}"
        if found.longest_path
        else "none"
    )
    durations = " or ".join(
        f"{show_duration(hours * 3600)} at {limit:,} an hour"
        for limit, hours in checked.hours_by_limit.items()
    )
    lines = {
        "files": f"{found.files:,} of {show_size(found.bytes)}",
        "folders": f"{found.folders:,}",
        "types": _types(found.types),
        "longest path": longest,
        "junk": f"{found.junk:,} left out, such as .DS_Store or Thumbs.db",
        "temporary": f"{found.held:,} left out until they are renamed" if found.held else "",
        "calls": f"{found.api_calls:,}: {durations}",
        "refused": f"{len(found.refused):,}" + (", listed above" if found.refused else ""),
    }
    say(printable(checked.dir))
    for name, text in lines.items():
        if text:
            say(f"  {name:<13} {text}")


def _types(types: Counter[str]) -> str:
    shown = [f"{extension or 'none'} {count:,}" for extension, count in types.most_common(TYPES_SHOWN)]
    if len(types) > TYPES_SHOWN:
        shown.append(f"{len(types) - TYPES_SHOWN} more")
    return ", ".join(shown) or "none"
