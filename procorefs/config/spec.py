"""Parses SPEC, the name of a project: `[PROFILE:]COMPANY/PROJECT`."""

import re
from collections.abc import Collection

import msgspec

from procorefs.storage.failures import ConfigError

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Spec(msgspec.Struct, frozen=True):
    """The parts of SPEC; None: the part is missing. Digits are an id, any other text is a name."""

    profile: str | None = None
    company: str | None = None
    project: str | None = None


def parse_spec(text: str, profiles: Collection[str]) -> Spec:
    """Parse SPEC. Raises ConfigError.

    Names may contain colons and slashes. A colon ends a profile if a profile has that name, or if the text before it
    could be one and no space follows. The first slash ends the company; give a company with a slash in its name by id.
    """
    profile, rest = _split_profile(text, profiles)
    if not rest and profile is not None:
        return Spec(profile=profile)
    company, slash, project = (part.strip() for part in rest.partition("/"))
    if not slash or not company or not project:
        raise ConfigError(
            f"'{text}' does not name a project; write [PROFILE:]COMPANY/PROJECT with ids or names, "
            "`procorefs projects` lists them"
        )
    return Spec(profile=profile, company=company, project=project)


def as_id(name: str) -> int | None:
    """The id, or None for a name."""
    return int(name) if re.fullmatch(r"[0-9]{1,19}", name) and int(name) > 0 else None


def _split_profile(text: str, profiles: Collection[str]) -> tuple[str | None, str]:
    head, colon, rest = text.strip().partition(":")
    if not colon:
        return None, head
    if head in profiles:
        return head, rest
    if "/" in head or rest.startswith(" ") or not PROFILE_NAME.fullmatch(head):
        return None, text.strip()
    known = f"known: {', '.join(sorted(profiles))}" if profiles else "no profile exists yet"
    raise ConfigError(
        f"there is no profile '{head}' ({known}); `procorefs login --profile {head}` creates it"
    )
