"""The log file: what several processes write at the same time is whole, and the files stay few and small."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from procorefs.cli.mounts.log_file import LogFile, rotated
from procorefs.service.log_detail import LogDetail

WRITERS, LINES = 3, 1500

WRITER = """
import logging, sys
from pathlib import Path
from procorefs.cli.mounts.log_file import LogFile
handler = LogFile(Path(sys.argv[1]), max_bytes=20_000, files=int(sys.argv[3]))
handler.setFormatter(logging.Formatter("%(message)s."))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    handler.emit(logging.makeLogRecord({"msg": f"writer {sys.argv[2]} line {number} " + "x" * (number % 90)}))
"""


def write_together(path: Path, files: int) -> None:
    """Let several processes begin to write at the same moment, and wait for their end."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number), str(files), str(LINES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0


def lines_of(path: Path, files: int) -> list[str]:
    found = [rotated(path, number) for number in range(files)]
    return [line for file in found if file.exists() for line in file.read_text().splitlines()]


def test_no_line_is_lost_or_torn_while_processes_rotate(tmp_path: Path) -> None:
    path, files = tmp_path / "mount.log", 60
    write_together(path, files)
    lines = lines_of(path, files)
    assert len(lines) == WRITERS * LINES
    assert {line.partition(" x")[0].rstrip(".").strip() for line in lines} == {
        f"writer {writer} line {number}" for writer in range(WRITERS) for number in range(LINES)
    }
    assert all(line.endswith(".") for line in lines)
    assert len(list(tmp_path.iterdir())) > 5
    # Each process may write one line after another one has found the file not full.
    assert all(file.stat().st_size <= 20_000 + WRITERS * 130 for file in tmp_path.iterdir())


def test_old_files_are_deleted(tmp_path: Path) -> None:
    path, files = tmp_path / "mount.log", 3
    write_together(path, files)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mount.log", "mount.log.1", "mount.log.2"]
    newest = [f"writer {writer} line {LINES - 1} " for writer in range(WRITERS)]
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert any(line in text for line in newest)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())


def test_a_deleted_log_begins_again_and_stderr_follows(tmp_path: Path) -> None:
    path = tmp_path / "mount.log"
    descriptor = os.open(os.devnull, os.O_WRONLY)
    handler = LogFile(path, max_bytes=10_000, files=2, stderr=descriptor)
    handler.emit(logging.makeLogRecord({"msg": "first"}))
    path.unlink()
    handler.emit(logging.makeLogRecord({"msg": "second"}))
    os.write(descriptor, b"of a library\n")
    assert path.read_text() == "second\nof a library\n"
    handler.close()
    os.close(descriptor)


def test_a_record_that_cannot_be_formatted_is_lost_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # it would print a traceback
    path = tmp_path / "mount.log"
    handler = LogFile(path, max_bytes=10_000, files=2)
    handler.emit(logging.makeLogRecord({"msg": "%d changes", "args": ("three",)}))
    handler.emit(logging.makeLogRecord({"msg": "%d changes", "args": (3,)}))
    assert path.read_text() == "3 changes\n"
    handler.close()


def test_a_log_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mount.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "mount.log", max_bytes=10, files=2)


def test_detail_ends_with_its_last_reason() -> None:
    root = logging.Logger("root of a test")
    detail = LogDetail("warning", root)
    assert root.level == logging.WARNING
    detail.toggle()
    with detail.all_messages():
        detail.set_level("error")
        detail.toggle()
        with detail.all_messages():
            assert root.level == logging.DEBUG
        assert root.level == logging.DEBUG
    assert root.level == logging.ERROR
