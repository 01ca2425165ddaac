"""What `make install` would do: nothing that root runs may lie where another user writes."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_installed_commands_lead_into_a_copy_of_roots(tmp_path: Path) -> None:
    words = [
        "make",
        "--dry-run",
        "install",
        f"PREFIX={tmp_path}/opt",
        f"SBIN={tmp_path}",
        f"LOCAL_BIN={tmp_path}",
    ]
    planned = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    links = [line.split()[2] for line in planned.splitlines() if line.startswith("ln ")]
    assert links == [f"{tmp_path}/opt/bin/mount.fuse.procorefs", f"{tmp_path}/opt/bin/procorefs"]
    assert f"chown -R --no-dereference 0:0 {tmp_path}/opt" in planned
    assert "--editable" not in planned
