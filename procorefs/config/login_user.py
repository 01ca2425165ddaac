"""Finds the Procore user of a login, which owns the state, and stores the answer: later mounts need no call."""

import contextlib
from pathlib import Path

import msgspec

from procorefs.config.paths import write_private
from procorefs.procore.api.client import Client
from procorefs.procore.auth.tokens import login_key
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import Me
from procorefs.storage.failures import UNDECODABLE

_FILE = "identities.json"


async def find_login_user(client: Client, settings: ApiSettings, state_dir: Path) -> Me:
    """The user of this login: from Procore the first time, then from the state directory. Raises ProcoreError."""
    file = state_dir / _FILE
    known: dict[str, Me] = {}
    with contextlib.suppress(OSError, *UNDECODABLE):
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, Me])
    key = login_key(settings)
    if key not in known:
        known[key] = await client.me()
        write_private(file, msgspec.json.encode(known))
    return known[key]
