"""One story of changes, whatever Procore answers where its documentation leaves a choice: nothing lost or doubled."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import run
from tests.support.mounting import wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name, sha256

DIALECTS: dict[str, dict[str, Any]] = {
    "names composed, versions anew": {
        "stored_names": "nfc",
        "patch_makes_version": True,
        "answered_lists": False,
        "versions_order": "oldest",
        "error_shape": "message",
        "delete_status": 200,
        "used_upload": "words",
        "stored_status": 201,
    },
    "names tidied, versions renumbered": {
        "stored_names": "tidied",
        "patch_renumbers": True,
        "answered_versions": "none",
        "root_id_as_parent": False,
        "case_sensitive_names": False,
        "deleted_get": "404",
        "error_shape": "error",
        "invalid_status": 422,
        "used_upload": "unnamed",
        "delete_again": 422,
        "etag_quotes": "refused",
        "segment_size_as_text": True,
        "version_urls": "storage",
        "documents_lists": "none",
    },
    "nothing moves": {
        "rename_touches": False,
        "check_out_touches": False,
        "delete_touches": False,
        "version_authors": False,
        "root_in_list": False,
        "bin_folder_in_list": False,
        "deleted_parent": "old",
        "descendants": "living",
        "error_shape": "list",
        "used_upload": "missing",
        "delete_again": 204,
        "documents_lists": "without_company",
        "stored_status": 200,
    },
    "everything moves": {
        "tagging_touches": True,
        "child_touches_parent": True,
        "descendants_touched": True,
        "bin_in_list": True,
        "descendants": "hidden",
        "kinds_share_names": True,
        "tags_fold_case": True,
        "null_clears_description": False,
        "upload_status": "receiving",
        "error_shape": "text",
        "used_upload": "conflict",
        "version_urls": "api_bytes",
        "default_per_page_v2": 3,
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "names composed, versions anew": {"per_page_cap": 3},
    "names tidied, versions renumbered": {"per_page_cap": 10},
}

DECOMPOSED = "Pla\u0308ne"  # as macOS writes it
SPACED = "two blanks"
LOST = (
    "POST */folders",
    "PATCH */folders/*",
    "DELETE */folders/*",
    "POST */files",
    "PATCH */files/*",
    "DELETE */files/*",
)


class Teller:
    """Does the same on the mount and in a local directory, and compares."""

    def __init__(self, project: MountedProject, source: Path) -> None:
        self.project = project
        self.source = source
        source.mkdir()
        self.uploads: dict[str, int] = {}

    def both(self, deed: Callable[[Path], object]) -> None:
        for root in (self.source, self.project.path):
            deed(root)

    def put(self, path: str, text: str, moment_s: int = 1_700_000_000) -> None:
        def write(root: Path) -> None:
            (root / path).write_text(text)
            os.utime(root / path, (moment_s, moment_s + 0.25))

        self.both(write)

    def agree(self) -> None:
        """Everything is in Procore; the mount and the local directory are the same, for rsync as well."""
        self.project.sync()
        self.agree_here()

    def agree_here(self) -> None:
        root = self.project.path
        assert _shown(root) == _shown(self.source)
        with self.project.counted() as calls:
            told = run("rsync", "-ain", "--no-perms", "--omit-dir-times", "--delete", f"{self.source}/", root)
            self.project.sync()
        assert told == ""
        assert calls.writes == 0, calls.by_route
        files = self.project.files()
        ours = {p: f for p, f in _shown(self.source).items() if f is not None}
        assert sorted(file.sha256 for file in files.values()) == sorted(
            sha256(data) for data in ours.values()
        )
        folders = [p for p, f in _shown(self.source).items() if f is None]
        assert len(self.project.folders()) == len(folders), self.project.folders()


def _shown(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_story(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], tmp_path: Path, dialect: str
) -> None:
    speaks, settings = DIALECTS[dialect], SETTINGS.get(dialect, {})
    project = mount_project(
        "freshness=0", prepare=lambda sandbox: sandbox.faults(dialect=speaks, settings=settings)
    )
    teller = Teller(project, tmp_path / "source")
    plans = f"{DECOMPOSED} {SPACED}"

    _make(teller, plans)
    made = project.files()
    inode = (project.path / plans / "old" / f"{SPACED}.txt").stat().st_ino
    _write_again(teller, plans)
    assert {path: file.id for path, file in project.files().items()} == {
        path: file.id for path, file in made.items()
    }
    _rename(teller, plans)
    assert (project.path / f"{SPACED}.txt").stat().st_ino == inode
    assert {file.id for file in project.files().values()} == {file.id for file in made.values()}
    _rename_over(teller, plans)
    _lock(project, project.path / f"{SPACED}.txt")
    teller.agree_here()
    _lose_answers(sandbox, teller, plans)
    project.remount()
    teller.agree_here()
    _remove(teller, plans)


def _make(teller: Teller, plans: str) -> None:
    with teller.project.counted() as calls:
        teller.both(lambda root: (root / plans / "old").mkdir(parents=True))
        teller.put(f"{plans}/{DECOMPOSED}.txt", "first")
        teller.put(f"{plans}/old/{SPACED}.txt", "another")
        teller.put("top.txt", "a third")
        teller.project.sync()
    assert calls.writes == 2 + 2 * 3, calls.by_route
    teller.agree_here()


def _write_again(teller: Teller, plans: str) -> None:
    with teller.project.counted() as calls:
        teller.put(f"{plans}/{DECOMPOSED}.txt", "second")
        teller.project.sync()
    assert calls.writes == 2, calls.by_route
    teller.agree_here()


def _rename(teller: Teller, plans: str) -> None:
    with teller.project.counted() as calls:
        teller.both(lambda root: (root / "top.txt").rename(root / plans / f"{DECOMPOSED} 2.txt"))
        teller.both(lambda root: (root / plans / "old" / f"{SPACED}.txt").rename(root / f"{SPACED}.txt"))
        teller.both(lambda root: (root / plans / "old").rename(root / plans / f"{DECOMPOSED} {SPACED} new"))
        teller.project.sync()
    assert calls.writes == 3, calls.by_route
    teller.agree_here()


def _rename_over(teller: Teller, plans: str) -> None:
    """The file that comes becomes a version of the document that was there."""
    project = teller.project
    onto = next(file for path, file in project.files().items() if path.endswith(" 2.txt"))
    with project.counted() as calls:
        teller.put("fresh.txt", "third")
        teller.both(lambda root: (root / "fresh.txt").rename(root / plans / f"{DECOMPOSED} 2.txt"))
        project.sync()
    assert calls.writes == 2, calls.by_route
    teller.agree_here()
    assert onto.id in {file.id for file in project.files().values()}


def _remove(teller: Teller, plans: str) -> None:
    project = teller.project
    with project.counted() as calls:
        teller.both(lambda root: run("rm", "-r", root / plans, root / f"{SPACED}.txt"))
        project.sync()
    assert calls.writes == 2, calls.by_route
    teller.agree_here()
    for _ in range(2):  # polls bring nothing back
        os.listdir(project.path)
        teller.agree_here()


def _lock(project: MountedProject, path: Path) -> None:
    """A check-out from the lock on, which leaves the file what it is for whoever has it open."""
    inode = path.stat().st_ino

    def holders() -> list[object]:
        with project.sandbox.session() as session:
            query = {"project_id": project.sandbox.project_id}
            listed = session.get("/rest/v1.0/folders", params=query).json()["files"]
            return [file["checked_out_by"] for file in listed if file["checked_out_by"]]

    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(holders()) == 1
        assert os.fstat(file.fileno()).st_nlink == 1
        assert (os.fstat(file.fileno()).st_ino, path.stat().st_ino) == (inode, inode)
        assert file.read() == path.read_bytes()
    wait_until(lambda: not holders(), "the check-in")
    assert path.stat().st_ino == inode


def _lose_answers(sandbox: SandboxHandle, teller: Teller, plans: str) -> None:
    """Every kind of change once, with its first answer lost."""
    project, before = teller.project, teller.project.files()
    teller.put(f"{plans}/gone {SPACED}.txt", "goes")
    teller.both(lambda root: (root / plans / f"gone {DECOMPOSED}").mkdir())
    teller.agree()
    sandbox.faults(rules=[{"kind": "drop", "when": "after", "route": route, "count": 1} for route in LOST])
    teller.both(lambda root: (root / f"{DECOMPOSED} lost").mkdir())
    teller.put(f"lost {DECOMPOSED} {SPACED}.txt", "made, and nobody said so")
    teller.put(f"{SPACED}.txt", "changed, and nobody said so")
    teller.both(lambda root: (root / plans / f"gone {SPACED}.txt").unlink())
    teller.both(lambda root: (root / plans / f"gone {DECOMPOSED}").rmdir())
    teller.both(
        lambda root: (root / plans / f"{DECOMPOSED} {SPACED} new").rename(
            root / plans / f"{DECOMPOSED} {SPACED}"
        )
    )
    teller.agree()
    assert sandbox.faults()["rules"] == []
    sandbox.faults(rules=[{"kind": "drop", "when": "after", "route": "PATCH */files/*", "count": 1}])
    teller.both(lambda root: (root / f"{SPACED}.txt").rename(root / f"{SPACED} {DECOMPOSED}.txt"))
    teller.agree()
    teller.both(lambda root: (root / f"{SPACED} {DECOMPOSED}.txt").rename(root / f"{SPACED}.txt"))
    teller.agree()
    after = {file.id: file for file in project.files().values()}
    assert len(after) == len(before) + 1
    for file in before.values():
        is_changed = after[file.id].sha256 != file.sha256
        assert len(set(after[file.id].sizes)) <= len(set(file.sizes)) + is_changed


def test_names_that_procore_takes_for_one(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject]
) -> None:
    """Ours never becomes a version of what is there under the other name; its bytes stay, and it says why."""

    def prepare(_sandbox: SandboxHandle) -> None:
        sandbox.faults(dialect={"case_sensitive_names": False, "stored_names": "nfc"})
        for path in ("/a.txt", "/b.txt", "/Plane/c.txt"):
            if path.count("/") > 1:
                sandbox.act("create_folder", path="/Plane")
            sandbox.act("put", path=path, text="theirs")
        sandbox.act("put", path="/Pl\u00e4ne.txt", text="theirs")

    project = mount_project("freshness=0", prepare=prepare)
    project.mounted.expect_warning("was refused")
    theirs = project.files()
    listed = set(os.listdir(project.path))
    for name in ("A.txt", f"{DECOMPOSED}.txt"):
        (project.path / name).write_text("ours")
    (project.path / "PLANE").mkdir()
    left = {item.path: item for item in project.settle()}
    assert {item.state for item in left.values()} == {"failed"}
    assert left.keys() == {"A.txt", f"{DECOMPOSED}.txt", "PLANE"}
    assert all("as the same name" in item.reason for item in left.values()), left
    assert project.files() == theirs
    assert set(os.listdir(project.path)) == listed | left.keys()
    assert [(project.path / name).read_text() for name in ("A.txt", "a.txt", f"{DECOMPOSED}.txt")] == [
        "ours",
        "theirs",
        "ours",
    ]

    # What leaves the name makes room for it, in whatever order they are sent.
    (project.path / "a.txt").unlink()
    assert project.mounted.home.procorefs("retry", project.path / "A.txt").returncode == 0
    (project.path / "b.txt").rename(project.path / "d.txt")
    (project.path / "B.txt").write_text("ours")
    (project.path / "Plane" / "c.txt").rename(project.path / "Plane" / "C.txt")
    still = project.settle()
    assert {item.path for item in still} == {f"{DECOMPOSED}.txt", "PLANE"}, still
    texts = {path: file.sha256 for path, file in project.files().items()}
    assert texts == {
        "A.txt": sha256(b"ours"),
        "B.txt": sha256(b"ours"),
        "d.txt": sha256(b"theirs"),
        "Plane/C.txt": sha256(b"theirs"),
        "Pl\u00e4ne.txt": sha256(b"theirs"),
    }
    assert project.file("d.txt").id == theirs["b.txt"].id
    assert project.file("Plane/C.txt").id == theirs["Plane/c.txt"].id

    # A rename to such a name is taken back.
    (project.path / "d.txt").rename(project.path / "a.txt")
    project.settle()
    assert (project.path / "d.txt").read_text() == "theirs"
    assert not (project.path / "a.txt").exists()


@pytest.mark.parametrize("makes_version", [False, True])
def test_a_check_out_is_no_newer_version(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], *, makes_version: bool
) -> None:
    """Neither for who has the file open, nor for its times, nor for a removal that waits; a colleague's is one."""
    project = mount_project(
        "freshness=3600",
        prepare=lambda sandbox: sandbox.faults(dialect={"patch_makes_version": makes_version}),
    )
    path = project.path / "plan.txt"
    for name in ("plan.txt", "theirs.txt"):
        (project.path / name).write_text("ours, of some size")
        os.utime(project.path / name, (1_600_000_000, 1_600_000_000))
    project.sync()
    inode = path.stat().st_ino
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (os.fstat(file.fileno()).st_ino, os.fstat(file.fileno()).st_nlink) == (inode, 1)
        assert (path.stat().st_ino, path.stat().st_mtime) == (inode, 1_600_000_000)
        path.unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
    project.sync()
    assert list(project.files()) == ["theirs.txt"]

    project.mounted.expect_warning("newer version")
    with (project.path / "theirs.txt").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sandbox.act("put", path="/theirs.txt", text="a colleague's of it!")
        (project.path / "theirs.txt").unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
    assert [item.path for item in project.settle()] == ["theirs.txt"]
    wait_until((project.path / "theirs.txt").exists, "the file to be shown again")
    assert project.file("theirs.txt").sha256 == sha256(b"a colleague's of it!")


def test_a_tag_that_procore_writes_in_other_case(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject]
) -> None:
    project = mount_project(
        "freshness=0", prepare=lambda sandbox: sandbox.faults(dialect={"tags_fold_case": True})
    )
    path = project.path / "plan.txt"
    path.write_text("x")
    for tags in (b"draft\nold", b"Draft\nnew"):
        os.setxattr(path, "user.procore.tags", tags)
        project.sync()
    project.remount()
    assert sorted(os.getxattr(path, "user.procore.tags").split(b"\n")) == [b"draft", b"new"]


def test_moving_into_a_folder_that_somebody_deleted(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject]
) -> None:
    """It is the folder that is not there: the file is, and shows where it was."""
    project = mount_project("freshness=3600")
    (project.path / "folder").mkdir()
    (project.path / "plan.txt").write_text("x")
    project.sync()
    project.mounted.expect_warning("was refused")
    sandbox.act("delete", path="/folder")
    (project.path / "plan.txt").rename(project.path / "folder" / "plan.txt")
    project.settle()
    assert list(project.files()) == ["plan.txt"]
    assert os.listdir(project.path) == ["plan.txt"]
    assert (project.path / "plan.txt").read_text() == "x"
    assert errno_name((project.path / "folder").rmdir) == "ENOENT"


@pytest.mark.parametrize("stored_names", ["as_sent", "nfc"])
def test_killed_while_answers_were_awaited(
    sandbox: SandboxHandle,
    mount_project: Callable[..., MountedProject],
    tmp_path: Path,
    stored_names: str,
) -> None:
    """What was made and never answered for is found again, whatever it is called there."""
    project = mount_project(
        "freshness=0,write_back=0",
        prepare=lambda sandbox: sandbox.faults(dialect={"stored_names": stored_names}),
    )
    teller = Teller(project, tmp_path / "source")
    sandbox.faults(
        rules=[
            {"kind": "silence", "when": "after", "route": f"POST */{kind}"} for kind in ("files", "folders")
        ]
    )
    teller.both(lambda root: (root / f"{DECOMPOSED} {SPACED}").mkdir())
    teller.put(f"{DECOMPOSED} {SPACED}.txt", "made, and nobody said so")
    sandbox.wait_for_silent_calls(2)
    project.mounted.kill()
    sandbox.release()
    project.mount_after_end()
    assert set(os.listdir(project.path)) >= {
        f"{DECOMPOSED} {SPACED}",
        f"{DECOMPOSED} {SPACED}.txt",
    }
    teller.put(f"{DECOMPOSED} {SPACED}/inside.txt", "x")
    teller.agree()
    assert all(file.numbers == [1] for file in project.files().values())
