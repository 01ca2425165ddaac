"""The same operations in a mount and in a plain directory, chosen at random: trees, bytes and errno must be the same.

Names are few, so that they collide. Now and then everything is sent, or the mount is unmounted and made again; at the
end Procore has what the directory has. What such a run found is a test with a name, below.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "60"))
"""A round takes half a second, one that mounts anew two; whoever looks for more gives it more."""

STEPS = 30

NAMES = ("a", "b", "c.txt", "d")
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
contents = st.binary(max_size=40) | st.integers(1, 3).map(lambda blocks: bytes([blocks]) * 5000 * blocks)
offsets = st.sampled_from((0, 1, 7, 100, 4096, 9000))
SAME = {errno.ENOTEMPTY: errno.EEXIST}
"""rename(2) and rmdir(2) may say either."""


class MountAndDirectory:
    """A mount and a directory; each operation is done in both and must end alike."""

    def __init__(self, project: MountedProject, plain: Path) -> None:
        self.project = project
        self.plain = plain
        self.handles: list[tuple[int, int]] = []

    def both(self, operation: Callable[..., Any], *names: str) -> tuple[Any, Any] | None:
        """What it returned in both; None when both refused, in the same way."""
        ended: list[tuple[int, Any]] = []
        for root in (self.project.path, self.plain):
            try:
                ended.append((0, operation(*(str(root / name) for name in names))))
            except OSError as error:
                ended.append((SAME.get(error.errno or 0, error.errno or 0), None))
        assert ended[0][0] == ended[1][0], f"{describe(ended[0][0])} instead of {describe(ended[1][0])}"
        return (ended[0][1], ended[1][1]) if ended[0][0] == 0 else None

    def on_handle(self, which: int, operation: Callable[[int], Any]) -> None:
        """The same with an open file; what it returns must be the same as well."""
        ours, theirs = self.handles[which % len(self.handles)]
        ended = []
        for descriptor in (ours, theirs):
            try:
                ended.append((0, operation(descriptor)))
            except OSError as error:
                ended.append((error.errno or 0, None))
        assert ended[0] == ended[1]

    def open(self, name: str, flags: int) -> None:
        found = self.both(lambda path: os.open(path, flags, 0o644), name)
        if found is not None:
            self.handles.append(found)

    def close(self, which: int) -> None:
        for descriptor in self.handles.pop(which % len(self.handles)):
            os.close(descriptor)

    def close_all(self) -> None:
        while self.handles:
            self.close(0)

    def assert_same(self) -> None:
        assert dict(everything(self.project.path)) == dict(everything(self.plain))

    def assert_same_in_procore(self) -> None:
        self.close_all()
        self.project.sync()
        self.project.assert_same(self.plain)
        assert all(
            file.numbers == list(range(len(file.numbers), 0, -1)) for file in self.project.files().values()
        )


def describe(number: int) -> str:
    return errno.errorcode.get(number, "done")


def everything(root: Path) -> Iterator[tuple[str, Any]]:
    """Each path with what a program sees of it."""
    for folder, folders, files in os.walk(root):
        for name in folders:
            path = Path(folder, name)
            yield str(path.relative_to(root)), oct(path.stat().st_mode)
        for name in files:
            path = Path(folder, name)
            told = path.stat()
            data = path.read_bytes()
            assert told.st_size == len(data), f"{path} says {told.st_size} bytes and has {len(data)}"
            yield str(path.relative_to(root)), (data, oct(told.st_mode))


class Machine(RuleBasedStateMachine):
    """All that programs do, at random."""

    make_both_sides: Callable[[], MountAndDirectory]

    def __init__(self) -> None:
        super().__init__()
        self.both_sides = type(self).make_both_sides()

    def both(self, operation: Callable[..., Any], *names: str) -> None:
        self.both_sides.both(operation, *names)

    @rule(name=paths, data=contents)
    def write(self, name: str, data: bytes) -> None:
        self.both(lambda path: Path(path).write_bytes(data), name)

    @rule(name=paths, data=contents)
    def append(self, name: str, data: bytes) -> None:
        def work(path: str) -> None:
            with open(path, "ab", buffering=0) as file:
                file.write(data)

        self.both(work, name)

    @rule(name=paths, size_bytes=offsets)
    def truncate(self, name: str, size_bytes: int) -> None:
        self.both(lambda path: os.truncate(path, size_bytes), name)

    @rule(name=paths)
    def make_folder(self, name: str) -> None:
        self.both(os.mkdir, name)

    @rule(name=paths)
    def remove_folder(self, name: str) -> None:
        self.both(os.rmdir, name)

    @rule(name=paths)
    def unlink(self, name: str) -> None:
        self.both(os.unlink, name)

    @rule(name=paths, to=paths)
    def rename(self, name: str, to: str) -> None:
        self.both(os.rename, name, to)

    @rule(name=paths)
    def remove_tree(self, name: str) -> None:
        self.both(shutil.rmtree, name)

    @rule(name=paths, moment_s=st.integers(1, 2_000_000_000))
    def set_times(self, name: str, moment_s: int) -> None:
        def work(path: str) -> int:
            os.utime(path, (moment_s, moment_s))
            return os.stat(path).st_mtime_ns

        if told := self.both_sides.both(work, name):
            assert told[0] == told[1]

    @rule(name=paths, mode=st.sampled_from((0o600, 0o640, 0o755, 0o444)))
    def set_mode(self, name: str, mode: int) -> None:
        self.both(lambda path: os.chmod(path, mode), name)

    @rule(
        name=paths,
        flags=st.sampled_from(
            (
                os.O_RDONLY,
                os.O_RDWR,
                os.O_RDWR | os.O_CREAT,
                os.O_RDWR | os.O_CREAT | os.O_EXCL,
                os.O_RDWR | os.O_TRUNC,
                os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            )
        ),
    )
    def open(self, name: str, flags: int) -> None:
        self.both_sides.open(name, flags)

    def has_handles(self) -> bool:
        return bool(self.both_sides.handles)

    def on_handle(self, which: int, operation: Callable[[int], Any]) -> None:
        self.both_sides.on_handle(which, operation)

    @precondition(has_handles)
    @rule(which=st.integers(0, 3), offset=offsets, data=contents)
    def write_at(self, which: int, offset: int, data: bytes) -> None:
        self.on_handle(which, lambda descriptor: os.pwrite(descriptor, data, offset))

    @precondition(has_handles)
    @rule(which=st.integers(0, 3), offset=offsets)
    def read_at(self, which: int, offset: int) -> None:
        self.on_handle(which, lambda descriptor: os.pread(descriptor, 6000, offset))

    @precondition(has_handles)
    @rule(which=st.integers(0, 3), size_bytes=offsets)
    def cut_handle(self, which: int, size_bytes: int) -> None:
        self.on_handle(which, lambda descriptor: os.ftruncate(descriptor, size_bytes))

    @precondition(has_handles)
    @rule(which=st.integers(0, 3))
    def look_at_handle(self, which: int) -> None:
        def work(descriptor: int) -> tuple[int, int] | None:
            told = os.fstat(descriptor)
            # how large a folder is, and how many links it has, is for each filesystem to say
            return None if stat.S_ISDIR(told.st_mode) else (told.st_size, told.st_nlink)

        self.on_handle(which, work)

    @precondition(has_handles)
    @rule(which=st.integers(0, 3))
    def sync_handle(self, which: int) -> None:
        self.on_handle(which, os.fsync)

    @precondition(has_handles)
    @rule(which=st.integers(0, 3))
    def close(self, which: int) -> None:
        self.both_sides.close(which)

    @rule()
    def send(self) -> None:
        self.both_sides.project.settle()

    @rule(chance=st.integers(0, 9))
    def mount_again(self, chance: int) -> None:
        if not chance:  # it takes as long as fifty others
            self.both_sides.close_all()
            self.both_sides.project.remount()

    @invariant()
    def same(self) -> None:
        self.both_sides.assert_same()

    def teardown(self) -> None:
        try:
            self.both_sides.assert_same_in_procore()
        finally:
            self.both_sides.close_all()


@pytest.fixture
def make_both_sides(
    sandbox: SandboxHandle, mount_project: Callable[..., MountedProject], tmp_path: Path
) -> Callable[..., MountAndDirectory]:
    """A project and a directory, both empty; the mount is one for all rounds, with a folder for each."""
    projects: list[MountedProject] = []

    def make(*options: str) -> MountAndDirectory:
        if not projects:
            projects.append(mount_project(*(options or ("write_back=0.05",))))
            projects[0].mounted.expect_warning("is not permitted|removed in Procore")
        project = projects[0]
        for entry in project.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if project.settle():  # after a round that failed
            project.mounted.home.procorefs("discard", project.path)
        plain = tmp_path / f"plain {len(list(tmp_path.glob('plain *')))}"
        plain.mkdir()
        return MountAndDirectory(project, plain)

    return make


def test_the_same_in_a_mount_and_in_a_directory(make_both_sides: Callable[..., MountAndDirectory]) -> None:
    class Run(Machine):
        pass

    Run.make_both_sides = staticmethod(make_both_sides)
    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.generate,),  # to shrink what was found takes hundreds of rounds
            suppress_health_check=list(HealthCheck),
        ),
    )
