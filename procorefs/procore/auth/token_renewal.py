"""Gets and renews access tokens, by client credentials or an authorization code; one task or process at a time.

A refresh token works once, and the old one is dead even if the answer was lost: so a renewal holds the lock of the
store, first checks for a token that another process has stored, cannot be cancelled half-way, and the new token is on
disk before it is used (docs/procore-api.md, OAuth 2.0).
"""

import base64
import hashlib
import logging
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlencode

import msgspec
import trio

from procorefs.procore.auth.tokens import Token, TokenStore, lineage_of
from procorefs.procore.errors import LoginRefused, Malformed, ProcoreError, Silent, error_of_login
from procorefs.procore.http.addresses import acceptable_url
from procorefs.procore.http.connectivity import Connectivity
from procorefs.procore.http.http_client import Http
from procorefs.procore.http.retry_policy import RetryPolicy
from procorefs.procore.settings import ApiSettings, Grant
from procorefs.procore.wire.models import UserId
from procorefs.storage import clocks
from procorefs.storage.failures import UNDECODABLE

log = logging.getLogger(__name__)

USUAL_LIFE_S = 5400.0
"""The life of a token whose answer does not say it."""

LONGEST_LIFE_S = 366 * 86400.0
"""A token is renewed after this time, whatever its answer says."""

EXCHANGE_S = 15.0
"""An exchange is not cancelled half-way, but ends after this time."""

RENEW_EARLY_S = 60.0
"""A token is not used this long before its end, or a tenth of its life if that is less."""


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class _TokenInfo(msgspec.Struct):
    resource_owner_id: int | None = None


class Auth:
    """The account's token: `token` before a call, `renew` after a 401."""

    def __init__(self, settings: ApiSettings, http: Http, store: TokenStore) -> None:
        self._settings = settings
        self._http = http
        self._store = store
        self._token: Token | None = None
        self.connectivity = Connectivity()
        """Of all calls of the account, its logins among them."""
        self.refusal = ""
        """Why the last renewal was refused; empty: it was not, and there is a token."""

    async def token(self) -> str:
        """A token that should be valid. Raises LoginRefused, Unavailable, Malformed."""
        if self._token is None:
            self._token = await trio.to_thread.run_sync(self._store.load)
            if self._token is not None:
                self.refusal = ""  # another process has logged in
        token = self._token
        if token is not None and clocks.wall_s() < token.expires_at_s:
            return token.access_token
        return await self._renewed(token.access_token if token is not None else None)

    async def token_owner(self) -> UserId | None:
        """The user of the token, as the login service describes it; None when it does not say. Raises ProcoreError."""
        action = "ask whose token it is"
        url = self._login_address("/oauth/token/info", action)
        status, body = await self._http.get_with_token(
            url, await self.token(), action=action, silence_s=self._settings.silence_s
        )
        if status != 200:
            raise error_of_login(action, status, body)
        try:
            info = msgspec.json.decode(body, type=_TokenInfo, strict=False)
        except UNDECODABLE:
            raise Malformed(f"Could not {action}: the login service's answer describes no token") from None
        return None if info.resource_owner_id is None else UserId(info.resource_owner_id)

    async def renew(self, rejected: str) -> str:
        """Another token than the one that Procore rejected. Raises as `token`."""
        return await self._renewed(rejected)

    async def login_by_code(self, code: str, verifier: str) -> None:
        """Exchange an authorization code, which works once, for a stored login. Raises as `token`.

        `verifier` is the one of the `authorization_url` that led to the code.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_uri,
            "code_verifier": verifier,
        }
        async with self._store.locked():
            await trio.to_thread.run_sync(self._check_writable)
            self._token = await self._exchanged(form, "log in")

    async def logout(self) -> None:
        """Revoke the stored token and forget it, also when the service cannot be reached."""
        async with self._store.locked():
            stored = await trio.to_thread.run_sync(self._store.load)
            self._token = None
            await trio.to_thread.run_sync(self._store.delete)
        if stored is not None:
            form = {"token": stored.refresh_token or stored.access_token, **self._client()}
            await self._post("/oauth/revoke", form, "revoke the login")

    def authorization_url(self, state: str, verifier: str) -> str:
        """Where a person's browser goes to get a code; `state` comes back with it (see `new_state`).

        The address has only the hash of `verifier` (see `new_verifier`), so nobody who sees address and code can use
        the code (RFC 7636; docs/procore-api.md, OAuth 2.0).
        """
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_uri,
            "state": state,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return f"{self._settings.login_url.rstrip('/')}/oauth/authorize?{urlencode(query)}"

    async def _renewed(self, rejected: str | None) -> str:
        async with self._store.locked():
            token = await self._stored_by_others(rejected)
            try:
                token = token or await self._fetched()
            except LoginRefused as error:
                self.refusal = str(error)
                raise
            self.refusal = ""
            self._token = token
        return token.access_token

    async def _stored_by_others(self, rejected: str | None) -> Token | None:
        """A token that another process renewed while this one waited for the lock."""
        for known in (self._token, await trio.to_thread.run_sync(self._store.load)):
            if known and known.access_token != rejected and clocks.wall_s() < known.expires_at_s:
                return known
        return None

    async def _fetched(self) -> Token:
        """A token from the service, kept before it is returned. The lock is held."""
        if self._settings.grant is Grant.CLIENT_CREDENTIALS:
            return await self._keep(await self._with_retries(self._ask, {"grant_type": "client_credentials"}))
        old = await trio.to_thread.run_sync(self._store.load) or self._token
        if old is None or old.refresh_token is None:
            raise LoginRefused("There is no stored login for this account: run procorefs login")
        await trio.to_thread.run_sync(self._check_writable)
        form = {
            "grant_type": "refresh_token",
            "refresh_token": old.refresh_token,
            "redirect_uri": self._settings.redirect_uri,
        }
        return await self._with_retries(partial(self._exchanged, old=old), form)

    async def _with_retries(
        self, ask: Callable[[dict[str, str], str], Awaitable[Token]], form: dict[str, str]
    ) -> Token:
        """Ask again after a passing failure: a refresh token that was not spent still works then."""
        retries = RetryPolicy(self._settings.retry_for_s, trio.current_time(), random.random)
        with self.connectivity.tries() as tries:
            while True:
                try:
                    return await ask(form, "get an access token")
                except ProcoreError as error:
                    tries.failed(error)
                    pause_s = retries.pause_s(error, trio.current_time())
                    if pause_s is None:
                        raise _with_advice(error, self._settings.grant) from None
                    await trio.sleep(max(pause_s, 0.5))

    async def _exchanged(self, form: dict[str, str], action: str, old: Token | None = None) -> Token:
        """A token for something that works once, stored; a cancelled caller does not end the exchange half-way."""
        with trio.move_on_after(EXCHANGE_S, shield=True):
            token = await self._ask(form, action)
            if token.refresh_token is None:
                token = msgspec.structs.replace(token, refresh_token=form.get("refresh_token"))
            renewals = 0 if old is None else old.renewals + 1
            lineage = lineage_of(old or token)
            token = msgspec.structs.replace(token, lineage=lineage, renewals=renewals)
            return await self._keep(token)
        raise Silent(f"Could not {action}: the login service did not answer in {EXCHANGE_S:.0f} s")

    async def _ask(self, form: dict[str, str], action: str) -> Token:
        body = await self._post("/oauth/token", {**form, **self._client()}, action)
        try:
            answer = msgspec.json.decode(body, type=_TokenAnswer, strict=False)
        except UNDECODABLE:
            raise Malformed(f"Could not {action}: the login service's answer is not a token") from None
        if not answer.access_token.isascii() or not answer.access_token.isprintable():
            raise Malformed(f"Could not {action}: the login service's answer is not a token")
        said_s = answer.expires_in if answer.expires_in is not None else USUAL_LIFE_S
        life_s = min(max(said_s, 0.0), LONGEST_LIFE_S) if math.isfinite(said_s) else USUAL_LIFE_S
        expires_at_s = clocks.wall_s() + life_s - min(RENEW_EARLY_S, life_s / 10)
        return Token(answer.access_token, expires_at_s, answer.refresh_token or None)

    async def _post(self, path: str, form: dict[str, str], action: str) -> bytes:
        url = self._login_address(path, action)
        status, body = await self._http.post_form(
            url, form, action=action, silence_s=self._settings.silence_s
        )
        if status != 200:
            raise error_of_login(action, status, body)
        return body

    def _login_address(self, path: str, action: str) -> str:
        """Raises Malformed."""
        url = self._settings.login_url.rstrip("/") + path
        if not acceptable_url(url):
            raise Malformed(f"Could not {action}: the login address must begin with https://")
        return url

    async def _keep(self, token: Token) -> Token:
        """Store a token and return it. One that cannot be stored is used all the same."""
        try:
            await trio.to_thread.run_sync(self._store.save, token)
        except OSError as error:
            if token.refresh_token is not None:
                log.error("the new login cannot be stored (%s): it ends with this process", error.strerror)
            else:
                log.warning("the access token cannot be stored (%s)", error.strerror)
        return token

    def _check_writable(self) -> None:
        """Raises LoginRefused: a refresh token is not spent when the next could not be stored."""
        try:
            self._store.check_writable()
        except OSError as error:
            raise LoginRefused(
                f"Could not renew the login: the state directory cannot be written ({error.strerror})"
            ) from None

    def _client(self) -> dict[str, str]:
        return {"client_id": self._settings.client_id, "client_secret": self._settings.client_secret}


def new_state() -> str:
    """A value that ties an authorization answer to its request."""
    return secrets.token_urlsafe(24)


def new_verifier() -> str:
    """A value that only the process that asked for a code knows (RFC 7636, 4.1)."""
    return secrets.token_urlsafe(32)


def challenge_of(verifier: str) -> str:
    """The hash that stands for a verifier in an address (RFC 7636, 4.2, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _with_advice(error: ProcoreError, grant: Grant) -> ProcoreError:
    if not isinstance(error, LoginRefused):
        return error
    advice = "check client id and secret" if grant is Grant.CLIENT_CREDENTIALS else "run procorefs login"
    return LoginRefused(f"{error}: {advice}", status=error.status)
