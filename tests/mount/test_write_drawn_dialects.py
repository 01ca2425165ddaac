"""Days of work against Procores that answer every open question in ways of their own, and change them meanwhile."""

import fcntl
import hashlib
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from procorefs.sandbox.faults.dialect import STRICT
from tests.support.dialects import drawn_dialect
from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, sha256

PROCORES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "strict, then drawn": (STRICT, drawn_dialect(11)),
    "drawn, then strict": (drawn_dialect(12), STRICT),
    "drawn 13, then 14": (drawn_dialect(13), drawn_dialect(14)),
    "drawn 15, then 16": (drawn_dialect(15), drawn_dialect(16)),
}
"""What it speaks first, and from the middle of the work on."""

CHANGING = ("plan #1  new.txt", "Pla\u0308ne.txt", "detail %2.txt", "list~3.txt")


class Work:
    """What programs and a colleague do, and the texts that Procore must hold by then."""

    def __init__(self, project: MountedProject, source: Path) -> None:
        self.project = project
        self.source = source
        self.texts: set[str] = set()

    def agree(self) -> None:
        """Procore has exactly the expected texts, and the mount shows each under the name that Procore has."""
        self.project.sync()
        wait_until(self._agrees, f"mount and Procore to agree on {sorted(self.texts)}")

    def _agrees(self) -> bool:
        shown = {
            _composed(path.relative_to(self.project.path)): sha256(content)
            for path, content in self._contents()
        }
        files = {_composed(Path(path)): file.sha256 for path, file in self.project.files().items()}
        expected = sorted(hashlib.sha256(text.encode()).hexdigest() for text in self.texts)
        return shown == files and sorted(files.values()) == expected

    def at(self, text: str) -> Path:
        """The file of the mount with that content."""
        (found,) = [path for path, content in self._contents() if content == text.encode()]
        return found

    def _contents(self) -> Iterator[tuple[Path, bytes]]:
        """The files of the mount, but for those that get another name from Procore meanwhile."""
        for folder, _, names in os.walk(self.project.path):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    yield path, path.read_bytes()

    def write(self, path: Path, text: str, instead_of: str = "") -> None:
        self.texts = self.texts - {instead_of} | {text}
        path.write_text(text)


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path))


@pytest.mark.parametrize("procore", PROCORES)
def test_work_goes_on(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], tmp_path: Path, procore: str
) -> None:
    first, then = PROCORES[procore]
    project = mount_project("freshness=0", prepare=lambda sandbox: sandbox.faults(dialect=first))
    for warning in ("changed the name", "has another name now", "is the newest"):
        project.mounted.expect_warning(warning)
    work = Work(project, tmp_path / "source")
    sandbox.faults(spike_calls=25, dialect={"rate_windows": "rolling"})
    _copy_in(work)
    _edit_and_move(work)
    for number in range(3):
        work.write(project.path / f"waits {number}.txt", f"waits {number}")
    sandbox.faults(clear=True, dialect=then, spike_calls=60, settings={"per_page_cap": 3})
    work.agree()
    _tag_and_check_out(work)
    _colleague(sandbox, work)
    _lose_answers(sandbox, work)
    _remove(work)
    project.remount()
    work.agree()
    routes = sandbox.calls()["by_route"]
    assert not any(
        "v1.0/projects/{project_id}/documents" in route and "tags" not in route for route in routes
    )


def _copy_in(work: Work) -> None:
    folder = work.source / "area #7  north" / "sub"
    folder.mkdir(parents=True)
    for number, name in enumerate(CHANGING):
        for at in (folder.parent, folder):
            text = f"{number} in {at.name}"
            (at / name).write_text(text)
            work.texts.add(text)
    shutil.copytree(work.source / folder.parent.name, work.project.path / folder.parent.name)
    work.agree()


def _edit_and_move(work: Work) -> None:
    for number in range(len(CHANGING)):
        work.write(work.at(f"{number} in sub"), f"{number} again", instead_of=f"{number} in sub")
    moved = work.at("0 again")
    moved.rename(work.project.path / "moved  & renamed.txt")
    moved.parent.rename(work.project.path / "sub #2")
    work.agree()
    onto = work.project.path / "saved aside"
    work.write(onto, "1 saved aside", instead_of="1 again")
    onto.rename(work.at("1 again"))
    work.agree()


def _tag_and_check_out(work: Work) -> None:
    path = work.at("2 again")
    os.setxattr(path, "user.procore.tags", b"draft\nLevel 2")
    os.setxattr(path, "user.procore.description", b"a note")
    work.agree()
    assert {file.description for file in work.project.files().values() if file.description} == {"a note"}
    os.setxattr(path, "user.procore.description", b"")
    work.agree()
    assert not any(file.description for file in work.project.files().values())
    assert sorted(os.getxattr(path, "user.procore.tags").split(b"\n")) == [b"Level 2", b"draft"]
    inode = path.stat().st_ino
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert path.stat().st_ino == inode
    work.agree()


def _colleague(sandbox: SandboxHandle, work: Work) -> None:
    theirs = work.at("waits 1").relative_to(work.project.path)
    sandbox.act("put", path=f"/{theirs}", text="a colleague's version")
    sandbox.act("delete", path=f"/{work.at('waits 2').relative_to(work.project.path)}")
    sandbox.act("create_folder", path="/From a colleague")
    sandbox.act("put", path="/From a colleague/b.txt", text="from a colleague")
    work.texts -= {"waits 1", "waits 2"}
    work.texts |= {"a colleague's version", "from a colleague"}
    work.agree()


def _lose_answers(sandbox: SandboxHandle, work: Work) -> None:
    """Each kind of change once with its answer lost."""
    routes = ("POST */files", "POST */folders", "PATCH */files/*", "PATCH */folders/*", "DELETE */files/*")
    sandbox.faults(rules=[{"kind": "drop", "when": "after", "route": route, "count": 1} for route in routes])
    (work.project.path / "lost #4  folder").mkdir()
    work.write(work.project.path / "lost #5  file.txt", "made, and nobody said so")
    work.write(work.at("waits 0"), "changed, and nobody said so", instead_of="waits 0")
    work.at("3 again").parent.rename(work.project.path / "lost %6  name")
    work.at("from a colleague").unlink()
    work.texts.discard("from a colleague")
    work.agree()
    folders = [path for path in work.project.folders() if "lost" in path and "folder" in path]
    assert len(folders) == 1, folders


def _remove(work: Work) -> None:
    folder = work.at("3 again").parent
    work.texts -= {path.read_text() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    work.agree()
