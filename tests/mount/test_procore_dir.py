"""`.procore` on real mounts, with the commands that people use: old versions, the status, and nothing to be changed."""

import base64
import errno
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import run
from tests.support.mounting import Mounted, Programs, mount_followed
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle

MIB = 1 << 20
Mount = Callable[..., Mounted]


def put(sandbox: SandboxHandle, path: str, data: bytes) -> None:
    """Somebody else's next version of a file."""
    sandbox.act("put", path=path, base64=base64.b64encode(data).decode())


def shell(place: Path, line: str, status: int = 0) -> str:
    return run("bash", "-o", "pipefail", "-c", line, status=status, cwd=place)


def history(sandbox: SandboxHandle, path: str, *sizes: int) -> list[bytes]:
    """A file with that many versions, made a second after each other."""
    versions = [pattern(number, size) for number, size in enumerate(sizes, start=1)]
    for number, data in enumerate(versions):
        sandbox.faults(clock_shift_s=float(number - 86_400))
        put(sandbox, path, data)
    sandbox.faults(clock_shift_s=0.0)
    return versions


def errno_of(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


# Versions


def test_versions_are_listed_read_and_copied(sandbox: SandboxHandle, mount: Mount, tmp_path: Path) -> None:
    sandbox.reset(0)
    versions = history(sandbox, "/Plan.pdf", 5000, 3 * MIB + 17, 0, 77)
    place = mount_followed(sandbox, mount).path
    sandbox.reset_calls()
    folder = place / ".procore/versions/Plan.pdf"
    names = shell(place, "ls .procore/versions/Plan.pdf").splitlines()
    assert [name[:5] for name in names] == ["v001 ", "v002 ", "v003 ", "v004 "]
    for name, data in zip(names, versions, strict=True):
        made_s = int((folder / name).stat().st_mtime)
        assert name[5:] == shell(place, f"TZ=UTC date -d @{made_s} +%Y-%m-%dT%H-%M-%S").strip() + " Plan.pdf"
        assert (folder / name).stat().st_size == len(data)
        assert (folder / name).read_bytes() == data
    found = shell(place, "find .procore/versions/Plan.pdf -type f -printf '%s %f\\n' | sort -k2")
    assert found == "".join(f"{len(data)} {name}\n" for name, data in zip(names, versions, strict=True))
    run("cp", "-a", folder, tmp_path / "copy")
    run("rsync", "-a", f"{folder}/", tmp_path / "synced")
    run("diff", "-r", tmp_path / "copy", tmp_path / "synced")
    run("diff", "-r", tmp_path / "copy", folder)
    assert shell(place, "tar cf - .procore/versions/Plan.pdf | tar xOf - | cksum") == shell(
        place, "cat .procore/versions/Plan.pdf/* | cksum"
    )
    assert sandbox.calls()["by_route"] == {"GET /rest/v1.0/files/{id}": 1}
    assert sandbox.calls()["other"]["storage GET"] <= 12


def test_listing_folders_costs_no_call_and_a_history_one(
    sandbox: SandboxHandle, mount: Mount, tmp_path: Path
) -> None:
    sandbox.reset(0)
    for number in range(300):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:03d}.pdf").write_bytes(b"x")
    sandbox.import_tree(tmp_path)
    history(sandbox, "/many/deep.pdf", 10, 20)
    place = mount_followed(sandbox, mount).path
    sandbox.reset_calls()
    assert shell(place, "ls -f .procore/versions/many") == shell(place, "ls -f many")
    assert len(shell(place, "ls -la .procore/versions/many").splitlines()) == 304
    assert shell(place, "find .procore/versions -maxdepth 2 | wc -l").strip() == "307"
    # each of these has one version, which the tree knows
    assert shell(place, "find .procore/versions/many/0* -type f | wc -l").strip() == "100"
    assert sandbox.calls()["total"] == 0
    assert shell(place, "find .procore/versions/many -type f | wc -l").strip() == "302"
    assert sandbox.calls()["by_route"] == {"GET /rest/v1.0/files/{id}": 1}


def test_a_version_is_opened_by_a_path_that_somebody_remembered(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    versions = history(sandbox, "/Plan.pdf", 5000, 6000)
    mounted = mount_followed(sandbox, mount)
    name = os.listdir(mounted.path / ".procore/versions/Plan.pdf")[0]
    mounted.unmount()
    again = mount(sandbox)
    sandbox.reset_calls()
    assert (again.path / ".procore/versions/Plan.pdf" / name).read_bytes() == versions[0]
    assert sandbox.calls()["by_route"].get("GET /rest/v1.0/files/{id}") == 1


def test_a_listed_version_is_no_second_download(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    versions = history(sandbox, "/Plan.pdf", 5000, 2 * MIB)
    place = mount_followed(sandbox, mount).path
    assert (place / "Plan.pdf").read_bytes() == versions[1]
    sandbox.reset_calls()
    (newest,) = (place / ".procore/versions/Plan.pdf").glob("v002*")
    assert newest.read_bytes() == versions[1]
    assert "storage GET" not in sandbox.calls()["other"]


def test_new_versions_show_and_old_ones_stay(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    versions = history(sandbox, "/Plan.pdf", 5000, 3 * MIB)
    place = mount_followed(sandbox, mount, "freshness=0").path
    folder = place / ".procore/versions/Plan.pdf"
    with open(next(folder.glob("v002*")), "rb") as reading:
        head = reading.read(1000)
        inode = os.fstat(reading.fileno()).st_ino
        put(sandbox, "/Plan.pdf", b"third")
        sandbox.reset_calls()
        names = sorted(os.listdir(folder))
        assert [name[:4] for name in names] == ["v001", "v002", "v003"]
        assert (folder / names[2]).read_bytes() == b"third"
        assert (folder / names[1]).stat().st_ino == inode
        assert head + reading.read() == versions[1]
    os.listdir(folder)
    assert sandbox.calls()["by_route"]["GET /rest/v1.0/files/{id}"] == 1
    sandbox.act("rename", path="/Plan.pdf", name="Drawing.pdf")
    assert errno_of(lambda: os.listdir(folder)) == errno.ENOENT
    assert shell(place, "ls .procore/versions") == "Drawing.pdf\nwalked 1\nwalked 2\n"
    assert all(name.endswith(" Drawing.pdf") for name in os.listdir(place / ".procore/versions/Drawing.pdf"))
    sandbox.act("delete", path="/Drawing.pdf")
    assert shell(place, "ls .procore/versions") == "walked 1\nwalked 2\n"


def test_what_is_written_here_becomes_a_version(sandbox: SandboxHandle, mount: Mount, tmp_path: Path) -> None:
    sandbox.reset(0)
    (first,) = history(sandbox, "/Plan.pdf", 5000)
    mounted = mount_followed(sandbox, mount, "write_back=600")
    place = mounted.path
    (place / "Plan.pdf").write_bytes(b"second")
    (place / "new.pdf").write_bytes(b"new")
    assert os.listdir(place / ".procore/versions/new.pdf") == []
    assert [name[:4] for name in os.listdir(place / ".procore/versions/Plan.pdf")] == ["v001"]
    assert mounted.home.procorefs("sync", place).returncode == 0
    sandbox.reset_calls()
    assert [name[:4] for name in os.listdir(place / ".procore/versions/new.pdf")] == ["v001"]
    folder = place / ".procore/versions/Plan.pdf"
    assert [name[:4] for name in sorted(os.listdir(folder))] == ["v001", "v002"]
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [first, b"second"]
    assert sandbox.calls()["by_route"] == {"GET /rest/v1.0/files/{id}": 1}
    run("mv", place / "Plan.pdf", place / "walked 1" / "Moved.pdf")
    assert errno_of(folder.stat) == errno.ENOENT
    assert sorted(os.listdir(place / ".procore/versions")) == ["new.pdf", "walked 1", "walked 2"]
    run("cp", *(place / ".procore/versions/walked 1/Moved.pdf").glob("v001*"), place / "walked 1/Moved.pdf")
    assert (place / "walked 1/Moved.pdf").read_bytes() == first
    assert mounted.home.procorefs("sync", place).returncode == 0
    assert len(os.listdir(place / ".procore/versions/walked 1/Moved.pdf")) == 3


def test_a_long_history_is_listed_whole(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    for number in range(250):
        put(sandbox, "/busy.log", b"%d\n" % number)
    place = mount_followed(sandbox, mount).path
    folder = place / ".procore/versions/busy.log"
    names = os.listdir(folder)
    assert [name[:4] for name in names] == [f"v{number:03d}" for number in range(1, 251)]
    assert shell(place, "cat .procore/versions/busy.log/*") == "".join(f"{n}\n" for n in range(250))
    inodes = {(folder / name).stat().st_ino for name in names}
    assert len(inodes) == 250
    assert min(inodes) > 1 << 62


def test_names_are_those_that_programs_see(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    mounted = mount_followed(sandbox, mount, "invalid_names=encode")
    place = mounted.path
    (place / "why?.txt").write_bytes(b"because")
    sandbox.act("create_folder", path="/", name="a/b")
    sandbox.act("create_file", path="/", name="n" * 251 + ".txt", text="long")
    assert mounted.home.procorefs("sync", place).returncode == 0
    (entry,) = os.listdir(place / ".procore/versions/why?.txt")
    assert entry.endswith(" why?.txt")
    assert (place / ".procore/versions/why?.txt" / entry).read_bytes() == b"because"


def test_inode_numbers_stay(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(20)
    history(sandbox, "/Plan.pdf", 10, 20)
    mounted = mount_followed(sandbox, mount)
    line = "find .procore -printf '%i %y %p\\n' | sort"
    before = shell(mounted.path, line)
    numbers = [int(row.split()[0]) for row in before.splitlines()]
    assert len(set(numbers)) == len(numbers) > 30
    mounted.unmount()
    assert shell(mount(sandbox).path, line) == before


def test_ctrl_c_ends_who_waits_for_a_list(sandbox: SandboxHandle, mount: Mount, programs: Programs) -> None:
    sandbox.reset(0)
    history(sandbox, "/Plan.pdf", 10, 20)
    place = mount_followed(sandbox, mount).path
    sandbox.faults(rules=[{"kind": "silence", "route": "GET */files/*"}])
    listing = programs.start("ls", place / ".procore/versions/Plan.pdf")
    sandbox.wait_for_silent_calls()
    assert "Plan.pdf" in os.listdir(place / ".procore/versions")
    listing.send_signal(signal.SIGINT)
    programs.await_end()
    sandbox.release()
    assert len(os.listdir(place / ".procore/versions/Plan.pdf")) == 2


def test_a_list_that_cannot_be_had_is_an_error_with_its_reason(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    history(sandbox, "/Plan.pdf", 10, 20)
    mounted = mount_followed(sandbox, mount)
    mounted.expect_warning("opendir of .procore/versions/Plan.pdf: ")
    sandbox.faults(rules=[{"kind": "error", "route": "GET */files/*", "status": 403}])
    assert errno_of(lambda: os.listdir(mounted.path / ".procore/versions/Plan.pdf")) == errno.EACCES
    assert mounted.status()["refusals"][0]["path"] == ".procore/versions/Plan.pdf"
    sandbox.faults(clear=True)
    assert len(os.listdir(mounted.path / ".procore/versions/Plan.pdf")) == 2


# Status


@pytest.fixture
def mounted(sandbox: SandboxHandle, mount: Mount) -> Mounted:
    sandbox.reset(0)
    history(sandbox, "/Plan.pdf", 1000, 2000)
    return mount_followed(sandbox, mount)


def snapshot(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / ".procore/status").read_text())
    return found


def test_the_status_is_what_the_command_says(mounted: Mounted) -> None:
    told, read = mounted.status(), snapshot(mounted.path)
    for moving in (told, read):
        moving["tree"].pop("age_seconds")
        moving["limiter"] = set(moving["limiter"])
    assert read == told


READERS = [
    "cat .procore/status",
    "cp .procore/status $T && cat $T",
    "cp --sparse=always --reflink=auto .procore/status $T && cat $T",
    "rsync -a .procore/status $T && cat $T",
    "tar cf - .procore/status | tar xOf -",
    "cat < .procore/status",
    "dd if=.procore/status bs=7 status=none",
    "dd if=.procore/status bs=1M iflag=direct status=none",
    "jq -c . .procore/status",
    "less .procore/status | cat",
    "head -c 1000000 .procore/status",
    "tail -n 1 .procore/status",
    "tail -c +1 .procore/status",
    "sed -n p .procore/status",
    "cp .procore/status within && cat within",
    """python3 -c 'import shutil, os; shutil.copy(".procore/status", os.environ["T"])' && cat $T""",
    """python3 -c 'import mmap; print(open(".procore/status", "rb").read().decode())'""",
]


def test_every_tool_reads_the_whole_status(
    mounted: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, line in enumerate(READERS):
        monkeypatch.setenv("T", str(tmp_path / f"copied{number}"))
        assert json.loads(shell(mounted.path, line))["pid"] == mounted.pid, line


def test_the_size_is_that_of_what_is_read(mounted: Mounted) -> None:
    path = mounted.path / ".procore/status"
    for _ in range(3):
        with open(path, "rb") as reading:
            size = os.fstat(reading.fileno()).st_size
            assert len(reading.read()) == size
    assert path.stat().st_size > 500
    assert int(run("wc", "-c", path).split()[0]) > 500


def test_each_open_is_a_snapshot_of_its_moment(sandbox: SandboxHandle, mounted: Mounted) -> None:
    path = mounted.path / ".procore/status"
    early = os.open(path, os.O_RDONLY)
    head = os.pread(early, 100, 0)
    os.listdir(mounted.path / ".procore/versions/Plan.pdf")
    late = os.open(path, os.O_RDONLY)
    later, whole = (
        os.pread(handle, 100_000, 0) for handle in (late, early)
    )  # nothing of one is kept for the other
    os.close(early)
    os.close(late)
    assert whole[:100] == head
    assert json.loads(later)["api_calls"]["total"] == json.loads(whole)["api_calls"]["total"] + 1
    calls = sandbox.calls()["total"]
    for _ in range(3):
        snapshot(mounted.path)
    assert sandbox.calls()["total"] == calls


def test_locks_are_only_between_programs(sandbox: SandboxHandle, mounted: Mounted) -> None:
    os.listdir(mounted.path / ".procore/versions/Plan.pdf")
    calls = sandbox.calls()["total"]
    for name in ("status", "versions/Plan.pdf/v001*"):
        line = f'exec 9< "$(ls .procore/{name})"; flock -n 9 && flock -n .procore/{name} true'
        shell(mounted.path, line, status=1)
        shell(mounted.path, f"flock -n .procore/{name} true")
    assert sandbox.calls()["total"] == calls


# What cannot be


CHANGES: list[Callable[[Path], object]] = [
    lambda own: (own / "new").write_text("x"),
    lambda own: (own / "new").mkdir(),
    lambda own: (own / "versions/new").touch(),
    lambda own: (own / "versions/Plan.pdf/new").touch(),
    lambda own: os.mknod(own / "versions/new"),
    lambda own: (own / "new").symlink_to("status"),
    lambda own: (own / "status").write_text("x"),
    lambda own: os.open(own / "status", os.O_RDWR),
    lambda own: os.open(own / "status", os.O_RDONLY | os.O_TRUNC),
    lambda own: os.truncate(own / "status", 0),
    lambda own: (own / "status").unlink(),
    lambda own: (own / "status").rename(own / "other"),
    lambda own: (own / "status").rename(own.parent / "taken out"),
    lambda own: (own / "status").chmod(0o600),
    lambda own: os.utime(own / "status"),
    lambda own: os.chown(own / "versions", 1, 1),
    lambda own: (own / "versions").rmdir(),
    lambda own: (own / "versions/Plan.pdf").rmdir(),
    lambda own: (own / "versions/Plan.pdf").rename(own.parent / "taken out"),
    lambda own: next((own / "versions/Plan.pdf").iterdir()).unlink(),
    lambda own: next((own / "versions/Plan.pdf").iterdir()).write_bytes(b"x"),
    lambda own: os.truncate(next((own / "versions/Plan.pdf").iterdir()), 0),
    lambda own: (own.parent / "Plan.pdf").rename(own / "Plan.pdf"),
    lambda own: (own.parent / "walked 1").rename(own / "versions/walked 3"),
    lambda own: own.rmdir(),
    lambda own: own.rename(own.parent / "theirs"),
    lambda own: (own.parent / "walked 1").rename(own),
    lambda own: own.chmod(0o777),
]


@pytest.mark.parametrize("options", [(), ("ro",)], ids=["rw", "ro"])
def test_nothing_can_be_changed(sandbox: SandboxHandle, mount: Mount, options: tuple[str, ...]) -> None:
    sandbox.reset(0)
    history(sandbox, "/Plan.pdf", 1000, 2000)
    place = mount_followed(sandbox, mount, *options).path
    own = place / ".procore"
    before = shell(place, "find .procore/versions -printf '%i %m %s %t %p\\n'; ls -A . .procore")
    for number, change in enumerate(CHANGES):
        assert errno_of(lambda change=change: change(own)) == errno.EROFS, f"change {number}"  # type: ignore[misc]
    assert errno_of(own.mkdir) == errno.EEXIST
    assert errno_of(lambda: own.write_text("x")) == errno.EISDIR
    assert shell(place, "find .procore/versions -printf '%i %m %s %t %p\\n'; ls -A . .procore") == before
    assert snapshot(place)["state"] == "mounted"
    assert snapshot(place)["outbox"]["pending"] == 0
    handle = os.open(own / "status", os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def test_it_is_not_listed_and_survives_whoever_empties_the_mount(
    sandbox: SandboxHandle, mount: Mount, tmp_path: Path
) -> None:
    sandbox.reset(10)
    mounted = mount_followed(sandbox, mount)
    place = mounted.path
    assert ".procore" not in os.listdir(place)
    assert ".procore" not in shell(place, "find . -printf '%P\\n'; ls -a")
    (tmp_path / "empty").mkdir()
    run("rsync", "-a", "--delete", f"{tmp_path}/empty/", f"{place}/")
    assert os.listdir(place) == []
    (place / "one").mkdir()
    shell(place, "rm -rf ./* ./.[!.]* ..?*")
    run("rm", "-rf", place, status=1)  # the mount point itself is busy
    assert os.listdir(place) == []
    assert sorted(os.listdir(place / ".procore")) == ["status", "versions"]
    assert snapshot(place)["outbox"]["failed"] == 0


def test_a_document_of_that_name_is_not_hidden(sandbox: SandboxHandle, mount: Mount) -> None:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/Plans")
    put(sandbox, "/Plans/.procore", b"deep")
    put(sandbox, "/.procore", b"theirs")
    mounted = mount_followed(sandbox, mount, "freshness=0")
    place = mounted.path
    (marked,) = place.glob(".procore ~*")
    assert marked.read_bytes() == b"theirs"
    assert (place / "Plans/.procore").read_bytes() == b"deep"
    assert len(os.listdir(place / ".procore/versions/Plans/.procore")) == 1
    assert (place / ".procore/status").exists()
    assert errno_of(lambda: (place / "Plans/.procore").rename(place / ".procore")) == errno.EISDIR
    marked.rename(place / "plain")
    assert mounted.home.procorefs("sync", place).returncode == 0
    sandbox.act("move", path="/Plans/.procore", to="/")
    (moved,) = place.glob(".procore ~*")
    assert moved.read_bytes() == b"deep"
    assert (place / "plain").read_bytes() == b"theirs"


def as_other_user(place: Path, line: str) -> int:
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line],
        cwd=place,
        capture_output=True,
        check=False,
    ).returncode


@pytest.fixture
def public() -> Iterator[Path]:
    """A place that other users reach; pytest's own they don't."""
    with tempfile.TemporaryDirectory(prefix="procorefs-test-") as made:
        place = Path(made)
        place.chmod(0o755)
        (place / "mnt").mkdir()
        yield place / "mnt"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_private_documents_are_for_the_mounts_user_alone(
    sandbox: SandboxHandle, public: Path, mount: Mount
) -> None:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/private")
    for path in ("/private/deep.pdf", "/hidden.pdf", "/open.pdf"):
        put(sandbox, path, b"content")
    for path in ("/private", "/hidden.pdf"):
        sandbox.act("private", path=path, on=True)
        sandbox.act("grant", path=path, on=True)
    mounted = mount(sandbox, "allow_other", at=public)
    assert (public / "private").stat().st_mode & 0o777 == 0o700
    assert (public / "hidden.pdf").stat().st_mode & 0o777 == 0o600
    assert (public / "private" / "deep.pdf").read_bytes() == b"content"
    assert as_other_user(public, "cat open.pdf") == 0
    assert as_other_user(public, "getfattr -n user.procore.id open.pdf") == 0
    for short in ("url", "raw", "versions"):
        assert os.getxattr(public / "open.pdf", f"user.procore.{short}")
        assert as_other_user(public, f"getfattr -n user.procore.{short} open.pdf") != 0
    assert as_other_user(public, "cat hidden.pdf") != 0
    assert as_other_user(public, "ls private") != 0
    (public / "hidden.pdf").chmod(0o644)  # what is set here opens nothing
    assert as_other_user(public, "cat hidden.pdf") != 0
    mounted.unmount()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_read_a_document_may_not_read_its_versions(
    sandbox: SandboxHandle, public: Path, mount: Mount
) -> None:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/private")
    for path in ("/private/deep.pdf", "/hidden.pdf", "/open.pdf"):
        history(sandbox, path, 10, 20)
    mount(sandbox, "allow_other", at=public)
    (public / "private").chmod(0o700)
    (public / "hidden.pdf").chmod(0o600)
    read = "cat .procore/versions/{}/*"
    for path in ("private/deep.pdf", "hidden.pdf", "open.pdf"):
        shell(public, read.format(path))
    assert as_other_user(public, read.format("open.pdf")) == 0
    assert as_other_user(public, read.format("hidden.pdf")) != 0
    assert as_other_user(public, read.format("private/deep.pdf")) != 0
    assert as_other_user(public, "cat .procore/status") != 0
    assert as_other_user(public, "touch .procore/versions/x") != 0
