"""`procorefs check` on real trees: what it lists, what it counts, and its exit status."""

import json
from pathlib import Path

from click.testing import CliRunner

from procorefs.cli.check import check
from procorefs.survey import survey


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
    found = checked["survey"]
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


def test_paths_are_measured_from_the_folder_they_go_into(tmp_path: Path) -> None:
    (tmp_path / ("x" * 250)).touch()
    assert not survey(str(tmp_path)).refused
    assert not survey(str(tmp_path), "/1234/").refused
    (refused,) = survey(str(tmp_path), "12345").refused
    assert refused.rule == "path_length"


def test_a_tree_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, [str(tmp_path / "nothing")], standalone_mode=False)
    assert "can't be looked through (No such file or directory)" in str(result.exception)
