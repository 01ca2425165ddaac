"""Query parameters, checked as strictly as the API's description says: each kind of value has one parser."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from procorefs.sandbox.api.refusals import invalid

Parser = Callable[[str, str], Any]
"""(name, text) -> value; raises ApiError 400."""

MAX_PER_PAGE = 2000
_RANGE_END = r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))?"
_TIME_RANGE = re.compile(rf"({_RANGE_END})\.\.\.({_RANGE_END})\Z")


def parse_query(given: QueryParams, known: Mapping[str, Parser]) -> dict[str, Any]:
    """The values by name; raises ApiError 400 for what is unknown, repeated or of a wrong type."""
    values: dict[str, Any] = {}
    for name, text in given.multi_items():
        if name not in known:
            raise invalid(name, "is not a known parameter")
        if name in values and not name.endswith("[]"):
            raise invalid(name, "was given twice")
        values[name] = known[name](name, text)
    return values


def integer(name: str, text: str) -> int:
    """A whole number from 1."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) < 1:
        raise invalid(name, "is not a positive whole number")
    return int(text)


def boolean(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise invalid(name, "is neither true nor false")
    return text == "true"


def text(name: str, value: str) -> str:
    if not value:
        raise invalid(name, "is empty")
    return value


def any_text(_name: str, value: str) -> str:
    return value


def ids(name: str, value: str) -> list[int]:
    """Ids with commas between them."""
    return [integer(name, part) for part in value.split(",")]


def texts(name: str, value: str) -> list[str]:
    return [text(name, part) for part in value.split(",")]


def choice(*allowed: str) -> Parser:
    """One of some words."""

    def parse(name: str, value: str) -> str:
        if value not in allowed:
            raise invalid(name, f"is none of {', '.join(allowed)}")
        return value

    return parse


def choices(*allowed: str) -> Parser:
    """Some of these words, with commas between them."""
    one = choice(*allowed)

    def parse(name: str, value: str) -> list[str]:
        return [one(name, word) for word in value.split(",")]

    return parse


def at_most(limit: int) -> Parser:
    """A whole number from 1 to `limit`."""

    def parse(name: str, value: str) -> int:
        number = integer(name, value)
        if number > limit:
            raise invalid(name, f"is more than {limit}")
        return number

    return parse


def time_range(name: str, value: str) -> tuple[int, int]:
    """FROM...TO as Unix seconds, both ends belonging to it; a day alone means all of it."""
    match = _TIME_RANGE.match(value)
    if match is None:
        raise invalid(name, "is not a range FROM...TO of ISO 8601 times")
    try:
        return _moment(match[1]), _moment(match[2], end_of_day=True)
    except ValueError as error:
        raise invalid(name, "has a date that does not exist") from error


def _moment(value: str, *, end_of_day: bool = False) -> int:
    moment = datetime.fromisoformat(value)
    if "T" not in value:
        seconds = int(moment.replace(tzinfo=UTC).timestamp())
        return seconds + 86_399 if end_of_day else seconds
    return int(moment.timestamp())


PAGED: dict[str, Parser] = {"page": integer, "per_page": at_most(MAX_PER_PAGE)}
