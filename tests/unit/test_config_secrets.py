"""Where client secrets are kept: a keyring when there is one that works, else a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from procorefs.config import ConfigError, Paths, find_paths
from procorefs.config.profiles import SecretPlace
from procorefs.config.secrets import forget_secret, load_secret, store_secret

keyring = pytest.importorskip("keyring")
backend = pytest.importorskip("keyring.backend")


class Pocket(backend.KeyringBackend):  # type: ignore[misc, name-defined]
    """A keyring in memory that can be locked."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise RuntimeError("locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.kept[service, username]


@pytest.fixture
def pocket() -> Iterator[Pocket]:
    before = keyring.get_keyring()
    pocket = Pocket()
    keyring.set_keyring(pocket)
    yield pocket
    keyring.set_keyring(before)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return find_paths({"HOME": str(tmp_path)})


def test_a_keyring_that_works_keeps_the_secret(pocket: Pocket, paths: Paths) -> None:
    assert store_secret(paths, "work", "hush") is SecretPlace.KEYRING
    assert not (paths.secrets_dir / "work").exists()
    assert load_secret(paths, "work", SecretPlace.KEYRING) == "hush"
    assert load_secret(paths, "other", SecretPlace.KEYRING) is None
    forget_secret(paths, "work", SecretPlace.KEYRING)
    assert pocket.kept == {}


def test_a_locked_keyring_leaves_the_file(pocket: Pocket, paths: Paths) -> None:
    pocket.locked = True
    assert store_secret(paths, "work", "hush") is SecretPlace.FILE
    assert load_secret(paths, "work", SecretPlace.FILE) == "hush"
    assert (paths.secrets_dir / "work").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="did not give the secret"):
        load_secret(paths, "work", SecretPlace.KEYRING)
    with pytest.raises(ConfigError, match="delete it by hand"):
        forget_secret(paths, "work", SecretPlace.KEYRING)
    assert not (paths.secrets_dir / "work").exists()


def test_a_new_secret_in_the_keyring_replaces_the_file(pocket: Pocket, paths: Paths) -> None:
    pocket.locked = True
    store_secret(paths, "work", "old")
    pocket.locked = False
    store_secret(paths, "work", "new")
    assert not (paths.secrets_dir / "work").exists()


def test_no_keyring_is_a_file(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyring.backends import null

    before = keyring.get_keyring()
    keyring.set_keyring(null.Keyring())  # type: ignore[no-untyped-call]
    try:
        assert store_secret(paths, "work", "hush") is SecretPlace.FILE
        with pytest.raises(ConfigError, match="keyring that this session cannot use"):
            load_secret(paths, "work", SecretPlace.KEYRING)
    finally:
        keyring.set_keyring(before)
