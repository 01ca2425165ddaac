"""Checks requests and answers against the OpenAPI description, and collects what does not fit."""

from starlette.requests import Request
from starlette.responses import Response


class Checker:
    """Optional: `--openapi PATH`; violations are read at /sandbox/violations."""

    def __init__(self) -> None:
        self.violations: list[str] = []

    def check(self, request: Request, body: bytes, response: Response) -> None:
        """Note what is wrong with this call."""
