"""Settings that people and programs write: mount options, SPEC, fstab, the configuration, addresses, mountinfo."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.cli.mount_helper import parse_call
from procorefs.cli.support.login_redirect import LoginNotFinished, answer_of
from procorefs.config.account import checked_url
from procorefs.config.options import OPTIONS, parse_options
from procorefs.config.profiles import Config, Profile, read_config, write_config
from procorefs.config.secrets import read_secret_file
from procorefs.config.spec import as_id, parse_spec
from procorefs.config.units import parse_duration_s, parse_number, parse_octal, parse_size_bytes
from procorefs.limiter.redis_store import parse_address
from procorefs.storage.failures import ConfigError
from procorefs.storage.mountinfo import parse_mountinfo
from tests.support.fuzzing import ODD, bounded, damaged, fuzz

WORDS = st.one_of(
    st.sampled_from(
        [*ODD, "1", "9" * 5000, "٣", "1e9", "0o22", "-1", "inf", "nan", "2h", "redis://[", "unix:///a?db=x"]
    ),
    st.text(max_size=20),
)
OPTION = st.tuples(st.sampled_from([option.name for option in OPTIONS]) | WORDS, WORDS).map("=".join)


def no_surrogate(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@fuzz
@given(st.lists(OPTION | WORDS, max_size=5))
def test_mount_options_are_understood_or_refused(texts: list[str]) -> None:
    try:
        options = parse_options(texts)
    except ConfigError as error:
        assert str(error)
    else:
        assert options.cache_size_bytes >= 0
        assert 0 <= options.freshness_s < 10**9
        assert all("," not in word for word in options.fuse_words)


@fuzz
@given(WORDS)
def test_units_are_understood_or_refused(text: str) -> None:
    for parse in (parse_duration_s, parse_size_bytes, parse_octal, parse_number):
        try:
            assert parse(text) >= 0
        except ConfigError:
            continue


@fuzz
@given(
    WORDS | st.tuples(WORDS, WORDS, WORDS).map(lambda parts: f"{parts[0]}:{parts[1]}/{parts[2]}"),
    st.sets(WORDS),
)
@example("9" * 5000 + "/" + "9" * 5000, set())
def test_a_spec_names_a_project_or_is_refused(text: str, profiles: set[str]) -> None:
    try:
        spec = parse_spec(text, profiles)
    except ConfigError:
        return
    for name in (spec.company, spec.project):
        known = as_id(name) if name else None
        assert known is None or 0 < known < 10**19


@fuzz
@given(st.lists(WORDS | st.sampled_from(["-o", "-f", "-t", "-N", "--", "-sfnv", "ro"]), max_size=6))
def test_what_mount8_hands_on_is_understood_or_refused(arguments: list[str]) -> None:
    try:
        call = parse_call(arguments)
    except ConfigError:
        return
    assert isinstance(call.spec, str)


TOML = st.one_of(
    st.sampled_from(
        [
            b"a=" + b"[" * 100_000,
            b"a=" + b"9" * 5000,
            b"a=9999-99-99",
            b"a=0001-01-01T00:00:00+23:59",
            b"\xff",
        ]
    ),
    damaged(
        st.just(
            b'default_profile = "a"\n[profiles.a]\nclient_id = "x"\ncalls_per_hour = 5\nsecret_in = "file"\n'
        )
    ),
    st.binary(max_size=60),
)


@fuzz
@given(TOML)
def test_a_configuration_is_understood_or_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text)
    file.chmod(0o600)
    with bounded():
        try:
            config = read_config(file)
        except ConfigError as error:
            assert str(file) in str(error)
            return
    assert config.default_profile is None or config.default_profile in config.profiles


PROFILE = st.builds(
    Profile,
    client_id=st.text().map(no_surrogate),
    company=st.none() | st.text().map(no_surrogate),
    project=st.none() | st.sampled_from([no_surrogate(text) for text in ODD]),
)


@fuzz
@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True), PROFILE, max_size=3))
def test_a_written_configuration_reads_the_same(tmp_path: Path, profiles: dict[str, Profile]) -> None:
    file = tmp_path / "procorefs" / "config.toml"
    config = Config(next(iter(profiles), None), profiles)
    write_config(file, config)
    assert read_config(file) == config


@fuzz
@given(st.binary(max_size=60) | st.just(b"x" * 10_000))
def test_a_secret_file_is_a_secret_or_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    try:
        assert read_secret_file(file)
    except ConfigError:
        return


URLS = WORDS | st.tuples(st.sampled_from(["http", "https", "redis", "unix", "x"]), WORDS).map("://".join)


@fuzz
@given(URLS)
def test_addresses_are_understood_or_refused(text: str) -> None:
    with suppress(ConfigError):
        assert checked_url(text, "URL").lower().startswith("http")
    try:
        assert parse_address(text).database >= 0
    except ValueError as error:
        assert str(error)


LINE = b"36 35 98:0 /a\\040b /mnt/a\\012b rw,noatime master:1 - fuse.procorefs a\\134,b rw,user_id=0"


@fuzz
@given(damaged(st.just(LINE)) | st.binary(max_size=200))
def test_any_mountinfo_is_read(text: bytes) -> None:
    for mount in parse_mountinfo(text):
        assert "\\040" not in str(mount.mountpoint) or b"\\134" in mount.escaped or mount.escaped


TARGETS = st.one_of(
    WORDS,
    st.tuples(WORDS, WORDS).map(
        lambda pair: f"/callback?state=s&{quote(no_surrogate(pair[0]))}={quote(no_surrogate(pair[1]))}"
    ),
    st.sampled_from(
        [
            "//[",
            "/callback?state=s&error=%1b[31m&error_description=%E2%80%AE",
            "/callback?state=s&" + "a=b&" * 200,
        ]
    ),
)


@fuzz
@given(TARGETS)
def test_a_browser_brings_a_code_or_nothing(target: str) -> None:
    try:
        code = answer_of(target, "/callback", "s")
    except LoginNotFinished as error:
        assert str(error).isprintable()
    else:
        assert code is None or code


def test_a_configuration_that_is_nested_too_deeply_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("a = " + "[" * 100_000)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(file)
