"""Checks requests and answers against the OpenAPI description, and collects what does not fit.

openapi-core does the work (a dependency of tests alone, so it is imported when a checker is made). It lets unknown
query parameters and form fields pass: those are compared by hand. A listed document costs some 1.5 ms, so of long
lists only a sample is checked. (procore-api.md, Checking against procore-openapi.json)
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .records import Json, Value

_WHOLE_UP_TO = 40
_SAMPLE = 12
_MAX_VIOLATIONS = 200
_A_PATH = "/rest/v1.0/me"
"""Every description of Procore's API has it."""


class _Sent:
    """An answer as openapi-core wants to see it."""

    def __init__(self, response: Response, body: bytes) -> None:
        self.data = body
        self.status_code = response.status_code
        self.content_type = response.headers.get("content-type", "application/json").partition(";")[0]
        self.headers = response.headers


class NotTheDescription(Exception):
    """The file can't be used as the description of Procore's API; the text says why, as the end of a sentence."""


class Checker:
    """Optional: `--openapi PATH`; violations are read at /sandbox/violations."""

    def __init__(self, path: Path) -> None:
        """Raises NotTheDescription, OSError; ModuleNotFoundError without openapi-core."""
        from openapi_core import OpenAPI

        self._document = _description_in(path)
        try:
            # Not from_file_path, which takes JSON for YAML, and five times as long.
            self._description = OpenAPI.from_dict(self._document)
        except Exception as error:  # of its validators, which have no class in common
            reason = str(error).partition("\n")[0]
            raise NotTheDescription(f"it is no valid OpenAPI description ({reason})") from error
        self._choose = random.Random(1)
        self.violations: list[str] = []

    def check_request(self, label: str, request: Request, body: bytes) -> None:
        """Note what is wrong with a request; `label` is its route."""
        for name in sorted(self._unknown_parameters(label, request)):
            self._note(label, request, f"unknown query parameter {name}")
        for name in sorted(self._unknown_form_fields(label, request, body)):
            self._note(label, request, f"unknown form field {name}")
        self._try(label, request, lambda asked: self._description.validate_request(asked), body)

    def check_response(self, label: str, request: Request, body: bytes, response: Response) -> None:
        """Note what is wrong with our own answer."""
        if response.status_code == 401 and "x-rate-limit-limit" not in response.headers:
            return  # The description wants the headers; procore-api.md, which is right, says they may be missing.
        sent = _Sent(response, self._sampled(bytes(response.body)))
        self._try(label, request, lambda asked: self._description.validate_response(asked, sent), body)

    def _try(self, label: str, request: Request, check: Callable[[Any], None], body: bytes) -> None:
        from openapi_core.contrib.starlette import StarletteOpenAPIRequest
        from openapi_core.exceptions import OpenAPIError

        try:
            check(StarletteOpenAPIRequest(request, body))
        except OpenAPIError as error:
            self._note(label, request, _reasons(error))

    def _note(self, label: str, request: Request, what: str) -> None:
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(f"{label} ({request.url}): {what}")

    def _unknown_parameters(self, label: str, request: Request) -> set[str]:
        method, _, template = label.partition(" ")
        item = self._document["paths"][template]
        known = {
            self._resolved(parameter)["name"]
            for parameter in (*item.get("parameters", ()), *item[method.lower()].get("parameters", ()))
        }
        return set(request.query_params.keys()) - known

    def _unknown_form_fields(self, label: str, request: Request, body: bytes) -> set[str]:
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return set()
        method, _, template = label.partition(" ")
        content = self._document["paths"][template][method.lower()].get("requestBody", {}).get("content", {})
        if "application/x-www-form-urlencoded" not in content:
            return set()
        schema = self._resolved(content["application/x-www-form-urlencoded"]["schema"])
        return {name for name, _ in parse_qsl(body.decode())} - set(schema["properties"])

    def _resolved(self, item: Json) -> Json:
        found: Value = item
        while "$ref" in found:
            path, found = found["$ref"].removeprefix("#/").split("/"), self._document
            for step in path:
                found = found[step]
        resolved: Json = found
        return resolved

    def _sampled(self, body: bytes) -> bytes:
        try:
            answer = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body
        if isinstance(answer, list) and len(answer) > _WHOLE_UP_TO:
            return msgspec.json.encode(self._some(answer))
        if not isinstance(answer, dict):
            return body
        long = [
            name for name, value in answer.items() if isinstance(value, list) and len(value) > _WHOLE_UP_TO
        ]
        if not long:
            return body
        return msgspec.json.encode({**answer, **{name: self._some(answer[name]) for name in long}})

    def _some(self, items: list[Value]) -> list[Value]:
        return [items[0], items[-1], *self._choose.sample(items, _SAMPLE)]


def _reasons(error: BaseException) -> str:
    """The error with its causes, which say what it was."""
    texts = [str(error) or type(error).__name__]
    texts += [schema_error.message for schema_error in getattr(error, "schema_errors", ()) or ()]
    if error.__cause__ is not None:
        texts.append(_reasons(error.__cause__))
    return ": ".join(texts)


def _description_in(path: Path) -> Json:
    """Raises NotTheDescription, OSError."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotTheDescription("it is not JSON") from error
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict) or _A_PATH not in paths:
        raise NotTheDescription(f"it does not describe Procore's API: it has no path {_A_PATH}")
    described: Json = document
    return described
