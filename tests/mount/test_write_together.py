"""Several programs, or several steps, meet: backups that stay, writers inside of what is replaced, many at once."""

import os
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.patterns import pattern
from tests.support.writing import EXCHANGE, Desk, errno_name, renameat2, run, sha256

OLD, NEW = b"old content\n" * 1000, b"new content, and longer\n" * 1000


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    return write_desk(prepare=lambda sandbox: sandbox.act("put", path="/plan.txt", text=OLD.decode()))


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
def test_a_backup_that_stays_is_a_document_of_its_own(desk: Desk, new: Path, tool: str) -> None:
    before = desk.file("plan.txt")
    BACKUPS[tool](desk.path / "plan.txt", new)
    desk.sync()
    desk.assert_saved("plan.txt", before, NEW)
    desk.assert_saved("plan.txt~", None, OLD)
    assert set(desk.files()) == {"plan.txt", "plan.txt~"}
    assert desk.binned() == []


def test_a_writer_inside_of_what_is_replaced_harms_nobody(desk: Desk, new: Path) -> None:
    before = desk.file("plan.txt")
    with (desk.path / "plan.txt").open("r+b", buffering=0) as old:
        old.write(b"OLD")
        shutil.copyfile(new, desk.path / ".plan.txt.x4Kp2Q")
        (desk.path / ".plan.txt.x4Kp2Q").rename(desk.path / "plan.txt")
        old.write(b"OLD")
        assert os.pread(old.fileno(), 12, 0) == b"OLDOLD" + OLD[6:12]
        assert (desk.path / "plan.txt").read_bytes() == NEW
        desk.sync()
    desk.sync()
    desk.assert_saved("plan.txt", before, NEW)


def test_large_files_go_in_segments(desk: Desk) -> None:
    data = pattern(3, 40 << 20)
    with desk.counted() as calls:
        (desk.path / "large.bin").write_bytes(data)
        desk.sync()
    assert desk.file("large.bin").sha256 == sha256(data)
    assert calls.writes == 3, calls.by_route  # beside them the mount may just be listing the project
    assert calls.uploads == 3  # of 16 MiB


def test_a_folder_is_copied_within_the_mount(desk: Desk) -> None:
    (desk.path / "a").mkdir()
    for number in range(20):
        (desk.path / "a" / f"{number}.bin").write_bytes(pattern(number, 10_000))
    desk.remount()
    run("cp", "-r", desk.path / "a", desk.path / "b")
    run("mv", desk.path / "a", desk.path / "b" / "a")
    desk.sync()
    files = desk.files()
    for number in range(20):
        for place in ("b", "b/a"):
            assert files[f"{place}/{number}.bin"].sha256 == sha256(pattern(number, 10_000))
    assert len(files) == 41


def test_pending_files_move_with_their_folders(write_desk: Callable[..., Desk]) -> None:
    """What was never sent is made where it is in the end, and nowhere else."""
    desk = write_desk("write_back=60")
    (desk.path / "a" / "deep").mkdir(parents=True)
    (desk.path / "a" / "deep" / "one.txt").write_bytes(b"one")
    (desk.path / "a" / "two.txt").write_bytes(b"two")
    (desk.path / "a").rename(desk.path / "b")
    (desk.path / "b" / "deep").rename(desk.path / "deep")
    (desk.path / "deep" / "one.txt").rename(desk.path / "b" / "one.txt")
    (desk.path / "b" / "two.txt").rename(desk.path / "deep" / "two.txt")
    desk.sync()
    assert set(desk.files()) == {"b/one.txt", "deep/two.txt"}
    assert desk.folders() == {"b", "deep"}
    assert desk.binned() == []
    assert all(file.numbers == [1] for file in desk.files().values())


def test_unsent_files_are_exchanged(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=60")
    (desk.path / "a.txt").write_bytes(b"a")
    (desk.path / "b.txt").write_bytes(b"b")
    renameat2(desk.path / "a.txt", desk.path / "b.txt", EXCHANGE)
    desk.sync()
    assert desk.file("a.txt").sha256 == sha256(b"b")
    assert desk.file("b.txt").sha256 == sha256(b"a")
    renameat2(desk.path / "a.txt", desk.path / "b.txt", EXCHANGE)
    (desk.path / "a.txt").write_bytes(b"third")
    desk.sync()
    assert desk.file("a.txt").sha256 == sha256(b"third")
    assert desk.file("b.txt").sha256 == sha256(b"b")


@pytest.mark.parametrize("write_back", ["0", "0.2"])
def test_many_save_at_once(write_desk: Callable[..., Desk], write_back: str) -> None:
    """Writers, renamers and removers in one folder while everything is sent; in the end Procore has what shows."""
    desk = write_desk(f"write_back={write_back}")
    (desk.path / "busy").mkdir()
    (desk.path / "other").mkdir()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        mine = [
            desk.path / place / f"{seed} {number}.txt" for number in range(4) for place in ("busy", "other")
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
    desk.sync()
    desk.assert_same(desk.path)
    assert desk.waiting() == []
