"""`procorefs`: the group of commands; imports a command's module only when it is called."""

import errno
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from procorefs.cli.support.error_output import INTERRUPTED, complain, complain_of
from procorefs.cli.support.terminal import say

COMMANDS = {
    "mount": ("procorefs.cli.commands.mount", "Mount a project at a directory."),
    "umount": ("procorefs.cli.commands.umount", "Unmount a project and end its daemon."),
    "sync": ("procorefs.cli.commands.sync", "Wait until all changes are in Procore."),
    "status": ("procorefs.cli.commands.status", "Show what the mounts are doing."),
    "retry": ("procorefs.cli.commands.retry", "Send failed changes again."),
    "discard": ("procorefs.cli.commands.retry", "Throw failed changes away."),
    "check": ("procorefs.cli.commands.check", "List the names that Procore would refuse."),
    "login": ("procorefs.cli.commands.login", "Create a profile: try credentials and store them."),
    "logout": ("procorefs.cli.commands.login", "Revoke and delete the tokens of a profile."),
    "projects": ("procorefs.cli.commands.projects", "List the companies and projects that you can mount."),
    "serve": (
        "procorefs.cli.commands.serve",
        "Serve a status page and metrics of all mounts, on this machine only.",
    ),
    "open": ("procorefs.cli.commands.serve:open_page", "Open the status page in a browser."),
    "config": ("procorefs.cli.commands.config", "Show, check and edit the configuration file."),
    "doctor": (
        "procorefs.cli.commands.doctor",
        "Check machine, account and mounts, and say what mends a problem.",
    ),
    "set": ("procorefs.cli.running.settings:set_command", "Change settings of a mount while it runs."),
    "log": ("procorefs.cli.running.log:log_command", "Print or follow the log of a mount."),
    "desktop": ("procorefs.cli.desktop.command", "Install what file managers show and offer."),
    "sandbox": ("procorefs.cli.trial.sandbox", "Run an embedded Procore for trials and tests."),
    "demo": ("procorefs.cli.trial.demo", "Run a sandbox, a mount and a short tour; needs no account."),
}
"""Name → module, or module:function, and line of help (here, so that `--help` imports no command)."""

EXTRAS = {"serve": "web", "open": "web"}
"""The optional dependencies of a command; `sandbox` for all others."""


class LazyGroup(click.Group):
    """Finds its commands by name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module, _, function = COMMANDS[cmd_name][0].partition(":")
            command = getattr(import_module(module), function or cmd_name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("procorefs"):
                raise
            raise click.ClickException(
                f"`{cmd_name}` needs the Python package {error.name}; run: pip install "
                f"'procorefs[{EXTRAS.get(cmd_name, 'sandbox')}]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--version", is_flag=True, help="Show the versions that matter in a bug report and exit.")
@click.pass_context
def procorefs(ctx: click.Context, version: bool) -> None:
    """Mount the Documents of a Procore project as a directory."""
    if version:
        from procorefs.cli.support.versions import versions

        say(*(f"{name} {number}" for name, number in versions().items()))
        ctx.exit()
    if ctx.invoked_subcommand is None:
        say(*ctx.get_help().split("\n"))


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exits with the command's status."""
    sys.exit(run(procorefs, arguments))


def run(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; every failure prints one sentence."""
    try:
        status = command.main(
            None if arguments is None else list(arguments), prog_name=command.name, standalone_mode=False
        )
        sys.stdout.flush()
    except click.UsageError as error:
        complain(_with_help(error))
        return error.exit_code
    except click.ClickException as error:
        complain(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return INTERRUPTED
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            return complain_of(group)
        complain("interrupted")  # trio was waiting for something
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_went_away()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return complain_of(error)
        complain(f"the output cannot be written ({error.strerror})")
        return 1
    except Exception as error:
        return complain_of(error)
    return status if isinstance(status, int) else 0


def _with_help(error: click.UsageError) -> str:
    """The library's message as one sentence that refers to `--help`."""
    words = error.format_message().rstrip(".").replace(". Did", "; did")
    command = error.ctx.command_path if error.ctx is not None else "procorefs"
    return words if words.endswith("?") else f"{words}; see `{command} --help`"


def _reader_went_away() -> int:
    # The interpreter flushes stdout again at its end; that must not fail again.
    sys.stdout = None
    return 1
