"""The read-only mount has the manners of a file system: compared with a plain directory of the same content."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.environment import run
from tests.support.mounting import Mounted, mount_followed, wait_until
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle

MIB = 1 << 20
LARGE = 5 * MIB + 321


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with odd names, sizes and depths."""
    root = tmp_path / "source"
    deep = root.joinpath(*[f"level {number}" for number in range(20)])
    deep.mkdir(parents=True)
    (deep / "bottom.txt").write_text("deep down")
    (root / "ünï ✓").mkdir()
    (root / "ünï ✓" / "a\u0301.txt").write_text("combining")
    (root / "-rf").write_text("option")
    (root / "with\nnewline").write_text("two lines")
    (root / ("n" * 255)).write_text("long")
    (root / ("ü" * 127)).write_text("long in bytes")
    (root / "empty").touch()
    (root / "one").write_bytes(b"x")
    (root / "large.bin").write_bytes(pattern(1, LARGE))
    for size in (4095, 4096, 4097, 131_071, 131_072, 131_073, MIB - 1, MIB, MIB + 1):
        (root / f"size {size}").write_bytes(pattern(2, size))
    return root


@pytest.fixture
def mounted(sandbox: SandboxHandle, mount: Callable[..., Mounted], source: Path) -> Mounted:
    sandbox.reset(0)
    sandbox.import_tree(source)
    return mount_followed(sandbox, mount)


def errno_of(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


def test_the_tools_of_every_day(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    place = mounted.path
    for name in ("walked 1", "walked 2"):
        (source / name).mkdir()
    names = "find . -mindepth 1 -printf '%y %s %P\\n' | sort"
    assert run("sh", "-c", names.replace("%s", ""), cwd=place) == run(
        "sh", "-c", names.replace("%s", ""), cwd=source
    )
    sizes = "find . -type f -printf '%s %P\\n' | sort"
    assert run("sh", "-c", sizes, cwd=place) == run("sh", "-c", sizes, cwd=source)
    assert len(run("ls", "-la", place).splitlines()) == len(run("ls", "-la", source).splitlines())
    assert run("grep", "-rl", "deep down", ".", cwd=place) == run("grep", "-rl", "deep down", ".", cwd=source)
    assert run("find", place, "-newer", place / "one", "-size", "+1000000c") == ""
    apparent = ("du", "-s", "--apparent-size", "-b", "--exclude=level*")
    assert int(run(*apparent, place / "large.bin").split()[0]) == LARGE
    assert int(run("du", "-s", "-B1", place / "large.bin").split()[0]) == -(-LARGE // 512) * 512
    run("tar", "cf", tmp_path / "all.tar", ".", cwd=place)
    run("tar", "df", tmp_path / "all.tar", cwd=place)
    run("cp", "-a", place, tmp_path / "copied")
    run("diff", "-r", source, tmp_path / "copied")
    run("rsync", "-a", f"{place}/", tmp_path / "synced")
    run("diff", "-r", source, tmp_path / "synced")
    assert run("rsync", "-ai", f"{place}/", tmp_path / "synced") == ""
    assert run("rsync", "-aicn", f"{place}/", tmp_path / "copied") == ""
    with os.scandir(place) as entries:
        found = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
    assert found == {
        name: (os.stat(place / name).st_ino, (source / name).is_dir()) for name in os.listdir(source)
    }


def test_nothing_can_be_changed_read_only(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], mounted: Mounted
) -> None:
    mounted.unmount()
    mounted = mount(sandbox, "ro")
    place, file, folder = mounted.path, mounted.path / "one", mounted.path / "level 0"
    attempts: list[Callable[[], object]] = [
        lambda: os.open(file, os.O_WRONLY),
        lambda: os.open(file, os.O_RDWR),
        lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        lambda: os.open(place / "new", os.O_WRONLY | os.O_CREAT),
        lambda: os.open(folder / "new", os.O_RDONLY | os.O_CREAT),
        lambda: os.mkdir(place / "new"),
        lambda: os.mknod(place / "new"),
        lambda: os.mkfifo(place / "new"),
        lambda: os.symlink("one", place / "new"),
        lambda: os.link(file, place / "new"),
        lambda: os.rename(file, place / "new"),
        lambda: os.rename(folder, place / "new"),
        lambda: os.unlink(file),
        lambda: os.rmdir(place / "walked 1"),
        lambda: os.truncate(file, 0),
        lambda: os.chmod(file, 0o600),
        lambda: os.chown(file, 1, 1),
        lambda: os.utime(file),
        lambda: os.utime(folder, (1, 1)),
        lambda: os.setxattr(file, "user.x", b"1"),
        lambda: os.removexattr(file, "user.x"),
    ]
    assert {errno_of(attempt) for attempt in attempts} == {errno.EROFS}
    assert os.statvfs(place).f_flag & os.ST_RDONLY
    assert not os.access(file, os.W_OK)
    assert file.read_bytes() == b"x"
    assert errno_of(lambda: os.getxattr(file, "user.none")) in (errno.ENODATA, errno.EOPNOTSUPP)


def test_df_is_sensible(mounted: Mounted, source: Path) -> None:
    told = os.statvfs(mounted.path)
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    used = (told.f_blocks - told.f_bfree) * told.f_frsize
    assert used >= size > used - 2 * told.f_frsize
    staging = os.statvfs(mounted.home.state)
    assert 0 < told.f_bavail * told.f_frsize <= staging.f_bavail * staging.f_frsize
    assert (told.f_bfree, told.f_namemax) == (told.f_bavail, 255)
    assert told.f_files - told.f_ffree == len(list(source.rglob("*"))) + 2
    run("df", "-h", mounted.path)


def test_inode_numbers_stay_over_remounts(
    mounted: Mounted, mount: Callable[..., Mounted], sandbox: SandboxHandle
) -> None:
    def numbers(place: Path) -> dict[str, int]:
        return {str(path.relative_to(place)): path.stat().st_ino for path in sorted(place.rglob("*"))}

    first = numbers(mounted.path)
    assert len(set(first.values())) == len(first)
    mounted.unmount()
    sandbox.act("rename", path="/one", name="uno")
    again = mount(sandbox, "freshness=0", at=mounted.path)
    second = numbers(again.path)
    again.kill()
    third = numbers(mount(sandbox, "freshness=0", at=mounted.path).path)
    first["uno"] = first.pop("one")
    assert first == second == third


def test_reads_at_the_edges(mounted: Mounted, tmp_path: Path) -> None:
    large, empty = mounted.path / "large.bin", mounted.path / "empty"
    whole = pattern(1, LARGE)
    handle = os.open(large, os.O_RDONLY)
    try:
        assert os.pread(handle, 100, LARGE) == b""
        assert os.pread(handle, 100, LARGE - 1) == whole[-1:]
        assert os.pread(handle, 100, 1 << 62) == b""
        assert os.lseek(handle, 0, os.SEEK_END) == LARGE
        assert os.lseek(handle, 10, os.SEEK_DATA) == 10
        assert os.lseek(handle, 10, os.SEEK_HOLE) == LARGE
        target = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        sent = 0
        while moved := os.sendfile(target, handle, sent, LARGE):
            sent += moved
        assert (tmp_path / "out").read_bytes() == whole
        # the kernel's own answer: cp goes on by reading
        assert errno_of(lambda: os.copy_file_range(handle, target, LARGE, 0)) == errno.EXDEV
        os.close(target)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.fsync(handle)
    finally:
        os.close(handle)
    assert empty.read_bytes() == b""
    with empty.open("rb") as file, pytest.raises(ValueError, match="empty"):
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    with empty.open("rb") as file:
        assert libc.mmap(None, 4096, 1, 2, file.fileno(), 0) not in (None, 2**64 - 1)
    handle = os.open(large, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 64 * 1024)
        assert os.preadv(handle, [buffer], 4096 * 100) == 64 * 1024
        assert buffer[:] == whole[4096 * 100 : 4096 * 100 + 64 * 1024]
        tail = os.preadv(handle, [buffer], LARGE // 4096 * 4096)
        assert buffer[:tail] == whole[LARGE // 4096 * 4096 :]
    finally:
        os.close(handle)
    with pytest.raises(IsADirectoryError):
        os.pread(os.open(mounted.path, os.O_RDONLY), 1, 0)
    with pytest.raises(NotADirectoryError):
        os.listdir(large)
    with pytest.raises(NotADirectoryError):
        os.stat(large / "below")
    with pytest.raises(FileNotFoundError):
        os.stat(mounted.path / "missing")
    assert errno_of(lambda: os.stat(mounted.path / ("n" * 256))) == errno.ENAMETOOLONG
    assert errno_of(lambda: os.stat(mounted.path / ("n" * 255 + "/x"))) == errno.ENOTDIR


def test_reads_anywhere_are_the_truth(mounted: Mounted) -> None:
    whole = pattern(1, LARGE)
    handle = os.open(mounted.path / "large.bin", os.O_RDONLY)
    straight = os.open(mounted.path / "large.bin", os.O_RDONLY | os.O_DIRECT)

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(offset=st.integers(0, LARGE + 5000), size=st.integers(0, 700_000), cached=st.booleans())
    def read(offset: int, size: int, cached: bool) -> None:
        if cached:
            assert os.pread(handle, size, offset) == whole[offset : offset + size]
        else:
            buffer = bytearray(size)
            got = os.preadv(straight, [buffer], offset)
            assert buffer[:got] == whole[offset : offset + size]

    try:
        read()
    finally:
        os.close(handle)
        os.close(straight)


def test_twenty_readers_of_one_file_and_of_many(mounted: Mounted, source: Path) -> None:
    whole = pattern(1, LARGE)

    def read_large(seed: int) -> bool:
        order = list(range(0, LARGE, 100_003))
        random.Random(seed).shuffle(order)
        with (mounted.path / "large.bin").open("rb", buffering=0) as file:
            return all(os.pread(file.fileno(), 100_003, at) == whole[at : at + 100_003] for at in order)

    files = [path for path in source.iterdir() if path.is_file()]
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(read_large, range(20)))
        assert all(
            pool.map(lambda path: (mounted.path / path.name).read_bytes() == path.read_bytes(), files * 3)
        )


# Listings


class Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


class Stream:
    """opendir(3) and what goes with it."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.opendir.restype = ctypes.c_void_p
        self._libc.readdir.restype = ctypes.POINTER(Dirent)
        self._libc.telldir.restype = ctypes.c_long
        self._libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
        self._stream = ctypes.c_void_p(self._libc.opendir(os.fsencode(path)))
        assert self._stream.value

    def next(self) -> str | None:
        entry = self._libc.readdir(self._stream)
        return os.fsdecode(entry.contents.d_name) if entry else None

    def rest(self) -> list[str]:
        return list(iter(self.next, None))

    def tell(self) -> int:
        return int(self._libc.telldir(self._stream))

    def seek(self, place: int) -> None:
        self._libc.seekdir(self._stream, place)

    def rewind(self) -> None:
        self._libc.rewinddir(self._stream)

    def close(self) -> None:
        self._libc.closedir(self._stream)


@pytest.fixture
def many(sandbox: SandboxHandle, tmp_path: Path) -> int:
    """A project with a folder `many` of two thousand files."""
    sandbox.reset(0)
    folder = tmp_path / "many" / "many"
    folder.mkdir(parents=True)
    for number in range(2000):
        (folder / f"entry {number:05}.txt").touch()
    sandbox.import_tree(folder.parent)
    return 2000


def test_seekdir_and_telldir(sandbox: SandboxHandle, mount: Callable[..., Mounted], many: int) -> None:
    mounted = mount_followed(sandbox, mount)
    for _ in range(2):  # from the daemon, then from the kernel's cache
        stream = Stream(mounted.path / "many")
        places, names = [], []
        while True:
            place = stream.tell()
            name = stream.next()
            if name is None:
                break
            places.append(place)
            names.append(name)
        assert len(names) == len(set(names)) == many + 2
        for at in (0, 1, 2, 3, 31, 32, 33, 777, many + 1):
            stream.seek(places[at])
            assert stream.rest() == names[at:]
        stream.rewind()
        assert stream.rest() == names
        stream.close()


def test_a_listing_while_entries_come_and_go(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], many: int
) -> None:
    """Entries that are there all the time are listed once; those that come or go at most once."""
    mounted = mount_followed(sandbox, mount, "freshness=0")
    stay = {f"entry {number:05}.txt" for number in range(many) if number % 100}
    for turn in range(4):
        stream = Stream(mounted.path / "many")
        names = [stream.next() for _ in range(500 + 300 * turn)]
        sandbox.act("delete", path=f"/many/entry {turn * 100:05}.txt")
        sandbox.act("delete", path=f"/many/entry {1900 - turn * 100:05}.txt")
        sandbox.act("rename", path=f"/many/entry {1000 + turn * 100:05}.txt", name=f"renamed {turn}.txt")
        sandbox.act("put", path=f"/many/new {turn}.txt", text="new")
        fresh = set(os.listdir(mounted.path / "many"))
        assert f"new {turn}.txt" in fresh
        assert f"renamed {turn}.txt" in fresh
        assert f"entry {turn * 100:05}.txt" not in fresh
        names += stream.rest()
        stream.close()
        assert len(names) == len(set(names))
        assert stay <= set(names)
        assert stay <= fresh
        assert set(os.listdir(mounted.path / "many")) == fresh


def test_listings_race_with_changes(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Whoever lists after a change was seen meets it, though listings are cached and others list all the time."""
    sandbox.reset(0)
    sandbox.act("create_folder", path="/busy")
    mounted = mount_followed(sandbox, mount, "freshness=0")
    folder = mounted.path / "busy"
    over = threading.Event()

    def list_on() -> None:
        while not over.is_set():
            names = os.listdir(folder)
            assert len(names) == len(set(names))

    with ThreadPoolExecutor(3) as pool:
        listing = [pool.submit(list_on) for _ in range(3)]
        try:
            for number in range(40):
                sandbox.act("put", path=f"/busy/{number}.txt", text="x")
                handle = os.open(folder, os.O_RDONLY)  # from here on the change is known
                os.close(handle)
                names = os.listdir(folder)
                assert f"{number}.txt" in names, (number, names)
                if number > 3:
                    sandbox.act("delete", path=f"/busy/{number - 3}.txt")
        finally:
            over.set()
        for one in listing:
            one.result(10)


def test_a_folder_of_twenty_thousand(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    """Listed whole and once, by names alone and with attributes, cold, warm, and while others list it."""
    sandbox.reset(0)
    folder = tmp_path / "in" / "wide"
    folder.mkdir(parents=True)
    for number in range(20_000):  # mostly folders: the sandbox takes them faster
        os.mkdir(folder / f"{number}") if number % 20 else (folder / f"{number}").touch()
    import time

    t = time.time()
    sandbox.import_tree(folder.parent)
    print("import", time.time() - t)
    t = time.time()
    place = mount(sandbox).path / "wide"
    os.listdir(place)
    print("mount", time.time() - t)
    t = time.time()
    wanted = set(os.listdir(folder))
    for _ in range(2):
        names = os.listdir(place)
        assert len(names) == 20_000
        assert set(names) == wanted
        with os.scandir(place) as entries:
            assert sum(entry.is_dir() and entry.stat().st_mtime > 0 for entry in entries) == 19_000
    with ThreadPoolExecutor(4) as pool:
        assert all(len(set(names)) == 20_000 for names in pool.map(os.listdir, [place] * 4))
    assert (place / "19980").read_bytes() == b""


def await_gone(path: Path) -> None:
    wait_until(
        lambda: errno_of(lambda: os.stat(path)) == errno.ENOENT, f"{path.name} to be gone", timeout_s=2
    )


def test_names_race_with_changes(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """What was renamed is gone under its old name after the next look, though others look it up all the time.

    A moment after: the kernel is told in a thread, and with the machine busy that may take its turn a little later.
    """
    sandbox.reset(0)
    sandbox.act("create_folder", path="/busy")
    names = [f"{number}.txt" for number in range(4)]
    for name in names:
        sandbox.act("put", path=f"/busy/{name}", text="x")
    mounted = mount_followed(sandbox, mount, "freshness=0.05")
    folder = mounted.path / "busy"
    over = threading.Event()

    def look_up() -> None:
        while not over.is_set():
            for name in names:
                errno_of(lambda path=folder / name: os.stat(path))  # type: ignore[misc]
            with os.scandir(folder) as found:
                for entry in found:
                    errno_of(entry.stat)

    with ThreadPoolExecutor(3) as pool:
        looking = [pool.submit(look_up) for _ in range(3)]
        try:
            for turn in range(15):
                name = names[turn % 4]
                sandbox.act("rename", path=f"/busy/{name}", name="away.txt")
                time.sleep(0.06)  # the look-ups of the others race with the change; nothing is waited for
                os.close(os.open(folder, os.O_RDONLY))
                await_gone(folder / name)
                assert (folder / "away.txt").stat().st_size == 1
                sandbox.act("rename", path="/busy/away.txt", name=name)
                time.sleep(0.06)  # the look-ups of the others race with the change; nothing is waited for
                os.close(os.open(folder, os.O_RDONLY))
                await_gone(folder / "away.txt")
                assert set(os.listdir(folder)) == set(names)
        finally:
            over.set()
        for one in looking:
            one.result(10)


def test_thumbnailers_are_refused_when_told_so(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    sandbox.reset(0)
    sandbox.act("put", path="/photo.jpg", text="a photo")
    thumbnailer = tmp_path / "gdk-pixbuf-thumbnailer"
    shutil.copy("/bin/cat", thumbnailer)
    mounted = mount(sandbox, "thumbnails=off")
    refused = subprocess.run([thumbnailer, mounted.path / "photo.jpg"], capture_output=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"Permission denied" in refused.stderr
    assert run("cat", mounted.path / "photo.jpg") == "a photo"
