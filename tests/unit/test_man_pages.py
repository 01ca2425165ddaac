"""The manual pages have each command with all its options, and the tables of the configuration page."""

import click
import pytest

from procorefs.cli.main import COMMANDS, procorefs
from procorefs.config import described_options
from scripts.man_pages import pages

PAGES = {(name, section): text for name, section, text in pages()}


def test_there_is_a_page_for_each_command() -> None:
    commands = {(f"procorefs-{name}", 1) for name in COMMANDS}
    others = {("procorefs", 1), ("procorefs", 5), ("mount.fuse.procorefs", 8)}
    assert set(PAGES) == commands | others


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_all_options_of_its_command(name: str) -> None:
    command = procorefs.get_command(click.Context(procorefs), name)
    assert command is not None
    text = PAGES[f"procorefs-{name}", 1]
    for parameter in command.params:
        for flag in parameter.opts if isinstance(parameter, click.Option) else ():
            assert flag in text


def test_the_page_of_mount_has_the_mount_options() -> None:
    text = PAGES["procorefs-mount", 1].replace("\\", "")
    for option, meaning in described_options():
        assert f"**{option}**\n: {meaning}\n" in text


def test_tables_of_the_configuration_page_become_definitions() -> None:
    text = PAGES["procorefs", 5]
    assert "`freshness=SECONDS` (default: 30)\n: when a program opens" in text
    assert "`fsync=local|remote`" in text
    assert not [line for line in text.splitlines() if line.startswith("|")]
