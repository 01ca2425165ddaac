"""What the benchmarks share: sizes, a temporary directory, and sandboxes and mounts that are made when first needed."""

import contextlib
import random
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from scripts.bench.embedded import Sandbox, sandbox
from scripts.bench.mounts import Mount, our_mount, rclone_mount

MIB = 1 << 20
SMALL_FILE_BYTES = 2048
FOLDER_FILES = 99
BIG_FILE = "Large/federated-model.bin"
"""What the sandbox calls the file of its option --big-file."""

WRITE_BACK_S = 3600
"""How long both sides keep what is written while writing is measured."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    documents: int = 100_000
    few_documents: int = 1_000
    low_cap: int = 100
    most_documents: int = 1_000_000
    entries: int = 20_000
    entries_beside: int = 10_000
    """Of the tree that programs walk while uploads run."""
    opened_files: int = 2_000
    big_file_bytes: int = 512 * MIB
    rounds: int = 5
    written_bytes: int = 256 * MIB
    written_in_small_bytes: int = 32 * MIB
    copied_files: int = 1_000
    uploaded_bytes: int = 1024 * MIB
    waiting_files: int = 100_000
    budget_calls: int = 10_000
    budget_hours: int = 2


QUICK = Sizes(
    documents=5_000,
    most_documents=50_000,
    entries=2_000,
    entries_beside=1_000,
    opened_files=500,
    big_file_bytes=64 * MIB,
    rounds=3,
    written_bytes=64 * MIB,
    written_in_small_bytes=8 * MIB,
    copied_files=200,
    uploaded_bytes=64 * MIB,
    waiting_files=5_000,
    budget_calls=7_500,
    budget_hours=1,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same files in our mount and in rclone's."""

    ours: Mount
    rclone: Path
    small_files: tuple[str, ...]
    big_file: str

    def paths(self, root: Path) -> list[str]:
        return [f"{root}/{name}" for name in self.small_files]


@dataclass(frozen=True, slots=True)
class WrittenPair:
    """Our mount and rclone's, both empty and in no hurry to send what is written to them."""

    ours: Mount
    rclone: Path


@dataclass(frozen=True, slots=True)
class Trio:
    """The same files in our mount, in rclone's and in a plain directory; the mounts send what is written to them."""

    ours: Mount
    rclone: Path
    plain: Path
    small_files: tuple[str, ...]

    def paths(self, root: Path) -> list[str]:
        return [f"{root}/{name}" for name in self.small_files]


class Place:
    """Everything lies in one temporary directory and ends with the stack."""

    def __init__(self, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.sizes = sizes
        self._stack = stack
        self._names: tuple[str, ...] = ()  # of the imported small files
        # what a killed child leaves mounted below it must not be deleted through the mount: mounts end first
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="procorefs-bench-")))

    def new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def new_mount(self, name: str, of: Sandbox) -> Mount:
        return self._stack.enter_context(our_mount(self._folder / name, of))

    def new_sandbox(self, name: str, *options: str) -> Sandbox:
        return self._stack.enter_context(sandbox(self._folder / f"sandbox-{name}", *options))

    @cached_property
    def large(self) -> Sandbox:
        """A project of very many documents."""
        return self.new_sandbox("large", "--seed", str(self.sizes.documents))

    @cached_property
    def large_mount(self) -> Mount:
        return self.new_mount("large", self.large)

    @cached_property
    def distant(self) -> tuple[Mount, Path]:
        """A mount, made already, and a big file in it."""
        mib = str(self.sizes.big_file_bytes // MIB)
        mount = self.new_mount("distant", self.new_sandbox("distant", "--seed", "200", "--big-file", mib))
        mount.mount()
        return mount, mount.path / BIG_FILE

    @property
    def _source(self) -> Path:
        return self._folder / "tree"

    @cached_property
    def imported(self) -> Sandbox:
        """A project of small files in folders and one big file, all as new as one another."""
        self._names = make_tree(self._source, self.sizes)
        return self.new_sandbox("tree", "--import", str(self._source))

    @cached_property
    def imported_mount(self) -> Mount:
        return self.new_mount("ours", self.imported)

    @cached_property
    def pair(self) -> Pair:
        """The imported files in both mounts."""
        ours = self.imported_mount
        ours.mount()
        ours.wait_until_listed()
        theirs = self._stack.enter_context(rclone_mount(self._folder / "rclone", self._source))
        return Pair(ours, theirs, self._names[: self.sizes.opened_files], "big.bin")

    @cached_property
    def written_pair(self) -> WrittenPair:
        """Mounts to write to; what is removed within an hour is never sent, by either."""
        ours = self.new_mount("written", self.new_sandbox("written"))
        ours.mount(f"write_back={WRITE_BACK_S}")
        ours.wait_until_listed()
        source = self.new_folder("rclone-written-source")
        options = ("--vfs-write-back", f"{WRITE_BACK_S}s")
        theirs = self._stack.enter_context(rclone_mount(self._folder / "rclone-written", source, *options))
        return WrittenPair(ours, theirs)

    @cached_property
    def trio(self) -> Trio:
        """With rclone's settings for a mount that is used as ours is."""
        sizes = replace(self.sizes, entries=self.sizes.entries_beside, big_file_bytes=MIB)
        imported, theirs, plain = (self._folder / f"busy-{name}" for name in ("ours", "rclone", "plain"))
        for root in (imported, theirs, plain):
            names = make_tree(root, sizes)
        ours = self.new_mount("busy", self.new_sandbox("busy", "--import", str(imported), "--spike", "25"))
        ours.mount()
        ours.wait_until_listed()
        options = ("--dir-cache-time", "1h", "--vfs-write-back", "2s")
        rclone = self._stack.enter_context(rclone_mount(self._folder / "rclone-busy", theirs, *options))
        return Trio(ours, rclone, plain, names[: sizes.opened_files])


def make_tree(root: Path, sizes: Sizes) -> tuple[str, ...]:
    """As many entries as wanted, folders and 2 KiB files, and a big file that is not counted; the small ones' names."""
    noise = random.Random(1)
    names: list[str] = []
    for folder in range(sizes.entries // (FOLDER_FILES + 1)):
        directory = f"A-{folder:03d} Sheets"
        (root / directory).mkdir(parents=True)
        names += (f"{directory}/A-{folder:03d}-{sheet:02d} Floor plan.pdf" for sheet in range(FOLDER_FILES))
    for name in names:
        (root / name).write_bytes(noise.randbytes(SMALL_FILE_BYTES))
    with (root / "big.bin").open("wb") as file:
        block = noise.randbytes(MIB)
        for number in range(sizes.big_file_bytes // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    return tuple(names)
