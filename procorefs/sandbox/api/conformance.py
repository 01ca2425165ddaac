"""Checks requests and answers against the OpenAPI description, and collects what does not fit.

openapi-core does the work (a dependency of tests alone, so it is imported when a checker is made). It lets unknown
query parameters and form fields pass: those are compared by hand. A listed document costs some 0.5 ms, so of long
lists only a sample is checked, and what was right once is not checked again: neither the same request or answer nor the
same item of a list. (procore-api.md, Checking against procore-openapi.json)
"""

import hashlib
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from procorefs.sandbox.project.records import Json, Value

DESCRIPTION = Path(__file__).parents[1] / "procore-openapi.json"
"""The OpenAPI description of what ProcoreFS needs of Procore's API; docs/procore-api.md is the text to it."""
_WHOLE_UP_TO = 40
_SAMPLE = 12
_MAX_VIOLATIONS = 200
_A_PATH = "/rest/v1.0/me"
"""Every description of Procore's API has it."""
_RESOLVED = 1 << 16


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
    """Optional: `--openapi [PATH]`; the control API reports violations."""

    def __init__(self, path: Path) -> None:
        """Raises NotTheDescription, OSError; ModuleNotFoundError without openapi-core."""
        from jsonschema_path import SchemaPath
        from openapi_core import OpenAPI

        self._document = _description_in(path)
        try:
            # Not from_file_path, which takes JSON for YAML, and five times as long.
            described = SchemaPath.from_dict(self._document, resolved_cache_maxsize=_RESOLVED)
            self._description = OpenAPI(described)
        except Exception as error:  # of its validators, which have no class in common
            reason = str(error).partition("\n")[0]
            raise NotTheDescription(f"it is no valid OpenAPI description ({reason})") from error
        self._choose = random.Random(1)
        self._right: set[bytes] = set()
        self.violations: list[str] = []

    def check_request(self, label: str, request: Request, body: bytes) -> None:
        """Note what is wrong with a request; `label` is its route."""
        if self._operation(label).get("deprecated"):
            self._note(label, request, "the operation is deprecated")
        for name in sorted(self._unknown_parameters(label, request)):
            self._note(label, request, f"unknown query parameter {name}")
        for name in sorted(self._unknown_form_fields(label, request, body)):
            self._note(label, request, f"unknown form field {name}")
        self._try(label, request, lambda asked: self._description.validate_request(asked), body, [])

    def check_response(self, label: str, request: Request, body: bytes, response: Response) -> None:
        """Note what is wrong with our own answer."""
        if response.status_code == 401 and "x-rate-limit-limit" not in response.headers:
            return  # The description wants the headers; procore-api.md, which is right, says they may be missing.
        kind = f"{label} {response.status_code}".encode()
        sampled, items = self._sampled(kind, bytes(response.body))
        sent = _Sent(response, sampled)
        seen = [kind, repr(response.headers.raw).encode(), sampled]
        self._try(
            label, request, lambda asked: self._description.validate_response(asked, sent), body, seen, items
        )

    def _try(
        self,
        label: str,
        request: Request,
        check: Callable[[Any], None],
        body: bytes,
        answer: list[bytes],
        items: Collection[bytes] = (),
    ) -> None:
        """Check what differs from everything that was right; `items` are right if the answer is."""
        from openapi_core.contrib.starlette import StarletteOpenAPIRequest
        from openapi_core.exceptions import OpenAPIError

        whole = _digest(label.encode(), str(request.url).encode(), *_headers(request), body, *answer)
        if whole in self._right:
            return
        try:
            check(StarletteOpenAPIRequest(request, body))
        except OpenAPIError as error:
            self._note(label, request, _reasons(error))
        else:
            self._right.update((whole, *items))

    def _note(self, label: str, request: Request, what: str) -> None:
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(f"{label} ({request.url}): {what}")

    def _operation(self, label: str) -> Json:
        method, _, template = label.partition(" ")
        operation: Json = self._document["paths"][template][method.lower()]
        return operation

    def _unknown_parameters(self, label: str, request: Request) -> set[str]:
        item = self._document["paths"][label.partition(" ")[2]]
        parameters = (*item.get("parameters", ()), *self._operation(label).get("parameters", ()))
        resolved = [self._resolved(parameter) for parameter in parameters]
        known = {parameter["name"] for parameter in resolved if not parameter.get("deprecated")}
        return set(request.query_params.keys()) - known

    def _unknown_form_fields(self, label: str, request: Request, body: bytes) -> set[str]:
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return set()
        content = self._operation(label).get("requestBody", {}).get("content", {})
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

    def _sampled(self, kind: bytes, body: bytes) -> tuple[bytes, set[bytes]]:
        """The answer with what is still to be checked of its lists, and the digests of that."""
        try:
            answer = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body, set()
        taken: set[bytes] = set()
        if isinstance(answer, list):
            answer = self._some(kind, answer, taken)
        elif isinstance(answer, dict):
            for name, value in answer.items():
                if isinstance(value, list):
                    answer[name] = self._some(kind + name.encode(), value, taken)
        return msgspec.json.encode(answer), taken

    def _some(self, kind: bytes, items: list[Value], taken: set[bytes]) -> list[Value]:
        digested = [(_digest(kind, msgspec.json.encode(item)), item) for item in items]
        new = [(digest, item) for digest, item in digested if digest not in self._right]
        if len(new) > _WHOLE_UP_TO:
            new = [new[0], new[-1], *self._choose.sample(new, _SAMPLE)]
        taken.update(digest for digest, _ in new)
        return [item for _, item in new] or items[:1]  # an empty list is another answer


def _headers(request: Request) -> list[bytes]:
    """As far as the description knows them: which token it is makes no difference."""
    return [
        name + b":" + (value.partition(b" ")[0] if name == b"authorization" else value)
        for name, value in request.headers.raw
    ]


def _digest(*parts: bytes) -> bytes:
    """Of what a check depends on."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        whole.update(b"%d:" % len(part))
        whole.update(part)
    return whole.digest()


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
