"""cp and rsync carry metadata both ways; the second time they send nothing; what must not be copied is not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import Home, Mounted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import Desk, errno_name, run
from tests.support.xattrs import (
    CUSTOM,
    DESCRIPTION,
    PROCORE,
    TAGS,
    XDG_COMMENT,
    XDG_TAGS,
    Truth,
    attributes,
    getfattr,
    setfattr,
)

AREA, TRADES = CUSTOM + "Area m²", CUSTOM + "Trades"


@pytest.fixture
def truth(sandbox: SandboxHandle) -> Truth:
    return Truth(sandbox)


@pytest.fixture
def desk(write_desk: Callable[..., Desk]) -> Desk:
    """A mount with an empty project, in which no look comes due."""
    return write_desk("freshness=3600")


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


def assert_arrived(truth: Truth, at: str) -> None:
    assert truth.tags(at) == {"east"}
    assert truth.tags(f"{at}/plan 0.txt") == {"a", "b"}
    assert truth.tags(f"{at}/plan 1.txt") == {"a", "c"}
    assert truth.document(f"{at}/plan 1.txt")["description"] == "the first one\n"
    assert truth.field(f"{at}/plan 2.txt", 304) == 12.5
    assert {entry["label"] for entry in truth.field(f"{at}/plan 2.txt", 305)} == {"Steel", "Concrete"}
    assert truth.document(f"{at}/plan 3.txt")["description"] == "a comment"


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
    desk: Desk, source: Path, truth: Truth, copy: Callable[[Path, Path], object]
) -> None:
    with desk.counted() as calls:
        copy(source, desk.path)
        desk.sync()
    assert_arrived(truth, "folder")
    # A folder is one call, a file two, a tag one; nothing is asked but for the fields and choices.
    assert calls.writes == 1 + 4 * 2 + 5, calls.by_route
    assert calls.reads - calls.by_route.get("GET /rest/v1.0/folders/{id}", 0) <= 4, calls.by_route
    before = desk.files()
    with desk.counted() as calls:
        copy(source, desk.path)
        desk.sync()
    assert calls.writes == 0, calls.by_route
    assert desk.files() == before
    assert_arrived(truth, "folder")


def test_rsync_finds_nothing_to_do_the_third_time(desk: Desk, source: Path) -> None:
    """The second time it may find the other of two names that its source does not have."""
    rsync(f"{source}/", desk.path)
    desk.sync()
    rsync(f"{source}/", desk.path)
    with desk.counted() as calls:
        rsync(f"{source}/", desk.path)
        desk.sync()
    assert calls.writes == 0, calls.by_route


def test_out_of_the_mount_and_back(desk: Desk, source: Path, truth: Truth, tmp_path: Path) -> None:
    rsync(f"{source}/", desk.path)
    desk.sync()
    os.setxattr(desk.path / "folder/plan 0.txt", PROCORE + "tracked", b"true")
    desk.sync()
    away = tmp_path / "away"
    rsync(f"{desk.path}/", away)
    assert attributes(away / "folder/plan 1.txt") == {
        TAGS: "c\na\n",
        XDG_TAGS: "a,c",
        DESCRIPTION: "the first one\n",
        XDG_COMMENT: "the first one\n",
    }
    assert attributes(away / "folder/plan 3.txt")["user.rating"] == "5"
    with desk.counted() as calls:
        assert rsync(f"{desk.path}/", away) == []
        assert rsync(f"{away}/", desk.path) == []
        desk.sync()
    assert calls.writes == 0, calls.by_route
    rsync(f"{away}/", desk.path / "copy")
    desk.sync()
    assert_arrived(truth, "copy/folder")
    assert truth.document("copy/folder/plan 0.txt")["is_tracked"] is False
    assert rsync(f"{away}/", desk.path / "copy") == []


def test_rsync_makes_the_tags_those_of_the_source(desk: Desk, source: Path, truth: Truth) -> None:
    rsync(f"{source}/", desk.path)
    desk.sync()
    plan = source / "folder/plan 1.txt"
    for name in (TAGS, DESCRIPTION):
        os.removexattr(plan, name)
    os.setxattr(source / "folder/plan 0.txt", XDG_TAGS, b"new")
    rsync(f"{source}/", desk.path)
    desk.sync()
    assert truth.tags("folder/plan 1.txt") == set()
    assert not truth.document("folder/plan 1.txt")["description"]
    assert truth.tags("folder/plan 0.txt") == {"new"}
    assert desk.file("folder/plan 1.txt").numbers == [1]


def test_a_new_version_by_rsync_keeps_the_document_and_its_tags(
    desk: Desk, source: Path, truth: Truth
) -> None:
    rsync(f"{source}/", desk.path)
    desk.sync()
    before = desk.file("folder/plan 1.txt")
    (source / "folder/plan 1.txt").write_bytes(b"much newer\n" * 200)
    with desk.counted() as calls:
        rsync(f"{source}/", desk.path)
        desk.sync()
    desk.assert_saved("folder/plan 1.txt", before, b"much newer\n" * 200)
    assert_arrived(truth, "folder")
    assert calls.writes == 2, calls.by_route


def test_saving_over_a_file_keeps_what_was_just_set(desk: Desk, truth: Truth, tmp_path: Path) -> None:
    """The tags wait with the document when another file takes its place."""
    plan = desk.path / "plan.txt"
    plan.write_text("first")
    desk.sync()
    setfattr(plan, TAGS, "waits")
    (desk.path / "other.txt").write_text("second")
    (desk.path / "other.txt").rename(plan)
    desk.sync()
    assert truth.tags("plan.txt") == {"waits"}
    assert plan.read_text() == "second"


def test_our_name_wins_in_one_copy(desk: Desk, truth: Truth, tmp_path: Path) -> None:
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
        target = desk.path / f"{number}.txt"
        target.write_text("x")
        for name in order:
            os.setxattr(target, name, b"ours" if name == TAGS else b"theirs")
    run("cp", "--preserve=xattr", plain, desk.path / "copied.txt")
    rsync(plain, desk.path / "synced.txt")
    desk.sync()
    for name in ("0.txt", "1.txt", "copied.txt", "synced.txt"):
        assert truth.tags(name) == {"ours"}, name
    assert (
        truth.document("copied.txt")["description"] == truth.document("synced.txt")["description"] == "ours"
    )
    setfattr(desk.path / "0.txt", XDG_TAGS, "another,program")
    assert getfattr(desk.path / "0.txt", TAGS) == "another\nprogram"


def test_a_private_document_stays_private_whatever_is_copied(
    desk: Desk, truth: Truth, tmp_path: Path, sandbox: SandboxHandle
) -> None:
    (desk.path / "secret.txt").write_text("x")
    desk.sync()
    setfattr(desk.path / "secret.txt", PROCORE + "private", "true")
    sandbox.act("grant", path="/secret.txt")
    desk.sync()
    away = tmp_path / "away"
    rsync(f"{desk.path}/", away)
    (away / "secret.txt").write_text("newer")
    rsync("--delete", f"{away}/", desk.path)
    run("cp", "--preserve=xattr", away / "secret.txt", desk.path / "secret.txt")
    desk.sync()
    assert truth.document("secret.txt")["private"] is True
    assert desk.file("secret.txt").version >= 2


def test_metadata_goes_with_a_file_that_waits(desk: Desk, truth: Truth) -> None:
    """One POST has the description and the fields; the tags follow, and nothing is asked."""
    plan = desk.path / "plan.txt"
    plan.write_text("x")
    with desk.counted() as calls:
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
        desk.sync()
    asked = {route: n for route, n in calls.by_route.items() if "metadata" not in route}
    assert sum(asked.values()) == 4, asked
    assert truth.tags("plan.txt") == {"a", "b"}
    assert truth.document("plan.txt")["description"] == "with it"
    assert truth.field("plan.txt", 304) == 3
    assert int(getfattr(plan, PROCORE + "id")) == truth.id("plan.txt")


@pytest.mark.parametrize("is_new", [True, False], ids=["new file", "new version"])
def test_a_refused_field_does_not_hold_the_bytes_up(desk: Desk, truth: Truth, is_new: bool) -> None:
    """The file arrives with everything else; what was wrong is told, and shows no more."""
    desk.mounted.expect_warning("was refused")
    plan = desk.path / "plan.txt"
    if not is_new:
        plan.write_text("older")
        desk.sync()
    plan.write_text("newest")
    setfattr(plan, TRADES, "Masonry")  # a choice that is not to be chosen any more
    setfattr(plan, TAGS, "a")
    with desk.counted() as calls:
        left = desk.settle()
    assert [(item.path, item.state) for item in left] == [("plan.txt", "failed")]
    assert calls.writes <= 2 + 1 + 1 + 1, (
        calls.by_route
    )  # the upload, its first try, the field alone, the tag
    assert "452" in getfattr(plan, PROCORE + "error")
    assert desk.file("plan.txt").numbers == ([1] if is_new else [2, 1])
    assert desk.file("plan.txt").sizes[0] == 6
    assert attributes(plan) == {TAGS: "a", XDG_TAGS: "a"}
    assert truth.tags("plan.txt") == {"a"}
    desk.mounted.home.procorefs("discard", plan)
    assert getfattr(plan, PROCORE + "state") == "clean"


def test_a_refused_field_does_not_undo_a_rename(desk: Desk, truth: Truth) -> None:
    desk.mounted.expect_warning("was refused")
    plan = desk.path / "plan.txt"
    plan.write_text("x")
    desk.sync()
    setfattr(plan, TRADES, "Masonry")
    renamed = plan.rename(desk.path / "renamed.txt")
    desk.settle()
    assert list(desk.files()) == ["renamed.txt"]
    assert getfattr(renamed, PROCORE + "state") == "failed"


def test_two_thousand_files_cost_few_calls(write_desk: Callable[..., Desk], sandbox: SandboxHandle) -> None:
    def prepare(_sandbox: SandboxHandle) -> None:
        for number in range(6):
            sandbox.act("create_file", path=f"/tagged {number}.txt", text="x")
            sandbox.act("tag", path=f"/tagged {number}.txt", tag=f"tag {number % 3}")

    desk = write_desk("freshness=3600", documents=2000, prepare=prepare)
    run("find", desk.path, "-type", "f")
    with desk.counted() as calls:
        listing = run("getfattr", "-R", "-d", "--absolute-names", desk.path)
    assert listing.count(TAGS) == 6
    assert calls.total <= 2 * 3 + 1, calls.by_route
    with desk.counted() as calls:
        run("getfattr", "-R", "-d", "--absolute-names", desk.path)
    assert calls.total == 0, calls.by_route


def test_two_users(
    desk: Desk, sandbox: SandboxHandle, mount: Callable[..., Mounted], truth: Truth, tmp_path: Path
) -> None:
    (desk.path / "plan.txt").write_text("x")
    setfattr(desk.path / "plan.txt", TAGS, "first")
    desk.sync()
    other = mount(sandbox, "freshness=0", home=Home(tmp_path / "other home"), second_user=True)
    wait_until(lambda: (other.path / "plan.txt").exists(), "the file")
    assert getfattr(other.path / "plan.txt", TAGS) == "first"
    setfattr(other.path / "plan.txt", XDG_TAGS, "first,second")
    setfattr(other.path / "plan.txt", DESCRIPTION, "by the other")
    other.unmount()
    assert truth.tags("plan.txt") == {"first", "second"}
    desk.remount("freshness=0")
    assert getfattr(desk.path / "plan.txt", TAGS) == "first\nsecond"
    wait_until(lambda: getfattr(desk.path / "plan.txt", XDG_COMMENT) == "by the other", "the comment")
