"""Several programs, or several steps, meet: backups that stay, writers inside of what is replaced, many at once."""

import os
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import wait_until
from tests.support.patterns import pattern
from tests.support.writing import EXCHANGE, MountedProject, errno_name, renameat2, sha256

OLD, NEW = b"old content\n" * 1000, b"new content, and longer\n" * 1000


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    return mount_project(prepare=lambda sandbox: sandbox.act("put", path="/plan.txt", text=OLD.decode()))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "plan.txt"
    path.parent.mkdir()
    path.write_bytes(NEW)
    return path


BACKUPS: dict[str, Callable[[Path, Path], object]] = {
    "rsync": lambda file, new: run("rsync", "-a", "--backup", new, file),
    "cp": lambda file, new: run("cp", "--backup=simple", new, file),
    "mv": lambda file, new: run("mv", "--backup=simple", new, file),
    "install": lambda file, new: run("install", "--backup=simple", new, file),
    "gio": lambda file, new: run("sh", "-c", 'gio save --backup "$0" < "$1"', file, new),
    "vim": lambda file, _new: run(
        *("vim", "-u", "NONE", "-N", "-es", "--cmd", "set backup backupcopy=no backupskip="),
        *("-c", "%s/old content/new content, and longer/", "-c", "wq", file),
    ),
}


@pytest.mark.parametrize("tool", BACKUPS)
def test_a_backup_that_stays_is_a_document_of_its_own(project: MountedProject, new: Path, tool: str) -> None:
    before = project.file("plan.txt")
    BACKUPS[tool](project.path / "plan.txt", new)
    project.sync()
    project.assert_saved("plan.txt", before, NEW)
    project.assert_saved("plan.txt~", None, OLD)
    assert set(project.files()) == {"plan.txt", "plan.txt~"}
    assert project.binned() == []


def test_a_writer_inside_of_what_is_replaced_harms_nobody(project: MountedProject, new: Path) -> None:
    before = project.file("plan.txt")
    with (project.path / "plan.txt").open("r+b", buffering=0) as old:
        old.write(b"OLD")
        shutil.copyfile(new, project.path / ".plan.txt.x4Kp2Q")
        (project.path / ".plan.txt.x4Kp2Q").rename(project.path / "plan.txt")
        old.write(b"OLD")
        assert os.pread(old.fileno(), 12, 0) == b"OLDOLD" + OLD[6:12]
        assert (project.path / "plan.txt").read_bytes() == NEW
        project.sync()
    project.sync()
    project.assert_saved("plan.txt", before, NEW)


def test_large_files_go_in_segments(project: MountedProject) -> None:
    data = pattern(3, 40 << 20)
    with project.counted() as calls:
        (project.path / "large.bin").write_bytes(data)
        project.sync()
    assert project.file("large.bin").sha256 == sha256(data)
    assert calls.writes == 3, calls.by_route  # beside them the mount may just be listing the project
    assert calls.uploads == 3  # of 16 MiB


def test_a_folder_is_copied_within_the_mount(project: MountedProject) -> None:
    (project.path / "a").mkdir()
    for number in range(20):
        (project.path / "a" / f"{number}.bin").write_bytes(pattern(number, 10_000))
    project.remount()
    run("cp", "-r", project.path / "a", project.path / "b")
    run("mv", project.path / "a", project.path / "b" / "a")
    project.sync()
    files = project.files()
    for number in range(20):
        for place in ("b", "b/a"):
            assert files[f"{place}/{number}.bin"].sha256 == sha256(pattern(number, 10_000))
    assert len(files) == 41


def test_pending_files_move_with_their_folders(mount_project: Callable[..., MountedProject]) -> None:
    """What was never sent is made where it is in the end, and nowhere else."""
    project = mount_project("write_back=60")
    (project.path / "a" / "deep").mkdir(parents=True)
    (project.path / "a" / "deep" / "one.txt").write_bytes(b"one")
    (project.path / "a" / "two.txt").write_bytes(b"two")
    (project.path / "a").rename(project.path / "b")
    (project.path / "b" / "deep").rename(project.path / "deep")
    (project.path / "deep" / "one.txt").rename(project.path / "b" / "one.txt")
    (project.path / "b" / "two.txt").rename(project.path / "deep" / "two.txt")
    project.sync()
    assert set(project.files()) == {"b/one.txt", "deep/two.txt"}
    assert project.folders() == {"b", "deep"}
    assert project.binned() == []
    assert all(file.numbers == [1] for file in project.files().values())


def test_a_colleagues_folder_refuses_its_name_while_procore_has_it(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=60,freshness=0")
    project.await_listed()
    (project.path / "plan").write_bytes(NEW)
    project.sandbox.act("create_folder", path="/plan", user="other")
    project.sandbox.act("put", path="/later.txt", text="later", user="other")
    wait_until(lambda: "later.txt" in os.listdir(project.path), "the mount to see what the colleague made")
    project.mounted.expect_warning("plan was refused: Procore has a folder of that name")
    assert [item.state for item in project.settle()] == ["failed"]
    assert project.folders() == {"plan"}
    project.sandbox.act("delete", path="/plan", user="other")
    answer = project.mounted.home.procorefs("retry", project.path)
    assert answer.returncode == 0, answer.stderr
    project.sync()
    project.assert_saved("plan", None, NEW)


def test_unsent_files_are_exchanged(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=60")
    (project.path / "a.txt").write_bytes(b"a")
    (project.path / "b.txt").write_bytes(b"b")
    renameat2(project.path / "a.txt", project.path / "b.txt", EXCHANGE)
    project.sync()
    assert project.file("a.txt").sha256 == sha256(b"b")
    assert project.file("b.txt").sha256 == sha256(b"a")
    renameat2(project.path / "a.txt", project.path / "b.txt", EXCHANGE)
    (project.path / "a.txt").write_bytes(b"third")
    project.sync()
    assert project.file("a.txt").sha256 == sha256(b"third")
    assert project.file("b.txt").sha256 == sha256(b"b")


@pytest.mark.parametrize("write_back", ["0", "0.2"])
def test_many_save_at_once(mount_project: Callable[..., MountedProject], write_back: str) -> None:
    """Writers, renamers and removers in one folder while everything is sent; in the end Procore has what shows."""
    project = mount_project(f"write_back={write_back}")
    (project.path / "busy").mkdir()
    (project.path / "other").mkdir()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        mine = [
            project.path / place / f"{seed} {number}.txt"
            for number in range(4)
            for place in ("busy", "other")
        ]
        for turn in range(40):
            path, other = chance.sample(mine, 2)
            match chance.randrange(6):
                case 0 | 1:
                    path.write_bytes(b"%d %d\n" % (seed, turn) * chance.randrange(1, 3000))
                case 2:
                    errno_name(lambda path=path, other=other: path.rename(other))  # type: ignore[misc]
                case 3:
                    errno_name(lambda path=path: path.unlink())  # type: ignore[misc]
                case 4:
                    temporary = path.with_name(f".{path.name}.aB3dE{seed}")
                    temporary.write_bytes(b"saved %d %d" % (seed, turn))
                    temporary.rename(path)
                case 5:
                    errno_name(lambda path=path: path.open("r+b").close())  # type: ignore[misc]
                    with path.open("ab") as file:
                        file.write(b"appended")

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [None] * 6
    project.sync()
    project.assert_same(project.path)
    assert project.waiting() == []
