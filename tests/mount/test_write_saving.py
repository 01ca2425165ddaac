"""However a program saves, its document gets one new version: the same id, the right bytes, and no stray document."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import wait_until
from tests.support.writing import MountedProject

OLD, NEW = b"old content\n" * 1000, b"new content, and longer\n" * 1000


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    """A project with `plan.txt` and `folder/plan.txt`, of somebody else's making."""
    project = mount_project()
    for path in ("plan.txt", "folder/plan.txt"):
        (project.path / path).parent.mkdir(exist_ok=True)
        (project.path / path).write_bytes(OLD)
    project.sync()
    return project


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A newer plan.txt elsewhere."""
    path = tmp_path / "new" / "plan.txt"
    path.parent.mkdir()
    path.write_bytes(NEW)
    return path


Save = Callable[[Path, Path], None]
"""(the file, its new content elsewhere)"""


def in_place(file: Path, new: Path) -> None:
    file.write_bytes(new.read_bytes())


def without_truncating(file: Path, new: Path) -> None:
    with file.open("r+b") as handle:
        handle.write(new.read_bytes())
        handle.truncate()


def cp(file: Path, new: Path) -> None:
    run("cp", new, file)


def cp_force(file: Path, new: Path) -> None:
    run("cp", "--remove-destination", new, file)


def mv_from_outside(file: Path, new: Path) -> None:
    run("mv", "-f", new, file)


def mv_within(file: Path, new: Path) -> None:
    run("cp", new, file.with_name("other.txt"))
    run("mv", "-f", file.with_name("other.txt"), file)


def install(file: Path, new: Path) -> None:
    run("install", "-m", "644", new, file)


def rsync(*options: str) -> Save:
    def save(file: Path, new: Path) -> None:
        run("rsync", "-a", *options, f"{new.parent}/", f"{file.parent}/")

    return save


def tar(file: Path, new: Path) -> None:
    run("sh", "-c", 'tar c -C "$0" plan.txt | tar x -C "$1"', new.parent, file.parent)


def tar_unlink_first(file: Path, new: Path) -> None:
    run("sh", "-c", 'tar c -C "$0" plan.txt | tar x --unlink-first -C "$1"', new.parent, file.parent)


def unzip(file: Path, new: Path) -> None:
    archive = new.parent.parent / "new.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(new, "plan.txt")
    run("unzip", "-o", "-q", archive, "-d", file.parent)


def sed(file: Path, new: Path) -> None:
    run("sed", "-i", "s/old content/new content, and longer/", file)


def rclone(file: Path, new: Path) -> None:
    run("rclone", "copy", "--config", "/dev/null", new.parent, file.parent)


def gio(file: Path, new: Path) -> None:
    run("sh", "-c", 'gio save "$0" < "$1"', file, new)


def gio_with_backup(file: Path, new: Path) -> None:
    run("sh", "-c", 'gio save --backup "$0" < "$1"', file, new)
    file.with_name("plan.txt~").unlink()


def vim(*options: str) -> Save:
    def save(file: Path, new: Path) -> None:
        given = (*options, "backupskip=")  # which has /tmp in it
        words = [word for option in given for word in ("--cmd", f"set {option}")]
        substitute = "%s/old content/new content, and longer/"
        run("vim", "-u", "NONE", "-N", "-es", *words, "-c", substitute, "-c", "wq", file)

    return save


def libreoffice(file: Path, new: Path) -> None:
    """A lock file, the document into lu….tmp in its folder, that over the document; the lock goes."""
    lock = file.with_name(f".~lock.{file.name}#")
    lock.write_text(",somebody,host,01.01.2026 10:00,file:///home/somebody;")
    temporary = file.with_name("lu12345abcde.tmp")
    with temporary.open("wb") as handle:
        handle.write(new.read_bytes())
        os.fsync(handle.fileno())
    temporary.rename(file)
    lock.unlink()


def libreoffice_copying(file: Path, new: Path) -> None:
    """Where it may not rename it truncates the document and copies over it, through several descriptors."""
    lock = file.with_name(f".~lock.{file.name}#")
    lock.write_text(",somebody,host,01.01.2026 10:00,file:///home/somebody;")
    with file.open("r+b"):
        with file.open("wb") as handle:
            handle.write(new.read_bytes()[:100])
        with file.open("r+b") as handle:
            handle.seek(100)
            handle.write(new.read_bytes()[100:])
    lock.unlink()


def word(file: Path, new: Path) -> None:
    """The new one as ~WRD….tmp, the old one renamed to ~WRL….tmp, the new one to its name, the old one deleted."""
    owner = file.with_name(f"~${file.name[2:]}")
    owner.write_bytes(b"owner" + bytes(157))
    temporary, backup = file.with_name("~WRD0001.tmp"), file.with_name("~WRL0002.tmp")
    temporary.write_bytes(new.read_bytes())
    file.rename(backup)
    temporary.rename(file)
    backup.unlink()
    owner.unlink()


def excel(file: Path, new: Path) -> None:
    """The new one under eight hexadecimal digits, the old one renamed away to an own temporary name, and so on."""
    temporary, backup = file.with_name("4CCA4100"), file.with_name("5DDB5211.tmp")
    temporary.write_bytes(new.read_bytes())
    file.rename(backup)
    temporary.rename(file)
    backup.unlink()


def backup_stays_a_while(file: Path, new: Path) -> None:
    """A copy is kept under a name that people use, the document is written anew, and the copy removed."""
    backup = file.with_name("plan.bak")
    file.rename(backup)
    file.write_bytes(new.read_bytes())
    backup.unlink()


def delete_and_create(file: Path, new: Path) -> None:
    file.unlink()
    file.write_bytes(new.read_bytes())


def hidden_temporary(file: Path, new: Path) -> None:
    """As glib, Qt's QSaveFile and many more: a random name beside it, synced, renamed over it."""
    temporary = file.with_name(".goutputstream-X7A2B3")
    with temporary.open("wb") as handle:
        handle.write(new.read_bytes())
        os.fsync(handle.fileno())
    temporary.rename(file)


SAVES: dict[str, Save] = {
    "in place": in_place,
    "without truncating": without_truncating,
    "cp": cp,
    "cp --remove-destination": cp_force,
    "install": install,
    "mv from outside": mv_from_outside,
    "mv within": mv_within,
    "rsync": rsync(),
    "rsync --inplace": rsync("--inplace"),
    "rsync --partial": rsync("--partial"),
    "rsync --partial-dir": rsync("--partial", "--partial-dir=.rsync-partial"),
    "rsync --delay-updates": rsync("--delay-updates"),
    "rsync --whole-file --inplace --no-times": rsync("--whole-file", "--inplace", "--no-times"),
    "rsync --no-whole-file": rsync("--no-whole-file"),
    "tar": tar,
    "tar --unlink-first": tar_unlink_first,
    "unzip": unzip,
    "sed": sed,
    "rclone": rclone,
    "gio": gio,
    "gio --backup": gio_with_backup,
    "vim": vim("nobackup", "nowritebackup"),
    "vim writebackup": vim("nobackup", "writebackup", "backupcopy=auto"),
    "vim backupcopy=no": vim("nobackup", "writebackup", "backupcopy=no"),
    "vim backupcopy=yes": vim("nobackup", "writebackup", "backupcopy=yes"),
    "LibreOffice": libreoffice,
    "LibreOffice, copying": libreoffice_copying,
    "Word": word,
    "Excel": excel,
    "backup under a usual name": backup_stays_a_while,
    "delete and create": delete_and_create,
    "glib, Qt": hidden_temporary,
}


@pytest.mark.parametrize("write_back", ["0", "2"])
def test_every_way_to_save_is_one_version(
    mount_project: Callable[..., MountedProject], new: Path, write_back: str
) -> None:
    """One mount for all of them: each document is saved once, in its own folder, and all are looked at together."""
    project = mount_project(f"write_back={write_back}")
    places = {name: project.path / f"case {number}" for number, name in enumerate(SAVES)}
    for place in places.values():
        place.mkdir()
        (place / "plan.txt").write_bytes(OLD)
    project.sync()
    before = project.files()
    with project.counted() as calls:
        for name, save in SAVES.items():
            source = new.parent.parent / name / "new" / "plan.txt"
            source.parent.mkdir(parents=True)
            source.write_bytes(NEW)
            save(places[name] / "plan.txt", source)
        wait_until(lambda: not project.waiting(), "everything to reach Procore by itself")
    wrong = {}
    after = project.files()
    for name, place in places.items():
        path = f"{place.name}/plan.txt"
        try:
            assert os.listdir(place) == ["plan.txt"]
            assert {other for other in after if other.startswith(f"{place.name}/")} == {path}
            project.assert_saved(path, before[path], NEW)
        except AssertionError as error:
            wrong[name] = str(error).splitlines()[0]
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    # Without any waiting what is closed is sent, and then deleted, like any other file: the copy that vim makes for a
    # backup, and, where mv starts slowly, the one that it moves.
    assert set(project.binned()) <= ({"plan.txt~", "other.txt"} if write_back == "0" else set())
    if write_back != "0":
        assert calls.uploads == len(SAVES), calls.other  # flock(2) of some programs costs calls as well
