"""What Procore has no place for is kept here: times, modes and owners, over uploads and remounts."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import Mounted, mount_followed, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

LONG_AGO_NS = 1_500_000_000_123_456_789


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project()


def attributes(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns


def test_rsync_brings_times_modes_and_owners(project: MountedProject, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for number, name in enumerate(("a.txt", "folder/b.txt", "folder/empty")):
        (source / name).write_bytes(b"x" * number)
        os.chmod(source / name, 0o640 + number)
        os.chown(source / name, 1000 + number, 2000 + number)
        os.utime(source / name, ns=(LONG_AGO_NS + number, LONG_AGO_NS - number))
    os.chmod(source / "folder", 0o750)
    os.chown(source / "folder", 1234, 4321)
    os.utime(source / "folder", ns=(LONG_AGO_NS, LONG_AGO_NS))
    run("rsync", "-a", f"{source}/", project.path)

    names = ("a.txt", "folder/b.txt", "folder/empty", "folder")
    wanted = {name: attributes(source / name)[1:4] + attributes(source / name)[5:] for name in names}
    shown = {name: attributes(project.path / name) for name in names}
    assert {name: found[1:4] + found[5:] for name, found in shown.items()} == wanted
    project.sync()
    assert {name: attributes(project.path / name) for name in names} == shown
    project.remount()
    assert {name: attributes(project.path / name) for name in names} == shown
    assert run("rsync", "-ai", f"{source}/", project.path) == ""


def test_a_time_does_not_jump_when_its_bytes_arrive(project: MountedProject) -> None:
    before_ns = time.time_ns()
    (project.path / "a.txt").write_bytes(b"one")
    written = (project.path / "a.txt").stat()
    assert before_ns <= written.st_mtime_ns <= time.time_ns()
    project.sync()
    assert (project.path / "a.txt").stat().st_mtime_ns == written.st_mtime_ns
    assert (project.path / "a.txt").stat().st_ctime_ns >= written.st_mtime_ns
    project.remount()
    assert (project.path / "a.txt").stat().st_mtime_ns == written.st_mtime_ns
    with (project.path / "a.txt").open("ab") as file:
        file.write(b"two")
    assert (project.path / "a.txt").stat().st_mtime_ns > written.st_mtime_ns


def times(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns


def test_a_check_out_and_metadata_leave_mtime_alone_whoever_has_it_open(
    mount_project: Callable[..., MountedProject],
) -> None:
    """LibreOffice compares the mtime before it saves, and its lock file makes the check-out."""
    project = mount_project("freshness=0")
    document = project.sandbox.act("put", path="/plan.odt", text="theirs")["id"]
    path = project.path / "plan.odt"
    wait_until(path.exists, "the document to show")
    before = path.stat()
    with path.open("r+b"):
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        (project.path / ".~lock.plan.odt#").write_text("Me,me,host,,;")
        wait_until(lambda: path.stat().st_ctime_ns > before.st_ctime_ns, "the check-out to show", 30)
        assert path.stat().st_mtime_ns == before.st_mtime_ns
    (project.path / ".~lock.plan.odt#").unlink()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    (project.path / "mine.txt").write_bytes(b"mine")
    project.sync()
    mine = times(project.path / "mine.txt")
    with (project.path / "mine.txt").open("r+b"):
        for changed in (path, project.path / "mine.txt"):
            project.sandbox.act("describe", path=f"/{changed.name}", text="theirs")
        wait_until(
            lambda: os.getxattr(project.path / "mine.txt", "user.procore.description") == b"theirs",
            "the description to show",
        )
        assert times(project.path / "mine.txt")[0] == mine[0]
        assert times(project.path / "mine.txt")[1] > mine[1]
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert document


@pytest.mark.parametrize("content", [b"", b"content"])
def test_cutting_to_nothing_moves_both_times(project: MountedProject, content: bytes) -> None:
    path = project.path / "a.txt"
    path.write_bytes(content)
    project.sync()

    def open_with_truncation() -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))

    def cut_open_file() -> None:
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), 0)

    for cut in (open_with_truncation, cut_open_file, lambda: os.truncate(path, 0)):
        path.write_bytes(content)
        project.sync()
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        ctime_ns = path.stat().st_ctime_ns
        cut()
        found = path.stat()
        is_same_size = cut is not open_with_truncation and cut is not cut_open_file and not content
        assert (found.st_mtime_ns > LONG_AGO_NS) is not is_same_size  # truncate(2) to the size it has
        assert (found.st_ctime_ns > ctime_ns) is not is_same_size
        project.sync()
        assert times(path) == (found.st_mtime_ns, found.st_ctime_ns)
        project.remount()
        assert times(path) == (found.st_mtime_ns, found.st_ctime_ns)


def test_touching_right_after_a_write_never_sets_the_time_back(project: MountedProject) -> None:
    for number in range(200):
        with (project.path / f"{number}.txt").open("xb", buffering=0) as file:
            file.write(b"x")
            written_ns = os.fstat(file.fileno()).st_mtime_ns
            os.utime(file.fileno())
            assert os.fstat(file.fileno()).st_mtime_ns >= written_ns


def test_times_are_set_on_a_file_that_has_no_name(project: MountedProject) -> None:
    (project.path / "sent.txt").write_bytes(b"x")
    project.sync()
    for path in (project.path / "new.txt", project.path / "sent.txt"):
        with path.open("w+b", buffering=0) as file:
            file.write(b"written")
            path.unlink()
            os.utime(file.fileno(), ns=(LONG_AGO_NS, LONG_AGO_NS))
            found = os.fstat(file.fileno())
            assert (found.st_mtime_ns, found.st_atime_ns) == (LONG_AGO_NS, LONG_AGO_NS)
            file.write(b"more")
            assert os.fstat(file.fileno()).st_mtime_ns > LONG_AGO_NS
            os.fchmod(file.fileno(), 0o600)
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600


def as_nobody(command: str, folder: Path) -> None:
    """Run a shell in the folder as a user who has no privileges, and may not search the folders above."""
    run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-ec", command, cwd=folder)


@pytest.mark.parametrize(
    "change",
    [
        "printf y 1<> program",
        "printf y >> program",
        "truncate --size 1 program",
        "perl -e 'truncate(q(program), 0) or die $!'",
        ": > program",
    ],
)
def test_another_users_write_takes_set_id_bits_away(
    mount_project: Callable[..., MountedProject], change: str
) -> None:
    project = mount_project("allow_other")
    path = project.path / "program"
    path.write_bytes(b"xx")
    project.sync()
    for mode, left in ((0o6777, 0o777), (0o4767, 0o767), (0o2767, 0o2767)):
        os.chmod(path, mode)
        path.open("r+b").close()
        with path.open("r+b") as file:  # root may
            file.write(b"z")
        assert path.stat().st_mode & 0o7777 == mode
        as_nobody(change, project.path)
        assert path.stat().st_mode & 0o7777 == left
    os.chmod(path, 0o6777)
    os.chown(path, 65534, 65534)
    assert path.stat().st_mode & 0o7777 == 0o777


def test_times_belong_to_a_version_and_modes_to_the_document(project: MountedProject) -> None:
    """A newer version of somebody else drops times and set-ID bits that were set here, and nothing else of the mode.

    Somebody else's program would run as the owner.
    """
    (project.path / "a.txt").write_bytes(b"one")
    os.chmod(project.path / "a.txt", 0o6755)
    os.utime(project.path / "a.txt", ns=(LONG_AGO_NS, LONG_AGO_NS))
    project.sync()
    assert (project.path / "a.txt").stat().st_mtime_ns == LONG_AGO_NS
    assert (project.path / "a.txt").stat().st_mode & 0o7777 == 0o6755
    project.sandbox.act("put", path="/a.txt", text="theirs")
    project.remount("freshness=0")
    wait_until(lambda: (project.path / "a.txt").read_bytes() == b"theirs", "the newer version to be seen")
    found = (project.path / "a.txt").stat()
    assert found.st_mtime_ns != LONG_AGO_NS
    assert found.st_mode & 0o7777 == 0o755
    os.utime(project.path / "a.txt")
    assert (project.path / "a.txt").stat().st_mode & 0o7777 == 0o755


def test_attributes_cost_nothing(project: MountedProject) -> None:
    (project.path / "a.txt").write_bytes(b"one")
    (project.path / "folder").mkdir()
    project.sync()
    with project.counted() as calls:
        for name in ("a.txt", "folder"):
            os.chmod(project.path / name, 0o700)
            os.chown(project.path / name, 7, 8)
            os.utime(project.path / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
        project.sync()
    assert calls.total == 0
    assert project.waiting() == []
    assert (project.path / "a.txt").stat().st_mtime_ns == LONG_AGO_NS


def test_a_folder_changes_its_time_with_its_entries(project: MountedProject) -> None:
    folder = project.path / "folder"
    folder.mkdir()
    for change in (
        lambda: (folder / "a.txt").write_bytes(b"x"),
        lambda: (folder / "a.txt").rename(folder / "b.txt"),
        lambda: (folder / "b.txt").unlink(),
        lambda: (folder / "below").mkdir(),
        lambda: (folder / "below").rmdir(),
    ):
        os.utime(folder, ns=(LONG_AGO_NS, LONG_AGO_NS))
        assert folder.stat().st_mtime_ns == LONG_AGO_NS
        change()
        assert folder.stat().st_mtime_ns > LONG_AGO_NS


def test_a_colleague_moves_the_times_of_folders_by_what_changes_in_them(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("freshness=0")
    for name in ("/one", "/two", "/quiet"):
        project.sandbox.act("create_folder", path=name)
    folders = {name: project.path / name for name in ("one", "two", "quiet")}
    wait_until(folders["quiet"].exists, "the folders to show")
    assert all(not os.listdir(folder) for folder in folders.values())

    def moved(entries: dict[str, list[str]]) -> set[str]:
        """The folders of which a time is another when they hold just these; both times must be."""
        wait_until(
            lambda: all(sorted(os.listdir(folders[name])) == found for name, found in entries.items()),
            f"{entries} to show",
        )
        now = {name: times(folder) for name, folder in folders.items()}
        found = {name for name in folders if now[name] != before[name]}
        assert all(now[name][0] > before[name][0] and now[name][1] > before[name][1] for name in found)
        before.update(now)
        return found

    before = {name: times(folder) for name, folder in folders.items()}
    project.sandbox.act("put", path="/one/a.txt", text="a")
    assert moved({"one": ["a.txt"]}) == {"one"}
    project.sandbox.act("rename", path="/one/a.txt", name="b.txt")
    assert moved({"one": ["b.txt"]}) == {"one"}
    project.sandbox.act("move", path="/one/b.txt", to="/two")
    assert moved({"one": [], "two": ["b.txt"]}) == {"one", "two"}
    project.sandbox.act("put", path="/two/b.txt", text="another version")
    wait_until(lambda: (folders["two"] / "b.txt").read_bytes() == b"another version", "the version")
    assert moved({"two": ["b.txt"]}) == set()
    project.sandbox.act("delete", path="/two/b.txt")
    assert moved({"two": []}) == {"two"}
    project.remount("freshness=0")
    assert {name: times(folder) for name, folder in folders.items()} == before


def test_the_first_listing_moves_no_time(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/one")
    sandbox.act("put", path="/one/a.txt", text="a")
    mounted = mount_followed(sandbox, mount)
    found = (mounted.path / "one").stat()
    assert os.listdir(mounted.path / "one") == ["a.txt"]
    assert (mounted.path / "one").stat().st_mtime_ns == found.st_mtime_ns
    assert found.st_mtime_ns % 1_000_000_000 == 0  # Procore's, in seconds


def test_what_programs_change_in_a_folder_moves_its_time_for_good(project: MountedProject) -> None:
    (project.path / "folder").mkdir()
    project.sync()
    os.utime(project.path / "folder", ns=(LONG_AGO_NS, LONG_AGO_NS))
    (project.path / "folder" / "a.txt").write_bytes(b"x")
    found = times(project.path / "folder")
    assert found[0] > LONG_AGO_NS
    project.sync()
    assert times(project.path / "folder") == found
    project.remount()
    assert times(project.path / "folder") == found


def test_sizes_and_room(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("staging_size=64M")
    before = os.statvfs(project.path)
    assert before.f_namemax == 255
    assert 0 < before.f_bavail * before.f_frsize <= 64 << 20
    for size in (0, 1, 512, 513, 100_000):
        (project.path / "a.bin").write_bytes(bytes(size))
        found = (project.path / "a.bin").stat()
        assert (found.st_size, found.st_blocks) == (size, -(-size // 512))
    (project.path / "b.bin").write_bytes(bytes(10 << 20))
    assert os.statvfs(project.path).f_bavail <= before.f_bavail - (10 << 20) // before.f_frsize
    project.sync()
    found = (project.path / "a.bin").stat()
    assert (found.st_size, found.st_blocks) == (100_000, 196)
    wait_until(lambda: os.statvfs(project.path).f_bavail == before.f_bavail, "the room to be free again")
