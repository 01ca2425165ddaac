"""Looks on demand: before something is decided for good, the tree must know what Procore has by now."""

from collections.abc import Awaitable, Callable

import trio

from procorefs.procore.errors import Unavailable

LookedSince = Callable[[float], Awaitable[bool]]
"""Wait for a look that began after that moment (trio's time); False: there was none (Follower.looked_since)."""


async def look_now(looked_since: LookedSince) -> None:
    """Raises Unavailable when nobody can look."""
    if not await looked_since(trio.current_time()):
        raise Unavailable("Could not see what was changed in Procore")
