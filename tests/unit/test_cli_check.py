"""`procorefs check` on real trees: what it lists, what it counts, and its exit status."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from procorefs.cli.commands.check import check
from procorefs.cli.support.preflight import preflight
from procorefs.config import Config, Profile, find_paths, write_config
from procorefs.limiter.budget_state import State
from procorefs.limiter.file_store import FileStore
from procorefs.limiter.opening import budget_key


def test_a_good_tree_is_counted_and_passes(tmp_path: Path) -> None:
    (tmp_path / "01 Drawings").mkdir()
    (tmp_path / "01 Drawings" / "A-100.PDF").write_bytes(b"x" * 10)
    (tmp_path / "notes").write_bytes(b"yy")
    (tmp_path / ".DS_Store").touch()
    with (tmp_path / "big.ifc").open("wb") as big:
        big.truncate((32 << 20) + 1)
    result = CliRunner().invoke(check, [str(tmp_path), "--json", "--hourly", "8"], standalone_mode=False)
    assert result.return_value == 0
    (checked,) = json.loads(result.output)
    found = checked["preflight"]
    assert (found["files"], found["folders"], found["junk"], found["refused"]) == (3, 1, 1, [])
    assert found["bytes"] == 12 + (32 << 20) + 1
    assert found["api_calls"] == 2 + 2 + 3 + 1
    assert checked["hours"] == 1
    assert found["types"] == {".pdf": 1, "": 1, ".ifc": 1}
    assert found["longest_path"] == "01 Drawings/A-100.PDF"


def test_what_would_be_refused_is_named_with_the_rule_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a?").mkdir()
    (tmp_path / "a?" / "in the refused folder :.txt").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "two\nlines").touch()
    result = CliRunner().invoke(check, [str(tmp_path)], standalone_mode=False)
    assert result.return_value == 1
    assert "a?: its name has a character that Procore does not take ('?', U+003F)" in result.output
    assert "(':', U+003A)" in result.output
    assert "link: Procore has no symbolic links" in result.output
    assert "two\\nlines: its name has a control character" in result.output


def test_the_mounts_own_entry_is_refused_in_its_root_alone(tmp_path: Path) -> None:
    (tmp_path / ".procore").mkdir()
    (tmp_path / "Plans" / ".procore").mkdir(parents=True)
    (refused,) = preflight(str(tmp_path)).refused
    assert refused.path == str(tmp_path / ".procore")
    assert not preflight(str(tmp_path), "Somewhere").refused


def test_paths_are_measured_in_characters(tmp_path: Path) -> None:
    (tmp_path / ("ü" * 120) / ("€" * 80)).mkdir(parents=True)
    folder = "😀" * (255 - 120 - 1 - 80 - 1)
    assert not preflight(str(tmp_path), folder).refused
    (refused,) = preflight(str(tmp_path), folder + "x").refused
    assert refused.rule == "path_length"


def test_hours_are_those_of_the_limit_that_procore_last_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable))
    monkeypatch.setenv("PROCOREFS_CLIENT_ID", "c")
    monkeypatch.setenv("PROCOREFS_API_URL", "https://api.example.com")
    (tmp_path / "tree").mkdir()
    for name in "abc":
        (tmp_path / "tree" / name).touch()
    budgets = find_paths(os.environ).budgets_dir
    budgets.mkdir(parents=True)
    store = FileStore(budgets / f"{budget_key('https://api.example.com', 'c')}.budget")
    unknown = {"600": 6 / 600, "3600": 6 / 3600}
    assert hours(tmp_path / "tree") == unknown

    def told(state: State, _now_s: float) -> None:
        state.limit, state.told = 900, True

    store.change_now(told)
    store.close()
    assert hours(tmp_path / "tree") == {"900": 6 / 900}
    assert hours(tmp_path / "tree", "--hourly", "60") == {"60": 6 / 60}
    shown = CliRunner().invoke(check, [str(tmp_path / "tree")], standalone_mode=False).output
    assert "6: 24 s at 900 an hour" in shown
    monkeypatch.setenv("PROCOREFS_CLIENT_ID", "another")
    assert hours(tmp_path / "tree") == unknown
    shown = CliRunner().invoke(check, [str(tmp_path / "tree")], standalone_mode=False).output
    assert "6: 36 s at 600 an hour or 6 s at 3,600 an hour" in shown
    monkeypatch.setenv("PROCOREFS_API_URL", "nonsense")
    assert hours(tmp_path / "tree") == unknown


def test_hours_are_those_of_the_configured_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable))
    monkeypatch.delenv("PROCOREFS_CLIENT_ID", raising=False)
    config = Config(profiles={"default": Profile(client_id="c", calls_per_hour=1200)})
    write_config(find_paths(os.environ).config_file, config)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").touch()
    assert hours(tmp_path / "tree") == {"1200": 2 / 1200}


def hours(tree: Path, *options: str) -> dict[str, float]:
    result = CliRunner().invoke(check, [str(tree), "--json", *options], standalone_mode=False)
    assert result.return_value == 0
    (checked,) = json.loads(result.output)
    found: dict[str, float] = checked["hours_by_limit"]
    assert found[str(checked["hourly_calls"])] == checked["hours"] == max(found.values())
    return found
