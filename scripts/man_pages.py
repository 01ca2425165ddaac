"""Writes the manual pages: one for each command from its `--help`, and procorefs(5) from docs/configuration.md.

    python -m scripts.man_pages DIRECTORY

The pages are composed as Markdown; go-md2man turns them into roff.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from procorefs.cli.main import COMMANDS, procorefs
from procorefs.cli.mount_helper import USAGE
from procorefs.config import described_options

CONFIGURATION = Path(__file__).parent.parent / "docs" / "configuration.md"

SEE_ALSO = "**procorefs**(1), **procorefs**(5), **mount.fuse.procorefs**(8), **fuse**(4), **fstab**(5)"

EXIT_STATUS = """# EXIT STATUS
0
: success

1
: a failure; one sentence on standard error says why

2
: a wrong call

130
: interrupted with Ctrl-C
"""

Page = tuple[str, int, str]
"""Name, section and text in Markdown."""


def main(directory: Path) -> None:
    """Write all pages into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, section, text in pages():
        heading = f'% {name.upper()} {section} "" "procorefs {version("procorefs")}"\n\n'
        page = subprocess.run(
            ["go-md2man"], input=heading + text, check=True, capture_output=True, text=True
        ).stdout
        (directory / f"{name}.{section}").write_text(page, encoding="utf-8")


def pages() -> Iterator[Page]:
    """All pages."""
    yield from _command_pages()
    yield _helper_page()
    yield _configuration_page()


def _command_pages() -> Iterator[Page]:
    group = click.Context(procorefs, info_name="procorefs")
    listed = "\n".join(f"**procorefs-{name}**(1)\n: {line}\n" for name, (_, line) in COMMANDS.items())
    yield (
        "procorefs",
        1,
        _command_text(procorefs, group) + f"# COMMANDS\n{listed}\n{EXIT_STATUS}\n# SEE ALSO\n{SEE_ALSO}\n",
    )
    for name in COMMANDS:
        command = procorefs.get_command(group, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=group)
        text = _command_text(command, context)
        yield f"procorefs-{name}", 1, f"{text}{EXIT_STATUS}\n# SEE ALSO\n{SEE_ALSO}\n"


def _command_text(command: click.Command, context: click.Context) -> str:
    """Name, synopsis, description and options of a command."""
    name = context.command_path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(context))
    description = _paragraphs(command.help or "")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    listed = "\n".join(_definition(*record) for record in records if record is not None and record[1])
    if command is procorefs.get_command(context, "mount"):
        listed += "\n# MOUNT OPTIONS\n" + "\n".join(_definition(*row) for row in described_options())
    if isinstance(command, click.Group) and command.commands:
        listed += "\n# COMMANDS\n" + "\n".join(
            _definition(part, one.get_short_help_str(200)) for part, one in command.commands.items()
        )
    return (
        f"# NAME\n{name} - {command.get_short_help_str(200).rstrip('.')}\n\n"
        f"# SYNOPSIS\n**{context.command_path}** {_escaped(usage)}\n\n"
        f"# DESCRIPTION\n{description}\n\n# OPTIONS\n{listed}\n"
    )


def _definition(term: str, text: str) -> str:
    return f"**{_escaped(term)}**\n: {_escaped(text)}\n"


def _paragraphs(text: str) -> str:
    """Help text of click as Markdown."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b", "").strip("\n"))
    return "\n\n".join(_escaped(" ".join(paragraph.split())) for paragraph in paragraphs)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]])", r"\\\1", text)


def _helper_page() -> Page:
    synopsis, description, flags = USAGE.strip("\n").split("\n\n")
    listed = "\n".join(_definition(*line.split("  ", 1)) for line in textwrap.dedent(flags).splitlines())
    return (
        "mount.fuse.procorefs",
        8,
        "# NAME\nmount.fuse.procorefs - helper of mount(8) for ProcoreFS\n\n"
        f"# SYNOPSIS\n{_escaped(synopsis.removeprefix('Usage: '))}\n\n"
        "# DESCRIPTION\nmount(8) runs it for the file system type fuse.procorefs, also for lines of /etc/fstab.\n"
        f"{_escaped(' '.join(description.split()))}\n\n"
        f"# OPTIONS\n{listed}\n"
        "# EXIT STATUS\nThe exit status is 32 if the mount fails.\n\n"
        f"# SEE ALSO\n{SEE_ALSO}, **mount**(8)\n",
    )


def _configuration_page() -> Page:
    title, text = CONFIGURATION.read_text(encoding="utf-8").split("\n", 1)
    assert title.startswith("# ")
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"^## (.*)$", lambda heading: f"# {heading.group(1).upper()}", text, flags=re.MULTILINE)
    text = re.sub(r"(?:^\|.*\|\n)+", lambda table: _definitions(table.group(0)), text, flags=re.MULTILINE)
    return "procorefs", 5, f"# NAME\nprocorefs - configuration and files of ProcoreFS\n\n{text}"


def _definitions(table: str) -> str:
    """A table as a list of definitions: a terminal is too narrow for its columns."""
    heads, _, *rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for line in table.splitlines()
    ]
    items = []
    for first, *rest in rows:
        named = [(head, cell) for head, cell in zip(heads[1:], rest, strict=True) if cell]
        main_text = max((cell for _, cell in named), key=len)
        others = "".join(f" ({head}: {cell})" for head, cell in named if cell is not main_text)
        items.append(f"{first}{others}\n: {main_text}\n")
    return "\n".join(items) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
