"""What is known of the way to Procore while calls are tried again."""

from contextlib import suppress

import pytest

from procorefs.procore.errors import Forbidden, RateLimited, Unavailable
from procorefs.procore.http.connectivity import Connectivity


def test_trouble_begins_with_a_failure_and_ends_with_the_call() -> None:
    reach = Connectivity()
    with reach.tries() as tries:
        assert (reach.warning, reach.since_s) == ("", None)
        tries.failed(Unavailable("nobody there"))
        since_s = reach.since_s
        assert (reach.warning, since_s is not None) == ("nobody there", True)
        with reach.tries() as other:
            other.failed(RateLimited("too many"))  # an answer, and the limiter knows until when
            other.failed(Unavailable("still nobody"))
            assert (reach.warning, reach.since_s) == ("nobody there", since_s)
    assert (reach.warning, reach.since_s) == ("", None)


def test_who_gives_up_leaves_since_when_and_a_refusal_is_an_answer() -> None:
    reach = Connectivity()
    with suppress(Unavailable), reach.tries() as tries:
        tries.failed(Unavailable("nobody there"))
        raise Unavailable("nobody there")
    assert (reach.warning, reach.since_s is not None) == ("", True)
    with pytest.raises(Forbidden), reach.tries():
        raise Forbidden("no")
    assert reach.since_s is None
