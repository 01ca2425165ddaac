"""Defines a token, the names of its login, and the interface of the stores that keep it."""

import hashlib
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from procorefs.procore.settings import ApiSettings


class Token(msgspec.Struct, frozen=True):
    """A token of the login service; the secrets are in no repr."""

    access_token: str
    expires_at_s: float
    """Unix seconds by this machine's clock."""
    refresh_token: str | None = None
    """Works once."""
    lineage: str = ""
    """The login that it goes back to, the same over all renewals."""
    renewals: int = 0
    """Since that login."""

    def __repr__(self) -> str:
        return f"Token(expires_at_s={self.expires_at_s})"

    def __rich_repr__(self) -> list[tuple[str, float]]:
        return [("expires_at_s", self.expires_at_s)]


class TokenStore(Protocol):
    """Keeps the token of one login. All but `locked` may block: call them in a thread."""

    def load(self) -> Token | None:
        """The stored token; None when there is none or it cannot be understood."""

    def save(self, token: Token) -> None:
        """Replace the stored token, durably. Raises OSError."""

    def check_writable(self) -> None:
        """Raises OSError when `save` would: asked before a refresh token is spent."""

    def delete(self) -> None:
        """Forget the token; nothing happens when there is none."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """While inside, no other task or process renews this token."""


def lineage_of(token: Token) -> str:
    """Names the login that a token goes back to; a token without a name is the first that has one."""
    return token.lineage or hashlib.sha256((token.refresh_token or "").encode()).hexdigest()[:32]


def login_key(settings: ApiSettings) -> str:
    """Names one login: host, client, account and secret, so that a changed secret never meets an old token."""
    parts = (
        settings.login_url.rstrip("/"),
        settings.client_id,
        settings.account,
        settings.grant.value,
        hashlib.sha256(settings.client_secret.encode()).hexdigest(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
