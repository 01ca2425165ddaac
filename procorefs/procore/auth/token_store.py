"""Keeps tokens on disk or in the keyring, so that a start needs no login call and all processes share one login.

One file a login, mode 0600, replaced atomically; beside it a lock file, held during a renewal. When asked for and
available, the keyring keeps the token instead of the file; the lock stays a file.
"""

import fcntl
import importlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from procorefs.procore.auth.shared_login import SharedLogin
from procorefs.procore.auth.tokens import Token, TokenStore, login_key
from procorefs.procore.settings import ApiSettings, Grant
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.private_files import (
    NotPrivate,
    make_private_folder,
    open_lock_file,
    read_private_file,
    replace_private_file,
)

log = logging.getLogger(__name__)

KEYRING_SERVICE = "procorefs"
FIRST_LOOK_S = 0.01
"""The first pause at a lock that another process holds; pauses double to the longest."""

LONGEST_LOOK_S = 0.25


def open_store(settings: ApiSettings) -> TokenStore:
    """The store for the token of these settings."""
    if settings.token_dir is None:
        return MemoryStore()
    store = FileStore(settings.token_dir, login_key(settings))
    kept = _in_keyring(store) if settings.use_keyring else store
    if settings.login_shared_at and settings.grant is Grant.AUTHORIZATION_CODE:
        return SharedLogin(kept, settings.login_shared_at, settings.client_secret)
    return kept


def _in_keyring(store: "FileStore") -> TokenStore:
    with suppress(ImportError):
        return KeyringStore(store, importlib.import_module("keyring"))
    log.warning("the keyring was asked for, but Python's keyring package is not installed")
    return store


class MemoryStore:
    """A token for this process alone."""

    def __init__(self) -> None:
        self._token: Token | None = None
        self._lock = trio.Lock()

    def load(self) -> Token | None:
        return self._token

    def save(self, token: Token) -> None:
        self._token = token

    def check_writable(self) -> None:
        """Memory always is."""

    def delete(self) -> None:
        self._token = None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        async with self._lock:
            yield


class FileStore:
    """`<key>.json` and `<key>.lock` in a folder of mode 0700."""

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self._folder = folder
        self._path = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._tasks = trio.Lock()

    def load(self) -> Token | None:
        try:
            return msgspec.json.decode(read_private_file(self._path), type=Token)
        except FileNotFoundError:
            return None
        except NotPrivate as error:
            log.warning("the stored login in %s is not used: %s", self._path, error.strerror)
            return None
        except (OSError, *UNDECODABLE):
            log.warning("the stored login in %s cannot be read and is not used", self._path)
            return None

    def save(self, token: Token) -> None:
        replace_private_file(self._path, msgspec.json.encode(token))

    def check_writable(self) -> None:
        make_private_folder(self._folder)
        with tempfile.TemporaryFile(dir=self._folder) as probe:
            probe.write(bytes(4096))
            probe.flush()

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        async with self._tasks:
            lock = self._open_lock()
            try:
                if lock is not None:
                    await _flock(lock)
                yield
            finally:
                if lock is not None:
                    os.close(lock)  # the kernel releases the lock, also when the process is killed

    def _open_lock(self) -> int | None:
        """The lock file; None where none can be made: then no token can be stored, so nothing is shared."""
        try:
            make_private_folder(self._folder)
            return open_lock_file(self._lock_path)
        except OSError as error:
            log.warning("the login cannot be kept in %s (%s)", self._folder, error.strerror)
            return None


class KeyringStore:
    """The token in the desktop's keyring; when that fails, in the file."""

    def __init__(self, file: FileStore, keyring: Any) -> None:  # noqa: ANN401 - an optional module
        self._file = file
        self._keyring = keyring

    def load(self) -> Token | None:
        try:
            text = self._keyring.get_password(KEYRING_SERVICE, self._file.key)
            if text:
                return msgspec.json.decode(text, type=Token)
        except Exception as error:
            log.warning("the keyring cannot be read (%s)", type(error).__name__)
        return self._file.load()

    def save(self, token: Token) -> None:
        try:
            self._keyring.set_password(KEYRING_SERVICE, self._file.key, msgspec.json.encode(token).decode())
        except Exception as error:
            log.warning("the keyring takes nothing (%s): the login is kept in a file", type(error).__name__)
            self._file.save(token)
        else:
            self._file.delete()

    def check_writable(self) -> None:
        self._file.check_writable()

    def delete(self) -> None:
        with suppress(Exception):
            self._keyring.delete_password(KEYRING_SERVICE, self._file.key)
        self._file.delete()

    def locked(self) -> AbstractAsyncContextManager[None]:
        return self._file.locked()


async def _flock(descriptor: int) -> None:
    """Lock a file without occupying a thread that could not be cancelled."""
    pause_s = FIRST_LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)
        except OSError as error:
            log.warning("the login's lock file cannot be locked (%s)", error.strerror)
            return  # e.g. a network filesystem without locks: processes there are on their own
        else:
            return
