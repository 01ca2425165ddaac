"""`procorefs config`: shows, checks and edits the configuration file."""

import os

import click
import msgspec

from procorefs.cli.support.terminal import say, say_json
from procorefs.config import (
    Config,
    ConfigError,
    Failure,
    Paths,
    Setting,
    find_paths,
    option_settings,
    read_config,
)
from procorefs.config.paths import write_private
from procorefs.storage.printable import printable
from procorefs.storage.private_files import NotPrivate, check_private_file
from procorefs.storage.processes import forget_secrets

_NEW_FILE = b"""\
# ProcoreFS; see `man 5 procorefs`. `procorefs login` writes this file: comments are lost then.
# [options]
# cache_size = "20G"
"""


_VARIABLES = {
    "client_id": "PROCOREFS_CLIENT_ID",
    "api_url": "PROCOREFS_API_URL",
    "login_url": "PROCOREFS_LOGIN_URL",
    "company": "PROCOREFS_COMPANY_ID",
    "project": "PROCOREFS_PROJECT_ID",
}
"""The variables that win over a key of the profile."""


class NotEdited(Failure):
    """The editor did not run."""


class Shown(msgspec.Struct, frozen=True):
    """The settings of one profile."""

    file: str
    profile: str | None
    account: dict[str, str]
    """What the environment or else the profile sets; secrets are elsewhere."""
    environment: dict[str, str]
    """The variable of each key of `account` that comes from the environment."""
    options: list[Setting]


@click.group(short_help="Show, check and edit the configuration file.", invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show, check and edit the configuration file.

    Options of `mount -o` win over those of the profile, and these over those of the file's table [options].
    """
    if ctx.invoked_subcommand is None:
        say(*ctx.get_help().split("\n"))


@config.command(short_help="Show all settings, and where each comes from.")
@click.option("--profile", "-p", metavar="NAME", help="Default: the default profile.")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
def show(profile: str | None, as_json: bool) -> None:
    """Show all settings, and where each comes from."""
    paths, read = _read()
    name = read.chosen(profile)
    if name is not None and name not in read.profiles:
        raise ConfigError(f"there is no profile '{name}'; run: procorefs login --profile {name}")
    account = msgspec.to_builtins(read.profiles[name]) if name is not None else {}
    account.pop("options", None)
    variables = {key: variable for key, variable in _VARIABLES.items() if os.environ.get(variable)}
    account |= {key: os.environ[variable] for key, variable in variables.items()}
    options = list(option_settings(paths.config_file, read, name))
    shown = Shown(str(paths.config_file), name, account, variables, options)
    if as_json:
        say_json(shown)
        return
    say(f"{shown.file}{'' if paths.config_file.exists() else ' (there is none)'}")
    if name is not None:
        say(f"  {'profile':<22} {name}")
    for key, value in account.items():
        say(f"  {key:<22} {value:<18} {variables.get(key) or f'[profiles.{name}]'}")
    for setting in shown.options:
        say(f"  {setting.name:<22} {setting.value:<18} {setting.origin}")


@config.command(short_help="Print the path of the file.")
def path() -> None:
    """Print the path of the file."""
    say(str(find_paths(os.environ).config_file))


@config.command(short_help="Check that the file can be used.")
def check() -> None:
    """Check that the file can be used."""
    paths, read = _read()
    for name in (None, *read.profiles):
        list(option_settings(paths.config_file, read, name))
    if not paths.config_file.exists():
        say(f"There is no {paths.config_file}; the defaults apply. `procorefs login` creates it.")
        return
    say(f"{paths.config_file} can be used.")


@config.command(short_help="Edit the file in $EDITOR, then check it.")
@click.pass_context
def edit(ctx: click.Context) -> None:
    """Edit the file in $VISUAL or $EDITOR, then check it."""
    file = find_paths(os.environ).config_file
    if not file.exists():
        write_private(file, _NEW_FILE)
    try:
        check_private_file(file, file.stat())  # an editor runs what the file of another user tells it to
    except NotPrivate as error:
        raise ConfigError(f"the configuration {error}") from error
    forget_secrets()
    try:
        click.edit(filename=str(file))
    except click.ClickException as error:
        raise NotEdited(
            f"{printable(str(file))} was not edited ({error.format_message()}); set EDITOR to the command of an editor"
        ) from error
    ctx.invoke(check)


def _read() -> tuple[Paths, Config]:
    paths = find_paths(os.environ)
    return paths, read_config(paths.config_file)
