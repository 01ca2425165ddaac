"""mount, umount and status as a person uses them: real processes, a real mount, the embedded Procore."""

import ctypes
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procorefs.cli.mounts import mountpoint, registry
from procorefs.cli.mounts.processes import birth, wait_for_end
from procorefs.cli.mounts.unmounting import unmount
from procorefs.config import find_paths
from procorefs.storage.mountinfo import mount_at, read_mounts
from tests.support.environment import bare_environment
from tests.support.sandbox import SandboxHandle

pytest_plugins = ["tests.support.sandbox"]
pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

ENDED = subprocess.CompletedProcess[str]


class CommandLine:
    """A person at a terminal with directories of their own."""

    def __init__(self, folder: Path, sandbox: SandboxHandle) -> None:
        self.folder = folder
        self.place = folder / "mnt"
        self.place.mkdir()
        self.env = {
            **bare_environment(),
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **sandbox.env(),
        }
        self.paths = find_paths(self.env)

    def run(self, *words: object, module: str = "procorefs.cli", **env: str) -> ENDED:
        command = [sys.executable, "-m", module, *map(str, words)]
        return subprocess.run(
            command, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )

    def start(self, *words: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "procorefs.cli", *map(str, words)]
        return subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True, cwd="/")

    def mount(self, *words: object) -> int:
        """Mount at `place` and return the daemon's process id."""
        done = self.run("mount", *words, self.place)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self.entry().pid

    def entry(self) -> registry.Entry:
        entry = registry.find(self.place, self.paths)
        assert entry is not None
        return entry

    def status(self, *words: object) -> Any:
        return json.loads(self.run("status", "--json", *words).stdout)

    def is_mounted(self) -> bool:
        return mount_at(self.place, read_mounts()) is not None

    def log(self) -> str:
        return "".join(file.read_text() for file in self.paths.logs_dir.glob("*.log"))

    def clear(self) -> None:
        for entry in registry.running(self.paths):
            os.kill(entry.pid, signal.SIGCONT)
            os.kill(entry.pid, signal.SIGTERM)
            if not wait_for_end(entry.pid, entry.born, 10):
                os.kill(entry.pid, signal.SIGKILL)
        for mount in read_mounts():
            if self.folder in mount.mountpoint.parents:
                unmount(mount.mountpoint, lazy=True)


@pytest.fixture
def shell(tmp_path: Path, sandbox: SandboxHandle) -> Iterator[CommandLine]:
    one = CommandLine(tmp_path, sandbox)
    try:
        yield one
    finally:
        one.clear()


def refused(done: ENDED, says: str, status: int = 1) -> None:
    """It said one sentence on stderr, with what to do, and nothing else."""
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.startswith("procorefs: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr


def test_mount_status_umount(shell: CommandLine, sandbox: SandboxHandle) -> None:
    pid = shell.mount()
    assert len(list(shell.place.iterdir())) > 3
    told = shell.status(shell.place)
    assert told["mountpoint"] == str(shell.place)
    assert told["project"]["id"] == sandbox.project_id
    assert told["company"]["id"] == sandbox.company_id
    assert told["outbox"]["pending"] == 0
    assert told["pid"] == pid
    assert [one["mountpoint"] for one in shell.status()] == [str(shell.place)]
    table = shell.run("status")
    assert (table.returncode, str(pid) in table.stdout) == (0, True)
    done = shell.run("umount", shell.place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not shell.is_mounted()
    assert birth(pid) is None
    assert shell.status() == []
    assert [file.name for file in shell.paths.runtime_dir.iterdir()] == [".lock"]


def test_doctor_looks_at_machine_account_and_mount(shell: CommandLine) -> None:
    shell.mount()
    done = shell.run("doctor", "--json", shell.place)
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert {"login", "clock", "rights", "budget", f"mount {shell.place}"} <= set(found)
    assert {one["verdict"] for one in found.values()} == {"ok"}
    assert done.returncode == 0


def test_doctor_says_what_mends_a_wrong_login(shell: CommandLine) -> None:
    shell.env["PROCOREFS_CLIENT_SECRET"] = "wrong"
    done = shell.run("doctor")
    assert done.returncode == 1
    assert re.search(r"BAD +login: .*\n +run `procorefs login` again", done.stdout), done.stdout


def test_watching(shell: CommandLine) -> None:
    shell.mount()
    command = [sys.executable, "-m", "procorefs.cli", "status", "--json", "--watch", str(shell.place)]
    with subprocess.Popen(
        command, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        try:
            told = [json.loads(watch.stdout.readline()) for _ in range(2)]
            watch.send_signal(signal.SIGINT)
            _, err = watch.communicate(timeout=20)
        finally:
            watch.kill()
    assert [one["mountpoint"] for one in told] == [str(shell.place)] * 2
    assert (watch.returncode, err.strip()) == (130, "procorefs: interrupted")


def test_nothing_is_left_to_send(shell: CommandLine) -> None:
    refused(shell.run("sync"), "nothing is mounted")
    shell.mount()
    folder = next(path for path in shell.place.iterdir() if path.is_dir())
    for words in (["sync"], ["sync", shell.place], ["sync", "--timeout", "5", folder, shell.place]):
        done = shell.run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    refused(shell.run("sync", folder / "none"), "none does not exist, and no change below it waits for")
    refused(shell.run("sync", shell.folder), "is not in a ProcoreFS mount")
    refused(shell.run("retry", shell.place), f"nothing failed at or below {shell.place}")
    refused(shell.run("discard", folder), "so nothing was thrown away")


def test_sync_with_a_frozen_daemon_does_not_wait_for_ever(shell: CommandLine) -> None:
    pid = shell.mount()
    os.kill(pid, signal.SIGSTOP)
    try:
        refused(shell.run("sync"), "does not answer within 5 seconds")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_daemon_is_said_not_to_answer(shell: CommandLine) -> None:
    os.kill(shell.mount(), signal.SIGSTOP)
    refused(shell.run("status", shell.place), "does not answer")
    assert [one["state"] for one in shell.status()] == ["not answering"]
    refused(shell.run("mount", shell.place), "is already mounted")


def test_names_are_looked_up_and_shown_in_proc_mounts(shell: CommandLine) -> None:
    company = json.loads(shell.run("projects", "--json").stdout)[0]
    spec = f"{company['name']}/{company['projects'][0]['name']}"
    shell.mount(spec)
    mount = mount_at(shell.place, read_mounts())
    assert mount is not None
    assert (mount.source, mount.fstype) == (spec, "fuse.procorefs")
    assert shell.status(shell.place)["project"]["id"] == company["projects"][0]["id"]


def test_names_need_not_be_ascii(shell: CommandLine) -> None:
    spec = "Northwind Builders/River\u017fide Medical Center"  # another letter for the same s
    shell.mount(spec)
    mount = mount_at(shell.place, read_mounts())
    assert mount is not None
    assert mount.source == spec


def test_a_second_mount_at_the_place_is_refused(shell: CommandLine) -> None:
    shell.mount()
    refused(shell.run("mount", shell.place), "is already mounted")
    assert shell.is_mounted()


def test_a_second_mount_of_the_project_names_the_first(shell: CommandLine) -> None:
    shell.mount()
    (shell.folder / "other").mkdir()
    refused(shell.run("mount", shell.folder / "other"), str(shell.place))
    assert not os.path.ismount(shell.folder / "other")


@pytest.mark.parametrize("how", ["open", "cwd"])
def test_a_busy_mount_is_reported_and_stays(shell: CommandLine, how: str) -> None:
    shell.mount()
    folder = next(path for path in shell.place.iterdir() if path.is_dir())
    code = "import os,sys; " + ("f = os.open(sys.argv[1], 0)" if how == "open" else "os.chdir(sys.argv[1])")
    code += "; print('here', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = shell.run("umount", shell.place)
        refused(done, f"(process {holder.pid})")
        assert folder.name in done.stderr
        assert shell.is_mounted()
        assert shell.status(shell.place)["state"] == "mounted"
        holder.communicate(b"")
    assert shell.run("umount", shell.place).returncode == 0


def leave_dead_mount(place: Path, fstype: str = "fuse.procorefs") -> None:
    """A FUSE mount that nobody answers for any more."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        words = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"1/2", bytes(place), fstype.encode(), 0, words) != 0:
            pytest.skip(f"only root may leave a dead mount ({os.strerror(ctypes.get_errno())})")
    finally:
        os.close(device)


def test_after_a_kill_the_next_mount_works(shell: CommandLine) -> None:
    pid = shell.mount()
    born = shell.entry().born
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid, born, 10)
    assert shell.mount() != pid
    assert any(shell.place.iterdir())
    assert sum(mount.mountpoint == shell.place for mount in read_mounts()) == 1


def test_a_dead_mount_is_cleaned_up_by_the_next(shell: CommandLine) -> None:
    leave_dead_mount(shell.place)
    refused(shell.run("status", shell.place), "has ended or belongs to another user")
    shell.mount()
    assert any(shell.place.iterdir())
    assert sum(mount.mountpoint == shell.place for mount in read_mounts()) == 1


@pytest.mark.parametrize("moment", ["statvfs", "unmount"])
def test_a_dead_mount_that_its_guard_takes_away_meanwhile(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    leave_dead_mount(shell.place)
    module = os if moment == "statvfs" else mountpoint
    look = getattr(module, moment)

    def late(*words: Any, **named: Any) -> Any:
        assert unmount(shell.place, lazy=True) == 0
        return look(*words, **named)

    monkeypatch.setattr(module, moment, late)
    assert mountpoint.ready_mountpoint(shell.place, shell.paths) == shell.place


def test_a_dead_mount_can_be_unmounted(shell: CommandLine) -> None:
    leave_dead_mount(shell.place)
    assert shell.run("umount", shell.place).returncode == 0
    assert not shell.is_mounted()


def test_a_dead_mount_of_another_program_is_left_alone(shell: CommandLine) -> None:
    leave_dead_mount(shell.place, "fuse.other")
    refused(shell.run("mount", shell.place), "is a dead mount of fuse.other")
    refused(shell.run("umount", shell.place), "not of ProcoreFS")
    assert shell.is_mounted()


def test_umount_of_a_frozen_daemon_does_not_hang(shell: CommandLine) -> None:
    """How long it waits altogether, test_cli_outbox measures on a clock of its own."""
    os.kill(shell.mount(), signal.SIGSTOP)
    refused(shell.run("umount", "--timeout", "0.5", shell.place), "did not end within 6 seconds")
    assert not shell.is_mounted()


def test_umount_by_hand_and_sigterm_end_the_daemon(shell: CommandLine) -> None:
    for how in ("umount", "term"):
        pid = shell.mount()
        born = shell.entry().born
        if how == "umount":
            assert unmount(shell.place, lazy=False) == 0
        else:
            os.kill(pid, signal.SIGTERM)
        assert wait_for_end(pid, born, 10)
        assert not shell.is_mounted()


def test_mounting_again_waits_for_the_closing_daemon(shell: CommandLine) -> None:
    for _ in range(3):
        os.kill(shell.mount(), signal.SIGTERM)
    shell.mount()
    assert any(shell.place.iterdir())


def test_the_foreground_ends_with_ctrl_c(shell: CommandLine) -> None:
    with shell.start("mount", "-f", shell.place) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("is mounted at" in line for line in lines)
        assert any(shell.place.iterdir())
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert not shell.is_mounted()


def test_the_daemon_lets_go_of_the_pipes_it_was_started_with(shell: CommandLine) -> None:
    # subprocess.run reads both pipes to their ends: a daemon that kept one open would hang it
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = [sys.executable, "-m", "procorefs.cli", "mount", str(shell.place)]
    subprocess.run(command, env=shell.env, capture_output=True, timeout=60, check=True, pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader, "rb") as end:
        assert end.read() == b""


def test_wrong_places(shell: CommandLine) -> None:
    (shell.folder / "file").write_text("")
    (shell.folder / "full").mkdir()
    (shell.folder / "full" / "x").mkdir()
    refused(shell.run("mount", shell.folder / "none"), "does not exist; run: mkdir")
    refused(shell.run("mount", shell.folder / "file"), "is not a directory")
    refused(shell.run("mount", shell.folder / "full"), "is not empty")
    refused(shell.run("umount", shell.folder / "full"), "nothing is mounted")
    refused(shell.run("status", shell.folder / "full"), "is not in a ProcoreFS mount")
    refused(shell.run("umount", "/proc"), "not of ProcoreFS")


def test_wrong_words(shell: CommandLine) -> None:
    refused(shell.run("mount", "-o", "freshnes=3", shell.place), "did you mean freshness?")
    refused(shell.run("mount", "8801", shell.place), "does not name a project")
    refused(shell.run("mount", "a", "b", "c"), "one argument too many", 2)
    refused(shell.run("mount", "who:1/2", shell.place), "no profile 'who'")
    refused(shell.run("mount", "Nobody & Sons/1", shell.place), "no company called 'Nobody & Sons'")
    refused(shell.run("mount", shell.place, PROCOREFS_CLIENT_SECRET="wrong"), "check client id and secret")
    refused(shell.run("mount", shell.place, PROCOREFS_PROJECT_ID="99999"), "99999 cannot be mounted: ")
    refused(shell.run("mount", shell.place, PROCOREFS_API_URL="http://example.invalid"), "not encrypted")
    refused(shell.run("mount", shell.place, PROCOREFS_CLIENT_ID=""), "procorefs login")
    assert not shell.is_mounted()
    assert registry.running(shell.paths) == []


def test_no_network_is_one_sentence(shell: CommandLine) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        refused(
            shell.run("mount", shell.place, PROCOREFS_API_URL=url, PROCOREFS_LOGIN_URL=url),
            "cannot be reached",
        )


def test_ctrl_c_while_waiting_for_a_silent_server_leaves_nothing(
    shell: CommandLine, sandbox: SandboxHandle
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shell.env |= {"PROCOREFS_API_URL": url, "PROCOREFS_LOGIN_URL": url}
        with shell.start("mount", shell.place) as process:
            peer, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
            peer.close()
        assert (process.returncode, said.strip()) == (130, "procorefs: interrupted")
    for entry in registry.running(shell.paths):
        assert wait_for_end(entry.pid, entry.born, 10)
    assert not shell.is_mounted()


def test_mount8_calls_without_home_or_path(shell: CommandLine, sandbox: SandboxHandle) -> None:
    bare = {key: value for key, value in shell.env.items() if key not in ("PATH",)}
    spec = f"{sandbox.company_id}/{sandbox.project_id}"
    command = [sys.executable, "-c", "from procorefs.cli.mount_helper import main; main()"]
    for words, status in ((["-f"], 0), (["-o", "nonsense"], 32), ([], 0)):
        call = [
            *command,
            spec,
            str(shell.place),
            "-n",
            "-o",
            "rw,_netdev,x-test",
            *words,
            "-t",
            "fuse.procorefs",
        ]
        done = subprocess.run(
            call, env=bare, capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )
        assert done.returncode == status, done
        assert shell.is_mounted() == (words == [])


def test_two_mounts_at_once_make_one(shell: CommandLine) -> None:
    results: list[ENDED] = []
    threads = [
        threading.Thread(target=lambda: results.append(shell.run("mount", shell.place))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.returncode for done in results) == [0, 1]
    assert sum(mount.mountpoint == shell.place for mount in read_mounts()) == 1
    assert shell.status(shell.place)["state"] == "mounted"


def test_a_mapped_file_keeps_the_mount(shell: CommandLine) -> None:
    shell.mount()
    file = next(path for path in shell.place.rglob("*") if path.is_file() and path.stat().st_size)
    code = "import ctypes,sys; f = open(sys.argv[1], 'rb'); ctypes.CDLL(None).mmap(None, 4096, 1, 2, f.fileno(), 0); "
    code += "f.close(); print('here', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        refused(shell.run("umount", shell.place), f"(process {holder.pid}) has {file} mapped")
        assert shell.is_mounted()
        holder.communicate(b"")
    assert shell.run("umount", shell.place).returncode == 0


def test_the_helper_of_users_unmounts(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    # as root the system call would be used
    shell.mount()
    with monkeypatch.context() as patch, os.scandir(shell.place):
        patch.setattr(os, "geteuid", lambda: 65534)
        assert unmount(shell.place, lazy=False) == errno.EBUSY
        assert shell.is_mounted()
        patch.setenv("PATH", "")
        assert unmount(shell.place, lazy=True) == 0
    assert not shell.is_mounted()


def test_somebody_elses_frozen_mount_hangs_nobody(shell: CommandLine) -> None:
    os.kill(shell.mount(), signal.SIGSTOP)
    other = shell.folder / "other"
    other.mkdir()
    stranger = {"HOME": str(other), "XDG_RUNTIME_DIR": str(other)}
    refused(shell.run("mount", shell.place, **stranger), "is a mount that does not answer")
    refused(shell.run("status", shell.place, **stranger), "has ended or belongs to another user")
    assert shell.is_mounted()
    assert shell.run("umount", shell.place, **stranger).returncode == 0
    assert not shell.is_mounted()


def test_a_state_directory_that_cannot_be_used(shell: CommandLine) -> None:
    (shell.folder / "taken").write_text("")
    refused(
        shell.run("mount", shell.place, XDG_STATE_HOME=str(shell.folder / "taken")),
        "cannot be created or used",
    )
    refused(shell.run("projects", XDG_STATE_HOME=str(shell.folder / "taken")), "cannot be created or used")
