"""The control socket: one question, one answer, and every way it can fail."""

import math
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from procorefs.config import Failure
from procorefs.journal.states import ChangeState
from procorefs.service.control_socket import (
    ControlError,
    NoAnswer,
    NotListening,
    Remaining,
    Request,
    StatusRequest,
    StopRequest,
    SyncRequest,
    ask,
    serve,
)
from procorefs.service.status import MountStatus, Named
from procorefs.upload.items import Item
from tests.support.other_user import PYTHON, needs_other_user

STATUS = MountStatus(mountpoint="/mnt", project=Named(1, "Tower"), company=Named(2))


async def answer(request: Request) -> object:
    if isinstance(request, StopRequest):
        raise Failure("not now")
    return STATUS


async def asked(path: Path, request: Request, expect: type[object] = MountStatus) -> object:
    return await trio.to_thread.run_sync(lambda: ask(path, request, expect, timeout_s=5))


@pytest.mark.parametrize("length", [20, 150])
async def test_question_and_answer_whatever_the_length_of_the_path(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("d" * length) / "control.sock"
    path.parent.mkdir()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, answer, task_status=task_status))
        assert path.stat().st_mode & 0o777 == 0o600
        assert await asked(path, StatusRequest()) == STATUS
        with pytest.raises(ControlError, match="not now"):
            await asked(path, StopRequest())
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NotListening):
        await asked(path, StatusRequest())
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, answer, task_status=task_status))
        assert await asked(path, StatusRequest()) == STATUS
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"version": 99, "request": {"ask": "juggle"}}\n', "speaks version 2 and not 99"),
        (b'{"version": 2, "request": {"ask": "juggle"}}\n', "not understood"),
        (b"hello\n", "not understood"),
        (b'{"version": 2', "not understood"),
    ],
)
async def test_a_wrong_question_is_told_so(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, answer, task_status=task_status))
        stream = await trio.open_unix_socket(os.fspath(path))
        async with stream:
            await stream.send_all(line)
            stream.socket.shutdown(socket.SHUT_WR)
            reply = msgspec.json.decode(await stream.receive_some())
        assert says in reply["error"]
        nursery.cancel_scope.cancel()


async def test_a_failing_handler_does_not_end_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> object:
        raise ZeroDivisionError("inside")

    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, broken, task_status=task_status))
        for _ in range(2):
            with pytest.raises(ControlError, match="see its log"):
                await asked(path, StatusRequest())
        nursery.cancel_scope.cancel()
    assert "ZeroDivisionError" in caplog.text


async def test_whoever_hangs_up_ends_the_work_on_the_answer(tmp_path: Path) -> None:
    began, ended = trio.Event(), trio.Event()

    async def wait_for_ever(request: Request) -> object:
        assert request == SyncRequest(("a",))
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, wait_for_ever, task_status=task_status))
        async with await trio.open_unix_socket(os.fspath(path)) as stream:
            await stream.send_all(b'{"version": 2, "request": {"ask": "sync", "paths": ["a"]}}\n')
            with trio.fail_after(5):
                await began.wait()
        with trio.fail_after(5):
            await ended.wait()
        with pytest.raises(NoAnswer):
            await trio.to_thread.run_sync(lambda: ask(path, SyncRequest(("a",)), Remaining, timeout_s=0.05))
        nursery.cancel_scope.cancel()


async def test_an_answer_may_take_its_time(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    go = trio.Event()

    async def later(request: Request) -> object:
        await go.wait()
        return Remaining([Item("a", ChangeState.FAILED, "no")], 1)

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, later, task_status=task_status))
        answer: list[Remaining] = []

        async def wait() -> None:
            answer.append(
                await trio.to_thread.run_sync(
                    lambda: ask(path, SyncRequest(("",)), Remaining, timeout_s=math.inf)
                )
            )
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not answer
        go.set()
    assert answer == [Remaining([Item("a", ChangeState.FAILED, "no")], 1)]


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotListening):
        ask(tmp_path / "none.sock", StatusRequest(), MountStatus)


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(NoAnswer, match=r"does not answer within 0\.05 seconds"):
            ask(tmp_path / "s", StatusRequest(), MountStatus, timeout_s=0.05)


def test_a_daemon_that_hangs_up_or_talks_nonsense(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def speak(words: bytes) -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(words)

        for words, error in ((b"", NotListening), (b"what?\n", ControlError)):
            thread = threading.Thread(target=speak, args=(words,))
            thread.start()
            with pytest.raises(error):
                ask(tmp_path / "s", StatusRequest(), MountStatus)
            thread.join()


AS_ANOTHER_USER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.settimeout(30)
    try:
        client.sendall(b'{"version":2,"request":{"ask":"status"}}\\n')
        print(client.recv(1 << 16))
    except (BrokenPipeError, ConnectionResetError):
        print(b"")
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_other_user
async def test_a_daemon_answers_its_own_user_alone(public: Path) -> None:
    """Even where the folder of the socket lets others in."""
    path = public / "control.sock"
    words = [str(PYTHON), "-c", AS_ANOTHER_USER, str(path)]
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, answer, task_status=task_status))
        await trio.Path(path).chmod(0o666)
        said = await trio.run_process(words, capture_stdout=True, user=65534, group=65534, cwd="/")
        assert said.stdout == b"b''\n"
        assert await asked(path, StatusRequest()) == STATUS
        nursery.cancel_scope.cancel()


async def test_a_command_asks_its_own_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(path, answer, task_status=task_status))
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        with pytest.raises(NotListening, match="another user"):
            await asked(path, StatusRequest())
        nursery.cancel_scope.cancel()
