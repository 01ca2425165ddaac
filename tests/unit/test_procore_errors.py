"""HTTP answers and network failures become our exceptions, with one sentence each."""

import json

import httpx
import pytest

from procorefs.procore import errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.NotAuthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (406, errors.Invalid),
        (408, errors.Unavailable),
        (409, errors.Conflict),
        (410, errors.Gone),
        (413, errors.Invalid),
        (422, errors.Invalid),
        (423, errors.Conflict),
        (425, errors.Unavailable),
        (429, errors.RateLimited),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
        (599, errors.Unavailable),
        (302, errors.Malformed),
        (204, errors.Malformed),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[errors.ProcoreError]) -> None:
    error = errors.error_of_answer("read it", status, b"")
    assert type(error) is kind
    assert error.status == status
    assert str(error).startswith("Could not read it: ")
    assert error.passing == (status in (408, 425, 429) or status >= 500)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 422, 451])
@pytest.mark.parametrize("body", [b"<html>no route</html>", b"no healthy upstream"])
def test_what_does_not_speak_as_the_api_does_passes(status: int, body: bytes) -> None:
    """A gateway, a proxy or a hotel's network has refused the call, and Procore has heard nothing of it."""
    error = errors.error_of_api("make the folder", status, body)
    assert type(error) is errors.NotFromApi
    assert error.passing
    assert str(error).startswith("Could not make the folder: ")
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("status", [404, 405, 413])
def test_gateways_may_refuse_without_a_word(status: int) -> None:
    assert errors.error_of_api("make the folder", status, b"").passing


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 413, 422])
def test_what_the_api_says_itself_is_not_passing(status: int) -> None:
    assert not errors.error_of_api("make the folder", status, b'{"errors": "no"}').passing


@pytest.mark.parametrize("status", [406, 408, 413])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"errors": "no"}'])
def test_only_a_list_is_too_large(status: int, body: bytes) -> None:
    error = errors.error_of_api("list the folder", status, body, is_list=True)
    assert type(error) is errors.TooLarge
    other = errors.error_of_api("make the folder", status, body)
    assert type(other) is not errors.TooLarge
    assert "list" not in str(other)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": "no way"}, "no way"),
        ({"errors": ["one", "two"]}, "one; two"),
        ({"errors": {"name": ["is bad", "is long"], "base": ["taken"]}}, "name is bad, is long; taken"),
        ({"message": "gone"}, "gone"),
        ({"error": {"code": "X", "message": "broken", "details": [{"message": "here"}]}}, "broken; here"),
        ({"error": {"code": "X"}}, "X"),
        (
            {"error": {"message": "bad", "details": [{"message": "is bad", "source": "name"}]}},
            "bad; name is bad",
        ),
        ({"error": "invalid_grant", "error_description": "revoked"}, "revoked"),
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"errors": None, "error": 5, "message": []}, ""),
        ({"errors": "a\x1b[31m\nb" + "c" * 999}, "a [31m b" + "c" * 291 + "…"),
        ([], ""),
        (7, ""),
    ],
)
def test_all_error_bodies_are_understood(body: object, words: str) -> None:
    assert errors.server_message(body) == words


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_an_error_body_that_is_no_json_leaves_the_status(body: bytes) -> None:
    assert "HTTP 502" in str(errors.error_of_answer("read it", 502, body))


def test_a_conflict_keeps_the_answer() -> None:
    body = json.dumps({"errors": {"base": ["checked out"]}, "file": {"id": 7}}).encode()
    error = errors.error_of_answer("change it", 409, body)
    assert isinstance(error.answer, dict)
    assert error.answer["file"] == {"id": 7}


def test_network_failures_say_which_host_and_why() -> None:
    refused = httpx.ConnectError("All connection attempts failed")
    refused.__cause__ = ConnectionRefusedError(111, "Connection refused")
    error = errors.error_of_network("read it", refused, "host")
    assert str(error) == "Could not read it: host cannot be reached (Connection refused)"
    assert error.passing
    assert isinstance(errors.error_of_network("read it", httpx.ReadTimeout(""), "host"), errors.Silent)


@pytest.mark.parametrize(
    ("failure", "nothing_was_sent"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ConnectTimeout("x"), True),
        (httpx.ProxyError("x"), True),
        (httpx.ReadError("x"), False),
        (httpx.WriteError("x"), False),
        (httpx.RemoteProtocolError("x"), False),
        (httpx.ReadTimeout("x"), False),
        (httpx.WriteTimeout("x"), False),
    ],
)
def test_only_without_a_connection_nothing_was_sent(failure: Exception, nothing_was_sent: bool) -> None:
    error = errors.error_of_network("change it", failure, "host")
    assert isinstance(error, errors.Unreachable) == nothing_was_sent
    assert isinstance(error, errors.Unavailable)


def test_a_refused_login_is_not_passing_and_a_broken_service_is() -> None:
    refused = errors.error_of_login("log in", 401, b'{"error": "invalid_client"}')
    assert isinstance(refused, errors.LoginRefused)
    assert "invalid_client" in str(refused)
    assert errors.error_of_login("log in", 502, b"").passing
    assert errors.error_of_login("log in", 404, b'{"errors": "not found"}').passing  # of no document
