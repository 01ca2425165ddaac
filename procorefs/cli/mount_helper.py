"""`mount.fuse.procorefs`: the helper that mount(8) calls, as `SPEC MOUNTPOINT [-sfnv] [-N NS] [-o OPT] [-t TYPE]`.

mount(8) passes neither HOME nor XDG variables nor PATH, so the settings are those of the account that it runs as.
"""

import getopt
import os
import sys
from collections.abc import Sequence

import msgspec

from procorefs.cli.support.error_output import INTERRUPTED, complain, complain_of
from procorefs.config import ConfigError

USAGE = """\
Usage: mount.fuse.procorefs SPEC MOUNTPOINT [-sfnv] [-o OPT[,OPT...]] [-t TYPE]

  mount(8) calls this for the type fuse.procorefs. SPEC is
  [PROFILE:]COMPANY/PROJECT, ids or names; `procorefs mount --help` lists the
  options of -o. `-o remount,ro` and `-o remount,rw` change a mount that runs.

  -f  Check the call and mount nothing.
  -s, -n, -v, -t TYPE  Accepted and ignored.
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_THE_CALL = "the call is mount.fuse.procorefs SPEC MOUNTPOINT [-sfnv] [-o OPT] [-t TYPE]"


class Call(msgspec.Struct, frozen=True):
    """The arguments of mount(8)."""

    spec: str
    mountpoint: str
    words: tuple[str, ...] = ()
    fake: bool = False
    """-f: check the call and mount nothing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exits with 0 when the mount answers, else with one sentence and 32 (mount failure)."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Mount according to the arguments and return the exit status."""
    os.environ.setdefault("PATH", _PATH)
    if set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return 0
    try:
        call = parse_call(arguments)
        if not call.fake:
            from procorefs.cli.commands.mount import mount_project
            from procorefs.cli.mounts.locate import given_path
            from procorefs.cli.mounts.remount import is_remount, remount

            mountpoint = given_path(call.mountpoint)
            if is_remount(call.words):
                remount(mountpoint, call.words)
            else:
                mount_project(call.spec, mountpoint, call.words, foreground=False)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        complain_of(error)
        return 32
    return 0


def parse_call(arguments: list[str]) -> Call:
    """Parse the arguments; options may be at any position. Raises ConfigError."""
    try:
        options, places = getopt.gnu_getopt(arguments, "sfnvN:o:t:")
    except getopt.GetoptError as error:
        raise ConfigError(f"{error.msg}; {_THE_CALL}") from error
    if len(places) != 2:
        raise ConfigError(_THE_CALL)
    return Call(
        spec=places[0],
        mountpoint=places[1],
        words=tuple(value for name, value in options if name == "-o"),
        fake=any(name == "-f" for name, _ in options),
    )
