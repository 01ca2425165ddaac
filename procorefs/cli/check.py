"""`procorefs check`: would these names be accepted, and what would copying them cost? Nothing is sent."""

from collections import Counter

import click
import msgspec

from procorefs.cli.wording import printable
from procorefs.config import Failure
from procorefs.config.units import show_size
from procorefs.survey import Survey, survey

HOURLY_CALLS = 3600
"""What Procore grants a client by default; some plans have 600."""

TYPES_SHOWN = 8


class Unreadable(Failure):
    """A tree that can't be looked through."""


class Checked(msgspec.Struct, frozen=True):
    """One DIR with what was found."""

    dir: str
    hours: float
    survey: Survey


@click.command(short_help="Say which names Procore would refuse.")
@click.option(
    "--into", metavar="FOLDER", default="", help="Folder of the project that they would be copied into."
)
@click.option(
    "--hourly", metavar="CALLS", default=HOURLY_CALLS, show_default=True, type=click.IntRange(min=1),
    help="Calls that Procore grants in an hour.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="All that was found, as JSON.")
@click.argument("dirs", nargs=-1, required=True, metavar="DIR…")
def check(dirs: tuple[str, ...], into: str, hourly: int, as_json: bool) -> int:
    """Say which files below DIR… Procore would refuse, and what copying the others takes. Nothing is sent.

    Exit status 1 when something would be refused.
    """
    found = [_checked(path, into, hourly) for path in dirs]
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for checked in found:
            _show(checked, hourly)
    return int(any(checked.survey.refused for checked in found))


def _checked(path: str, into: str, hourly: int) -> Checked:
    try:
        found = survey(path, into)
    except OSError as error:
        raise Unreadable(f"{path} can't be looked through ({error.strerror}); name a directory") from error
    return Checked(path, found.hours(hourly), found)


def _show(checked: Checked, hourly: int) -> None:
    found = checked.survey
    for refused in found.refused:
        click.echo(f"{printable(refused.path)}: {refused.reason}")
    longest = (
        f"{len(found.longest_path)} characters: {printable(found.longest_path)}"
        if found.longest_path
        else "none"
    )
    lines = {
        "files": f"{found.files:,} of {show_size(found.bytes)}",
        "folders": f"{found.folders:,}",
        "types": _types(found.types),
        "longest path": longest,
        "junk": f"{found.junk:,} left out, as .DS_Store or Thumbs.db",
        "calls": f"{found.api_calls:,}: {checked.hours:.1f} hours at {hourly:,} an hour",
        "refused": f"{len(found.refused):,}" + (", listed above" if found.refused else ""),
    }
    click.echo(printable(checked.dir))
    for name, text in lines.items():
        click.echo(f"  {name:<13} {text}")


def _types(types: Counter[str]) -> str:
    shown = [f"{extension or 'none'} {count:,}" for extension, count in types.most_common(TYPES_SHOWN)]
    if len(types) > TYPES_SHOWN:
        shown.append(f"{len(types) - TYPES_SHOWN} more")
    return ", ".join(shown) or "none"
