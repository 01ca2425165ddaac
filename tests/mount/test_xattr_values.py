"""Tags, descriptions, flags and custom fields as attributes: each kind there and back, by getfattr and setfattr."""

import errno
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.environment import run
from tests.support.mounting import make_unlisted, wait_until
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
    refusal_of,
    setfattr,
    unsetfattr,
)

COST_CODE = CUSTOM + "Cost code ~303"
PATCH_FILE = "PATCH /rest/v1.0/files/{id}"


@pytest.fixture
def in_procore(sandbox: SandboxHandle) -> ProcoreMetadata:
    return ProcoreMetadata(sandbox)


@pytest.fixture
def project(mount_project: Callable[..., MountedProject], sandbox: SandboxHandle) -> MountedProject:
    """`plan.pdf` and `folder/`, of somebody else's making."""

    def prepare(_sandbox: SandboxHandle) -> None:
        sandbox.act("create_file", path="/plan.pdf", text="plan")
        sandbox.act("create_folder", path="/folder")

    project = mount_project("freshness=3600", "write_back=600", prepare=prepare)  # only `sync` sends
    assert sorted(entry.name for entry in project.path.iterdir()) == ["folder", "plan.pdf"]
    return project


@pytest.fixture
def plan(project: MountedProject) -> Path:
    return project.path / "plan.pdf"


def test_a_document_with_nothing_lists_nothing(project: MountedProject, plan: Path) -> None:
    with project.counted() as calls:
        assert attributes(plan) == attributes(project.path / "folder") == attributes(project.path) == {}
    assert calls.total == 1, calls.by_route


def test_what_procore_has_is_listed_under_both_names(
    project: MountedProject, plan: Path, sandbox: SandboxHandle
) -> None:
    folder = project.path / "folder"
    for path, tags in (("/plan.pdf", ("east", "as built, final")), ("/folder", ("east",))):
        for tag in tags:
            sandbox.act("tag", path=path, tag=tag)
    sandbox.act("describe", path="/plan.pdf", text="Größe: 3 m²\nthe second line")
    for field, data_type, value in (
        ("301", "lov_entry", {"id": 401, "label": "Architectural"}),
        ("302", "boolean", False),
        ("303", "string", "A-12"),
        ("304", "decimal", 12.5),
        ("305", "lov_entries", [{"id": 453, "label": "Steel"}, {"id": 451, "label": "Concrete"}]),
    ):
        sandbox.act(
            "set_field", path="/plan.pdf", field=field, value={"data_type": data_type, "value": value}
        )
    sandbox.act("set_field", path="/folder", field="304", value={"data_type": "decimal", "value": 7})
    project.remount("freshness=0")
    assert attributes(plan) == {
        TAGS: "as built, final\neast",
        XDG_TAGS: "as built, final,east",
        DESCRIPTION: "Größe: 3 m²\nthe second line",
        XDG_COMMENT: "Größe: 3 m²\nthe second line",
        CUSTOM + "Discipline": "Architectural",
        CUSTOM + "Approved": "false",
        COST_CODE: "A-12",
        CUSTOM + "Area m²": "12.5",
        CUSTOM + "Trades": "Concrete\nSteel",
    }
    assert attributes(folder) == {TAGS: "east", XDG_TAGS: "east", CUSTOM + "Area m²": "7"}
    assert getfattr(plan, TAGS) == "as built, final\neast"


def test_all_metadata_of_a_file_is_one_call_and_one_more_a_tag(
    project: MountedProject, plan: Path, in_procore: ProcoreMetadata
) -> None:
    attributes(plan)
    with project.counted() as calls:
        setfattr(plan, TAGS, "b\na")
        setfattr(plan, DESCRIPTION, "what it is")
        setfattr(plan, PROCORE + "tracked", "true")
        setfattr(plan, COST_CODE, "A-12")
        setfattr(plan, CUSTOM + "Area m²", "12.50")
        setfattr(plan, CUSTOM + "Approved", "true")
        setfattr(plan, CUSTOM + "Discipline", "Architectural")
        setfattr(plan, CUSTOM + "Trades", "Steel\nConcrete")
        project.sync()
    lists = {route: count for route, count in calls.by_route.items() if "custom_field" in route}
    assert sum(lists.values()) == 3, lists  # the fields, and the choices of two of them
    assert calls.writes == 3, calls.by_route
    assert calls.by_route[PATCH_FILE] == 1
    assert in_procore.tags("plan.pdf") == {"a", "b"}
    document = in_procore.document("plan.pdf")
    assert (document["description"], document["is_tracked"]) == ("what it is", True)
    assert [in_procore.field("plan.pdf", number) for number in (302, 303, 304)] == [True, "A-12", 12.5]
    assert in_procore.field("plan.pdf", 301) == {"id": 401, "label": "Architectural"}
    assert {entry["label"] for entry in in_procore.field("plan.pdf", 305)} == {"Steel", "Concrete"}
    assert getfattr(plan, CUSTOM + "Area m²") == "12.50"
    assert getfattr(plan, TAGS) == "b\na"
    assert getfattr(plan, XDG_TAGS) == "a,b"
    with project.counted() as calls:
        for name, value in attributes(plan).items():
            setfattr(plan, name, value)
        setfattr(plan, TAGS, "a\nb")
        project.sync()
    assert calls.total == 0, calls.by_route


def test_removing(project: MountedProject, plan: Path, in_procore: ProcoreMetadata) -> None:
    setfattr(plan, TAGS, "a\nb")
    setfattr(plan, DESCRIPTION, "what it is")
    setfattr(plan, COST_CODE, "A-12")
    setfattr(plan, CUSTOM + "Discipline", "Architectural")
    project.sync()
    with project.counted() as calls:
        unsetfattr(plan, XDG_TAGS)
        unsetfattr(plan, DESCRIPTION)
        unsetfattr(plan, COST_CODE)
        unsetfattr(plan, CUSTOM + "Discipline")
        assert attributes(plan) == {}
        project.sync()
    assert calls.writes == 3, calls.by_route
    assert attributes(plan) == {}
    assert in_procore.tags("plan.pdf") == set()
    document = in_procore.document("plan.pdf")
    assert not document["description"]
    assert document["custom_fields"] == {}
    for name in (TAGS, XDG_TAGS, DESCRIPTION, XDG_COMMENT, COST_CODE):
        assert errno_name(partial(os.removexattr, plan, name)) == "ENODATA"


def test_sets_fold_and_what_ends_as_it_was_is_no_call(project: MountedProject, plan: Path) -> None:
    project.await_listed()
    attributes(plan)
    with project.counted() as calls:
        for number in range(10):
            os.setxattr(plan, DESCRIPTION, b"take %d" % number)
            os.setxattr(plan, TAGS, b"tag %d" % number)
        os.removexattr(plan, DESCRIPTION)
        os.removexattr(plan, TAGS)
        assert getfattr(plan, PROCORE + "state") == "clean"
        project.sync()
    assert calls.total == 0, calls.by_route


def test_folders(project: MountedProject, in_procore: ProcoreMetadata) -> None:
    folder = project.path / "folder"
    setfattr(folder, TAGS, "a")
    setfattr(folder, CUSTOM + "Area m²", "7")
    setfattr(folder, PROCORE + "tracked", "true")
    project.sync()
    assert in_procore.tags("folder") == {"a"}
    assert in_procore.field("folder", 304) == 7
    assert in_procore.document("folder")["is_tracked"] is True
    assert attributes(folder) == {TAGS: "a", XDG_TAGS: "a", CUSTOM + "Area m²": "7"}
    for name in (DESCRIPTION, XDG_COMMENT):
        assert errno_name(partial(os.setxattr, folder, name, b"x")) == "ENOTSUP"
        assert errno_name(partial(os.getxattr, folder, name)) == "ENOTSUP"
        assert errno_name(partial(os.removexattr, folder, name)) == "ENOTSUP"


def test_what_can_only_be_read(project: MountedProject, plan: Path, in_procore: ProcoreMetadata) -> None:
    assert int(getfattr(plan, PROCORE + "id")) == in_procore.id("plan.pdf")
    assert getfattr(plan, PROCORE + "version") == "1"
    assert getfattr(plan, PROCORE + "url").startswith("http")
    assert getfattr(plan, PROCORE + "created_by")
    for name in ("created_at", "updated_at"):
        assert getfattr(plan, PROCORE + name).endswith("Z")
    assert getfattr(plan, PROCORE + "state") == "clean"
    with project.counted() as calls:
        (version,) = json.loads(getfattr(plan, PROCORE + "versions"))
        assert (version["number"], version["size"]) == (1, 4)
        assert json.loads(getfattr(plan, PROCORE + "raw"))["name"] == "plan.pdf"
    assert calls.by_route == {"GET /rest/v1.0/files/{id}": 2}
    assert json.loads(getfattr(project.path / "folder", PROCORE + "raw"))["name"] == "folder"
    for name in ("error", "checked_out_by", "checked_out_until"):
        assert errno_name(partial(os.getxattr, plan, PROCORE + name)) == "ENODATA"
    for name in ("id", "state", "error", "raw", "versions", "checked_out_by"):
        assert errno_name(partial(os.setxattr, plan, PROCORE + name, b"1")) == "EPERM"
        assert errno_name(partial(os.removexattr, plan, PROCORE + name)) == "EPERM"
    assert attributes(plan) == {}


def test_tags_reach_a_document_before_it_is_private(
    project: MountedProject, plan: Path, in_procore: ProcoreMetadata, sandbox: SandboxHandle
) -> None:
    setfattr(plan, PROCORE + "private", "yes")
    setfattr(plan, TAGS, "a")
    project.sync()
    sandbox.act("grant", path="/plan.pdf")
    assert in_procore.tags("plan.pdf") == {"a"}
    assert in_procore.document("plan.pdf")["private"] is True


def test_private_and_tracked_are_never_listed_nor_removed(
    project: MountedProject, plan: Path, in_procore: ProcoreMetadata, sandbox: SandboxHandle
) -> None:
    for name in ("private", "tracked"):
        assert getfattr(plan, PROCORE + name) == "false"
        setfattr(plan, PROCORE + name, "1")
        assert getfattr(plan, PROCORE + name) == "true"
        assert errno_name(partial(os.removexattr, plan, PROCORE + name)) == "EPERM"
    assert attributes(plan) == {}
    sandbox.act("grant", path="/plan.pdf")
    project.sync()
    assert in_procore.document("plan.pdf")["private"] is True
    assert attributes(plan) == {}


def test_who_holds_a_document(project: MountedProject, plan: Path, sandbox: SandboxHandle) -> None:
    sandbox.act("check_out", path="/plan.pdf", seconds=600)
    project.remount("freshness=0")
    assert getfattr(plan, PROCORE + "checked_out_by")
    assert getfattr(plan, PROCORE + "checked_out_until").endswith("Z")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (TAGS, b"\xff"),
        (DESCRIPTION, b"a\0b"),
        (PROCORE + "private", b"maybe"),
        (CUSTOM + "Approved", b"maybe"),
        (CUSTOM + "Area m²", b"twelve"),
        (CUSTOM + "Discipline", b"Alchemy"),
        (CUSTOM + "Trades", b"Steel\nAlchemy"),
    ],
)
def test_wrong_values(project: MountedProject, plan: Path, name: str, value: bytes) -> None:
    with project.counted() as calls:
        assert errno_name(lambda: os.setxattr(plan, name, value)) == "EINVAL"
    assert calls.writes == 0
    assert getfattr(plan, PROCORE + "state") == "clean"


@pytest.mark.parametrize(
    "name", ["nonsense", "custom.Nonsense", "custom.", "custom.Cost code", "custom.custom_field_1"]
)
def test_names_that_mean_nothing(project: MountedProject, plan: Path, name: str) -> None:
    name = PROCORE + name
    assert errno_name(lambda: os.getxattr(plan, name)) == "ENODATA"
    assert errno_name(lambda: os.setxattr(plan, name, b"1")) == "ENOTSUP"
    assert errno_name(lambda: os.removexattr(plan, name)) == "ENODATA"


def test_other_namespaces(plan: Path) -> None:
    for name in ("security.selinux", "trusted.overlay", "system.nfs4_acl", "foo.bar"):
        assert errno_name(partial(os.setxattr, plan, name, b"x")) in ("ENOTSUP", "EPERM"), name
        assert errno_name(partial(os.getxattr, plan, name)) in ("ENOTSUP", "ENODATA"), name


def test_create_replace_sizes(project: MountedProject, plan: Path) -> None:
    for name, value in ((TAGS, b"a"), (DESCRIPTION, b"x"), (CUSTOM + "Area m²", b"7"), ("user.mine", b"m")):
        assert errno_name(partial(os.setxattr, plan, name, value, os.XATTR_REPLACE)) == "ENODATA"
        os.setxattr(plan, name, value, os.XATTR_CREATE)
        assert errno_name(partial(os.setxattr, plan, name, value, os.XATTR_CREATE)) == "EEXIST"
        os.setxattr(plan, name, value, os.XATTR_REPLACE)
        assert os.getxattr(plan, name) == value
    folder = project.path / "folder"
    os.listxattr(folder)
    os.setxattr(folder, TAGS, b"a", os.XATTR_CREATE)
    assert errno_name(lambda: os.setxattr(folder, TAGS, b"b", os.XATTR_CREATE)) == "EEXIST"
    libc_getxattr = refusal_of(
        "python3",
        "-c",
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "path, name = os.fsencode(sys.argv[1]), b'user.procore.description'\n"
        "assert libc.getxattr(path, name, None, 0) == 1\n"
        "os.setxattr(path, name, b'twelve bytes')\n"
        "assert libc.getxattr(path, name, None, 0) == 12\n"
        "assert libc.getxattr(path, name, ctypes.create_string_buffer(12), 12) == 12\n"
        "assert libc.listxattr(path, ctypes.create_string_buffer(3), 3) == -1\n"
        f"assert ctypes.get_errno() == {errno.ERANGE}\n"
        "assert libc.getxattr(path, name, ctypes.create_string_buffer(11), 11) == -1\n"
        "sys.exit(os.strerror(ctypes.get_errno()))",
        plan,
    )
    assert os.strerror(errno.ERANGE) in libc_getxattr


def test_a_refusal_shows_and_the_view_goes_back(
    project: MountedProject, plan: Path, sandbox: SandboxHandle, in_procore: ProcoreMetadata
) -> None:
    project.mounted.expect_warning("was refused")
    sandbox.faults(rules=[{"kind": "error", "route": "PATCH */files*", "status": 422, "count": 1}])
    setfattr(plan, DESCRIPTION, "never")
    assert getfattr(plan, DESCRIPTION) == "never"
    left = project.settle()
    assert [(item.path, item.state) for item in left] == [("plan.pdf", "failed")]
    assert getfattr(plan, PROCORE + "state") == "failed"
    assert "422" in getfattr(plan, PROCORE + "error")
    assert attributes(plan) == {}
    setfattr(plan, DESCRIPTION, "now")
    project.sync()
    assert getfattr(plan, PROCORE + "state") == "clean"
    assert errno_name(lambda: os.getxattr(plan, PROCORE + "error")) == "ENODATA"
    assert in_procore.document("plan.pdf")["description"] == "now"


def test_read_only_documents(project: MountedProject, plan: Path, sandbox: SandboxHandle) -> None:
    sandbox.act("read_only", path="/plan.pdf")
    make_unlisted(sandbox)
    project.remount("freshness=0")
    project.list_all()
    wait_until(lambda: not os.stat(plan).st_mode & 0o222, "the look")
    for name in (TAGS, DESCRIPTION, "user.mine"):
        assert errno_name(partial(os.setxattr, plan, name, b"x")) == "EACCES"


def test_somebody_elses_tags_show_when_they_are_asked_for(
    project: MountedProject, plan: Path, sandbox: SandboxHandle
) -> None:
    make_unlisted(sandbox)
    project.remount("freshness=0")
    project.list_all()
    assert attributes(plan) == {}
    sandbox.act("tag", path="/plan.pdf", tag="theirs")
    wait_until(lambda: attributes(plan) == {TAGS: "theirs", XDG_TAGS: "theirs"}, "the tag")
    sandbox.act("describe", path="/plan.pdf", text="theirs")
    wait_until(lambda: attributes(plan).get(DESCRIPTION) == "theirs", "the description")


def test_the_readme(project: MountedProject, plan: Path) -> None:
    setfattr(plan, TAGS, "Urgent\nLevel 2")
    setfattr(plan, DESCRIPTION, "Ground floor, as built")
    assert run("getfattr", "-d", "--absolute-names", plan).splitlines()[1:-1] == [
        'user.procore.description="Ground floor, as built"',
        r'user.procore.tags="Urgent\012Level 2"',
        'user.xdg.comment="Ground floor, as built"',
        'user.xdg.tags="Level 2,Urgent"',
    ]
    unsetfattr(plan, TAGS)
    assert sorted(attributes(plan)) == [DESCRIPTION, XDG_COMMENT]


def test_a_mount_that_only_reads(project: MountedProject, plan: Path, sandbox: SandboxHandle) -> None:
    sandbox.act("tag", path="/plan.pdf", tag="theirs")
    project.remount("ro")
    assert attributes(plan) == {TAGS: "theirs", XDG_TAGS: "theirs"}
    for name in (TAGS, DESCRIPTION, "user.mine"):
        assert errno_name(partial(os.setxattr, plan, name, b"x")) == "EROFS"


def test_without_procore(project: MountedProject, plan: Path, sandbox: SandboxHandle) -> None:
    """What nobody knows is an error, and never an empty list: a copy tool would take it for one."""
    project.mounted.expect_warning("xattr of plan.pdf|cannot be polled")
    sandbox.faults(rules=[{"kind": "error", "route": "GET */document_custom_tags*", "status": 400}])
    assert errno_name(lambda: os.listxattr(plan)) == "EINVAL"
    setfattr(plan, TAGS, "a")
    assert getfattr(plan, TAGS) == "a"
    sandbox.faults(clear=True)
    project.sync()
    sandbox.faults(rules=[{"kind": "error", "route": "GET */document_custom_tags*", "status": 403}])
    project.remount("freshness=0")
    project.mounted.expect_warning("xattr of plan.pdf|cannot be polled")
    assert attributes(plan) == {}


def test_a_document_that_somebody_else_holds(
    project: MountedProject, plan: Path, sandbox: SandboxHandle
) -> None:
    sandbox.act("check_out", path="/plan.pdf", seconds=600)
    make_unlisted(sandbox)
    project.remount("freshness=0")
    project.list_all()
    assert errno_name(lambda: os.setxattr(plan, DESCRIPTION, b"x")) == "EBUSY"
    sandbox.act("check_in", path="/plan.pdf")
    assert plan.read_text() == "plan"
    setfattr(plan, DESCRIPTION, "now")
    project.sync()


def test_who_sets_something_of_a_folder_hardly_waits(
    project: MountedProject, plan: Path, sandbox: SandboxHandle
) -> None:
    """He holds the lock that everybody needs who looks into it."""
    folder = project.path / "folder"
    sandbox.faults(rules=[{"kind": "silence", "route": "GET */custom_field_metadata*"}])
    began_s = time.monotonic()
    assert errno_name(lambda: os.setxattr(folder, CUSTOM + "Area m²", b"7")) == "ETIMEDOUT"
    assert time.monotonic() - began_s < 10
    sandbox.release()
    sandbox.faults(clear=True)
    wait_until(
        lambda: errno_name(lambda: os.setxattr(folder, CUSTOM + "Area m²", b"7")) == "",
        "the fields to be known",
    )
    sandbox.faults(rules=[{"kind": "silence", "route": "GET */document_custom_tags*"}])
    began_s = time.monotonic()
    os.setxattr(folder, TAGS, b"a")
    os.removexattr(folder, TAGS)
    assert errno_name(lambda: os.setxattr(folder, XDG_TAGS, b"a", os.XATTR_CREATE)) in ("", "ETIMEDOUT")
    assert time.monotonic() - began_s < 2
    sandbox.release()
    sandbox.faults(clear=True)
    project.sync()
