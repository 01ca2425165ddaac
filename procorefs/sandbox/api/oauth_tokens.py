"""OAuth 2.0: tokens, their refresh, and who a bearer token stands for. (procore-api.md, OAuth 2.0)"""

import base64
import hashlib
import secrets
from typing import Any

from starlette.requests import Request

from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.project.records import Caller
from procorefs.sandbox.state import Sandbox

CODE_LIFETIME_S = 600
OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


class OAuthRefused(Exception):
    """A token request that is not granted; `code` is one of RFC 6749's."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


def caller_of(sandbox: Sandbox, request: Request) -> Caller:
    """Who the bearer token stands for. Raises ApiError 401."""
    row = _token_row(sandbox, request)
    if row is None:
        raise ApiError(401, "Unauthorized")
    return Caller(sandbox.store.user(row["user_id"]), row["client_id"], row["is_service"])


def token_info(sandbox: Sandbox, request: Request) -> dict[str, Any]:
    """The bearer token, described. Raises OAuthRefused."""
    row = _token_row(sandbox, request)
    if row is None:
        raise OAuthRefused("invalid_token", "The access token is unknown, expired or revoked", 401)
    return {
        "resource_owner_id": row["user_id"] if sandbox.dialect.token_owner else None,
        "scopes": [],
        "expires_in_seconds": max(row["expires_at"] - sandbox.clock.now_s(), 0),
        "application": {"uid": row["client_id"]},
        "created_at": row["created_at"],
    }


def client_credentials(sandbox: Sandbox, client_id: str) -> dict[str, Any]:
    user_id = sandbox.store.value("SELECT user_id FROM clients WHERE client_id = ?", (client_id,))
    return _issue(sandbox, client_id, user_id, "client_credentials")


def make_code(sandbox: Sandbox, client_id: str, user_id: int, redirect_uri: str, challenge: str = "") -> str:
    """A code for the page that asked; lives ten minutes, works once. `challenge` is PKCE's; empty: none."""
    code = secrets.token_hex(16)
    row = (code, client_id, user_id, redirect_uri, sandbox.clock.now_s())
    sandbox.store.insert_many("codes", "code, client_id, user_id, redirect_uri, created_at", [row])
    if challenge and sandbox.dialect.checks_code_verifier:
        sandbox.store.insert_many("code_challenges", "code, challenge", [(code, challenge)])
    return code


def exchange_code(
    sandbox: Sandbox, client_id: str, code: str, redirect_uri: str, verifier: str
) -> dict[str, Any]:
    """Raises OAuthRefused: unknown, used, too old, of another client, redirect_uri or verifier."""
    row = sandbox.store.one(
        "SELECT client_id, user_id, redirect_uri, created_at, used FROM codes WHERE code = ?", (code,)
    )
    fresh = row and not row[4] and sandbox.clock.now_s() - row[3] <= CODE_LIFETIME_S
    if not fresh or row[0] != client_id or row[2] != redirect_uri:
        raise OAuthRefused(
            "invalid_grant", "The code is invalid, expired, used, or was made for another redirect_uri"
        )
    if not _is_verified(sandbox, code, verifier):
        raise OAuthRefused("invalid_grant", "The code_verifier does not match the code_challenge")
    sandbox.store.execute("UPDATE codes SET used = 1 WHERE code = ?", (code,))
    return _issue(sandbox, client_id, row[1], "authorization_code")


def _is_verified(sandbox: Sandbox, code: str, verifier: str) -> bool:
    challenge = sandbox.store.value("SELECT challenge FROM code_challenges WHERE code = ?", (code,))
    if challenge is None:
        return not verifier or not sandbox.dialect.checks_code_verifier
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == str(challenge)


def refresh(sandbox: Sandbox, client_id: str, refresh_token: str) -> dict[str, Any]:
    """A new pair; the old refresh token is dead from here on. Raises OAuthRefused."""
    row = sandbox.store.one(
        "SELECT client_id, user_id, refreshed, revoked FROM tokens WHERE refresh_token = ?", (refresh_token,)
    )
    if row is None or row[0] != client_id or row[2] or row[3]:
        raise OAuthRefused("invalid_grant", "The refresh token is invalid, revoked, or was used before")
    sandbox.store.execute("UPDATE tokens SET refreshed = 1 WHERE refresh_token = ?", (refresh_token,))
    return _issue(sandbox, client_id, row[1], "refresh_token")


def revoke(sandbox: Sandbox, client_id: str, token: str) -> None:
    """End an access token and its refresh token; a token nobody knows is fine."""
    sandbox.store.execute(
        "UPDATE tokens SET revoked = 1 WHERE (access_token = ?1 OR refresh_token = ?1) AND client_id = ?2",
        (token, client_id),
    )


def expire_access_tokens(sandbox: Sandbox) -> None:
    """All access tokens given out so far are too old from now on."""
    sandbox.store.execute("UPDATE tokens SET expires_at = ?", (sandbox.clock.now_s() - 1,))


def check_client(sandbox: Sandbox, client_id: str, client_secret: str) -> None:
    """Raises OAuthRefused 401."""
    known = sandbox.store.value("SELECT client_secret FROM clients WHERE client_id = ?", (client_id,))
    if known is None or not secrets.compare_digest(known.encode(), client_secret.encode()):
        raise OAuthRefused("invalid_client", "The client is unknown or its secret is wrong", 401)


def _token_row(sandbox: Sandbox, request: Request) -> dict[str, Any] | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    row = sandbox.store.one(
        "SELECT client_id, user_id, created_at, expires_at, revoked, grant_type FROM tokens WHERE access_token = ?",
        (token,),
    )
    if row is None or row[4] or row[3] <= sandbox.clock.now_s():
        return None
    is_service = row[5] == "client_credentials"
    return {
        "client_id": row[0],
        "user_id": row[1],
        "created_at": row[2],
        "expires_at": row[3],
        "is_service": is_service,
    }


def _issue(sandbox: Sandbox, client_id: str, user_id: int, grant_type: str) -> dict[str, Any]:
    lifetime_s, now_s = sandbox.faults.settings.token_lifetime_s, sandbox.clock.now_s()
    access_token = secrets.token_hex(32)
    refresh_token = None if grant_type == "client_credentials" else secrets.token_hex(32)
    row = (access_token, refresh_token, client_id, user_id, grant_type, now_s, now_s + lifetime_s)
    columns = "access_token, refresh_token, client_id, user_id, grant_type, created_at, expires_at"
    sandbox.store.insert_many("tokens", columns, [row])
    answer = {
        "access_token": access_token,
        "token_type": "bearer",
        "expires_in": lifetime_s,
        "created_at": now_s,
    }
    return answer if refresh_token is None else {**answer, "refresh_token": refresh_token}
