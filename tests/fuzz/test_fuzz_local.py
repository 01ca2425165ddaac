"""What other programs of this user may send or leave: control socket, registry, lock owner, tokens, /proc."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from procorefs.cli.mounts import registry
from procorefs.config.paths import Paths
from procorefs.kernel.bridge.callers import is_thumbnailer, is_told_to_stop
from procorefs.procore.auth.token_store import FileStore
from procorefs.service.control_socket import ControlError, Request, StatusRequest, ask, serve
from procorefs.service.state_lock import AlreadyMounted, locked_state
from tests.support.fuzzing import DEEP, JSON, bounded, damaged, fuzz, json_bytes, objects

QUESTION = st.sampled_from(
    [b'{"version":2,"request":{"ask":"status"}}', b'{"version":2,"request":{"ask":"sync","paths":[""]}}']
)
LINES = st.one_of(
    QUESTION,
    damaged(QUESTION),
    objects(["version", "request", "ask", "paths"]).map(json_bytes),
    st.sampled_from(DEEP),
    st.binary(max_size=60),
)


async def nothing(_request: Request) -> object:
    return None


async def answer_to(path: Path, line: bytes) -> bytes:
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(line + b"\n")
        received = b""
        while piece := await stream.receive_some():
            received += piece
    return received


@fuzz
@given(LINES)
async def test_every_line_gets_an_answer_and_the_daemon_goes_on(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "socket"
    with bounded():
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: serve(path, nothing, task_status=task_status))
            answer = await answer_to(path, line)
            assert b"version" in answer
            assert b"result" in await answer_to(path, b'{"version":2,"request":{"ask":"status"}}')
            nursery.cancel_scope.cancel()


ANSWERS = st.one_of(
    objects(["version", "result", "error"]).map(json_bytes), st.sampled_from(DEEP), st.binary(max_size=60)
)


@fuzz
@given(ANSWERS)
def test_a_command_understands_an_answer_or_says_that_it_does_not(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "socket"
    path.unlink(missing_ok=True)

    def serve_one(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            client.recv(1 << 16)
            client.sendall(line + b"\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve_one, args=(listener,))
        server.start()
        try:
            ask(path, StatusRequest(), dict[str, object], timeout_s=30)
        except ControlError as error:
            assert str(error)
        server.join()


def entry(pid: int) -> bytes:
    return msgspec.json.encode(
        registry.Entry("/m", pid, "x", "source", "https://h", 1, 2, "/log", socket="/etc/passwd")
    )


ENTRIES = st.one_of(
    st.just(entry(1)),
    damaged(st.just(entry(1))),
    objects(list(registry.Entry.__struct_fields__)).map(json_bytes),
    st.sampled_from([entry(pid) for pid in (-1, 0, 2**40, -(2**40))]),
    st.sampled_from(DEEP),
    st.binary(max_size=60),
)


@fuzz
@given(ENTRIES)
def test_any_entry_of_the_registry_is_a_daemon_of_ours_or_none(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    paths = Paths(tmp_path / "c", tmp_path / "cache", tmp_path, folder)
    file = folder / "a.mount"
    file.write_bytes(content)
    file.chmod(0o600)
    for found in registry.running(paths):
        assert found.socket == str(folder / "a.sock")


OWNERS = objects(["mountpoint", "pid", "detached_socket"]).map(json_bytes) | st.binary(max_size=60)


@fuzz
@given(OWNERS | st.sampled_from(DEEP))
def test_a_lock_with_any_content_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    with locked_state(tmp_path, Path("/a")):
        (tmp_path / "owner").write_bytes(content)
        try:
            with locked_state(tmp_path, Path("/b")):
                raise AssertionError("two have the lock")
        except AlreadyMounted as error:
            assert str(error)


TOKENS = objects(["access_token", "expires_at_s", "refresh_token", "lineage", "renewals"]).map(json_bytes)


@fuzz
@given(TOKENS | JSON.map(json_bytes) | st.sampled_from(DEEP) | st.binary(max_size=60))
def test_a_token_file_is_a_token_or_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "k.json"
    file.write_bytes(content)
    file.chmod(0o600)
    token = FileStore(tmp_path, "k").load()
    assert token is None or isinstance(token.access_token, str)


STATUS = b"Name:\t%s\nSigPnd:\t0000000000000002\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000004002\n"
COMMANDS = st.binary(max_size=15).map(lambda name: name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n"))
"""As the kernel shows them: nothing but line feeds and backslashes is escaped."""


@fuzz
@given(COMMANDS, st.lists(st.binary(max_size=20), max_size=3))
@example(b"\rSigPnd:zz", [])
def test_the_name_of_a_program_says_nothing_of_its_signals(name: bytes, arguments: list[bytes]) -> None:
    assert not is_told_to_stop(STATUS % name)
    is_thumbnailer(arguments)
