"""Lets the switched-on faults strike around the work of a call, be it for the API, the login or the store."""

from collections.abc import Awaitable, Callable

import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from procorefs.sandbox.api.json_answers import Answer, CutShort, Dropped
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.faults.fault_rules import Rule
from procorefs.sandbox.state import Sandbox
from procorefs.sandbox.storage.asgi_server import Receive
from procorefs.sandbox.storage.download import Bytes


async def with_faults(
    sandbox: Sandbox, label: str, request: Request, work: Callable[[], Awaitable[Response]], *, is_api: bool
) -> Response:
    """Count the call, let the faults strike that are switched on, and do the work unless one of them is in its way."""
    sandbox.calls.count(label)
    settings = sandbox.faults.settings
    latency_s = settings.latency_api_s if is_api else settings.latency_storage_s
    if latency_s:
        await trio.sleep(latency_s)
    rules = sandbox.faults.strike(label, str(request.url))
    # A body that is still on its way must not be read by who watches for the client's going.
    watched = is_api or request.method in {"GET", "HEAD"}
    if any(rule.kind == "late" for rule in rules):
        await request.body()
        sandbox.faults.put_off(work)
        return error_response(sandbox, Rule(kind="error", status=504))
    refusal = await _before(sandbox, rules, request.receive if watched else None)
    if refusal is not None:
        return refusal
    response = await work()
    return await _after(sandbox, rules, request, response)


async def _before(sandbox: Sandbox, rules: list[Rule], receive: Receive | None) -> Response | None:
    for rule in rules:
        if rule.kind == "latency":
            await trio.sleep(rule.seconds)
        elif rule.kind == "silence" and rule.when == "before":
            if not await sandbox.faults.silent(receive):
                return Dropped()
        elif rule.kind == "error" and rule.when == "before":
            return error_response(sandbox, rule)
        elif rule.kind == "gateway":
            return Response(rule.body, rule.status, media_type="text/html")
        elif rule.kind == "redirect":
            return RedirectResponse(rule.location, 302)
        elif rule.kind == "drop" and rule.when == "before":
            return Dropped()
    return None


async def _after(sandbox: Sandbox, rules: list[Rule], request: Request, response: Response) -> Response:
    for rule in rules:
        if rule.kind == "cut":
            response = _cut(response, rule.after_bytes)
        elif rule.kind == "not_json":
            response = Response(rule.body, response.status_code, media_type="text/html")
        elif rule.kind == "wrong_type":
            kept = {
                name: value for name, value in response.headers.items() if not name.startswith("content-")
            }
            response = Response(rule.body, response.status_code, kept, media_type="application/json")
        elif rule.kind == "drop" and rule.when == "after":
            response = Dropped()
        elif rule.kind == "error" and rule.when == "after":
            response = error_response(sandbox, rule)
        elif rule.kind == "stall" and isinstance(response, Bytes):
            response.stall_after(rule.after_bytes, sandbox.faults)
        elif (
            rule.kind == "silence"
            and rule.when == "after"
            and not await sandbox.faults.silent(request.receive)
        ):
            response = Dropped()
    return response


def error_response(sandbox: Sandbox, rule: Rule) -> Response:
    """The refusal that a rule names; a 429 says that nothing is left."""
    headers: dict[str, str] = {}
    if rule.status == 429:
        reset_s = sandbox.clock.now_s() + (rule.retry_after or 1)
        headers = {
            "X-Rate-Limit-Limit": "3600",
            "X-Rate-Limit-Remaining": "0",
            "X-Rate-Limit-Reset": str(reset_s),
        }
    if rule.retry_after is not None:
        headers["Retry-After"] = str(rule.retry_after)
    error = ApiError(rule.status, "Switched on by the sandbox")
    return Answer(error.body(sandbox.dialect), rule.status).response(headers)


def _cut(response: Response, after_bytes: int) -> Response:
    if isinstance(response, Bytes):
        response.cut_after(after_bytes)
        return response
    return CutShort(response, after_bytes)
