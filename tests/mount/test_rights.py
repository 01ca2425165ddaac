"""What the account may not do in Procore is EACCES at once, and mode bits, commands and calls agree with it."""

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounting import Home, Mounted, list_all, make_unlisted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import EXCHANGE, MountedProject, errno_name, renameat2

PERMISSIONS = "GET /rest/v1.0/settings/permissions"
DELETE, RENAME = "Delete Folders and Files", "Rename Folders and Files"
MOVE, SET_PRIVATE = "Move and Copy Files and Folders", "Set Permissions"
BIN = "See Recycle Bin"
STANDARD = (
    "This account may not delete documents, rename them, move them, describe or tag them, make them private or see the "
    "recycle bin."
)


def fill(sandbox: SandboxHandle) -> None:
    sandbox.act("create_folder", path="/folder")
    sandbox.act("create_folder", path="/empty")
    for name in ("one.txt", "two.txt", "three.txt"):
        sandbox.act("put", path=f"/folder/{name}", text=name)
    sandbox.act("put", path="/plan.txt", text="plan")
    sandbox.act("put", path="/other.txt", text="other")


def become(sandbox: SandboxHandle, level: str, *actions: str) -> None:
    sandbox.act("membership", user="first", level=level, actions=list(actions))


@pytest.fixture
def project_as(mount_project: Callable[..., MountedProject]) -> Callable[..., MountedProject]:
    """`project_as("standard", DELETE)`: a mount by an account with that level and these rights."""

    def make(level: str, *actions: str, options: tuple[str, ...] = ("freshness=3600",)) -> MountedProject:
        def prepare(sandbox: SandboxHandle) -> None:
            fill(sandbox)
            become(sandbox, level, *actions)

        project = mount_project(*options, prepare=prepare)
        for folder in ("folder", "empty"):
            os.listdir(project.path / folder)
        return project

    return make


def attempts(place: Path) -> dict[str, str]:
    """The errno of each kind of change; empty: it was taken."""
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: (place / "plan.txt").write_bytes(b"changed"),
        "truncate": lambda: os.truncate(place / "other.txt", 1),
        "create": lambda: (place / "new.txt").write_bytes(b"new"),
        "mkdir": lambda: (place / "new folder").mkdir(),
        "describe": lambda: os.setxattr(place / "plan.txt", "user.procore.description", b"x"),
        "tag": lambda: os.setxattr(place / "plan.txt", "user.procore.tags", b"x"),
        "private": lambda: os.setxattr(place / "plan.txt", "user.procore.private", b"true"),
        "rename": lambda: (place / "folder/one.txt").rename(place / "folder/uno.txt"),
        "move": lambda: (place / "folder/two.txt").rename(place / "two.txt"),
        "unlink": lambda: (place / "folder/three.txt").unlink(),
        "rmdir": lambda: (place / "empty").rmdir(),
    }
    return {name: errno_name(act) for name, act in acts.items()}


@pytest.mark.parametrize(
    ("level", "actions", "allowed"),
    [
        ("read", (), set()),
        ("standard", (), {"write", "truncate", "create", "mkdir"}),
        (
            "standard",
            (DELETE, RENAME, MOVE, SET_PRIVATE),
            {"write", "truncate", "create", "mkdir", "unlink", "rmdir", "rename", "move", "private"},
        ),
        (
            "admin",
            (),
            {"write", "truncate", "create", "mkdir", "describe", "tag"}
            | {"private", "rename", "move", "unlink", "rmdir"},
        ),
    ],
)
def test_what_each_role_may_do(
    project_as: Callable[..., MountedProject], level: str, actions: tuple[str, ...], allowed: set[str]
) -> None:
    """Nothing that is taken is refused later, and what is refused costs no call."""
    project = project_as(level, *actions)
    before = project.files()
    found = attempts(project.path)
    assert {name for name, errno in found.items() if not errno} == allowed
    assert {errno for errno in found.values() if errno} <= {"EACCES"}
    project.sync()
    if not allowed:
        assert project.files() == before
    assert not project.mounted.status()["outbox"]["failed"]


def test_rm_r_ends_before_the_first_entry_is_gone(project_as: Callable[..., MountedProject]) -> None:
    project = project_as("standard")
    with project.counted() as calls:
        gone = subprocess.run(["rm", "-rf", project.path / "folder"], capture_output=True, check=False)
        assert gone.returncode != 0
        assert errno_name(lambda: (project.path / "plan.txt").unlink()) == "EACCES"
        assert len(os.listdir(project.path / "folder")) == 3
        project.sync()
    assert calls.writes == 0
    assert PERMISSIONS not in calls.by_route
    assert len(project.files()) == 5
    refusal = project.mounted.status()["refusals"][0]["reason"]
    assert "this account may not delete documents in Procore" in refusal


def test_programs_save_without_the_right_to_delete_or_rename(
    project_as: Callable[..., MountedProject],
) -> None:
    """A file renamed over a document is a version of it, and temporary files are nobody's but the program's."""
    project = project_as("standard")
    before = project.file("plan.txt")
    temporary = project.path / ".plan.txt.Xa81jd"
    temporary.write_bytes(b"by rsync")
    temporary.rename(project.path / "plan.txt")
    project.sync()
    project.assert_saved("plan.txt", before, b"by rsync")
    backup = project.path / "~WRL0001.tmp"
    (project.path / "~WRD0000.tmp").write_bytes(b"by an office program")
    (project.path / "plan.txt").rename(backup)
    (project.path / "~WRD0000.tmp").rename(project.path / "plan.txt")
    backup.unlink()
    project.sync()
    project.assert_saved("plan.txt", before, b"by an office program", versions=2)
    lock = project.path / ".~lock.plan.txt#"
    lock.write_bytes(b"")
    lock.unlink()
    document, other = project.path / "plan.txt", project.path / "other.txt"
    assert errno_name(lambda: document.rename(other)) == "EACCES"  # its own document would go
    assert errno_name(lambda: renameat2(document, other, EXCHANGE)) == "EACCES"
    assert project.binned() == []


def test_mode_bits_agree(project_as: Callable[..., MountedProject]) -> None:
    reader = project_as("read")
    for path in (reader.path, reader.path / "folder", reader.path / "plan.txt"):
        assert not path.stat().st_mode & 0o222, path
    assert (reader.path / "plan.txt").stat().st_mode & stat.S_IRUSR


def test_a_reader_locks_on_this_machine(project_as: Callable[..., MountedProject]) -> None:
    project = project_as("read")
    with project.counted() as calls, (project.path / "plan.txt").open("rb") as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        with (project.path / "plan.txt").open("rb") as other:
            assert errno_name(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)) == "EAGAIN"
    assert calls.writes == 0


@pytest.fixture
def public() -> Iterator[Path]:
    """A place that other users reach; pytest's own they don't."""
    with tempfile.TemporaryDirectory(prefix="procorefs-test-") as made:
        place = Path(made)
        place.chmod(0o755)
        yield place


@pytest.mark.parametrize(("level", "may_write"), [("read", False), ("standard", True)])
def test_access_agrees(
    public: Path, sandbox: SandboxHandle, mount: Callable[..., Mounted], level: str, *, may_write: bool
) -> None:
    """For a user whom the kernel checks, as it does not root."""
    sandbox.reset(0)
    fill(sandbox)
    become(sandbox, level)
    mount(sandbox, "allow_other", "uid=65534", "gid=65534", at=public / "mnt")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for path in (".", "plan.txt"):
        test = subprocess.run([*user, "test", "-w", public / "mnt" / path], check=False)
        assert (test.returncode == 0) is may_write, path
    made = subprocess.run([*user, "touch", public / "mnt/new.txt"], capture_output=True, check=False)
    assert (made.returncode == 0) is may_write


def test_commands_say_what_the_account_may_not_do(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, tmp_path: Path
) -> None:
    sandbox.reset(0)
    become(sandbox, "standard")
    place = tmp_path / "mnt"
    place.mkdir()
    env = sandbox.env()
    answer = home.procorefs("mount", place, env=env)
    assert (answer.returncode, answer.stderr.strip()) == (0, STANDARD)
    mounted = Mounted(home, place, env)
    try:
        status = mounted.status()["rights"]
        assert status["restriction"] == STANDARD[0].lower() + STANDARD[1:-1]
        assert status["known"] == {
            "read": True,
            "write": True,
            **dict.fromkeys(("rename", "move", "delete", "describe", "set_private", "see_bin"), False),
        }
        assert "may not delete documents" in home.procorefs("status", place).stdout
    finally:
        mounted.end()
    said = home.procorefs(
        "login", "--company", str(sandbox.company_id), "--project", str(sandbox.project_id), env=env
    )
    assert (said.returncode, STANDARD in said.stdout) == (0, True)
    become(sandbox, "admin")
    assert "may not" not in home.procorefs("login", "--project", str(sandbox.project_id), env=env).stdout


def test_documents_off(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, tmp_path: Path
) -> None:
    """One sentence instead of a mount; what is known of a day is asked again, as nothing else would show a change."""
    sandbox.reset(0)
    become(sandbox, "off")
    place = tmp_path / "mnt"
    place.mkdir()
    answer = home.procorefs("mount", place, env=sandbox.env())
    assert answer.returncode == 1
    assert "the Documents tool of this project is off for this account" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    become(sandbox, "standard")
    mounted = mount(sandbox, at=place)
    mounted.expect_warning("off for this account")  # the log of the first try


def test_one_call_a_day(project_as: Callable[..., MountedProject]) -> None:
    project = project_as("standard")
    assert project.mounted.status()["api_calls"]["by_route"]["GET settings/permissions"] == 1
    become(project.sandbox, "admin")
    project.remount()
    assert "GET settings/permissions" not in project.mounted.status()["api_calls"]["by_route"]
    assert errno_name(lambda: (project.path / "plan.txt").unlink()) == "EACCES"


REFUSALS: dict[str, dict[str, object]] = {
    "forbidden": {"rules": [{"kind": "error", "route": PERMISSIONS, "status": 403}]},
    "missing": {"rules": [{"kind": "error", "route": PERMISSIONS, "status": 404}]},
    "garbage": {"rules": [{"kind": "not_json", "route": PERMISSIONS}]},
    "another type": {"rules": [{"kind": "wrong_type", "route": PERMISSIONS, "body": "[1]"}]},
    "not listed": {"dialect": {"tool_name": ""}},
    "another name": {"dialect": {"tool_name": "paperwork"}},
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_rights_that_are_not_told(mount_project: Callable[..., MountedProject], refusal: str) -> None:
    """All is tried; what Procore refuses comes back, and the reason is told."""

    def prepare(sandbox: SandboxHandle) -> None:
        fill(sandbox)
        sandbox.faults(**REFUSALS[refusal])
        become(sandbox, "standard")

    project = mount_project("freshness=3600", prepare=prepare)
    project.mounted.expect_warning("was refused")
    assert project.mounted.status()["rights"] == {"restriction": "", "known": {}}
    (project.path / "plan.txt").write_bytes(b"changed")
    (project.path / "other.txt").unlink()
    (left,) = project.settle()
    assert (left.path, left.state) == ("other.txt", "failed")
    assert "403" in left.reason
    assert (project.path / "other.txt").read_bytes() == b"other"
    assert project.file("plan.txt").sizes == [7, 4]
    project.sandbox.forget_violations()


def test_a_silent_permissions_call_does_not_delay_the_mount(
    mount_project: Callable[..., MountedProject],
) -> None:
    """Two seconds at most; it is asked again beside the mount."""

    def prepare(sandbox: SandboxHandle) -> None:
        fill(sandbox)
        become(sandbox, "standard")
        sandbox.faults(rules=[{"kind": "silence", "route": PERMISSIONS}])

    project = mount_project("freshness=3600", prepare=prepare)
    assert project.mounted.status()["rights"]["known"] == {}
    project.sandbox.wait_for_silent_calls()
    project.sandbox.release()
    wait_until(lambda: bool(project.mounted.status()["rights"]["known"]), "the rights to be known")
    assert errno_name(lambda: (project.path / "plan.txt").unlink()) == "EACCES"


def test_rights_taken_away_while_mounted(project_as: Callable[..., MountedProject]) -> None:
    """Procore's 403 is the truth: what was refused comes back, and from then on it is EACCES at once."""
    project = project_as("admin")
    project.mounted.expect_warning("was refused")
    become(project.sandbox, "standard")
    (project.path / "plan.txt").unlink()
    (left,) = project.settle()
    assert left.path == "plan.txt"
    assert (project.path / "plan.txt").read_bytes() == b"plan"
    wait_until(
        lambda: project.mounted.status()["rights"]["known"].get("delete") is False, "the rights to be asked"
    )
    assert errno_name(lambda: (project.path / "other.txt").unlink()) == "EACCES"
    with project.counted() as calls:
        become(project.sandbox, "read")
        (project.path / "new.txt").write_bytes(b"new")
        project.settle()
    assert calls.by_route.get(PERMISSIONS, 0) <= 1


def test_a_success_shows_a_right(project_as: Callable[..., MountedProject]) -> None:
    """A removal that was taken when it was allowed, and sent after the right was gone and given back."""
    project = project_as("admin", options=("freshness=3600", "write_back=600"))
    project.mounted.expect_warning("was refused")
    (project.path / "folder/one.txt").write_bytes(b"changed")
    (project.path / "other.txt").unlink()
    become(project.sandbox, "read")
    project.settle("folder/one.txt")
    wait_until(
        lambda: project.mounted.status()["rights"]["known"].get("delete") is False, "the rights to be asked"
    )
    become(project.sandbox, "admin")
    project.settle("other.txt")
    wait_until(lambda: "other.txt" not in project.files(), "the document to be removed")
    assert project.mounted.status()["rights"]["known"]["delete"]
    project.mounted.home.procorefs("retry", project.path)
    project.sync()


@pytest.mark.parametrize("is_folder", [False, True])
def test_deletions_that_the_bin_does_not_show(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], *, is_folder: bool
) -> None:
    """The bin is never read; the total shows that something is missing, and listings show what."""
    sandbox.reset(0)
    make_unlisted(sandbox)
    fill(sandbox)
    become(sandbox, "standard")
    mounted = mount(sandbox, "freshness=0")
    list_all(mounted.path)
    sandbox.reset_calls()
    gone = "folder" if is_folder else "folder/one.txt"
    sandbox.act("delete", path=f"/{gone}")
    os.listdir(mounted.path / "empty")

    def is_gone() -> bool:
        return not (mounted.path / gone).exists()

    wait_until(is_gone, "the deletion to show")
    assert (mounted.path / "plan.txt").read_bytes() == b"plan"
    assert sandbox.calls()["total"] < 60
