"""What was right once is not checked again, and everything else is."""

from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from procorefs.sandbox.api.conformance import DESCRIPTION, Checker

LABEL = "GET /rest/v1.0/projects/{project_id}/document_custom_tags"
PATH = "/rest/v1.0/projects/7/document_custom_tags"
RATES = {f"X-Rate-Limit-{name}": "100" for name in ("Limit", "Remaining", "Reset")}
HEADERS = {**RATES, "Total": "60", "Per-Page": "100"}
TAGS = [{"id": number, "name": f"Tag {number}"} for number in range(1, 61)]


@pytest.fixture(scope="module")
def made_once() -> Checker:
    return Checker(DESCRIPTION)


@pytest.fixture
def checker(made_once: Checker) -> Checker:
    made_once.violations.clear()
    return made_once


def asked(query: str = "", path: str = PATH, method: str = "GET") -> Request:
    headers = {"Authorization": "Bearer abc", "Procore-Company-Id": "8"}
    return Request(
        {
            "type": "http",
            "method": method,
            "scheme": "http",
            "server": ("127.0.0.1", 8080),
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }
    )


def found(checker: Checker, tags: Any, headers: dict[str, str] = HEADERS) -> int:
    """How many violations more an answer brings."""
    before = len(checker.violations)
    response = Response(msgspec.json.encode(tags), 200, headers, media_type="application/json")
    checker.check_response(LABEL, asked(), b"", response)
    return len(checker.violations) - before


def test_a_wrong_item_among_known_ones(checker: Checker) -> None:
    assert not found(checker, TAGS[:30])
    wrong = [*TAGS[:29], {"id": "29", "name": "Tag 29"}]
    assert [found(checker, wrong) for _ in range(2)] == [1, 1]
    assert not found(checker, TAGS[:30])


def test_a_wrong_answer_with_a_known_list(checker: Checker) -> None:
    assert not found(checker, TAGS[:30])
    assert found(checker, {"tags": TAGS[:30]}) == 1
    assert found(checker, TAGS[:30], {**HEADERS, "X-Rate-Limit-Limit": "many"}) == 1


def test_a_list_that_is_known_whole_is_not_checked_as_an_empty_one(checker: Checker) -> None:
    label, path = "PATCH /rest/v1.1/projects/{project_id}/uploads/{uuid}", "/rest/v1.1/projects/7/uploads/A"
    segments = [{"size": 1, "url": "https://storage.example/1", "headers": {}, "sha256": 64 * "0"}]
    for uuid in (8 * "ABC", 8 * "ABD"):
        upload = {"uuid": uuid, "status": "ready", "segments": segments}
        answer = Response(msgspec.json.encode(upload), 200, HEADERS, media_type="application/json")
        checker.check_response(label, asked(path=path, method="PATCH"), b"", answer)
    assert not checker.violations


def test_what_a_sample_left_out_is_not_taken_for_right(checker: Checker) -> None:
    tags = [{**tag, "name": f"Another {tag['id']}"} for tag in TAGS]
    wrong = [*tags[:30], {"id": "x", "name": "wrong"}, *tags[31:]]
    assert [found(checker, wrong) for _ in range(8)][-2:] == [1, 1]


def test_a_wrong_request_like_a_right_one(checker: Checker) -> None:
    checker.check_request(LABEL, asked(), b"")
    assert not checker.violations
    for _ in range(2):
        checker.check_request(LABEL, asked("page=first"), b"")
    assert len(checker.violations) == 2
