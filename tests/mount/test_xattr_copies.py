"""cp and rsync carry metadata both ways; the second time they send nothing; what must not be copied is not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import Home, Mounted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name
from tests.support.xattrs import (
    CUSTOM,
    DESCRIPTION,
    PROCORE,
    TAGS,
    XDG_COMMENT,
    XDG_TAGS,
    ProcoreMetadata,
    attributes,
    getfattr,
    setfattr,
)

AREA, TRADES = CUSTOM + "Area m²", CUSTOM + "Trades"


@pytest.fixture
def in_procore(sandbox: SandboxHandle) -> ProcoreMetadata:
    return ProcoreMetadata(sandbox)


@pytest.fixture
def project(mount_project: Callable[..., MountedProject]) -> MountedProject:
    """A mount with an empty project, in which no look comes due."""
    return mount_project("freshness=3600")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with attributes elsewhere, as a file manager and our own mount leave them."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for number in range(4):
        (source / "folder" / f"plan {number}.txt").write_bytes(b"plan %d\n" % number * 100)
    os.setxattr(source / "folder", XDG_TAGS, b"east")
    os.setxattr(source / "folder/plan 0.txt", XDG_TAGS, b"b,a")
    os.setxattr(source / "folder/plan 1.txt", TAGS, b"c\na\n")
    os.setxattr(source / "folder/plan 1.txt", DESCRIPTION, b"the first one\n")
    os.setxattr(source / "folder/plan 2.txt", AREA, b"12.50")
    os.setxattr(source / "folder/plan 2.txt", TRADES, b"Steel\nConcrete")
    os.setxattr(source / "folder/plan 3.txt", XDG_COMMENT, b"a comment")
    os.setxattr(source / "folder/plan 3.txt", "user.rating", b"5")
    return source


def assert_arrived(in_procore: ProcoreMetadata, at: str) -> None:
    assert in_procore.tags(at) == {"east"}
    assert in_procore.tags(f"{at}/plan 0.txt") == {"a", "b"}
    assert in_procore.tags(f"{at}/plan 1.txt") == {"a", "c"}
    assert in_procore.document(f"{at}/plan 1.txt")["description"] == "the first one\n"
    assert in_procore.field(f"{at}/plan 2.txt", 304) == 12.5
    assert {entry["label"] for entry in in_procore.field(f"{at}/plan 2.txt", 305)} == {"Steel", "Concrete"}
    assert in_procore.document(f"{at}/plan 3.txt")["description"] == "a comment"


def rsync(*words: str | Path) -> list[str]:
    """What rsync changed, one line each."""
    return run("rsync", "-aX", "--itemize-changes", *words).splitlines()


COPIES: dict[str, Callable[[Path, Path], object]] = {
    "cp": lambda source, target: run("cp", "-r", "--preserve=timestamps,xattr", f"{source}/.", target),
    "rsync": lambda source, target: rsync(f"{source}/", target),
    "rsync in place": lambda source, target: rsync("--inplace", f"{source}/", target),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_into_the_mount_twice(
    project: MountedProject, source: Path, in_procore: ProcoreMetadata, copy: Callable[[Path, Path], object]
) -> None:
    with project.counted() as calls:
        copy(source, project.path)
        project.sync()
    assert_arrived(in_procore, "folder")
    # A folder is one call, a file two, a tag one; nothing is asked but for the fields and choices.
    assert calls.writes == 1 + 4 * 2 + 5, calls.by_route
    assert calls.reads - calls.by_route.get("GET /rest/v1.0/folders/{id}", 0) <= 4, calls.by_route
    before = project.files()
    with project.counted() as calls:
        copy(source, project.path)
        project.sync()
    assert calls.writes == 0, calls.by_route
    assert project.files() == before
    assert_arrived(in_procore, "folder")


def test_rsync_finds_nothing_to_do_the_third_time(project: MountedProject, source: Path) -> None:
    """The second time it may find the other of two names that its source does not have."""
    rsync(f"{source}/", project.path)
    project.sync()
    rsync(f"{source}/", project.path)
    with project.counted() as calls:
        rsync(f"{source}/", project.path)
        project.sync()
    assert calls.writes == 0, calls.by_route


def test_out_of_the_mount_and_back(
    project: MountedProject, source: Path, in_procore: ProcoreMetadata, tmp_path: Path
) -> None:
    rsync(f"{source}/", project.path)
    project.sync()
    os.setxattr(project.path / "folder/plan 0.txt", PROCORE + "tracked", b"true")
    project.sync()
    away = tmp_path / "away"
    rsync(f"{project.path}/", away)
    assert attributes(away / "folder/plan 1.txt") == {
        TAGS: "c\na\n",
        XDG_TAGS: "a,c",
        DESCRIPTION: "the first one\n",
        XDG_COMMENT: "the first one\n",
    }
    assert attributes(away / "folder/plan 3.txt")["user.rating"] == "5"
    with project.counted() as calls:
        assert rsync(f"{project.path}/", away) == []
        assert rsync(f"{away}/", project.path) == []
        project.sync()
    assert calls.writes == 0, calls.by_route
    rsync(f"{away}/", project.path / "copy")
    project.sync()
    assert_arrived(in_procore, "copy/folder")
    assert in_procore.document("copy/folder/plan 0.txt")["is_tracked"] is False
    assert rsync(f"{away}/", project.path / "copy") == []


def test_rsync_makes_the_tags_those_of_the_source(
    project: MountedProject, source: Path, in_procore: ProcoreMetadata
) -> None:
    rsync(f"{source}/", project.path)
    project.sync()
    plan = source / "folder/plan 1.txt"
    for name in (TAGS, DESCRIPTION):
        os.removexattr(plan, name)
    os.setxattr(source / "folder/plan 0.txt", XDG_TAGS, b"new")
    rsync(f"{source}/", project.path)
    project.sync()
    assert in_procore.tags("folder/plan 1.txt") == set()
    assert not in_procore.document("folder/plan 1.txt")["description"]
    assert in_procore.tags("folder/plan 0.txt") == {"new"}
    assert project.file("folder/plan 1.txt").numbers == [1]


def test_a_new_version_by_rsync_keeps_the_document_and_its_tags(
    project: MountedProject, source: Path, in_procore: ProcoreMetadata
) -> None:
    rsync(f"{source}/", project.path)
    project.sync()
    before = project.file("folder/plan 1.txt")
    (source / "folder/plan 1.txt").write_bytes(b"much newer\n" * 200)
    with project.counted() as calls:
        rsync(f"{source}/", project.path)
        project.sync()
    project.assert_saved("folder/plan 1.txt", before, b"much newer\n" * 200)
    assert_arrived(in_procore, "folder")
    assert calls.writes == 2, calls.by_route


def test_saving_over_a_file_keeps_what_was_just_set(
    project: MountedProject, in_procore: ProcoreMetadata, tmp_path: Path
) -> None:
    """The tags wait with the document when another file takes its place."""
    plan = project.path / "plan.txt"
    plan.write_text("first")
    project.sync()
    setfattr(plan, TAGS, "waits")
    (project.path / "other.txt").write_text("second")
    (project.path / "other.txt").rename(plan)
    project.sync()
    assert in_procore.tags("plan.txt") == {"waits"}
    assert plan.read_text() == "second"


def test_our_name_wins_in_one_copy(
    project: MountedProject, in_procore: ProcoreMetadata, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    for name, value in (
        (XDG_TAGS, b"theirs"),
        (TAGS, b"ours"),
        (XDG_COMMENT, b"theirs"),
        (DESCRIPTION, b"ours"),
    ):
        os.setxattr(plain, name, value)
    for number, order in enumerate(((TAGS, XDG_TAGS), (XDG_TAGS, TAGS))):
        target = project.path / f"{number}.txt"
        target.write_text("x")
        for name in order:
            os.setxattr(target, name, b"ours" if name == TAGS else b"theirs")
    run("cp", "--preserve=xattr", plain, project.path / "copied.txt")
    rsync(plain, project.path / "synced.txt")
    project.sync()
    for name in ("0.txt", "1.txt", "copied.txt", "synced.txt"):
        assert in_procore.tags(name) == {"ours"}, name
    assert (
        in_procore.document("copied.txt")["description"]
        == in_procore.document("synced.txt")["description"]
        == "ours"
    )
    setfattr(project.path / "0.txt", XDG_TAGS, "another,program")
    assert getfattr(project.path / "0.txt", TAGS) == "another\nprogram"


def test_a_private_document_stays_private_whatever_is_copied(
    project: MountedProject, in_procore: ProcoreMetadata, tmp_path: Path, sandbox: SandboxHandle
) -> None:
    (project.path / "secret.txt").write_text("x")
    project.sync()
    setfattr(project.path / "secret.txt", PROCORE + "private", "true")
    sandbox.act("grant", path="/secret.txt")
    project.sync()
    away = tmp_path / "away"
    rsync(f"{project.path}/", away)
    (away / "secret.txt").write_text("newer")
    rsync("--delete", f"{away}/", project.path)
    run("cp", "--preserve=xattr", away / "secret.txt", project.path / "secret.txt")
    project.sync()
    assert in_procore.document("secret.txt")["private"] is True
    assert project.file("secret.txt").version >= 2


def test_metadata_goes_with_a_file_that_waits(project: MountedProject, in_procore: ProcoreMetadata) -> None:
    """One POST has the description and the fields; the tags follow, and nothing is asked."""
    plan = project.path / "plan.txt"
    plan.write_text("x")
    with project.counted() as calls:
        setfattr(plan, DESCRIPTION, "with it")
        setfattr(plan, TAGS, "a\nb")
        setfattr(plan, AREA, "3")
        assert attributes(plan) == {
            TAGS: "a\nb",
            XDG_TAGS: "a,b",
            DESCRIPTION: "with it",
            XDG_COMMENT: "with it",
            AREA: "3",
        }
        assert getfattr(plan, PROCORE + "state") == "pending"
        assert errno_name(lambda: os.getxattr(plan, PROCORE + "id")) == "ENODATA"
        project.sync()
    asked = {route: n for route, n in calls.by_route.items() if "metadata" not in route}
    assert sum(asked.values()) == 4, asked
    assert in_procore.tags("plan.txt") == {"a", "b"}
    assert in_procore.document("plan.txt")["description"] == "with it"
    assert in_procore.field("plan.txt", 304) == 3
    assert int(getfattr(plan, PROCORE + "id")) == in_procore.id("plan.txt")


@pytest.mark.parametrize("is_new", [True, False], ids=["new file", "new version"])
def test_a_refused_field_does_not_hold_the_bytes_up(
    project: MountedProject, in_procore: ProcoreMetadata, is_new: bool
) -> None:
    """The file arrives with everything else; what was wrong is told, and shows no more."""
    project.mounted.expect_warning("was refused")
    plan = project.path / "plan.txt"
    if not is_new:
        plan.write_text("older")
        project.sync()
    plan.write_text("newest")
    setfattr(plan, TRADES, "Masonry")  # a choice that is not to be chosen any more
    setfattr(plan, TAGS, "a")
    with project.counted() as calls:
        left = project.settle()
    assert [(item.path, item.state) for item in left] == [("plan.txt", "failed")]
    assert calls.writes <= 2 + 1 + 1 + 1, (
        calls.by_route
    )  # the upload, its first try, the field alone, the tag
    assert "452" in getfattr(plan, PROCORE + "error")
    assert project.file("plan.txt").numbers == ([1] if is_new else [2, 1])
    assert project.file("plan.txt").sizes[0] == 6
    assert attributes(plan) == {TAGS: "a", XDG_TAGS: "a"}
    assert in_procore.tags("plan.txt") == {"a"}
    project.mounted.home.procorefs("discard", plan)
    assert getfattr(plan, PROCORE + "state") == "clean"


def test_a_refused_field_does_not_undo_a_rename(project: MountedProject, in_procore: ProcoreMetadata) -> None:
    project.mounted.expect_warning("was refused")
    plan = project.path / "plan.txt"
    plan.write_text("x")
    project.sync()
    setfattr(plan, TRADES, "Masonry")
    renamed = plan.rename(project.path / "renamed.txt")
    project.settle()
    assert list(project.files()) == ["renamed.txt"]
    assert getfattr(renamed, PROCORE + "state") == "failed"


def test_two_thousand_files_cost_few_calls(
    mount_project: Callable[..., MountedProject], sandbox: SandboxHandle
) -> None:
    def prepare(_sandbox: SandboxHandle) -> None:
        for number in range(6):
            sandbox.act("create_file", path=f"/tagged {number}.txt", text="x")
            sandbox.act("tag", path=f"/tagged {number}.txt", tag=f"tag {number % 3}")

    project = mount_project("freshness=3600", documents=2000, prepare=prepare)
    run("find", project.path, "-type", "f")
    with project.counted() as calls:
        listing = run("getfattr", "-R", "-d", "--absolute-names", project.path)
    assert listing.count(TAGS) == 6
    assert calls.total <= 2 * 3 + 1, calls.by_route
    with project.counted() as calls:
        run("getfattr", "-R", "-d", "--absolute-names", project.path)
    assert calls.total == 0, calls.by_route


def test_two_users(
    project: MountedProject,
    sandbox: SandboxHandle,
    mount: Callable[..., Mounted],
    in_procore: ProcoreMetadata,
    tmp_path: Path,
) -> None:
    (project.path / "plan.txt").write_text("x")
    setfattr(project.path / "plan.txt", TAGS, "first")
    project.sync()
    other = mount(sandbox, "freshness=0", home=Home(tmp_path / "other home"), second_user=True)
    wait_until(lambda: (other.path / "plan.txt").exists(), "the file")
    assert getfattr(other.path / "plan.txt", TAGS) == "first"
    setfattr(other.path / "plan.txt", XDG_TAGS, "first,second")
    setfattr(other.path / "plan.txt", DESCRIPTION, "by the other")
    other.unmount()
    assert in_procore.tags("plan.txt") == {"first", "second"}
    project.remount("freshness=0")
    assert getfattr(project.path / "plan.txt", TAGS) == "first\nsecond"
    wait_until(lambda: getfattr(project.path / "plan.txt", XDG_COMMENT) == "by the other", "the comment")
