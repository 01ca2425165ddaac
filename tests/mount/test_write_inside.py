"""Who is inside while folders are removed and made anew, or files replaced; and inodes that are asked for by number."""

import ctypes
import errno
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name

REPLACED = 500
HANDLE_BYTES = 128
AT_FDCWD = -100


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project("write_back=0.2")


# Folders


@pytest.mark.parametrize("is_sent", [False, True], ids=["only here", "in Procore"])
@pytest.mark.parametrize("inside", ["file", "folder"])
def test_a_folder_that_was_removed_with_somebody_inside_is_made_anew(
    project: MountedProject, *, is_sent: bool, inside: str
) -> None:
    folder = project.path / "x"
    folder.mkdir()
    (folder / "f").write_text("here")
    if is_sent:
        project.sync()
    documents = project.sandbox.inventory()["folders"]
    old = os.open(folder if inside == "folder" else folder / "f", os.O_RDONLY)
    try:
        number = folder.stat().st_ino
        shutil.rmtree(folder)
        folder.mkdir()
        assert folder.stat().st_ino != number
        (folder / "a").write_text("new")
        (folder / "deeper").mkdir()
        assert sorted(path.name for path in folder.iterdir()) == ["a", "deeper"]
        if inside == "folder":
            assert os.fstat(old).st_nlink == 0
            assert listed(old) in ([], "ENOENT")
            assert errno_name(lambda: os.mkdir("y", dir_fd=old)) == "ENOENT"
        else:
            assert os.read(old, 10) == b"here"
        project.sync()
        assert project.sandbox.inventory()["folders"].keys() == documents.keys() | {"/x", "/x/deeper"}
        assert set(project.sandbox.inventory()["files"]) == {"/x/a"}
        if is_sent:
            assert project.sandbox.inventory()["folders"]["/x"] == documents["/x"]
    finally:
        os.close(old)


@pytest.mark.parametrize("is_sent", [False, True], ids=["only here", "in Procore"])
def test_a_removed_working_directory_is_empty(project: MountedProject, *, is_sent: bool) -> None:
    folder = project.path / "x"
    folder.mkdir()
    if is_sent:
        project.sync()
    old = os.open(folder, os.O_RDONLY)
    try:
        folder.rmdir()
        assert listed(old) in ([], "ENOENT")
        project.sync()
        assert listed(old) in ([], "ENOENT")
        assert os.stat(".", dir_fd=old).st_nlink == 0
        assert errno_name(lambda: os.open("y", os.O_CREAT | os.O_WRONLY, dir_fd=old)) == "ENOENT"
    finally:
        os.close(old)


def listed(folder: int) -> list[str] | str:
    """As `ls .` in it."""
    try:
        again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    except OSError as error:
        return name_of(error)
    try:
        return os.listdir(again)
    finally:
        os.close(again)


def name_of(error: OSError) -> str:
    return errno.errorcode[error.errno or 0]


# Files


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR], ids=["to read", "to write"])
@pytest.mark.parametrize("is_sent", [False, True], ids=["only here", "in Procore"])
def test_a_name_that_is_replaced_all_the_time_can_be_opened(
    mount_project: Callable[..., MountedProject], *, is_sent: bool, flags: int
) -> None:
    project = mount_project("write_back=3600")
    name = project.path / "plan.txt"
    name.write_text("first")
    if is_sent:
        project.sync()
    failures: list[str] = []
    is_done = threading.Event()

    def open_again_and_again() -> None:
        while not is_done.is_set():
            try:
                handle = os.open(name, flags)
            except OSError as error:
                failures.append(name_of(error))
                continue
            try:
                if os.read(handle, 10) not in (b"first", b"another"):
                    failures.append("other bytes")
            except OSError as error:
                failures.append(f"read {error}")
            os.close(handle)

    readers = [threading.Thread(target=open_again_and_again) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(REPLACED):
            newer = project.path / f"newer {number % 3}"
            newer.write_text("another")
            newer.rename(name)
    finally:
        is_done.set()
        for reader in readers:
            reader.join()
    assert not failures, (len(failures), set(failures))


# Numbers


class Handle(ctypes.Structure):
    """struct file_handle."""

    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * HANDLE_BYTES),
    )


def handle_of(path: Path) -> Handle:
    libc = ctypes.CDLL(None, use_errno=True)
    handle, mount = Handle(HANDLE_BYTES), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return handle


def open_handle(mount: int, handle: Handle) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    opened = libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY)
    if opened < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return int(opened)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open by handle")
def test_what_a_server_of_files_keeps_by_number_is_found(
    mount_project: Callable[..., MountedProject],
) -> None:
    """As an NFS server does after a restart: the kernel asks for `.` of the number, and for `..` of folders."""

    def fill(sandbox: SandboxHandle) -> None:
        sandbox.act("create_folder", path="/a")
        sandbox.act("create_folder", path="/a/deep")
        sandbox.act("put", path="/a/deep/plan.txt", text="the plan")

    project = mount_project("freshness=3600", prepare=fill)
    paths = [project.path / "a/deep/plan.txt", project.path / "a/deep", project.path / "a", project.path]
    handles = [handle_of(path) for path in paths]
    numbers = [path.stat().st_ino for path in paths]
    unlisted = handle_of(
        project.path / ".procore/versions/a"
    )  # the kernel looks for its name in the root's listing
    gone = handle_of(make(project.path / "gone.txt"))
    (project.path / "gone.txt").unlink()
    project.sync()
    project.remount()
    mount = os.open(project.path, os.O_RDONLY | os.O_DIRECTORY)
    opened = []
    try:
        with project.counted() as calls:
            opened = [open_handle(mount, handle) for handle in handles]
            assert [os.fstat(handle).st_ino for handle in opened] == numbers
            assert os.read(opened[0], 100) == b"the plan"
            assert os.listdir(opened[1]) == ["plan.txt"]
            above = os.open("..", os.O_RDONLY, dir_fd=opened[1])
            opened.append(above)
            assert os.fstat(above).st_ino == numbers[2]
            for handle in (gone, unlisted):
                assert errno_name(partial(open_handle, mount, handle)) == "ESTALE"
        assert calls.total <= 2  # the look after the start
    finally:
        for descriptor in (*opened, mount):
            os.close(descriptor)


def make(path: Path) -> Path:
    path.write_text("soon gone")
    return path
