"""The sandbox's login server: three grants, pages, refresh tokens that work once, revoking."""

import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.sandbox import SandboxHandle, plain

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
REDIRECT = "http://127.0.0.1:9/callback"


def _client(sandbox: SandboxHandle) -> dict[str, str]:
    return {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}


def _token(sandbox: SandboxHandle, **form: str) -> httpx.Response:
    return plain("POST", f"{sandbox.login_url}/oauth/token", data={**_client(sandbox), **form})


def _authorize(sandbox: SandboxHandle, redirect_uri: str) -> httpx.Response:
    """Open the page and press the button of the first person."""
    asked = {
        "response_type": "code",
        "client_id": sandbox.client_id,
        "redirect_uri": redirect_uri,
        "state": "a b",
    }
    page = plain("GET", f"{sandbox.login_url}/oauth/authorize", params=asked)
    assert page.status_code == 200
    users = re.findall(r'name="user_id" value="(\d+)"', page.text)
    return plain("POST", f"{sandbox.login_url}/oauth/authorize", data={**asked, "user_id": users[0]})


def _code(sandbox: SandboxHandle) -> str:
    page = _authorize(sandbox, OUT_OF_BAND)
    match = re.search(r'<code id="code">(\w+)</code>', page.text)
    assert match is not None
    return match[1]


def _granted(sandbox: SandboxHandle) -> dict[str, str]:
    answer = _token(sandbox, grant_type="authorization_code", code=_code(sandbox), redirect_uri=OUT_OF_BAND)
    assert answer.status_code == 200
    found: dict[str, str] = answer.json()
    return found


def _me(sandbox: SandboxHandle, token: str) -> int:
    return plain(
        "GET", f"{sandbox.url}/rest/v1.0/me", headers={"Authorization": f"Bearer {token}"}
    ).status_code


def test_client_credentials_have_no_refresh_token(sandbox: SandboxHandle) -> None:
    answer = _token(sandbox, grant_type="client_credentials")
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 5400
    assert "refresh_token" not in answer.json()
    assert _me(sandbox, answer.json()["access_token"]) == 200


def test_wrong_secret_is_refused(sandbox: SandboxHandle) -> None:
    answer = _token(sandbox, grant_type="client_credentials", client_secret="wrong")
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"


def test_redirect_carries_code_and_state(sandbox: SandboxHandle) -> None:
    answer = _authorize(sandbox, REDIRECT)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    assert target.geturl().startswith(REDIRECT)
    given = parse_qs(target.query)
    assert given["state"] == ["a b"]
    done = _token(sandbox, grant_type="authorization_code", code=given["code"][0], redirect_uri=REDIRECT)
    assert done.status_code == 200


def test_code_works_once_and_for_its_redirect_uri_only(sandbox: SandboxHandle) -> None:
    code = _code(sandbox)
    form = {"grant_type": "authorization_code", "code": code}
    assert _token(sandbox, **form, redirect_uri=REDIRECT).status_code == 400
    assert _token(sandbox, **form, redirect_uri=OUT_OF_BAND).status_code == 200
    assert _token(sandbox, **form, redirect_uri=OUT_OF_BAND).status_code == 400


def test_code_lives_ten_minutes(sandbox: SandboxHandle) -> None:
    code = _code(sandbox)
    sandbox.faults(clock_shift_s=601)
    answer = _token(sandbox, grant_type="authorization_code", code=code, redirect_uri=OUT_OF_BAND)
    assert answer.status_code == 400


def test_refresh_token_works_once(sandbox: SandboxHandle) -> None:
    first = _granted(sandbox)
    second = _token(sandbox, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    assert _me(sandbox, second.json()["access_token"]) == 200
    again = _token(sandbox, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert again.status_code == 400
    assert again.json()["error"] == "invalid_grant"


def test_refresh_whose_answer_was_lost_spent_the_token(sandbox: SandboxHandle) -> None:
    first = _granted(sandbox)
    sandbox.faults(rules=[{"kind": "drop", "route": "POST /oauth/token", "when": "after", "count": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        _token(sandbox, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (
        _token(sandbox, grant_type="refresh_token", refresh_token=first["refresh_token"]).status_code == 400
    )


def test_revoke_kills_access_and_refresh_token(sandbox: SandboxHandle) -> None:
    granted = _granted(sandbox)
    form = {**_client(sandbox), "token": granted["access_token"]}
    assert plain("POST", f"{sandbox.login_url}/oauth/revoke", data=form).status_code == 200
    assert _me(sandbox, granted["access_token"]) == 401
    assert (
        _token(sandbox, grant_type="refresh_token", refresh_token=granted["refresh_token"]).status_code == 400
    )
    unknown = plain("POST", f"{sandbox.login_url}/oauth/revoke", data={**form, "token": "nobody"})
    assert unknown.status_code == 200


def test_info_describes_the_token(sandbox: SandboxHandle) -> None:
    bearer = {"Authorization": f"Bearer {sandbox.token()}"}
    info = plain("GET", f"{sandbox.login_url}/oauth/token/info", headers=bearer)
    assert info.json()["application"]["uid"] == sandbox.client_id
    assert 5300 < info.json()["expires_in_seconds"] <= 5400
    assert (
        plain(
            "GET", f"{sandbox.login_url}/oauth/token/info", headers={"Authorization": "Bearer x"}
        ).status_code
        == 401
    )


def test_expired_token_is_a_401_with_rate_headers(sandbox: SandboxHandle) -> None:
    token = sandbox.token()
    sandbox.faults(expire_tokens=True)
    assert _me(sandbox, token) == 401


def test_unknown_form_field_and_grant_are_refused(sandbox: SandboxHandle) -> None:
    assert _token(sandbox, grant_type="client_credentials", scope="all").status_code == 400
    assert _token(sandbox, grant_type="password").status_code == 400
    assert any("unknown form field scope" in violation for violation in sandbox.violations())
    sandbox.forget_violations()
