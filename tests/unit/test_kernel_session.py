"""What the kernel's side says when it does not mount."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from procorefs.kernel import session
from procorefs.kernel.session import MountRefused, Session


class Nothing:
    """Whatever is called does nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def test_the_reason_that_fuse_gives_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is written to stderr by libfuse itself or by the program that mounts for it."""

    def refuse(*_: object) -> None:
        subprocess.run(["sh", "-c", "echo 'fusermount3: could not determine username' >&2"], check=True)
        raise RuntimeError("fuse_session_mount failed")

    monkeypatch.setattr(session, "Bridge", Nothing)
    monkeypatch.setattr(session, "poll_requests", lambda _bridge: None)
    monkeypatch.setattr("procorefs.kernel.session.pyfuse3.init", refuse)
    before = os.listdir("/proc/self/fd")
    nobody: Any = Nothing()
    with pytest.raises(MountRefused, match="could not determine username"):
        Session(nobody, nobody, tmp_path, frozenset()).__enter__()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert "could not determine username" in capfd.readouterr().err, "and it is in the log"
