"""What a server answers wrongly gives a clear sentence and the right errno: never a hang, wrong bytes or zeros."""

import base64
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounting import Home, Mounted, mount_followed, wait_until
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle

MIB = 1 << 20
ROOT = "GET /rest/v1.0/folders"
INDEX = "GET /rest/v*documents"
STORAGE = "storage GET"
VERSION = "GET /rest/v1.0/file_versions/{id}"


@pytest.fixture
def broken(sandbox: SandboxHandle) -> SandboxHandle:
    """A sandbox whose answers will not fit the description, as is the point."""
    sandbox.reset(0)
    return sandbox


def put(sandbox: SandboxHandle, name: str, data: bytes) -> int:
    told = sandbox.act("put", path=f"/{name}", base64=base64.b64encode(data).decode())
    found: int = told["id"]
    return found


def errno_of(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or -1
    return 0


def read_once(path: Path) -> None:
    """One request to the daemon: no read-ahead that would try everything twice."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        os.preadv(handle, [bytearray(100_000)], 0)
    finally:
        os.close(handle)


def refuse(home: Home, sandbox: SandboxHandle, place: Path, says: str, **env: str) -> str:
    """The mount is refused in one sentence, with nothing left behind."""
    place.mkdir(exist_ok=True)
    answer = home.procorefs("mount", place, env=sandbox.env() | env)
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert says in answer.stderr, answer.stderr
    assert "Traceback" not in answer.stderr
    assert not os.path.ismount(place)
    return answer.stderr


NONSENSE = {
    "html": {"kind": "not_json", "body": "<html>maintenance</html>"},
    "list": {"kind": "wrong_type", "body": "[]"},
    "text": {"kind": "wrong_type", "body": '"text"'},
    "null": {"kind": "wrong_type", "body": "null"},
    "object": {"kind": "wrong_type", "body": "{}"},
    "types": {"kind": "wrong_type", "body": '{"id": {"a": 1}, "access_token": 7}'},
    "nothing": {"kind": "wrong_type", "body": ""},
    "half": {"kind": "wrong_type", "body": '{"id": 1'},
}


@pytest.mark.parametrize(
    ("route", "nonsense"),
    [
        *((ROOT, nonsense) for nonsense in NONSENSE),
        ("POST /oauth/token", "html"),
        ("POST /oauth/token", "types"),
        ("GET /rest/v1.0/me", "html"),
        ("GET /rest/v1.0/me", "types"),
    ],
)
def test_a_mount_whose_first_answers_are_nonsense(
    broken: SandboxHandle, home: Home, tmp_path: Path, route: str, nonsense: str
) -> None:
    broken.faults(rules=[{"route": route, **NONSENSE[nonsense]}])
    refuse(home, broken, tmp_path / "mnt", "Could not" if route != "POST /oauth/token" else "")
    broken.forget_violations()


def test_a_project_without_permission(broken: SandboxHandle, home: Home, tmp_path: Path) -> None:
    broken.act("membership", user="first", level="none")
    refuse(home, broken, tmp_path / "mnt", "procorefs projects")


def test_permission_taken_away_while_mounted(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """What is known stays readable as far as Procore lets us; the log says what is the matter."""
    put(broken, "a.txt", b"known")
    mounted = mount_followed(broken, mount, "freshness=0")
    assert (mounted.path / "a.txt").read_bytes() == b"known"
    mounted.expect_warning("Procore cannot be polled")
    broken.act("membership", user="first", level="none")
    assert os.listdir(mounted.path)
    assert (mounted.path / "a.txt").read_bytes() == b"known"
    assert mounted.status()["tree"]["state"] == "behind"
    broken.act("membership", user="first", level="admin")
    assert os.listdir(mounted.path)
    assert mounted.status()["tree"]["state"] == "complete"


HOSTILE = {
    "slash": "a/b.txt",
    "parent": "../../etc/passwd",
    "nul": "nul\0.txt",
    "dot": ".",
    "dots": "..",
    "empty": "",
    "long": "l" * 300 + ".pdf",
    "long in bytes": "ü" * 200 + ".pdf",
    "newline": "two\nlines.txt",
    "control": "bell\a\x1b[31m.txt",
    "space": " ",
    "twin": "twin.txt",
    "again": "twin.txt",
    "marked": "twin ~1.txt",
    "rtl": "\u202etxt.exe",
    "nonchar": "\uffff.txt",
}


def test_hostile_names(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Each document has an entry that Linux can hold, which leads to its own bytes; also after a remount."""
    documents = {}
    for key, name in HOSTILE.items():
        documents[key] = broken.act("create_file", path="/", name=name, text=f"I am {key}")["id"]
    broken.act("create_folder", path="/", name="twin.txt")
    broken.act("create_folder", path="/", name="..")
    mounted = mount_followed(broken, mount)

    def contents(place: Path) -> dict[str, str]:
        return {name: (place / name).read_text() for name in os.listdir(place) if (place / name).is_file()}

    found = contents(mounted.path)
    assert sorted(found.values()) == sorted(f"I am {key}" for key in HOSTILE)
    assert all(name not in (".", "..") and len(os.fsencode(name)) <= 255 for name in found)
    assert len(os.listdir(mounted.path)) == len(HOSTILE) + 4
    for name, text in found.items():
        kept = HOSTILE[text.removeprefix("I am ")]
        assert name == kept or f"~{documents[text.removeprefix('I am ')]}" in name
    mounted.unmount()
    assert contents(mount(broken, at=mounted.path).path) == found


def test_names_that_are_no_text(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """JSON can carry half of a pair of surrogates, which no encoding can."""
    file = put(broken, "x.txt", b"bytes")
    with broken.session() as client:
        root = client.get("/rest/v1.0/folders", params={"project_id": broken.project_id}).json()
        index = client.get(broken.documents_path, params={"per_page": 100}).json()
    for item in [*root["files"], *index["data"]]:
        if int(item["id"]) == file:
            item["name"] = "half \ud83d.txt"
    broken.faults(
        rules=[
            {"kind": "wrong_type", "route": ROOT, "body": json.dumps(root)},
            {"kind": "wrong_type", "route": INDEX, "body": json.dumps(index)},
        ]
    )
    mounted = mount(broken)
    mounted.expect_warning("left out|not be understood|no text")
    names = os.listdir(mounted.path)
    assert all((mounted.path / name).read_bytes() == b"bytes" for name in names)
    assert len(names) == 1, names
    broken.forget_violations()


DISTORTIONS: list[dict[str, Any]] = [
    {"size": -1},
    {"size": "many"},
    {"size": 2**70},
    {"size": None},
    {"url": 5},
    {"url": "file:///etc/passwd"},
    {"url": "http://storage.example/x"},
    {"url": {"$absent": True}},
    {"created_at": "yesterday"},
    {"updated_at": "tomorrow"},
    {"version_id": None},
]


def test_items_with_nonsense_in_them(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Each file is listed beside the others, and either reads as its bytes or fails; nothing else suffers."""
    put(broken, "good.bin", b"good bytes")
    bad = {f"{number}.bin": put(broken, f"{number}.bin", b"bad bytes") for number in range(len(DISTORTIONS))}
    broken.faults(
        malformed=[{"id": file, "set": wrong} for file, wrong in zip(bad.values(), DISTORTIONS, strict=True)]
    )
    mounted = mount_followed(broken, mount, "freshness=0")
    mounted.expect_warning(r"\d.bin|document|item")
    assert set(os.listdir(mounted.path)) == {"good.bin", "walked 1", "walked 2", *bad}
    assert (mounted.path / "good.bin").read_bytes() == b"good bytes"
    failed = []
    for name in bad:
        assert (mounted.path / name).stat().st_size in (0, len("bad bytes"))
        try:
            assert (mounted.path / name).read_bytes() == b"bad bytes"
        except OSError as error:
            failed.append((name, error.errno))
    assert {number for _, number in failed} == {errno.EIO}
    refused = {refusal["path"] for refusal in mounted.status()["refusals"]}
    assert {name for name, _ in failed} <= refused
    assert all(name in mounted.log for name, _ in failed)
    broken.forget_violations()
    broken.faults(clear=True)
    for name in bad:
        broken.act("put", path=f"/{name}", text="mended")
    assert all((mounted.path / name).read_bytes() == b"mended" for name in bad)


def test_a_size_that_is_not_the_storages(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Listed longer or shorter than the storage has: an error, for every byte would be a guess."""
    sizes = (4096, 5000, 4097, 1, 12_000, 9 * MIB)
    for size in sizes:
        bad = put(broken, f"{size}.bin", pattern(1, 8192))
        broken.faults(malformed=[{"id": bad, "set": {"size": size}}])
    mounted = mount_followed(broken, mount)
    mounted.expect_warning(r"\d.bin")
    for size in sizes:
        path = mounted.path / f"{size}.bin"
        assert path.stat().st_size == size
        assert errno_of(path.read_bytes) == errno.EIO
        assert f"{size}.bin" in mounted.log
    broken.forget_violations()


TROUBLES: dict[str, tuple[dict[str, Any], int]] = {
    "gone": ({"rules": [{"kind": "error", "status": 404, "route": STORAGE}]}, errno.EIO),
    "forbidden": ({"rules": [{"kind": "error", "status": 403, "route": STORAGE}]}, errno.EACCES),
    "refused": ({"rules": [{"kind": "error", "status": 401, "route": STORAGE}]}, errno.EACCES),
    "expired": ({"expire_urls": True}, 0),
    "expired 404": ({"settings": {"expired_status": 404}, "expire_urls": True}, 0),
    "expired 410": ({"settings": {"expired_status": 410}, "expire_urls": True}, 0),
    "no range": ({"settings": {"no_range": True}}, 0),
    "short ranges": ({"settings": {"short_range_bytes": 100_000}}, 0),
    "cut once": ({"rules": [{"kind": "cut", "route": STORAGE, "after_bytes": 70_000, "count": 3}]}, 0),
    "always cut": ({"rules": [{"kind": "cut", "route": STORAGE, "after_bytes": 10}]}, errno.EIO),
    "busy": ({"rules": [{"kind": "error", "route": STORAGE, "status": 503, "count": 2}]}, 0),
    "not found": (
        {
            "expire_urls": True,
            "rules": [{"kind": "error", "status": 404, "route": VERSION}],
        },
        errno.EIO,
    ),
    "not bytes": ({"rules": [{"kind": "not_json", "route": STORAGE}]}, errno.EIO),
    "dropped": ({"rules": [{"kind": "drop", "route": STORAGE, "count": 2}]}, 0),
    "token": ({"expire_tokens": True, "expire_urls": True}, 0),
}


def test_storage_that_does_not_do_its_work(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """Each file's bytes meet a trouble: they come whole, or the program gets an error and then, later, the bytes."""
    for number, trouble in enumerate(TROUBLES):
        put(broken, f"{trouble}.bin", pattern(number, 2 * MIB + 11))
    mounted = mount_followed(broken, mount)
    backwards = list(enumerate(TROUBLES.items()))[::-1]  # so that no bytes are read ahead of their trouble
    for number, (trouble, (switches, expected)) in backwards:
        data = pattern(number, 2 * MIB + 11)
        path = mounted.path / f"{trouble}.bin"
        broken.faults(**switches)
        if expected:
            mounted.expect_warning(path.name)
            assert (trouble, errno_of(lambda: read_once(path))) == (trouble, expected)  # noqa: B023
            assert path.name in mounted.log
            broken.faults(clear=True)
        assert path.read_bytes() == data, trouble
        broken.faults(clear=True)
    broken.forget_violations()


def test_a_token_that_expires_in_the_middle(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    put(broken, "a.txt", b"first")
    mounted = mount_followed(broken, mount, "freshness=0")
    for turn in range(3):
        broken.faults(expire_tokens=True)
        put(broken, "a.txt", b"turn %d" % turn)
        assert (mounted.path / "a.txt").read_bytes() == b"turn %d" % turn
    mounted.expect_warning("Procore cannot be polled")
    broken.faults(rules=[{"kind": "error", "status": 401, "route": "*"}])
    assert (mounted.path / "a.txt").read_bytes() == b"turn 2"
    assert mounted.status()["tree"]["state"] == "behind"
    broken.faults(clear=True)
    put(broken, "a.txt", b"back")
    assert (mounted.path / "a.txt").read_bytes() == b"back"


LOOK_TROUBLES: dict[str, dict[str, Any]] = {
    "not json": {"kind": "not_json"},
    "a list": {"kind": "wrong_type", "body": "[]"},
    "no data": {"kind": "wrong_type", "body": "{}"},
    "null": {"kind": "wrong_type", "body": '{"data": null}'},
    "items": {
        "kind": "wrong_type",
        "body": '{"data": [1, null, "x", {}, {"id": "x"}, {"id": -1, "name": 5}]}',
    },
    "cut": {"kind": "cut", "after_bytes": 20, "count": 1},
    "dropped": {"kind": "drop", "count": 1},
    "forbidden": {"kind": "error", "status": 403},
    "missing": {"kind": "error", "status": 404},
    "busy": {"kind": "error", "status": 503},
}


def test_looks_that_go_wrong(broken: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    """What is known goes on being served, nothing vanishes, and the next good look sees what changed."""
    put(broken, "a.txt", b"known")
    mounted = mount_followed(broken, mount, "freshness=0")
    mounted.expect_warning(r"Procore cannot be polled|left (an item|\d+ items)|Listing the project failed")
    known = {"a.txt", "walked 1", "walked 2"}
    for trouble, rule in LOOK_TROUBLES.items():
        broken.faults(rules=[{"route": INDEX, **rule}])
        put(broken, f"{trouble}.txt", trouble.encode())
        assert set(os.listdir(mounted.path)) >= known, trouble
        broken.faults(clear=True)
        known.add(f"{trouble}.txt")
        # the next look may first wait for the end of one that tries again and again
        wait_until(lambda: set(os.listdir(mounted.path)) >= known, f"what came after {trouble}", 10)
        assert (mounted.path / f"{trouble}.txt").read_text() == trouble
    assert (mounted.path / "a.txt").read_bytes() == b"known"
    broken.forget_violations()
