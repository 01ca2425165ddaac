"""Bytes that are wanted under one name and lie in Procore under another: who has them stays until they are here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import ThreadOf, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, sha256

OLD = b"what the document has in Procore\n" * 5000


def rename_over(place: Path) -> bytes:
    (place / "a.dwg").rename(place / "b.dwg")
    return OLD


def write_and_rename_over(place: Path) -> bytes:
    """Only the first bytes are here: the others are still those of the document that is to go."""
    with (place / "a.dwg").open("r+b") as file:
        file.write(b"WHAT")
    (place / "a.dwg").rename(place / "b.dwg")
    return b"WHAT" + OLD[4:]


def rename_over_and_write(place: Path) -> bytes:
    (place / "a.dwg").rename(place / "b.dwg")
    with (place / "b.dwg").open("r+b") as file:
        file.write(b"WHAT")
    return b"WHAT" + OLD[4:]


def rename_write_anew_and_remove(place: Path) -> bytes:
    """The document stays with the name, and then the name is removed."""
    (place / "b.dwg").unlink()
    (place / "a.dwg").rename(place / "b.dwg")
    (place / "a.dwg").write_bytes(b"anew")
    (place / "a.dwg").unlink()
    return OLD


def rename_twice_and_remove(place: Path) -> bytes:
    """The same by way of a third: two names want bytes of one document, which is to go."""
    (place / "a.dwg").rename(place / "c.dwg")
    (place / "a.dwg").write_bytes(b"anew")
    (place / "a.dwg").rename(place / "b.dwg")
    (place / "a.dwg").write_bytes(b"anew again")
    (place / "a.dwg").unlink()
    (place / "c.dwg").rename(place / "b.dwg")
    return OLD


WAYS = [
    rename_over,
    write_and_rename_over,
    rename_over_and_write,
    rename_write_anew_and_remove,
    rename_twice_and_remove,
]


@pytest.mark.parametrize("change", WAYS, ids=lambda change: change.__name__)
def test_a_lender_stays(
    mount_project: Callable[..., MountedProject], tmp_path: Path, change: Callable[[Path], bytes]
) -> None:
    source = tmp_path / "documents"
    source.mkdir()
    (source / "a.dwg").write_bytes(OLD)
    (source / "b.dwg").write_bytes(b"another document")

    def prepare(sandbox: SandboxHandle) -> None:
        sandbox.import_tree(source)

    project = mount_project("write_back=600", prepare=prepare)
    lender = project.file("a.dwg").id
    expected = change(project.path)
    project.sandbox.faults(rules=[{"kind": "silence", "route": "storage GET"}])
    with ThreadOf(project.settle) as settling:
        try:
            project.sandbox.wait_for_silent_calls()
            wait_until(lambda: is_gone(project, lender) or is_blocked(project), "the lender to go or to wait")
            assert not is_gone(project, lender)
        finally:
            project.sandbox.faults(clear=True, release=True)
        assert settling.result() == []
    assert (project.path / "b.dwg").read_bytes() == expected
    assert {path: file.sizes[0] for path, file in project.files().items()} == {"b.dwg": len(expected)}


def is_gone(project: MountedProject, document: int) -> bool:
    return document not in {file.id for file in project.files().values()}


def is_blocked(project: MountedProject) -> bool:
    reason = "its bytes are on their way to another name"
    return any(item.path == "a.dwg" and item.reason == reason for item in project.waiting())


@pytest.mark.parametrize("is_written", [False, True], ids=["as it was", "written to"])
def test_a_backup_that_stays_here_keeps_nothing_from_being_saved(
    mount_project: Callable[..., MountedProject], tmp_path: Path, is_written: bool
) -> None:
    """A program leaves its backup under a temporary name, which has its bytes from the document of the old name."""
    source = tmp_path / "documents"
    source.mkdir()
    (source / "a.dwg").write_bytes(OLD)
    project = mount_project("write_back=0", prepare=lambda sandbox: sandbox.import_tree(source))
    document, backup = project.path / "a.dwg", project.path / "~WRL0001.tmp"
    document.rename(backup)
    expected = OLD
    if is_written:
        with backup.open("r+b") as file:
            file.write(b"WHAT")
        expected = b"WHAT" + OLD[4:]
    document.write_bytes(b"saved")
    assert left(project) == [("held", len(expected))]
    document.unlink()
    assert left(project) == [("held", len(expected))]
    assert project.files() == {}
    document.write_bytes(b"made anew")
    assert left(project) == [("held", len(expected))]
    assert project.file("a.dwg").sizes == [len(b"made anew")]
    assert backup.read_bytes() == expected
    backup.rename(project.path / "b.dwg")
    project.sync()
    assert project.file("b.dwg").sha256 == sha256(expected)


def left(project: MountedProject) -> list[tuple[str, int]]:
    return [(item.state, item.bytes) for item in project.settle()]
