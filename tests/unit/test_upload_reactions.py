"""What follows from a failure, by the error and by how often it came in a row."""

import pytest

from procorefs.procore import errors
from procorefs.upload.outcomes import TRIES_IN_AN_HOUR, Reaction, may_pass, reaction_to


@pytest.mark.parametrize(
    "error",
    [
        errors.Conflict("it is being moved"),
        errors.NotFound("no route matched"),
        errors.UploadExpired("403 of the storage, or of a proxy before it"),
        errors.NotFromApi("a gateway's 404"),
        errors.Unavailable("425"),
        errors.RateLimited("429"),
        errors.Unanswered("408"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("attempts", [0, 8, TRIES_IN_AN_HOUR - 1])
def test_for_an_hour_every_refusal_may_pass_that_is_not_proven_final(
    error: errors.ProcoreError, attempts: int
) -> None:
    assert reaction_to(error, attempts) in (Reaction.TRY_AGAIN, Reaction.PAUSE)


@pytest.mark.parametrize("error", [errors.Conflict("for ever"), errors.NotFound("for ever")])
def test_what_concerns_one_document_is_given_up_at_last(error: errors.ProcoreError) -> None:
    assert may_pass(error, TRIES_IN_AN_HOUR - 1)
    assert not may_pass(error, TRIES_IN_AN_HOUR)
    assert reaction_to(error, TRIES_IN_AN_HOUR) is Reaction.FAIL


@pytest.mark.parametrize("error", [errors.UploadExpired("403"), errors.Unavailable("503")])
def test_the_storage_and_the_network_are_waited_for(error: errors.ProcoreError) -> None:
    assert reaction_to(error, 1000) is not Reaction.FAIL


@pytest.mark.parametrize("error", [errors.Invalid("422"), errors.Forbidden("403")])
def test_what_is_final_fails_at_once(error: errors.ProcoreError) -> None:
    assert not may_pass(error, 0)
    assert reaction_to(error, 0) is Reaction.FAIL
