"""Whose process is at the other end of a connection over loopback."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from procorefs.cli.support.local_peers import is_own_user, user_at
from tests.support.other_user import OTHER_UID, answer_to_other, needs_other_user


@pytest.fixture(params=["127.0.0.1", "::1", "mapped"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection; "mapped": the client has a socket of IPv6 for IPv4."""
    host, family = request.param, socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server(("127.0.0.1" if host == "mapped" else host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.socket(socket.AF_INET if host == "127.0.0.1" else socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1" if host == "mapped" else host, port))
            server, _ = listener.accept()
            with server:
                yield server, client


def addresses(server: socket.socket) -> tuple[tuple[str, int], tuple[str, int]]:
    """The peer and the own address."""
    return server.getpeername()[:2], server.getsockname()[:2]


def test_a_process_of_this_user_is_found(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    assert user_at(*addresses(server)) == os.geteuid()
    assert is_own_user(*addresses(server), {})


def test_a_connection_that_its_client_has_closed_is_nobodys(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The kernel shows root as its owner."""
    server, client = pair
    client.close()
    assert user_at(*addresses(server)) is None
    assert not is_own_user(*addresses(server), {})


def user_seen(environment: dict[str, str]) -> bool:
    """What is said about a request of another user."""
    found: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            server, _ = listener.accept()
            with server:
                server.recv(10)
                assert user_at(*addresses(server)) == OTHER_UID
                found.append(is_own_user(*addresses(server), environment))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        answer_to_other("127.0.0.1", listener.getsockname()[1], b"hello")
        thread.join()
    return found[0]


@needs_other_user
@pytest.mark.parametrize("caller", ["", "0", "x", "65532", "9" * 5000])
def test_another_user_is_seen(caller: str) -> None:
    assert not user_seen({"SUDO_UID": caller})


@needs_other_user
def test_the_user_who_called_sudo_has_the_browser() -> None:
    assert user_seen({"SUDO_UID": str(OTHER_UID)})
