"""SPEC: which project a person means."""

import pytest

from procorefs.config import ConfigError, Spec, parse_spec
from procorefs.config.spec import as_id


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("12/34", Spec(company="12", project="34")),
        ("work:12/34", Spec("work", "12", "34")),
        ("work:", Spec(profile="work")),
        ("Acme Inc./Harbour Tower", Spec(company="Acme Inc.", project="Harbour Tower")),
        ("work:Acme/Lot 3/4", Spec("work", "Acme", "Lot 3/4")),
        ("Acme: North/Tower", Spec(company="Acme: North", project="Tower")),
        ("Acme/Phase 1: Dig", Spec(company="Acme", project="Phase 1: Dig")),
        (" 12 / 34 ", Spec(company="12", project="34")),
    ],
)
def test_spec(text: str, spec: Spec) -> None:
    assert parse_spec(text, {"work"}) == spec


@pytest.mark.parametrize("text", ["", "12", "12/", "/34", "work:12", "/"])
def test_half_a_spec_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name a project"):
        parse_spec(text, {"work"})


def test_an_unknown_profile_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'home' \(known: play, work\)"):
        parse_spec("home:12/34", {"work", "play"})


def test_ids_are_digits() -> None:
    assert as_id("12") == 12
    assert as_id("0") is None
    assert as_id("12a") is None
    assert as_id("٣") is None
