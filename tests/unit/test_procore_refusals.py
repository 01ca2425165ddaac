"""How a changing call ended: done, refused for this reason, not done, or nobody knows."""

import json
from typing import Any

import pytest

from procorefs.procore import errors
from procorefs.procore.api.change_errors import change_error


def ended(
    status: int, body: object = None, failure: errors.ProcoreError | None = None, *, retry_after: bool = False
) -> errors.ProcoreError | None:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return change_error("change it", status, encoded, failure, names_retry_after=retry_after)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_success_is_one(status: int) -> None:
    assert ended(status) is None


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (0, errors.Unavailable("broke")),
        (0, errors.Silent("silent")),
        (0, errors.Malformed("odd address")),
        (0, None),
        (200, errors.Unavailable("the body broke")),
        (201, errors.Malformed("the body is too large")),
        (200, errors.Silent("trickled")),
        (301, None),
        (302, None),
        (408, None),
        (500, None),
        (502, None),
        (503, None),
        (504, None),
        (599, None),
    ],
)
def test_nobody_knows(status: int, failure: errors.ProcoreError | None) -> None:
    error = ended(status, failure=failure)
    assert type(error) is errors.Unanswered
    assert error.passing
    assert str(error).endswith("it may or may not have been done")
    assert isinstance(error.__cause__, errors.ProcoreError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.NotAuthorized),
        (402, errors.Invalid),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (405, errors.Invalid),
        (410, errors.Gone),
        (409, errors.CheckedOut),
        (413, errors.Invalid),
        (418, errors.Invalid),
        (422, errors.Invalid),
        (423, errors.CheckedOut),
        (429, errors.RateLimited),
    ],
)
@pytest.mark.parametrize("failure", [None, errors.Unavailable("its body broke")])
def test_a_refusal_is_one_also_when_its_reason_is_lost(
    status: int, kind: type[errors.ProcoreError], failure: errors.ProcoreError | None
) -> None:
    error = ended(status, {} if failure is None else b"", failure)
    if failure is not None and status in (404, 405, 413):
        kind = errors.NotFromApi  # without a word nothing proves that it was the API
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 422, 425])
@pytest.mark.parametrize("body", [b"<html>", b"\xff"])
def test_a_refusal_that_is_not_the_apis_passes_and_nothing_was_done(status: int, body: bytes) -> None:
    error = ended(status, body)
    assert error is not None
    assert error.passing
    assert not isinstance(error, errors.Unanswered)


def test_what_was_certainly_not_done() -> None:
    unreachable = errors.Unreachable("no route")
    assert ended(0, failure=unreachable) is unreachable
    busy = ended(503, {"message": "maintenance"}, retry_after=True)
    assert type(busy) is errors.Busy
    assert "maintenance" in str(busy)
    assert type(ended(500, retry_after=True)) is errors.Unanswered


SHAPES: list[Any] = [
    {"errors": {"name": ["has already been taken"]}},
    {"errors": {"base": ["Name has already been taken"]}},
    {"errors": {"file": {"name": ["has already been taken"]}}},
    {"errors": {"name": "has already been taken"}},
    {"errors": ["Name has already been taken"]},
    {"errors": "has already been taken"},
    {"errors": {"name": ["is too long", "has already been taken"]}},
    {"message": "name has already been taken"},
    {"message": "A file with this name already exists"},
    {"error": {"code": "400", "message": "Name HAS ALREADY BEEN TAKEN", "details": []}},
    {"error": {"code": "x", "details": [{"message": "has already been taken", "source": "name"}]}},
]


@pytest.mark.parametrize("body", SHAPES)
@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_taken_name(status: int, body: object) -> None:
    error = ended(status, body)
    assert type(error) is errors.NameTaken
    assert isinstance(error, errors.Invalid)
    assert (error.status, error.answer) == (status, body)


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"custom_field_5": ["has already been taken"]}},
        {"errors": {"name": ["can't contain '?'"]}},
        {"errors": {"parent_id": ["is taken"]}},
        {"message": "the tool is taken down"},
        None,
        [],
    ],
)
def test_another_refusal_is_no_taken_name(body: object) -> None:
    assert type(ended(400, body)) is errors.Invalid


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"upload_uuid": ["has already been used"]}},
        {"errors": {"upload_uuid": ["has already been taken"]}},
        {"message": "upload_uuid is unknown or has expired"},
        {"message": "Upload not found"},
        {"errors": ["This upload has expired"]},
        {
            "error": {
                "message": "Validation failed",
                "details": [{"message": "is used", "source": "upload_uuid"}],
            }
        },
    ],
)
@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_an_upload_that_is_refused(status: int, body: object) -> None:
    error = ended(status, body)
    assert type(error) is errors.UploadRefused
    assert error.status == status


FILE = {
    "id": 7,
    "name": "plan.pdf",
    "checked_out_by": {"id": 9, "name": "Ann Other"},
    "checked_out_until": "2030-01-04T21:27:18Z",
    "file_versions": [],
}


@pytest.mark.parametrize(
    ("body", "holder", "has_file"),
    [
        (
            {"errors": {"base": ["File is checked out"]}, "error_type": "file_checked_out", "file": FILE},
            "Ann Other",
            True,
        ),
        ({"errors": {"base": ["File is checked out by Ann B. Other."]}}, "Ann B. Other", False),
        ({"errors": {"base": ["no"]}, "file": FILE}, "Ann Other", True),
        ({"errors": {"base": ["no"]}, "error_type": "file_checked_out", "file": {"id": 0}}, "", False),
        ({"message": "The document is locked"}, "", False),
        ({"errors": {"base": ["checked out"]}, "file": {"id": 7, "name": "\ud800"}}, "", True),
        (None, "", False),
        (b"<html>", "", False),
    ],
)
def test_a_file_that_somebody_else_holds(body: object, holder: str, has_file: bool) -> None:
    error = ended(409, body)
    assert isinstance(error, errors.CheckedOut)
    assert error.holder == holder
    assert (error.file is not None) == has_file
    if error.file is not None:
        assert error.file.id == 7


def test_another_conflict_is_none_of_it() -> None:
    error = ended(409, {"errors": {"base": ["The folder is being moved"]}, "error_type": "busy"})
    assert type(error) is errors.Conflict
