"""What `procorefs doctor` finds on a machine, and what its file for a bug report leaves out."""

import json
import zipfile
from pathlib import Path

import pytest

from procorefs.cli.doctor import machine
from procorefs.cli.doctor.account import of_clock
from procorefs.cli.doctor.bundle import known_messages, without_values, write_bundle
from procorefs.cli.doctor.findings import Verdict, ok, problem
from procorefs.cli.doctor.machine import check_machine
from procorefs.cli.doctor.state import check_state
from procorefs.cli.main import procorefs, run
from procorefs.config import find_paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings, and no settings in the environment."""
    for variable in ("CLIENT_ID", "CLIENT_SECRET", "CONFIG"):
        monkeypatch.delenv(f"PROCOREFS_{variable}", raising=False)
    for variable in ("CONFIG_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        monkeypatch.delenv(f"XDG_{variable}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_this_machine_can_mount(home: Path) -> None:
    found = {finding.check: finding for finding in check_machine(find_paths({"HOME": str(home)}))}
    assert set(found) == {"kernel", "FUSE", "sharing", "bridge", "state disk", "cache disk"}
    assert {finding.verdict for finding in found.values()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("release", "verdict"),
    [
        ("4.19.0-amd64", Verdict.PROBLEM),
        ("6.1.0-13-amd64", Verdict.WARNING),
        ("6.12.1", Verdict.OK),
        ("?", Verdict.WARNING),
    ],
)
def test_old_kernels(release: str, verdict: Verdict) -> None:
    assert machine.of_kernel(release).verdict is verdict


@pytest.mark.parametrize(
    ("ahead_s", "text"), [(0.5, "as Procore's"), (-90, "it is 90 s fast"), (120, "it is 120 s slow")]
)
def test_clock(ahead_s: float, text: str) -> None:
    assert of_clock(ahead_s).text == text


def test_damaged_files_are_named(home: Path) -> None:
    paths = find_paths({"HOME": str(home)})
    aside = paths.state_dir / "api" / "1-2-3" / "tree.sqlite.damaged-20260101T000000"
    aside.parent.mkdir(parents=True)
    aside.touch()
    assert [
        str(aside) in finding.text for finding in check_state(paths, None) if finding.check == "state"
    ] == [True]


def test_without_an_account_it_says_what_to_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "BAD   settings: no account is configured\n      run `procorefs login`" in printed


def test_a_mount_point_without_a_mount_is_a_problem(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["doctor", "--offline", str(home / "tower")]) == 1
    assert f"BAD   mount {home}/tower: nothing is mounted there" in capsys.readouterr().out


def test_without_a_network_it_finds_nothing_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(procorefs, ["doctor", "--offline", "--json"]) == 0
    assert {one["verdict"] for one in json.loads(capsys.readouterr().out)} == {"ok"}


LOG = """\
2026-11-30 03:00:00,123 INFO procorefs.daemon: 8801/12 is mounted at /home/robin/Secret Tower.
2026-11-30 03:00:01,123 WARNING procorefs.upload: Secret Tower/plan.pdf: something that no message of ours says
Traceback (most recent call last):
"""


def test_a_bundle_has_no_names(home: Path) -> None:
    paths = find_paths({"HOME": str(home)})
    paths.logs_dir.mkdir(parents=True)
    (paths.logs_dir / "tower.log").write_text(LOG)
    file = home / "report.zip"
    write_bundle(
        file, [ok("kernel", "Linux"), problem("mount /home/robin/Secret Tower", "dead", "umount")], paths
    )
    with zipfile.ZipFile(file) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert "Secret" not in "".join(texts.values())
    assert "robin" not in "".join(texts.values())
    assert json.loads(texts["findings.json"]) == {"kernel: ok": 1, "mount: problem": 1}
    assert texts["log-0.txt"].splitlines() == [
        "2026-11-30 03:00:00,123 INFO procorefs.daemon: … is mounted at ….",
        "(2 other lines were left out)",
    ]
    with pytest.raises(FileExistsError):
        write_bundle(file, [], paths)


def test_no_known_message_is_values_alone() -> None:
    messages = known_messages()
    assert len(messages) > 50
    assert [*without_values(["2026-11-30 03:00:00,123 INFO a: name of a document"], messages)] == [
        "(1 other lines were left out)"
    ]


def test_a_line_that_is_made_to_match_slowly_does_not() -> None:
    hostile = "2026-11-30 03:00:00,123 INFO a: " + ": ( ) ; 1 is by of a " * 20_000
    assert len([*without_values([hostile], known_messages())]) <= 2
