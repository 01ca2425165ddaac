"""The limits of processes, set in processes of their own: a limit that was lowered for good would be the tests'."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from procorefs.cli.main import procorefs
from procorefs.cli.main import run as run_command

PRODUCT = Path(__file__).resolve().parents[2] / "procorefs"

BEGIN = """
import resource, subprocess, sys
from procorefs.storage import processes
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
"""


def run(source: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", BEGIN + source], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert run("processes.raise_limit(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))") == [
        "512",
        "512",
    ]


def test_a_program_of_ours_gets_the_limit_that_was() -> None:
    source = """
processes.raise_limit()
with subprocess.Popen(["sh", "-c", "read go; ulimit -Sn; ulimit -Hn"], stdin=subprocess.PIPE) as started:
    processes.give_usual_limit(started.pid)
    started.communicate(b"go\\n")
"""
    assert run(source) == ["64", "512"]


def test_what_cannot_be_raised_stays() -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
processes.raise_limit()
processes.give_usual_limit(2**22)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run(source) == ["512", "512"]


def test_a_crash_leaves_no_core() -> None:
    """Also not to a program to which the kernel pipes it: it has no memory in it."""
    code = (
        "import resource; from procorefs.storage.processes import forbid_core_dumps; forbid_core_dumps();"
        " print(resource.getrlimit(resource.RLIMIT_CORE)[0], int(open('/proc/self/coredump_filter').read(), 16))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "0 0\n"


def starts_of_programs() -> dict[str, str]:
    """The functions of the product that start a program, with their source."""
    found = {}
    for file in PRODUCT.rglob("*.py"):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                source = ast.get_source_segment(text, node) or ""
                if any(
                    start in source for start in ("subprocess.run(", "Popen(", "click.launch(", "click.edit(")
                ):
                    found[f"{file.name}:{node.name}"] = source
    return found


def test_no_program_gets_the_secrets() -> None:
    """Its environment is theirs to show and to hand on."""
    starts = starts_of_programs()
    assert len(starts) >= 7
    # the daemon has none in its environment any more, the demo has a secret of its own for commands of ours, and the
    # extension is a part of the file manager, whose environment it leaves as it is
    without = {"session.py:_detach", "tour.py:run", "procorefs_extension.py:run_command"}
    unsafe = {
        name
        for name, source in starts.items()
        if "forget_secrets()" not in source and "child_environment()" not in source
    }
    assert unsafe == without


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of `procorefs config edit`: a program that writes its environment into the file that is returned."""
    program = tmp_path / "editor"
    program.write_text(f"#!/bin/sh\nenv >{tmp_path}/seen\n")
    program.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(program))
    monkeypatch.setenv("PROCOREFS_CONFIG", str(tmp_path / "config.toml"))
    return tmp_path / "seen"


def test_an_editor_does_not_get_the_secrets(editor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCOREFS_CLIENT_SECRET", "s3cret")
    monkeypatch.setenv("PROCOREFS_REDIS_PASSWORD", "s3cret")
    assert run_command(procorefs, ["config", "edit"]) == 0
    assert "VISUAL=" in editor.read_text()
    assert "s3cret" not in editor.read_text()


def test_a_file_of_another_user_is_not_edited(editor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = editor.with_name("config.toml")
    config.write_text("")
    config.chmod(0o666)
    assert run_command(procorefs, ["config", "edit"]) == 1
    assert "other users may read it" in capsys.readouterr().err
    assert not editor.exists()
