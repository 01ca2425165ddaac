"""Parses a duration as the value of a command's option; a wrong one is an error with the option's name."""

import click

from procorefs.config import ConfigError
from procorefs.config.units import parse_duration_s


def seconds_of(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """The option's callback: its seconds, None when it is not given. Raises BadParameter."""
    if text is None:
        return None
    try:
        return parse_duration_s(text)
    except ConfigError as error:
        raise click.BadParameter(str(error), context, option) from error
