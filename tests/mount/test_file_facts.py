"""What the daemon tells file managers about files, over its socket and without a call."""

import os
from collections.abc import Callable
from pathlib import Path

from procorefs.journal.states import ChangeState
from procorefs.service.control_socket import FilesRequest, ask
from procorefs.service.file_facts import MOST_FILES, FileFacts, FilesAnswer
from tests.support.mounting import Home, Mounted, list_all, make_unlisted
from tests.support.sandbox import SandboxHandle


def facts(home: Home, *paths: str) -> list[FileFacts | None]:
    (place,) = (Path(home.environment["XDG_RUNTIME_DIR"]) / "procorefs").glob("*.sock")
    return ask(place, FilesRequest(paths), FilesAnswer).files


def test_files_are_told_with_state_reason_and_holder(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    make_unlisted(sandbox)
    sandbox.act("create_folder", path="/plans")
    sandbox.act("put", path="/plans/held.txt", text="x")
    sandbox.act("check_out", path="/plans/held.txt")
    mounted = mount(sandbox, "write_back=1h")
    list_all(mounted.path)
    (mounted.path / "plans" / "new é.txt").write_text("y")
    assert (mounted.path / "plans" / "held.txt").exists()
    sandbox.reset_calls()
    plans, held, new, missing, root = facts(
        home, "plans", "plans/held.txt", "plans/new é.txt", "plans/none", ""
    )
    assert sandbox.calls()["total"] == 0
    assert plans == FileFacts(ChangeState.CLEAN, in_procore=True)
    assert root == plans
    assert held is not None
    assert held.holder
    assert held.in_procore
    assert new is not None
    assert (new.state, new.in_procore) == ("pending", False)
    assert missing is None
    (place,) = (Path(home.environment["XDG_RUNTIME_DIR"]) / "procorefs").glob("*.sock")
    answer = ask(place, FilesRequest((), "plans"), FilesAnswer)
    assert answer.entries == {"held.txt": held, "new é.txt": new}
    assert sandbox.calls()["total"] == 0


def test_a_name_that_is_no_utf_8_and_too_many_paths_are_answered(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    mounted = mount(sandbox)
    assert os.path.ismount(mounted.path)
    assert facts(home, "no\\such", "../..", "/", *["x"] * MOST_FILES)[:2] == [None, None]
    assert len(facts(home, *["x"] * (MOST_FILES + 5))) == MOST_FILES
