"""Defines the options of `-o`: one table that parses them and prints their help.

Every option in the table has an effect. The standard options of /etc/fstab are accepted: those that restrict the mount
are passed to libfuse, the others change nothing.
"""

import difflib
import logging
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Literal

import msgspec

from procorefs.config.units import parse_duration_s, parse_number, parse_octal, parse_size_bytes
from procorefs.storage.failures import ConfigError

_HELP_COLUMN = 24

LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""The values of `log_level`."""

SETTABLE = ("freshness", "cache_size", "log_level", "delete_guard")
"""The options that `procorefs set` changes while the mount runs."""


class MountOptions(msgspec.Struct, frozen=True):
    """The options of `-o` with their defaults."""

    ro: bool = False
    """The kernel answers writes with EROFS."""
    allow_other: bool = False
    uid: int | None = None
    """Owner of every document; None: the user of the mount."""
    gid: int | None = None
    umask: int | None = None
    """Permission bits to remove from every document; None: 022, and modes that were set here stay unchanged."""
    freshness_s: float = 30.0
    """`open` polls Procore first if the last poll is older."""
    cache_size_bytes: int = 10 << 30
    limiter: str = "local"
    """Where the call budget is shared: `local`, or the address of a Redis."""
    calls_per_hour: int | None = None
    """Calls that Procore grants per hour; 0: found out, None: as the profile says."""
    write_mode: Literal["back", "through"] = "back"
    """`through`: close, rename, mkdir and unlink wait for Procore and return its error."""
    write_back_s: float = 2.0
    """How long a file waits after its last writer has closed it."""
    staging_size_bytes: int = 50 << 30
    """How many bytes may wait for their upload in the state directory."""
    delete_guard: int | None = 500
    """More documents than this, deleted within ten minutes, are held until a person decides; None: all are sent."""
    invalid_names: Literal["reject", "encode"] = "reject"
    """`encode`: characters that Procore refuses are sent as full-width characters (tree/naming/full_width.py)."""
    junk: Literal["skip", "keep"] = "skip"
    """`keep`: private files of programs, such as .DS_Store, are uploaded like all other files."""
    fsync: Literal["local", "remote"] = "local"
    """`remote`: fsync returns when the bytes are in Procore, and not when they are on this disk."""
    office_locks: bool = True
    """Whether the lock file of an office program checks its document out."""
    notifications: bool = True
    """Whether the desktop session shows what needs attention."""
    thumbnails: bool = True
    """False: thumbnailers of file managers get an error, so that a view of a photo folder fetches no photos."""
    log_level: str = "info"
    """The least important messages that are logged."""
    restrictions: frozenset[str] = frozenset()
    """Restrictions of /etc/fstab for libfuse: nodev, noexec, nosuid."""

    @property
    def fuse_words(self) -> frozenset[str]:
        """The options for libfuse, without fsname and subtype."""
        words = {"default_permissions", *self.restrictions}
        if self.ro:
            words.add("ro")
        if self.allow_other:
            words.add("allow_other")
        return frozenset(words)


class Option(msgspec.Struct, frozen=True):
    """One row of the table."""

    name: str
    field: str | None
    """The field of MountOptions; None: the option is always on."""
    parse: Callable[[str], Any] | None
    """None: the option has no value."""
    default: str
    unit: str
    help: str
    meaning: bool = True
    """The value of the field for an option without a value."""


def _one_of(**meanings: object) -> Callable[[str], object]:
    """A parser for a value from a fixed set."""

    def parse(text: str) -> object:
        if text not in meanings:
            raise ConfigError(f"'{text}' is not one of its values; write {' or '.join(meanings)}")
        return meanings[text]

    return parse


def _parse_limiter(text: str) -> str:
    """`local` or the address of a Redis."""
    if text != "local":
        from procorefs.limiter.redis_store import parse_address  # here: trio is slow to import

        try:
            address = parse_address(text)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if address.password:
            raise ConfigError(
                "every user of this machine can read a password in the list of processes; leave it out and set "
                "PROCOREFS_REDIS_PASSWORD"
            )
        missing = [package for package in ("redis", "cryptography") if find_spec(package) is None]
        if missing:
            raise ConfigError(
                f"a budget in Redis needs the Python package {missing[0]}; run: pip install 'procorefs[redis]'"
            )
    return text


def parse_calls_per_hour(text: str) -> int:
    """A number of calls, or 0 for `auto`. Raises ConfigError."""
    return 0 if text == "auto" else _parse_count(text, "calls", "auto")


def _parse_delete_guard(text: str) -> int | None:
    """A number of documents, or None for `off`. Raises ConfigError."""
    return None if text == "off" else _parse_count(text, "documents", "off")


def _parse_count(text: str, of_what: str, otherwise: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise ConfigError(f"'{text}' is no number of {of_what}; write a number from 1, or {otherwise}")
    return int(text)


OPTIONS: tuple[Option, ...] = (
    Option("ro", "ro", None, "off", "", "Read-only: writes fail with EROFS."),
    Option("rw", "ro", None, "on", "", "Read and write.", meaning=False),
    Option("allow_other", "allow_other", None, "off", "", "Let other users of this machine use the mount."),
    Option("uid", "uid", parse_number, "you", "ID", "Owner shown for every file and folder."),
    Option("gid", "gid", parse_number, "your group", "ID", "Group shown for every file and folder."),
    Option(
        "umask",
        "umask",
        parse_octal,
        "022",
        "OCTAL",
        "Permission bits to remove; if given, also from modes that were set here.",
    ),
    Option("default_permissions", None, None, "always", "", "The kernel checks owner, group and mode."),
    Option(
        "freshness",
        "freshness_s",
        parse_duration_s,
        "30",
        "SECONDS",
        "When a program opens something that was polled longer ago, Procore is polled first.",
    ),
    Option(
        "cache_size",
        "cache_size_bytes",
        parse_size_bytes,
        "10G",
        "SIZE",
        "How much file content is kept on disk, in bytes or with K, M, G or T.",
    ),
    Option(
        "limiter",
        "limiter",
        _parse_limiter,
        "local",
        "local|redis://HOST:PORT/DB",
        "Who shares the budget of API calls: all processes of this user, or all that use the same Redis.",
    ),
    Option(
        "calls_per_hour",
        "calls_per_hour",
        parse_calls_per_hour,
        "auto",
        "N|auto",
        "How many API calls an hour Procore grants this client id; auto finds it out, beginning with 600.",
    ),
    Option(
        "write_mode",
        "write_mode",
        _one_of(back="back", through="through"),
        "back",
        "back|through",
        "Whether close, rename, mkdir and rm return at once, or wait for Procore and return its error.",
    ),
    Option(
        "write_back",
        "write_back_s",
        parse_duration_s,
        "2",
        "SECONDS",
        "How long a written file waits after it was closed: changes during that time cost no extra upload.",
    ),
    Option(
        "staging_size",
        "staging_size_bytes",
        parse_size_bytes,
        "50G",
        "SIZE",
        "How much may wait on this disk for its upload; a program that writes more waits until some is sent.",
    ),
    Option(
        "delete_guard",
        "delete_guard",
        _parse_delete_guard,
        "500",
        "N|off",
        "More than N documents deleted, or overwritten with another type of content, within ten minutes are held "
        "until `procorefs retry` or `procorefs discard`.",
    ),
    Option(
        "invalid_names",
        "invalid_names",
        _one_of(reject="reject", encode="encode"),
        "reject",
        "reject|encode",
        "Whether a name that Procore refuses is an error, or is sent with full-width characters instead.",
    ),
    Option(
        "junk",
        "junk",
        _one_of(skip="skip", keep="keep"),
        "skip",
        "skip|keep",
        "Whether files such as .DS_Store and Thumbs.db stay on this machine, or are uploaded too.",
    ),
    Option(
        "fsync",
        "fsync",
        _one_of(local="local", remote="remote"),
        "local",
        "local|remote",
        "Whether fsync waits until the bytes are safe on this disk, or until they are in Procore.",
    ),
    Option(
        "office_locks",
        "office_locks",
        _one_of(on=True, off=False),
        "on",
        "on|off",
        "Whether a document is checked out in Procore while an office program has it open.",
    ),
    Option(
        "notifications",
        "notifications",
        _one_of(on=True, off=False),
        "on",
        "on|off",
        "Whether the desktop shows what needs attention. Without a desktop session nothing is shown.",
    ),
    Option(
        "thumbnails",
        "thumbnails",
        _one_of(on=True, off=False),
        "on",
        "on|off",
        "Whether thumbnailers of file managers may read files. They read each photo of a folder once.",
    ),
    Option(
        "log_level",
        "log_level",
        _one_of(**{name: name for name in LOG_LEVELS}),
        "info",
        "|".join(LOG_LEVELS),
        "The least important messages that are logged.",
    ),
)

RESTRICTIONS = frozenset({"nodev", "noexec", "nosuid"})
_STANDARD_TEXT = """
dev suid exec auto noauto user nouser users owner group defaults async sync dirsync atime noatime diratime
nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime nofail _netdev loud silent
"""
"""Options of /etc/fstab, mount(8) and systemd that change nothing here."""
STANDARD_WORDS = frozenset(_STANDARD_TEXT.split())
STANDARD_PREFIXES = ("x-", "X-", "comment=", "context=", "fscontext=", "defcontext=", "rootcontext=")
"""`x-systemd.automount`, `x-gvfs-show`, `comment=…`, `X-mount.mkdir`: for programs that read /etc/fstab."""


def parse_options(texts: Iterable[str]) -> MountOptions:
    """Parse one or several `-o` values; a later option replaces an earlier one. Raises ConfigError."""
    fields: dict[str, Any] = {}
    restrictions: set[str] = set()
    for word in (word.strip() for text in texts for word in text.split(",")):
        if word in RESTRICTIONS:
            restrictions.add(word)
        elif word and word not in STANDARD_WORDS and not word.startswith(STANDARD_PREFIXES):
            fields.update(_parse_word(word))
    return MountOptions(**fields, restrictions=frozenset(restrictions))


def parse_setting(name: str, text: str) -> Any:  # noqa: ANN401 - each option has its own type
    """The value of an option that can change while the mount runs. Raises ConfigError."""
    option = next((row for row in OPTIONS if row.name == name), None)
    if option is None:
        raise ConfigError(_unknown(name))
    if name not in SETTABLE or option.parse is None:
        raise ConfigError(
            f"option '{name}' cannot change while the mount runs; unmount, and mount with it "
            f"(these can: {', '.join(SETTABLE)})"
        )
    try:
        return option.parse(text)
    except ConfigError as error:
        raise ConfigError(f"option '{name}': {error}") from error


def option_words(table: Mapping[str, str | float | bool]) -> list[str]:
    """Options of a configuration file as words of `-o`. Raises ConfigError for an unknown one."""
    words = []
    for name, value in table.items():
        row = next((row for row in OPTIONS if row.name == name), None)
        if row is None and name not in RESTRICTIONS:
            raise ConfigError(_unknown(name))
        takes_value = row is not None and row.parse is not None
        if isinstance(value, bool) and takes_value:
            words.append(f"{name}={'on' if value else 'off'}")
        elif isinstance(value, bool):
            words += [name] if value else []
        elif takes_value:
            words.append(f"{name}={value}")
        else:
            raise ConfigError(f"option '{name}' takes no value; write {name} = true")
    return words


def options_help(width: int = 78) -> str:
    """The table as text, one paragraph for each option, with lines of at most `width`."""
    return "\n".join(line for option in described_options() for line in _paragraph(*option, width))


def described_options() -> list[tuple[str, str]]:
    """Each option as people write it, and what it means, with its default."""
    return [
        (row.name + (f"={row.unit}" if row.unit else ""), f"{row.help} Default: {row.default}.")
        for row in OPTIONS
    ]


def _paragraph(name: str, text: str, width: int) -> list[str]:
    column = " " * _HELP_COLUMN
    lines = textwrap.wrap(
        text, width, initial_indent=column, subsequent_indent=column, break_on_hyphens=False
    )
    if len(name) + 2 > _HELP_COLUMN:
        return [name, *lines]
    return [name.ljust(_HELP_COLUMN) + lines[0].lstrip(), *lines[1:]]


def _parse_word(word: str) -> dict[str, Any]:
    name, equals, value = word.partition("=")
    option = next((row for row in OPTIONS if row.name == name), None)
    if option is None:
        raise ConfigError(_unknown(name))
    if option.parse is None:
        if equals:
            raise ConfigError(f"option '{name}' takes no value; write just -o {name}")
        return {option.field: option.meaning} if option.field else {}
    if not value:
        raise ConfigError(f"option '{name}' needs a value: -o {name}={option.unit}")
    try:
        return {str(option.field): option.parse(value)}
    except ConfigError as error:
        raise ConfigError(f"option '{name}': {error}") from error


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [row.name for row in OPTIONS], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`procorefs mount --help` lists all options"
    return f"unknown option '{name}'; {hint}"
