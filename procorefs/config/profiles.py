"""Reads and writes the configuration file: profiles, each with a way to reach Procore.

    default_profile = "work"
    [profiles.work]
    client_id = "…"
    grant = "client_credentials"        # or "authorization_code"
    company = "4711"                    # id or name; with project the SPEC of `mount` may be left out
    project = "Harbour Tower"
    [profiles.work.options]             # of `mount -o`; [options] holds for all profiles
    cache_size = "20G"

It contains no secrets: a client secret is in a separate file or in the keyring. Only its owner may write it, because
its content decides which host gets the secret.
"""

import enum
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from procorefs.config.options import OPTIONS
from procorefs.config.paths import write_private
from procorefs.config.spec import PROFILE_NAME
from procorefs.procore.settings import OUT_OF_BAND, Grant
from procorefs.storage.failures import ConfigError
from procorefs.storage.private_files import NotPrivate, check_private_file

PRODUCTION_API = "https://api.procore.com"
PRODUCTION_LOGIN = "https://login.procore.com"


_CORRECT = "`procorefs config edit` opens it"

OptionTable = dict[str, str | int | float | bool]
"""Options of `mount -o` by name; true for an option without a value."""


class SecretPlace(enum.Enum):
    """Where `login` stored the client secret."""

    FILE = "file"
    KEYRING = "keyring"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table `[profiles.NAME]`."""

    client_id: str = ""
    grant: Grant = Grant.CLIENT_CREDENTIALS
    api_url: str = PRODUCTION_API
    login_url: str = PRODUCTION_LOGIN
    company: str | None = None
    project: str | None = None
    redirect_uri: str = OUT_OF_BAND
    """For the authorization-code grant, which needs it again at every refresh."""
    secret_in: SecretPlace = SecretPlace.FILE
    calls_per_hour: Annotated[int, msgspec.Meta(ge=1)] | Literal["auto"] = "auto"
    """Calls that Procore grants per hour; `auto`: found out."""
    options: OptionTable = {}
    """Of all mounts of the profile."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole file."""

    default_profile: str | None = None
    profiles: dict[str, Profile] = {}
    options: OptionTable = {}
    """Of all mounts."""

    def chosen(self, name: str | None) -> str | None:
        """The profile `name`; without a name the default, the only one, `default`, or None."""
        if name is not None:
            return name
        if self.default_profile is not None:
            return self.default_profile
        if len(self.profiles) == 1:
            return next(iter(self.profiles))
        return "default" if "default" in self.profiles else None


def read_config(file: Path) -> Config:
    """The content of the file; an empty Config if there is no file. Raises ConfigError with the line or key."""
    try:
        with file.open("rb") as stream:
            check_private_file(file, os.fstat(stream.fileno()))
            text = stream.read()
    except FileNotFoundError:
        return Config()
    except NotPrivate as error:
        raise ConfigError(f"the configuration {error}") from error
    except OSError as error:
        raise ConfigError(f"the configuration {file} cannot be read ({error.strerror})") from error
    return _parse(file, text)


def write_config(file: Path, config: Config) -> None:
    """Replace the file; comments in it are lost. Raises ConfigError."""
    lines = []
    if config.default_profile is not None:
        lines.append(f"default_profile = {_toml_string(config.default_profile)}\n")
    if config.options:
        lines += _table("options", config.options)
    for name, profile in config.profiles.items():
        heading = f"profiles.{_toml_string(name)}"
        fields = msgspec.to_builtins(profile)
        options = fields.pop("options", {})
        lines += _table(heading, fields)
        if options:
            lines += _table(f"{heading}.options", options)
    write_private(file, "\n".join(lines).encode())


def _parse(file: Path, text: bytes) -> Config:
    try:
        config = msgspec.convert(tomllib.loads(text.decode()), Config)
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {file} is not UTF-8 text; repair it or move it away") from error
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the configuration {file} cannot be used: {_in_words(error)}; {_CORRECT}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the configuration {file} is not TOML: {error}; {_CORRECT}") from error
    for name in config.profiles:
        if not PROFILE_NAME.fullmatch(name):
            raise ConfigError(f"the configuration {file} has a profile '{name}'; use letters, digits, - _ .")
    if config.default_profile is not None and config.default_profile not in config.profiles:
        raise ConfigError(
            f"the configuration {file} has no profile '{config.default_profile}', which default_profile names"
        )
    return config


def _in_words(error: msgspec.ValidationError) -> str:
    """The library's message with the words of the file."""
    text, _, place = str(error).partition(" - at `$")
    place = place.strip("`.").replace("[...]", ".NAME")
    found = re.fullmatch("Object contains unknown field `(.*)`", text, re.DOTALL)
    if found is None:
        return f"{place}: {text}" if place else text
    key = found[1]
    if key in {row.name for row in OPTIONS}:
        return f"'{key}' is an option of `mount`; write it in [options] or [profiles.NAME.options]"
    return f"unknown key '{key}'{f' in [{place}]' if place else ''}"


def _table(heading: str, fields: Mapping[str, str | float]) -> list[str]:
    return [f"[{heading}]", *(f"{_toml_key(key)} = {_toml(value)}" for key, value in fields.items()), ""]


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_string(name)


def _toml(value: str | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _toml_string(value) if isinstance(value, str) else str(value)


def _toml_string(value: str) -> str:
    # A JSON string of ASCII is a TOML basic string if DEL is escaped too.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
