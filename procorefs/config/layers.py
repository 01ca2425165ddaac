"""Puts the options of a mount together: defaults, configuration file, profile, command line; the later ones win."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from procorefs.config.options import OPTIONS, MountOptions, option_words, parse_options
from procorefs.config.profiles import Config, OptionTable
from procorefs.storage.failures import ConfigError


class Setting(msgspec.Struct, frozen=True):
    """One option with its value, and where that comes from."""

    name: str
    value: str
    origin: str
    """`default`, or the table of the configuration file."""


def layered_options(file: Path, config: Config, profile: str | None, words: Sequence[str]) -> MountOptions:
    """The options of a mount with these words of `-o`. Raises ConfigError, which names the file if it is wrong."""
    configured = [word for _, table in _tables(config, profile) for word in _checked(file, table)]
    return parse_options([*configured, *words])


def option_settings(file: Path, config: Config, profile: str | None) -> Iterator[Setting]:
    """The value of each option without `-o`. Raises ConfigError."""
    found: dict[str, Setting] = {}
    for heading, table in _tables(config, profile):
        for word in _checked(file, table):
            name, equals, value = word.partition("=")
            found[name] = Setting(name, value if equals else "on", f"[{heading}]")
    for row in OPTIONS:
        if row.field is not None:
            yield found.get(row.name) or Setting(row.name, row.default, "default")
    names = {row.name for row in OPTIONS}
    yield from (setting for setting in found.values() if setting.name not in names)


def _tables(config: Config, profile: str | None) -> Iterator[tuple[str, OptionTable]]:
    yield "options", config.options
    if profile is not None and profile in config.profiles:
        yield f"profiles.{profile}.options", config.profiles[profile].options


def _checked(file: Path, table: OptionTable) -> list[str]:
    try:
        words = option_words(table)
        parse_options(words)
    except ConfigError as error:
        raise ConfigError(
            f"the configuration {file} cannot be used: {error}; `procorefs config edit` opens it"
        ) from error
    return words
