"""Locks through real mounts of two users: flock reaches Procore, and what others hold is seen."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.mount.test_bridge_mount import errno_of
from tests.support.api_client import put_file
from tests.support.mounting import Mounted, is_in_request, wait_until
from tests.support.sandbox import SandboxHandle

NAME = "plan.odt"
ENDS_S = 15.0


def flock(path: Path, *words: str) -> int:
    """`flock -n PATH true`: 0 free, 1 locked."""
    return subprocess.run(["flock", *words, path, "true"], check=False, timeout=ENDS_S).returncode


@contextmanager
def locked(path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`flock PATH …`, once it has the lock."""
    command = ["flock", *words, str(path), "sh", "-c", "echo locked; exec sleep 60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        kill(process)
        process.stdout.close()


def kill(process: "subprocess.Popen[str]") -> None:
    """With all its children, who have the lock, too."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(ENDS_S)


def patches(sandbox: SandboxHandle) -> int:
    return sum(count for route, count in sandbox.calls()["by_route"].items() if route.startswith("PATCH"))


class Shared:
    """A document, and two users who have it mounted."""

    def __init__(self, sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
        self.sandbox = sandbox
        self.document = put_file(sandbox, b"content", NAME)
        self.mounts = [mount(sandbox, "freshness=0"), mount(sandbox, "freshness=0", second_user=True)]
        self.mine, self.theirs = (mounted.path / NAME for mounted in self.mounts)
        for file in (self.mine, self.theirs):
            assert file.read_bytes() == b"content"
        sandbox.reset_calls()

    def holder(self, document: int | None = None) -> str | None:
        """As the server says, who has it checked out."""
        with self.sandbox.session() as session:
            query = {"project_id": self.sandbox.project_id}
            answer = session.get(f"/rest/v1.0/files/{document or self.document}", params=query).json()
            return answer["checked_out_by"]["name"] if answer["checked_out_by"] else None

    def await_free(self) -> None:
        wait_until(lambda: self.holder() is None, "the document to be checked in")


@pytest.fixture
def shared(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> Shared:
    return Shared(sandbox, mount)


def test_a_lock_on_one_mount_keeps_another_user_out(shared: Shared) -> None:
    with locked(shared.mine) as holder:
        assert shared.holder() is not None
        assert flock(shared.theirs, "-n") == 1
        assert flock(shared.theirs, "-n", "-s") == 1
        assert flock(shared.mine, "-n") == 1
        kill(holder)
        shared.await_free()
    assert patches(shared.sandbox) == 2
    wait_until(lambda: flock(shared.theirs, "-n") == 0, "the other user to get it")
    wait_until(lambda: patches(shared.sandbox) == 4, "the other user's check-in")


def test_between_programs_of_a_mount_it_costs_nothing_more(shared: Shared) -> None:
    for _ in range(5):
        # without a program's start between them, which on a busy machine takes longer than the check-out is kept
        with shared.mine.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shared.await_free()
    assert patches(shared.sandbox) == 2


def test_ctrl_c_ends_the_wait_for_another_user(shared: Shared) -> None:
    with locked(shared.mine):
        assert flock(shared.theirs, "-n") == 1  # from now on its mount knows
        waiter = subprocess.Popen(["flock", shared.theirs, "true"])
        wait_until(lambda: is_in_request(waiter.pid), "the wait")
        waiter.send_signal(signal.SIGINT)
        assert waiter.wait(5) == -signal.SIGINT
        assert patches(shared.sandbox) == 1
    shared.await_free()


def test_what_another_user_holds_is_not_changed(shared: Shared) -> None:
    other = shared.theirs.with_name("other.odt")
    other.write_bytes(b"x")
    with locked(shared.mine):
        assert flock(shared.theirs, "-n") == 1
        for change in (
            lambda: shared.theirs.open("r+b"),
            lambda: os.truncate(shared.theirs, 1),
            lambda: shared.theirs.unlink(),
            lambda: shared.theirs.rename(shared.theirs.with_name("new.odt")),
            lambda: other.rename(shared.theirs),
        ):
            assert errno_of(change) == errno.EBUSY
        assert shared.theirs.read_bytes() == b"content"
    shared.await_free()


def test_who_holds_it_may_change_it_and_is_checked_in_after_that(shared: Shared) -> None:
    with shared.mine.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"new")
    shared.await_free()
    assert flock(shared.theirs) == 0
    assert shared.theirs.read_bytes() == b"newtent"


def test_a_removed_document_that_is_still_open_is_checked_in(shared: Shared) -> None:
    with shared.mine.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert shared.holder() is not None
        shared.mine.unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
        shared.await_free()


def test_a_new_file_is_checked_out_when_it_has_become_a_document(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    shared = Shared(sandbox, mount)
    new = shared.mine.with_name("new.odt")
    with new.open("xb") as file:
        file.write(b"x")
    with locked(new):
        seen = shared.theirs.with_name("new.odt")
        wait_until(lambda: patches(sandbox) == 1, "the check-out")
        assert flock(seen, "-n") == 1
    wait_until(lambda: flock(seen, "-n") == 0, "the check-in")


def test_unmounting_checks_in(shared: Shared) -> None:
    with shared.mine.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert shared.holder() is not None
        os.kill(shared.mounts[0].pid, signal.SIGTERM)
        shared.mounts[0].await_end()
        assert shared.holder() is None


def test_a_killed_daemon_leaves_a_check_out_that_the_next_one_takes_up(
    shared: Shared, mount: Callable[..., Mounted], sandbox: SandboxHandle
) -> None:
    with shared.mine.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        shared.mounts[0].kill()
    subprocess.run(["umount", "--lazy", shared.mine.parent], check=False, capture_output=True)
    assert shared.holder() is not None
    assert flock(shared.theirs, "-n") == 1
    again = mount(sandbox, at=shared.mine.parent)
    assert flock(again.path / NAME, "-n") == 0
    shared.await_free()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_other_users_of_the_mount_check_nothing_out(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    put_file(sandbox, b"content", NAME)
    mounted = mount(sandbox, "allow_other")
    with (mounted.path / NAME).open("rb") as mine, (mounted.path / NAME).open("rb") as theirs:
        words = ["flock", "-n", "0"]
        as_other = partial(subprocess.run, user=12345, group=12345, extra_groups=[])
        assert as_other(words, stdin=theirs, timeout=ENDS_S, check=False).returncode == 0
        assert patches(sandbox) == 0
        with pytest.raises(BlockingIOError):  # between the programs of this mount it holds
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(theirs, fcntl.LOCK_UN)
        assert subprocess.run(words, stdin=mine, timeout=ENDS_S, check=False).returncode == 0
        wait_until(lambda: patches(sandbox) == 1, "the check-out of the mount's user")


def test_locks_of_byte_ranges_are_the_kernels(shared: Shared) -> None:
    with shared.mine.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
    assert patches(shared.sandbox) == 0


def test_a_read_only_mount_checks_nothing_out(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    put_file(sandbox, b"content", NAME)
    mounted = mount(sandbox, "ro")
    with locked(mounted.path / NAME):
        assert flock(mounted.path / NAME, "-n") == 1
    wait_until(lambda: flock(mounted.path / NAME, "-n") == 0, "the children to let the lock go")
    assert patches(sandbox) == 0


# The lock files of office programs

LOCK_FILE = f".~lock.{NAME}#"


def listed(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith((".~lock.", "~$")))


def test_a_lock_file_checks_its_document_out_and_shows_others_who_has_it(shared: Shared) -> None:
    mine, theirs = (file.with_name(LOCK_FILE) for file in (shared.mine, shared.theirs))
    assert not theirs.exists()
    mine.write_text("Me,me,host,01.01.2026 10:00,file:///home/me;")
    wait_until(lambda: shared.holder() is not None, "the check-out")
    name = shared.holder()
    assert name is not None
    wait_until(theirs.exists, "the other mount to look")
    assert theirs.read_text() == f"{name},procore,procore,,procore;"
    assert theirs.stat().st_size == len(theirs.read_bytes())
    assert name.encode("utf-16-le") in theirs.with_name(f"~${NAME}").read_bytes()
    assert listed(theirs.parent) == []
    assert errno_of(lambda: theirs.open("x")) == errno.EEXIST
    for change in (lambda: theirs.write_text("mine now"), theirs.unlink, lambda: os.truncate(theirs, 0)):
        assert errno_of(change) in (errno.EACCES, errno.EPERM, errno.ENOENT)
    assert errno_of(lambda: shared.theirs.open("r+b")) == errno.EBUSY
    assert listed(mine.parent) == [LOCK_FILE]
    assert mine.read_text().startswith("Me,")
    mine.unlink()
    shared.await_free()
    assert patches(shared.sandbox) == 2
    wait_until(lambda: not theirs.exists(), "the lock file to go")
    theirs.write_text("Them,them,host,01.01.2026 10:00,file:///home/them;")
    wait_until(lambda: shared.holder() not in (None, name), "the other user's check-out")
    theirs.unlink()
    shared.await_free()


def test_who_saves_by_renaming_keeps_the_check_out(shared: Shared) -> None:
    lock_file = shared.mine.with_name(LOCK_FILE)
    lock_file.write_text("Me,me,host,,;")
    wait_until(lambda: shared.holder() is not None, "the check-out")
    temporary = shared.mine.with_name("lu12345.tmp")
    temporary.write_bytes(b"saved")
    temporary.rename(shared.mine)
    wait_until(lambda: shared.theirs.read_bytes() == b"saved", "the upload")
    assert shared.holder() is not None
    lock_file.unlink()
    shared.await_free()


def test_words_shortened_name_is_understood(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    put_file(sandbox, b"content", "Quarterly.docx")
    mounted = mount(sandbox)
    lock_file = mounted.path / "~$arterly.docx"
    lock_file.write_bytes(b"x")
    wait_until(lambda: patches(sandbox) == 1, "the check-out")
    lock_file.unlink()
    wait_until(lambda: patches(sandbox) == 2, "the check-in")


def test_when_switched_off_lock_files_are_files(
    sandbox: SandboxHandle, mount: Callable[..., Mounted]
) -> None:
    document = put_file(sandbox, b"content", NAME)
    sandbox.act("check_out", id=document)
    mounted = mount(sandbox, "office_locks=off")
    lock_file = mounted.path / LOCK_FILE
    assert not lock_file.exists()
    lock_file.touch()
    lock_file.unlink()
    assert patches(sandbox) == 0


# LibreOffice itself, through its own remote control

UNO_PYTHON = "/usr/bin/python3"

EDITOR = """
import os, sys, time, uno
from com.sun.star.beans import PropertyValue

pipe, path = sys.argv[1:]
local = uno.getComponentContext()
resolver = local.ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
for attempt in range(600):
    try:
        context = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
        break
    except Exception:
        time.sleep(0.1)  # nothing tells that the office listens
desktop = context.ServiceManager.createInstance("com.sun.star.frame.Desktop")
document = desktop.loadComponentFromURL(uno.systemPathToFileUrl(path), "_blank", 0, ())
print("read-only" if document.isReadonly() else "opened", flush=True)
for line in sys.stdin:
    if line == "save\\n":
        document.Text.setString("written by the office")
        document.store()
    else:
        document.storeAsURL(document.URL, (PropertyValue("FilterName", 0, line.rstrip(), 0),))
    print("saved", flush=True)
document.close(True)
print("closed", flush=True)
desktop.terminate()
"""


def has_office() -> bool:
    uno = [UNO_PYTHON, "-c", "import uno"]
    return shutil.which("soffice") is not None and subprocess.run(uno, check=False).returncode == 0


class Office:
    """LibreOffice with a document open."""

    def __init__(self, document: Path, profile: Path) -> None:
        pipe = f"procorefs-{profile.name}-{os.getpid()}"
        self._office = subprocess.Popen(
            [
                "soffice",
                "--headless",
                "--norestore",
                f"-env:UserInstallation=file://{profile}",
                f"--accept=pipe,name={pipe};urp",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._editor = subprocess.Popen(
            [UNO_PYTHON, "-c", EDITOR, pipe, document],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.opened = self.says()

    def says(self) -> str:
        assert self._editor.stdout is not None
        return self._editor.stdout.readline().rstrip()

    def save(self) -> None:
        self._tell("save")

    def convert(self, filter_name: str) -> None:
        """Save it in place in another format."""
        self._tell(filter_name)

    def _tell(self, word: str) -> None:
        assert self._editor.stdin is not None
        self._editor.stdin.write(f"{word}\n")
        self._editor.stdin.flush()
        assert self.says() == "saved"

    def close(self) -> None:
        assert self._editor.stdin is not None
        self._editor.stdin.close()
        assert self.says() == "closed"

    def end(self) -> None:
        for process in (self._editor, self._office):
            process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._office.pid, signal.SIGKILL)
        for process in (self._editor, self._office):
            process.wait(ENDS_S)
        for stream in (self._editor.stdin, self._editor.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Callable[[Path], Office]]:
    if not has_office():
        pytest.skip("needs LibreOffice and its Python module")
    running: list[Office] = []

    def open_in_office(document: Path) -> Office:
        running.append(Office(document, tmp_path / f"office{len(running)}"))
        return running[-1]

    yield open_in_office
    for program in running:
        program.end()


def convert(document: Path, into: Path, profile: Path) -> None:
    words = ["soffice", "--headless", f"-env:UserInstallation=file://{profile}", "--convert-to", "odt"]
    subprocess.run([*words, "--outdir", into, document], check=True, capture_output=True, timeout=120)


def test_libreoffice_edits_in_the_mount_and_another_one_sees_who(
    shared: Shared, office: Callable[[Path], Office], tmp_path: Path
) -> None:
    text = tmp_path / "plan.txt"
    text.write_text("one two three")
    convert(text, shared.mine.parent, tmp_path / "office0")
    before = shared.mine.read_bytes()
    assert before[:2] == b"PK"
    wait_until(lambda: shared.theirs.read_bytes() == before, "the upload")
    first = office(shared.mine)
    assert first.opened == "opened"
    wait_until(lambda: shared.holder() is not None, "the check-out")
    second = office(shared.theirs)
    assert second.opened == "read-only"
    first.save()
    after = shared.mine.read_bytes()
    assert after != before
    first.convert("MS Word 2007 XML")
    converted = shared.mine.read_bytes()
    assert b"word/document.xml" in converted
    assert b"word/document.xml" not in after
    assert shared.holder() is not None
    first.close()
    shared.await_free()
    wait_until(lambda: shared.theirs.read_bytes() == converted, "the upload", 1)  # the check-in came after it
    file = shared.sandbox.inventory()["files"][f"/{NAME}"]
    assert (file["id"], file["numbers"]) == (shared.document, [3, 2, 1])
    assert listed(shared.mine.parent) == []
