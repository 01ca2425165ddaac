"""The extension of the file managers, without a file manager: what it shows, and that it waits for nobody."""

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from procorefs.cli.desktop.files import procorefs_extension as extension
from procorefs.service.control_socket import VERSION
from procorefs.service.file_facts import FileFacts

CLEAN: dict[str, Any] = {"state": "clean", "reason": "", "holder": "", "read_only": False, "in_procore": True}
END_S = 10.0


def keys(choices: tuple[extension.Choice, ...]) -> list[str]:
    return [choice.key for choice in choices]


def test_it_speaks_the_daemons_language() -> None:
    assert extension.VERSION == VERSION
    assert set(CLEAN) == set(FileFacts.__struct_fields__)


@pytest.mark.parametrize(
    ("facts", "emblem", "text"),
    [
        ({}, None, ""),
        ({"state": "pending"}, "procorefs-waiting", "waiting"),
        ({"state": "uploading"}, "procorefs-waiting", "uploading"),
        ({"state": "failed", "reason": "no space"}, "procorefs-failed", "failed: no space"),
        ({"holder": "Robin"}, "procorefs-locked", "locked by Robin"),
        ({"read_only": True}, "procorefs-readonly", "read-only"),
        (
            {"state": "checked_out", "reason": "Robin has it", "holder": "Robin"},
            "procorefs-locked",
            "waiting: Robin has it, locked by Robin",
        ),
        ({"state": "local"}, None, "stays here"),
    ],
)
def test_each_state_has_its_emblem_and_text(facts: dict[str, Any], emblem: str | None, text: str) -> None:
    assert extension.emblem_of(CLEAN | facts) == emblem
    assert extension.text_of(CLEAN | facts) == text


def test_the_menu_offers_what_is_possible() -> None:
    page = "https://app.procore.com/1/project/documents"
    assert keys(extension.menu_of([CLEAN], page)) == ["page", "link", "versions", "check-out", "check-in"]
    assert keys(extension.menu_of([CLEAN | {"holder": "Robin"}], "")) == ["versions"]
    assert keys(extension.menu_of([CLEAN, CLEAN], "")) == []
    assert keys(extension.menu_of([CLEAN, CLEAN | {"state": "failed"}], "")) == ["retry", "sure"]
    assert keys(extension.menu_of([], "")) == []


def test_throwing_a_change_away_needs_a_second_choice() -> None:
    (sure,) = [one for one in extension.menu_of([CLEAN | {"state": "failed"}], "") if one.key == "sure"]
    assert keys(sure.choices) == ["discard"]


def test_addresses_and_paths() -> None:
    assert extension.path_of("file:///a/b%20%C3%A9%FF") == "/a/b é\udcff"
    assert extension.path_of("sftp://host/a") is None
    place = extension.Place("/mnt/my project", "", "Plans/a #1.pdf")
    assert extension.versions_uri(place) == ("file:///mnt/my%20project/.procore/versions/Plans/a%20%231.pdf")


class Daemon:
    """A socket that answers once it may."""

    def __init__(self, listener: socket.socket) -> None:
        self.asked: list[list[str]] = []
        self.may_answer = threading.Event()
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                request = json.loads(client.makefile().readline())["request"]
                self.asked.append(request["paths"])
                self.may_answer.wait(END_S)
                assert request["folder"] == os.path.dirname(request["paths"][0])
                entries = {f"{number}.txt": CLEAN for number in range(50)}
                answer = {"files": [CLEAN], "entries": entries, "page": "https://page"}
                with suppress(BrokenPipeError):  # the extension waits no longer
                    client.sendall(json.dumps({"version": 2, "result": answer}).encode() + b"\n")


@contextmanager
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    runtime = tmp_path / "run" / "procorefs"
    runtime.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (runtime / "damaged.mount").write_text("{")
    (runtime / "a.mount").write_text(json.dumps({"mountpoint": str(tmp_path / "mnt")}))
    (tmp_path / "mnt" / "folder").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(runtime / "a.sock"))
        listener.listen()
        yield Daemon(listener)
        listener.shutdown(socket.SHUT_RDWR)


class Loop:
    """The file manager's loop: calls what was registered when a socket is ready, or time has passed."""

    def __init__(self) -> None:
        self.watched: list[tuple[extension.Question, Callable[[], bool], Callable[[], None]]] = []

    def watch(
        self, question: extension.Question, ready: Callable[[], bool], late: Callable[[], None]
    ) -> None:
        self.watched.append((question, ready, late))

    def run(self) -> None:
        """Until all questions are answered."""
        while self.watched:
            question, ready, _ = self.watched[0]
            assert select.select([question], [], [], END_S)[0]
            if not ready():
                self.watched.pop(0)


def test_one_question_is_about_a_whole_folder_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(tmp_path, monkeypatch) as daemon:
        loop, done = Loop(), list[str]()
        known = extension.Known(loop.watch)
        paths = [f"{tmp_path}/mnt/folder/{number}.txt" for number in range(50)]
        place = known.mounts.find(paths[0])
        assert place is not None
        assert place.below == "folder/0.txt"
        assert known.mounts.find(str(tmp_path / "elsewhere")) is None
        known.ask_about(paths[0], place, lambda: done.append("first"))
        known.ask_about(paths[1], place, lambda: done.append("second"))
        assert known.fresh(paths[0]) == (False, None)  # asked, and no answer yet
        assert done == []
        daemon.may_answer.set()
        loop.run()
        assert done == ["first", "second"]
        assert all(known.fresh(path) == (True, CLEAN) for path in paths)
        assert daemon.asked == [["folder/0.txt"]]
        assert known.page(place) == "https://page"


def test_a_daemon_that_does_not_answer_leaves_files_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(tmp_path, monkeypatch) as daemon:
        loop, done = Loop(), list[str]()
        known = extension.Known(loop.watch)
        path = f"{tmp_path}/mnt/folder"
        place = known.mounts.find(path)
        assert place is not None
        known.ask_about(path, place, lambda: done.append("late"))
        ((_, _, late),) = loop.watched
        late()
        assert done == ["late"]
        assert known.fresh(path) == (True, None)
        daemon.may_answer.set()


def test_a_daemon_that_has_gone_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    known = extension.Known(Loop().watch)
    place = extension.Place(str(tmp_path), str(tmp_path / "gone.sock"), "a\udcff.txt")
    known.ask_about(str(tmp_path / "a\udcff.txt"), place, lambda: done.append("gone"))
    assert done == ["gone"]


def test_a_file_that_is_shown_often_has_one_timer() -> None:
    timers: list[Callable[[], bool]] = []
    renewed: list[str] = []
    renewals = extension.Renewals(timers.append)
    for uri in ("file:///a", "file:///b", "file:///a"):
        renewals.later(uri, lambda uri=uri: renewed.append(uri))  # type: ignore[misc]
    assert len(timers) == 2
    assert [expired() for expired in timers] == [False, False]
    assert renewed == ["file:///a", "file:///b"]
    renewals.later("file:///a", list)
    assert len(timers) == 3
