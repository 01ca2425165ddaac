"""The words of -o: what they mean, what they refuse, and that the help lists them all."""

from pathlib import Path

import pytest

from procorefs.config import (
    Config,
    ConfigError,
    MountOptions,
    Profile,
    Setting,
    layered_options,
    option_settings,
    options_help,
    parse_options,
    read_config,
    write_config,
)
from procorefs.config.options import OPTIONS
from procorefs.config.units import parse_duration_s, parse_octal, parse_size_bytes, show_duration, show_size


def test_nothing_said_means_the_defaults() -> None:
    assert parse_options([]) == MountOptions()
    assert MountOptions().fuse_words == {"default_permissions"}


def test_every_word_lands_in_its_field() -> None:
    options = parse_options(["ro,allow_other,uid=1000", "gid=100,umask=077,freshness=0.5,cache_size=1.5G"])
    assert options == MountOptions(
        ro=True, allow_other=True, uid=1000, gid=100, umask=0o077, freshness_s=0.5, cache_size_bytes=3 << 29
    )
    assert options.fuse_words == {"ro", "allow_other", "default_permissions"}


def test_every_word_of_writing_lands_in_its_field() -> None:
    options = parse_options(
        ["write_mode=through,write_back=0.5,staging_size=2G,invalid_names=encode", "junk=keep,fsync=remote"]
    )
    assert options == MountOptions(
        write_mode="through",
        write_back_s=0.5,
        staging_size_bytes=2 << 30,
        invalid_names="encode",
        junk="keep",
        fsync="remote",
    )
    defaults = "write_mode=back,write_back=2,staging_size=50G", "invalid_names=reject,junk=skip,fsync=local"
    assert parse_options([*defaults, "office_locks=on"]) == MountOptions()
    assert parse_options(["office_locks=off"]) == MountOptions(office_locks=False)
    assert parse_options(["thumbnails=off"]) == MountOptions(thumbnails=False)


def test_of_ro_and_rw_the_last_wins() -> None:
    assert parse_options(["rw,ro"]).ro
    assert not parse_options(["ro", "rw"]).ro


def test_the_last_of_a_kind_wins() -> None:
    assert parse_options(["freshness=1", "freshness=2"]).freshness_s == 2


def test_words_of_fstab_are_accepted_and_only_restrictions_reach_libfuse() -> None:
    options = parse_options(
        ["rw,dev,suid,exec,atime,_netdev,nofail,user,x-systemd.automount,comment=hello,noexec"]
    )
    assert options.fuse_words == {"default_permissions", "noexec"}


def test_empty_words_are_nothing() -> None:
    assert parse_options(["", "ro,,"]) == MountOptions(ro=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("freshnes=3", "unknown option 'freshnes'; did you mean freshness?"),
        ("zzz", "unknown option 'zzz'; `procorefs mount --help`"),
        ("uid", "option 'uid' needs a value: -o uid=ID"),
        ("ro=1", "option 'ro' takes no value"),
        ("uid=root", "option 'uid': 'root' is not a user or group id"),
        ("umask=999", "option 'umask': '999' is not a mask"),
        ("freshness=soon", "option 'freshness': 'soon' is not a duration"),
        ("freshness=-1", "option 'freshness': '-1' is not a duration"),
        ("cache_size=lots", "option 'cache_size': 'lots' is not a size"),
        ("write_back=soon", "option 'write_back': 'soon' is not a duration"),
        ("write_mode=both", "option 'write_mode': 'both' is not one of its values; write back or through"),
        ("office_locks=yes", "option 'office_locks': 'yes' is not one of its values; write on or off"),
        ("junk", "option 'junk' needs a value: -o junk=skip|keep"),
    ],
)
def test_a_wrong_word_is_named_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options([text])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_lists_every_option() -> None:
    for option in OPTIONS:
        assert option.name in options_help()
    assert max(len(line) for line in options_help(60).splitlines()) == 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2), (".5", 0.5), ("250ms", 0.25), ("1.5m", 90), ("2h", 7200), ("0", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1e9", "inf", "nan", "9999d", "2 weeks", "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("4096", 4096), ("1K", 1024), ("2mb", 2 << 20), ("10GiB", 10 << 30), ("1T", 1 << 40)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "K", "-1", "1P", "9999999999T"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size_bytes(text)


def test_masks() -> None:
    assert parse_octal("022") == parse_octal("0o22") == 0o022


def test_sizes_and_durations_for_people() -> None:
    assert [show_size(n) for n in (0, 1023, 1536, 5 << 30, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB", "3.0 TiB",
    ]  # fmt: skip
    assert [show_duration(s) for s in (4.2, 600, 10800)] == ["4 s", "10 min", "3.0 h"]


def test_a_redis_is_an_address_without_a_password() -> None:
    assert parse_options(["limiter=redis://host:6379/1"]).limiter == "redis://host:6379/1"
    with pytest.raises(ConfigError, match="an address looks like"):
        parse_options(["limiter=http://host"])
    with pytest.raises(ConfigError, match="set PROCOREFS_REDIS_PASSWORD"):
        parse_options(["limiter=redis://:geheim@host"])


def test_the_delete_guard_is_a_number_or_off() -> None:
    assert parse_options([]).delete_guard == 500
    assert parse_options(["delete_guard=off"]).delete_guard is None
    assert parse_options(["delete_guard=1"]).delete_guard == 1
    for text in ("0", "-1", "many", "1.5", "9" * 20, "9" * 5000):
        with pytest.raises(ConfigError, match="write a number from 1, or off"):
            parse_options([f"delete_guard={text}"])


def test_the_calls_per_hour_are_a_number_or_found_out() -> None:
    assert parse_options([]).calls_per_hour is None
    assert parse_options(["calls_per_hour=auto"]).calls_per_hour == 0
    assert parse_options(["calls_per_hour=3600"]).calls_per_hour == 3600
    for text in ("0", "-1", "many"):
        with pytest.raises(ConfigError, match="write a number from 1, or auto"):
            parse_options([f"calls_per_hour={text}"])


def test_options_of_the_file_and_of_a_profile(tmp_path: Path) -> None:
    config = Config(
        None,
        {"work": Profile(client_id="a", options={"freshness": 60, "thumbnails": True, "ro": True})},
        {"freshness": "2m", "cache_size": "20G", "thumbnails": False, "allow_other": False},
    )
    file = tmp_path / "config.toml"
    plain = layered_options(file, config, None, [])
    assert (plain.freshness_s, plain.cache_size_bytes, plain.thumbnails) == (120, 20 << 30, False)
    assert not plain.allow_other
    work = layered_options(file, config, "work", ["freshness=5,rw"])
    assert (work.freshness_s, work.cache_size_bytes, work.thumbnails, work.ro) == (5, 20 << 30, True, False)
    shown = {setting.name: setting for setting in option_settings(file, config, "work")}
    assert shown["freshness"] == Setting("freshness", "60", "[profiles.work.options]")
    assert shown["cache_size"].origin == "[options]"
    assert shown["fsync"] == Setting("fsync", "local", "default")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cache_sise": "1G"}, "unknown option 'cache_sise'; did you mean cache_size"),
        ({"freshness": "soon"}, "freshness"),
        ({"ro": 1}, "write ro = true"),
    ],
)
def test_a_wrong_option_in_the_file_names_the_file(
    tmp_path: Path, options: dict[str, str | int | float | bool], says: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as refused:
        layered_options(tmp_path / "config.toml", Config(options=options), None, [])
    assert says in str(refused.value)
    assert str(tmp_path / "config.toml") in str(refused.value)


def test_options_survive_when_login_writes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    config = Config(
        "work", {"work": Profile(client_id="a", options={"ro": True, "freshness": 1.5})}, {"junk": "keep"}
    )
    write_config(file, config)
    assert read_config(file) == config
