"""What `status`, `sync` and the log say of what was refused: one sentence each, with the path and what is wrong."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounting import Mounted, ThreadOf, mount_followed, wait_until
from tests.support.sandbox import SandboxHandle


@contextmanager
def refused_with(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert caught.value.errno == number


def shown(mounted: Mounted, label: str, time: str = r"\d\d:\d\d:\d\d  ") -> list[str]:
    """The lines of `status` with this label, newest first, without their times."""
    text = mounted.home.procorefs("status", mounted.path).stdout
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    found = [words[1] for words in lines if words and words[0] == label]
    assert all(re.match(time, line) for line in found), found
    return [re.sub(time, "", line, count=1) for line in found]


@pytest.fixture
def plans(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> Mounted:
    """A mount with a folder of a few files that only look alike."""
    sandbox.reset(0)
    sandbox.act("create_folder", path="/", name="Plans")
    for name in ("a.txt", "fixed.txt", "theirs.txt", "waits.txt"):
        sandbox.act("create_file", path="/Plans", name=name, text="x")
    sandbox.act("read_only", path="/Plans/fixed.txt")
    sandbox.act("check_out", path="/Plans/theirs.txt")
    mounted = mount_followed(sandbox, mount, "write_back=0", "freshness=0")
    assert len(list((mounted.path / "Plans").iterdir())) == 4
    return mounted


def test_what_programs_are_refused(plans: Mounted) -> None:
    """The path is that of the thing itself, said once, also where the request named its folder."""
    folder = plans.path / "Plans"
    with refused_with(errno.EINVAL):
        (folder / "a?b").touch()
    with refused_with(errno.EINVAL):
        (folder / "a.txt").rename(folder / "a|.txt")
    with refused_with(errno.ENAMETOOLONG):
        (folder / ("y" * 250)).touch()
    with refused_with(errno.EBUSY):
        (folder / "theirs.txt").write_text("y")
    with refused_with(errno.EACCES):
        (folder / ".~lock.theirs.txt#").write_text("y")
    with refused_with(errno.EBUSY):
        (folder / "a.txt").rename(folder / "theirs.txt")
    with refused_with(errno.EACCES):
        (folder / "fixed.txt").unlink()
    with refused_with(errno.EACCES):
        os.setxattr(folder / "fixed.txt", "user.procore.description", b"x")
    with refused_with(errno.EINVAL):
        os.setxattr(folder / "a.txt", "user.procore.private", b"maybe")
    with refused_with(errno.EINVAL):
        os.setxattr(folder / "a.txt", "user.procore.tags", b"\xff")
    said = [
        "Plans/a.txt: user.procore.tags was not set: it is not UTF-8",
        "Plans/a.txt: user.procore.private was not set: it must be true or false",
        "Plans/fixed.txt: Procore has it read-only",
        "Plans/theirs.txt: Robin Keller has it checked out",
        "Plans/.~lock.theirs.txt#: it is the lock file of another user",
        f"Plans/{'y' * 250}: its name makes a path of more than 255 characters",
        "Plans/a|.txt: its name has a character that Procore does not take ('|', U+007C)",
        "Plans/a?b: its name has a character that Procore does not take ('?', U+003F)",
    ]
    assert shown(plans, "refused") == said
    known = plans.status()["refusals"]
    assert [one["reason"] for one in known] == said
    assert known[-1]["path"] == "Plans/a?b"
    assert all(sentence in plans.log for sentence in said)


def test_what_procore_refuses_later(plans: Mounted, sandbox: SandboxHandle) -> None:
    """No number that only Procore knows, nothing said twice, and of a check-out nothing but whose it is."""
    folder = plans.path / "Plans"
    plans.expect_warning("was refused")
    with (folder / "waits.txt").open("w") as file:
        file.write("written")
        file.flush()
        sandbox.act("check_out", path="/Plans/waits.txt")
    refuse = {"kind": "error", "status": 403, "count": 1}
    sandbox.faults(rules=[{**refuse, "route": "POST /rest/v1.0/files*"}])
    (folder / "new.txt").write_text("new")
    wait_until(
        lambda: plans.status()["outbox"]["failed"] == 1, "the first refusal, before its rule is replaced"
    )
    sandbox.faults(rules=[{**refuse, "status": 422, "route": "PATCH /rest/v1.0/files/*"}])
    os.setxattr(folder / "a.txt", "user.procore.description", b"x")
    wait_until(lambda: (box := plans.status()["outbox"])["failed"] == 2 and box["held"] == 1, "the refusals")
    assert sorted(shown(plans, "failed")) == [
        "Plans/a.txt: user.procore.description was refused: could not change the file: Procore does not accept the "
        "request (HTTP 422: Switched on by the sandbox)",
        "Plans/new.txt: Could not create the file: Procore does not permit it (HTTP 403: Switched on by the sandbox)",
    ]
    assert shown(plans, "refused") == []  # the same once more
    assert shown(plans, "held") == ["Plans/waits.txt: Robin Keller has it checked out"]
    reasons = plans.home.procorefs("sync", "--timeout", "0", plans.path, env=plans.env).stderr
    where: Path = plans.path / "Plans"
    assert (
        f"the change to {where}/waits.txt is not in Procore: Robin Keller has it checked out; it is"
        in reasons
    )
    assert f"{where}/new.txt is not in Procore: could not create the file: Procore does not permit" in reasons
    assert not re.search(r"\d{6}", reasons.replace(str(where), ""))


def test_a_warning_is_shown_from_the_first_call_that_fails(plans: Mounted, sandbox: SandboxHandle) -> None:
    """While it is still tried again, and nobody has given up; and no longer than it lasts."""
    assert plans.status()["warning"] is None
    sandbox.faults(rules=[{"kind": "error", "status": 502, "route": "GET /rest/*/documents"}])
    with ThreadOf(lambda: list(plans.path.iterdir())) as listing:
        wait_until(lambda: plans.status()["warning"] is not None, "the warning to be shown")
        assert (
            "trying again"
            in shown(plans, "warning", r"since \d\d:\d\d:\d\d: could not list the documents ")[0]
        )
        sandbox.faults(clear=True)
        wait_until(lambda: plans.status()["warning"] is None, "the warning to be over")
        listing.result()


def test_a_warning_about_changes_is_shown_between_their_tries(plans: Mounted, sandbox: SandboxHandle) -> None:
    sandbox.faults(rules=[{"kind": "drop", "route": "POST *"}])
    (plans.path / "new.txt").write_text("new")
    wait_until(lambda: plans.status()["warning"] is not None, "the warning to be shown")
    sandbox.faults(clear=True)
    assert plans.home.procorefs("sync", plans.path).returncode == 0
    assert plans.status()["warning"] is None


def test_what_waits_for_something_refused_says_so_and_takes_it_along(
    plans: Mounted, sandbox: SandboxHandle
) -> None:
    plans.expect_warning("was refused")
    rule = {"route": "POST /rest/v1.0/folders", "count": 1}
    sandbox.faults(rules=[{"kind": "silence", **rule}, {"kind": "error", "status": 422, **rule}])
    (plans.path / "Plans/new").mkdir()
    sandbox.wait_for_silent_calls()
    (plans.path / "Plans/new/a.txt").write_text("a")
    sandbox.release()
    wait_until(lambda: plans.status()["outbox"]["failed"] == 2, "the refusal")
    assert "Plans/new/a.txt: it waits for Plans/new, which was refused" in shown(plans, "failed")
    assert plans.home.procorefs("retry", plans.path / "Plans/new/a.txt").returncode == 0
    assert plans.home.procorefs("sync", plans.path).returncode == 0
    assert "/Plans/new/a.txt" in sandbox.inventory()["files"]
