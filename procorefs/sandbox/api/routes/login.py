"""The login server: authorize page, token, info, revoke."""

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from procorefs.sandbox.api import oauth_tokens
from procorefs.sandbox.api.conformance import Checker
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.oauth_tokens import OUT_OF_BAND, OAuthRefused
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.faults.fault_strikes import with_faults
from procorefs.sandbox.state import Sandbox

_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/.*)?\Z")
_PKCE = {"code_challenge", "code_challenge_method"}
_GRANTS = {
    "client_credentials": set[str](),
    "authorization_code": {"code", "redirect_uri"},
    "refresh_token": {"refresh_token"},
}


def routes(sandbox: Sandbox, checker: Checker | None) -> list[Route]:
    """Routes of the login server."""

    def served(
        method: str,
        path: str,
        work: Callable[[Sandbox, Request, dict[str, str]], Response],
        *,
        checked: bool = True,
    ) -> Route:
        label = f"{method} {path}"

        async def serve(request: Request) -> Response:
            body = await request.body()
            form = await _form(request) if method == "POST" else {}

            async def answer() -> Response:
                response = _in_transaction(sandbox, request, form, work)
                if checker is not None and checked:
                    checker.check_response(label, request, body, response)
                return response

            if checker is not None and checked:
                checker.check_request(label, request, body)
            return await with_faults(sandbox, label, request, answer, is_api=True)

        return Route(path, serve, methods=[method])

    return [
        served("GET", "/oauth/authorize", _authorize),
        served("POST", "/oauth/authorize", _allow, checked=False),
        served("POST", "/oauth/token", _token),
        served("GET", "/oauth/token/info", _info),
        served("POST", "/oauth/revoke", _revoke),
    ]


async def _form(request: Request) -> dict[str, str]:
    async with request.form() as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def _in_transaction(
    sandbox: Sandbox,
    request: Request,
    form: dict[str, str],
    work: Callable[[Sandbox, Request, dict[str, str]], Response],
) -> Response:
    try:
        with sandbox.store.change():
            return work(sandbox, request, form)
    except OAuthRefused as error:
        return _refused(sandbox, error)


def _refused(sandbox: Sandbox, error: OAuthRefused) -> Response:
    body: dict[str, Any] = {"error": error.code, "error_description": error.description}
    if sandbox.dialect.oauth_error_shape == "errors":
        body = ApiError(error.status, error.description).body(sandbox.dialect)
    return Answer(body, error.status).response({})


def _token(sandbox: Sandbox, _request: Request, form: dict[str, str]) -> Response:
    grant = form.get("grant_type", "")
    if grant not in _GRANTS:
        raise OAuthRefused("unsupported_grant_type", f"grant_type {grant!r} is not known")
    _check_fields(
        form, {"grant_type", "client_id", "client_secret"} | _GRANTS[grant], {"redirect_uri", "code_verifier"}
    )
    client_id = form["client_id"]
    oauth_tokens.check_client(sandbox, client_id, form["client_secret"])
    if grant == "client_credentials":
        token = oauth_tokens.client_credentials(sandbox, client_id)
    elif grant == "authorization_code":
        token = oauth_tokens.exchange_code(
            sandbox, client_id, form["code"], form["redirect_uri"], form.get("code_verifier", "")
        )
    else:
        token = oauth_tokens.refresh(sandbox, client_id, form["refresh_token"])
    return Answer(token, headers={"Cache-Control": "no-store"}).response({})


def _info(sandbox: Sandbox, request: Request, _form: dict[str, str]) -> Response:
    return Answer(oauth_tokens.token_info(sandbox, request)).response({})


def _revoke(sandbox: Sandbox, _request: Request, form: dict[str, str]) -> Response:
    _check_fields(form, {"token", "client_id", "client_secret"}, set())
    oauth_tokens.check_client(sandbox, form["client_id"], form["client_secret"])
    oauth_tokens.revoke(sandbox, form["client_id"], form["token"])
    return Answer({}).response({})


def _check_fields(form: dict[str, str], needed: set[str], allowed: set[str]) -> None:
    missing = sorted(name for name in needed if not form.get(name))
    if missing:
        raise OAuthRefused("invalid_request", f"{', '.join(missing)} is missing")
    unknown = sorted(form.keys() - needed - allowed)
    if unknown:
        raise OAuthRefused("invalid_request", f"{', '.join(unknown)} is not known here")


def _authorize(sandbox: Sandbox, request: Request, _form: dict[str, str]) -> Response:
    """The page on which a person lets the program in; without the page, the first person does so at once."""
    asked = dict(request.query_params)
    problem = _problem(sandbox, asked)
    if problem:
        return HTMLResponse(f"<h1>Not possible</h1><p>{html.escape(problem)}</p>", 400)
    people = sandbox.store.column(
        "SELECT id FROM users WHERE login != '' AND (id NOT IN (SELECT user_id FROM clients) OR id ="
        " (SELECT user_id FROM clients WHERE client_id = ?)) ORDER BY id",
        (asked["client_id"],),
    )
    if not sandbox.dialect.authorize_page:
        return _with_code(sandbox, asked, people[0])
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in asked.items()
    )
    buttons = "".join(
        f'<button name="user_id" value="{user_id}">Allow as {html.escape(sandbox.store.user(user_id).name)}</button>'
        for user_id in people
    )
    return HTMLResponse(
        "<!doctype html><title>Sandbox login</title><h1>Let this program use Procore?</h1>"
        f'<form method="post" action="/oauth/authorize">{hidden}{buttons}</form>'
    )


def _allow(sandbox: Sandbox, _request: Request, form: dict[str, str]) -> Response:
    """What the page's button sends."""
    problem = _problem(sandbox, {name: value for name, value in form.items() if name != "user_id"})
    if problem or not form.get("user_id", "").isdecimal():
        return HTMLResponse(f"<h1>Not possible</h1><p>{html.escape(problem or 'no user')}</p>", 400)
    return _with_code(sandbox, form, int(form["user_id"]))


def _with_code(sandbox: Sandbox, asked: dict[str, str], user_id: int) -> Response:
    redirect_uri = asked["redirect_uri"]
    code = oauth_tokens.make_code(
        sandbox, asked["client_id"], user_id, redirect_uri, asked.get("code_challenge", "")
    )
    if redirect_uri == OUT_OF_BAND:
        return HTMLResponse(
            f'<!doctype html><title>Code</title><p>Paste this code:</p><code id="code">{code}</code>'
        )
    back = {"code": code, **({"state": asked["state"]} if "state" in asked else {})}
    joint = "&" if "?" in redirect_uri else "?"
    return RedirectResponse(f"{redirect_uri}{joint}{urlencode(back)}", 302)


def _problem(sandbox: Sandbox, asked: dict[str, str]) -> str:
    unknown = asked.keys() - {"response_type", "client_id", "redirect_uri", "state", *_PKCE}
    if unknown:
        return f"Unknown parameter {', '.join(sorted(unknown))}"
    if "code_challenge" in asked and asked.get("code_challenge_method") != "S256":
        return "code_challenge_method must be S256"
    if asked.get("response_type") != "code":
        return "response_type must be code"
    client = sandbox.store.one("SELECT 1 FROM clients WHERE client_id = ?", (asked.get("client_id", ""),))
    if not client:
        return "Unknown client_id"
    redirect_uri = asked.get("redirect_uri", "")
    if redirect_uri != OUT_OF_BAND and not _LOOPBACK.match(redirect_uri):
        return "This redirect_uri was not registered"
    return ""
