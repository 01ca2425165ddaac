"""Writes the file for a bug report: versions, findings, counts and log lines, without names, paths and secrets.

A line of a log is kept only if it was made from a message in our code; its values are replaced by `…`. So nothing that
a program or Procore named gets into the file.
"""

import ast
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

import procorefs
from procorefs.cli.doctor.findings import Finding
from procorefs.cli.support.versions import versions
from procorefs.config import Paths

MAX_LINES = 5_000
"""The newest lines of each log that are read."""

_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
_LINE = re.compile(r"(?P<time>[\d\- :,]{19,23}) (?P<level>[A-Z]+) (?P<logger>[\w.]+): (?P<message>.*)")
_VALUE = re.compile(r"%(?:\.\d+)?[sdrf]")


def write_bundle(file: Path, findings: Sequence[Finding], paths: Paths) -> None:
    """Write the file. Raises FileExistsError and other OSErrors."""
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("versions.json", _json(versions()))
        bundle.writestr(
            "findings.json", _json(Counter(f"{one.check.split()[0]}: {one.verdict}" for one in findings))
        )
        messages = known_messages()
        for number, log in enumerate(sorted(paths.logs_dir.glob("*.log*"))):
            lines = log.read_text(errors="replace").splitlines()[-MAX_LINES:]
            bundle.writestr(f"log-{number}.txt", "\n".join(without_values(lines, messages)))


def without_values(lines: Sequence[str], messages: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """The lines that one of the messages explains, with `…` for each value; others are counted at the end."""
    unknown = 0
    for line in lines:
        parts = _LINE.fullmatch(line)
        shown = None
        if parts is not None:
            shown = next((text for text, constant in messages if _explains(constant, parts["message"])), None)
        if parts is None or shown is None:
            unknown += 1
        else:
            yield f"{parts['time']} {parts['level']} {parts['logger']}: {shown}"
    yield f"({unknown} other lines were left out)"


def known_messages() -> list[tuple[str, Sequence[str]]]:
    """The messages that our code logs: with `…` for each value, and the texts between these; the longest first."""
    found: set[str] = set()
    for file in Path(procorefs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found.update(_message_of(node, node.func.attr))
    texts = sorted(found, key=lambda message: len(_VALUE.sub("", message)), reverse=True)
    return [
        (_VALUE.sub("…", text), _VALUE.split(text))
        for text in texts
        if re.search("[a-z]", _VALUE.sub("", text))
    ]


def _message_of(call: ast.Call, method: str) -> Iterator[str]:
    position = 1 if method == "log" else 0
    if method in _LOG_METHODS | {"log"} and len(call.args) > position:
        argument = call.args[position]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _explains(constant: Sequence[str], message: str) -> bool:
    """Whether a message has these texts in this order, with any values between; in linear time."""
    first, last = constant[0], constant[-1]
    if len(constant) == 1:
        return message == first
    end = len(message) - len(last)
    if not (message.startswith(first) and message.endswith(last)):
        return False
    at = len(first)
    for text in constant[1:-1]:
        found = message.find(text, at, end)
        if found < 0:
            return False
        at = found + len(text)
    return at <= end


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
