"""Reads and stores client secrets: in the keyring of the desktop, or in a 0600 file for each profile."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from procorefs.config.paths import Paths, write_private
from procorefs.config.profiles import SecretPlace
from procorefs.storage.failures import ConfigError
from procorefs.storage.private_files import NotPrivate, check_private_file

if TYPE_CHECKING:
    from types import ModuleType

_SERVICE = "procorefs"


def read_secret_file(file: Path) -> str:
    """The first line of a file that only its owner may read. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            check_private_file(file, os.fstat(stream.fileno()))
            text = stream.readline(4096).decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"the secret file {file} is not UTF-8 text") from error
    except NotPrivate as error:
        raise ConfigError(f"the secret file {error}") from error
    except OSError as error:
        raise ConfigError(f"the secret file {file} cannot be read ({error.strerror})") from error
    if not text:
        raise ConfigError(f"the secret file {file} is empty")
    return text


def load_secret(paths: Paths, profile: str, place: SecretPlace) -> str | None:
    """The secret that `login` stored for this profile, or None. Raises ConfigError."""
    if place is SecretPlace.KEYRING:
        return _from_keyring(profile)
    file = paths.secrets_dir / profile
    return read_secret_file(file) if file.exists() else None


def store_secret(paths: Paths, profile: str, secret: str) -> SecretPlace:
    """Store the secret in the keyring if there is an unlocked one, else in a file; returns where it is."""
    keyring = _usable_keyring()
    if keyring is not None:
        try:
            keyring.set_password(_SERVICE, profile, secret)
        except Exception:  # noqa: S110 - backends raise any exception; the file always works
            pass
        else:
            (paths.secrets_dir / profile).unlink(missing_ok=True)
            return SecretPlace.KEYRING
    write_private(paths.secrets_dir / profile, secret.encode() + b"\n")
    return SecretPlace.FILE


def forget_secret(paths: Paths, profile: str, place: SecretPlace) -> None:
    """Delete the stored secret, if there is one."""
    (paths.secrets_dir / profile).unlink(missing_ok=True)
    keyring = _usable_keyring() if place is SecretPlace.KEYRING else None
    if keyring is not None:
        try:
            keyring.delete_password(_SERVICE, profile)
        except Exception as error:
            raise ConfigError(
                f"the keyring did not delete the secret of profile '{profile}' ({error}); delete it by hand"
            ) from error


def _from_keyring(profile: str) -> str | None:
    keyring = _usable_keyring()
    if keyring is None:
        raise ConfigError(
            f"the secret of profile '{profile}' is in a keyring that this session cannot use; "
            f"unlock it, or run: procorefs login --profile {profile}"
        )
    try:
        text = keyring.get_password(_SERVICE, profile)
    except Exception as error:
        raise ConfigError(f"the keyring did not give the secret of profile '{profile}' ({error})") from error
    return str(text) if text else None


def _usable_keyring() -> "ModuleType | None":
    try:
        import keyring  # here: it is optional and slow to import
        from keyring.backends import fail, null
    except ImportError:
        return None
    backend = keyring.get_keyring()
    return None if isinstance(backend, (fail.Keyring, null.Keyring)) else keyring
