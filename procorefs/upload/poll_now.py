"""Polls Procore on demand: a final decision needs the tree as it is now."""

from collections.abc import Awaitable, Callable

import trio

from procorefs.procore.errors import Unavailable

PolledSince = Callable[[float], Awaitable[bool]]
"""Waits for a poll that began after that time (trio's clock); False: none succeeded (Follower.polled_since)."""


async def poll_now(polled_since: PolledSince) -> None:
    """Raises Unavailable when no poll succeeds."""
    if not await polled_since(trio.current_time()):
        raise Unavailable("Could not see what was changed in Procore")
