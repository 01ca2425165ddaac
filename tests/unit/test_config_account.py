"""Directories, the configuration file, secrets, and what the environment makes of them."""

import os
from pathlib import Path

import msgspec
import pytest

from procorefs.config import (
    Config,
    ConfigError,
    MountOptions,
    Paths,
    Profile,
    ResolvedMount,
    find_account,
    find_paths,
    read_config,
    write_config,
)
from procorefs.config.account import checked_url
from procorefs.config.paths import private_dir, write_private
from procorefs.config.secrets import read_secret_file
from procorefs.procore.settings import Grant
from procorefs.procore.wire.models import CompanyId, ProjectId
from procorefs.storage.private_files import is_private_folder


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return find_paths({"HOME": str(tmp_path)})


def full(**more: str) -> dict[str, str]:
    return {"PROCOREFS_CLIENT_ID": "id", "PROCOREFS_CLIENT_SECRET": "hush", **more}


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def test_a_secret_may_come_from_a_file_that_the_environment_names(paths: Paths, tmp_path: Path) -> None:
    write(tmp_path / "secret", "from the file\n", 0o400)
    environment = {"PROCOREFS_CLIENT_ID": "id", "PROCOREFS_CLIENT_SECRET_FILE": str(tmp_path / "secret")}
    assert find_account(environment, Config(), paths, None).api.client_secret == "from the file"
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(ConfigError, match="secret"):
        find_account(environment, Config(), paths, None)


def test_directories_follow_xdg(tmp_path: Path) -> None:
    found = find_paths(
        {
            "XDG_CONFIG_HOME": "/c",
            "XDG_CACHE_HOME": "relative",
            "XDG_STATE_HOME": "/s",
            "XDG_RUNTIME_DIR": str(tmp_path),
            "HOME": "/h",
        }
    )
    assert found == Paths(
        Path("/c/procorefs/config.toml"),
        Path("/h/.cache/procorefs"),
        Path("/s/procorefs"),
        tmp_path / "procorefs",
    )
    assert not found.runtime_dirs  # neither is there yet
    private_dir(found.runtime_dir)
    assert found.runtime_dirs == (tmp_path / "procorefs",)


def test_without_a_runtime_directory_the_state_directory_serves() -> None:
    for gone in ({}, {"XDG_RUNTIME_DIR": "/nowhere"}):
        assert find_paths({"HOME": "/h", **gone}).runtime_dir == Path("/h/.local/state/procorefs/run")


def test_another_users_runtime_directory_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    environment = {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    own = find_paths(environment).runtime_dir
    (tmp_path / "run").chmod(0o777)
    assert find_paths(environment).runtime_dir == Path("/h/.local/state/procorefs/run")
    (tmp_path / "run").chmod(0o755)
    assert find_paths(environment).runtime_dir == own
    if os.geteuid() == 0:
        os.chown(tmp_path / "run", 12345, -1)
        assert find_paths(environment).runtime_dir == Path("/h/.local/state/procorefs/run")


def test_a_folder_that_is_not_ours_is_checked_and_never_changed(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    write_private(folder / "file", b"x")
    assert folder.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match="other users may write in it"):
        write_private(folder / "file", b"y")
    assert folder.stat().st_mode & 0o7777 == 0o1777


def test_a_link_is_no_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "procorefs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not a directory"):
        private_dir(tmp_path / "procorefs")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another user's folder made")
def test_no_folder_is_used_where_another_user_could_replace_it(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "etc"
    home.mkdir()
    (elsewhere / "run").mkdir(mode=0o755, parents=True)
    (home / "procorefs").symlink_to(elsewhere)
    os.chown(home, 12345, -1)
    assert not is_private_folder(home / "procorefs" / "run")
    for folder in (home / "procorefs" / "run", home / "procorefs" / "tokens", home / "state" / "procorefs"):
        with pytest.raises(ConfigError, match="belongs to user id 12345"):
            private_dir(folder)
    assert (elsewhere / "run").stat().st_mode & 0o777 == 0o755
    assert [file.name for file in elsewhere.iterdir()] == ["run"]
    os.chown(home, 0, -1)
    os.chown(home / "procorefs", 12345, -1, follow_symlinks=False)
    assert not is_private_folder(home / "procorefs" / "run")


def test_no_folder_is_used_below_one_that_all_users_may_write_in(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="all users may write in it"):
        private_dir(shared / "procorefs")
    shared.chmod(0o1777)
    assert private_dir(shared / "procorefs").is_dir()


def test_the_secrets_of_a_named_configuration_lie_beside_it(tmp_path: Path) -> None:
    paths = find_paths({"HOME": "/h", "PROCOREFS_CONFIG": str(tmp_path / "mine.toml")})
    assert paths.secrets_dir == tmp_path / "mine.secrets"


def test_home_comes_from_the_account_when_mount8_gives_none() -> None:
    assert find_paths({}).state_dir.is_absolute()


def test_a_config_may_be_named(tmp_path: Path) -> None:
    assert find_paths({"HOME": "/h", "PROCOREFS_CONFIG": str(tmp_path / "c")}).config_file == tmp_path / "c"


def test_private_directories_and_files(tmp_path: Path) -> None:
    (tmp_path / "open" / "procorefs").mkdir(mode=0o755, parents=True)
    assert private_dir(tmp_path / "open" / "procorefs").stat().st_mode & 0o777 == 0o700
    private_dir(tmp_path / "a" / "procorefs" / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "procorefs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "procorefs" / "b").stat().st_mode & 0o777 == 0o700
    write_private(tmp_path / "new" / "file", b"x")
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]
    with pytest.raises(ConfigError, match="cannot be created or used"):
        private_dir(tmp_path / "new" / "file" / "below")


def test_a_config_comes_back_as_it_was_written(paths: Paths) -> None:
    config = Config(
        default_profile="work",
        profiles={
            "work": Profile(
                client_id='q"\\\x7fé', grant=Grant.AUTHORIZATION_CODE, company="Acme", project="1"
            ),
            "play.ground": Profile(client_id="x", api_url="http://127.0.0.1:1"),
        },
        options={"ro": True, "x-systemd.automount": True, "no option": 1.5},
    )
    write_config(paths.config_file, config)
    assert read_config(paths.config_file) == config
    assert paths.config_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = ", "is not TOML"),
        ("colour = 1", "cannot be used: unknown key 'colour'; `procorefs config edit` opens it"),
        ("freshness = 1", "'freshness' is an option of `mount`; write it in [options]"),
        ("[profiles.a]\nproject = 5", "profiles.NAME.project: Expected `str"),
        ("[profiles.a]\nclient_secret = 'x'", "unknown key 'client_secret' in [profiles.NAME]"),
        ("[profiles.a]\ngrant = 'magic'", "Invalid enum value 'magic'"),
        ("[profiles.a]\nclient_id = 3", "Expected `str`, got `int`"),
        ("default_profile = 'b'", "has no profile 'b'"),
        ("[profiles.'a b']", "has a profile 'a b'"),
    ],
)
def test_a_damaged_config_is_one_sentence(paths: Paths, text: str, says: str) -> None:
    write(paths.config_file, text)
    with pytest.raises(ConfigError) as caught:
        read_config(paths.config_file)
    assert says in str(caught.value)
    assert str(paths.config_file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_open_to_others_is_refused(paths: Paths) -> None:
    write(paths.config_file, "", 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_config(paths.config_file)


def test_a_config_that_is_a_folder_is_refused(paths: Paths) -> None:
    paths.config_file.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(paths.config_file)


def test_no_config_is_an_empty_one(paths: Paths) -> None:
    assert read_config(paths.config_file) == Config()


def test_the_environment_alone_is_enough(paths: Paths) -> None:
    account = find_account(
        full(PROCOREFS_API_URL="http://127.0.0.1:1/", PROCOREFS_COMPANY_ID="7", PROCOREFS_PROJECT_ID="8"),
        Config(),
        paths,
    )
    assert (account.api.api_url, account.company, account.project) == ("http://127.0.0.1:1", "7", "8")
    assert account.api.grant is Grant.CLIENT_CREDENTIALS
    assert account.api.client_secret == "hush"


def test_the_environment_beats_the_profile(paths: Paths) -> None:
    config = Config(
        profiles={
            "work": Profile(
                client_id="mine", grant=Grant.AUTHORIZATION_CODE, api_url="https://a.example", company="Acme"
            )
        }
    )
    account = find_account(full(PROCOREFS_LOGIN_URL="https://l.example"), config, paths)
    assert (account.api.client_id, account.api.grant) == ("id", Grant.CLIENT_CREDENTIALS)
    assert (account.api.api_url, account.api.login_url, account.company) == (
        "https://a.example",
        "https://l.example",
        "Acme",
    )


def test_a_stored_secret_goes_with_its_own_client_id_alone(paths: Paths) -> None:
    config = Config(profiles={"work": Profile(client_id="mine")})
    write(paths.secrets_dir / "work", "hush\n")
    assert find_account({}, config, paths).api.client_secret == "hush"
    with pytest.raises(ConfigError, match="no secret for client id 'other'"):
        find_account({"PROCOREFS_CLIENT_ID": "other"}, config, paths)


def test_who_is_unknown_is_told_what_to_do(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="procorefs login"):
        find_account({}, Config(), paths)
    with pytest.raises(ConfigError, match="no profile 'x'"):
        find_account(full(), Config(), paths, "x")


def test_ids_in_the_environment_are_numbers(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="PROCOREFS_COMPANY_ID is 'Acme'"):
        find_account(full(PROCOREFS_COMPANY_ID="Acme"), Config(), paths)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:80", "http://[::1]:9", "http://localhost", "https://a.example/x/"]
)
def test_good_urls(text: str) -> None:
    assert checked_url(text, "API URL") == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://api.example", "not encrypted"),
        ("http://127.0.0.1.example", "not encrypted"),
        ("ftp://a", "not a URL"),
        ("api.procore.com", "not a URL"),
        ("https://a:x", "not a URL"),
        ("https://me@a.example", "no user name"),
    ],
)
def test_wrong_urls(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        checked_url(text, "API URL")


def test_secrets_do_not_show(paths: Paths) -> None:
    account = find_account(full(), Config(), paths)
    assert "hush" not in repr(account)


def test_secret_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write(file, "hush\nmore\n")
    assert read_secret_file(file) == "hush"
    write(file, "hush", 0o640)
    with pytest.raises(ConfigError, match="other users may read it"):
        read_secret_file(file)
    write(file, "\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_secret_file(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret_file(tmp_path / "none")


def test_state_belongs_to_host_project_and_user(paths: Paths) -> None:
    account = find_account(full(PROCOREFS_API_URL="http://127.0.0.1:81"), Config(), paths)
    api = msgspec.structs.replace(account.api, company_id=CompanyId(1), project_id=ProjectId(2))
    mount = ResolvedMount(api, Path("/mnt"), MountOptions(), paths, "Acme/Lot 1,2\\3")
    other = ResolvedMount(api, Path("/mnt2"), MountOptions(), paths, "1/2")
    assert mount.state_dir(3) == paths.state_dir / "127.0.0.1_81" / "1-2-3"
    assert mount.control_socket.parent == paths.runtime_dir
    assert mount.control_socket != other.control_socket
    assert mount.fuse_words >= {r"fsname=Acme/Lot 1\,2\\3", "subtype=procorefs", "default_permissions"}
