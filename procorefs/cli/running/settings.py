"""`procorefs set`: changes settings of a mount while it runs, or shows them."""

import os
from pathlib import Path

import click

from procorefs.cli.mounts.locate import find_location
from procorefs.cli.support.terminal import say
from procorefs.config import ConfigError, find_paths
from procorefs.config.options import SETTABLE, parse_setting
from procorefs.service.control_socket import SetRequest, ask
from procorefs.service.status import Settings


@click.command(name="set", short_help="Change settings of a mount while it runs.")
@click.argument("mountpoint")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE…]")
def set_command(mountpoint: str, words: tuple[str, ...]) -> None:
    """Change settings of the mount at MOUNTPOINT, until it is unmounted; without KEY=VALUE show them.

    KEY is freshness, cache_size, log_level or delete_guard; `procorefs mount --help` says what they mean. All other
    options need a new mount.
    """
    asked = dict(_pair(word) for word in words)
    daemon = find_location(mountpoint, find_paths(os.environ)).daemon
    _show(ask(Path(daemon.socket), SetRequest(asked), Settings))


def _pair(word: str) -> tuple[str, str]:
    """The name and the text of a setting, which the daemon will accept. Raises ConfigError."""
    name, equals, text = word.partition("=")
    if not equals:
        raise ConfigError(f"'{word}' is not KEY=VALUE; KEY is one of {', '.join(SETTABLE)}")
    parse_setting(name, text)
    return name, text


def _show(settings: Settings) -> None:
    guard = "off" if settings.delete_guard is None else str(settings.delete_guard)
    say(f"freshness={settings.freshness:g}")
    say(f"cache_size={settings.cache_size}")
    say(f"log_level={settings.log_level}")
    say(f"delete_guard={guard}")
