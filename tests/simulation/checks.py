"""What must be true when all is quiet: mount, tree, Procore and model agree."""

from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.model import Folder
from tests.simulation.player import Player, Wrong, differences

if TYPE_CHECKING:
    from tests.simulation.world import World

QUIET_WITHIN_S = 7200.0
"""Of virtual time: then everything that waits must have gone. A temporary file waits an hour."""


async def check_quiet(world: "World", player: Player) -> None:
    """Raises Wrong."""
    await _quiet(world)
    await player.compare()
    wanted: dict[str, Any] = {
        path: None if isinstance(entry, Folder) else bytes(entry.content) for path, entry in world.model.all()
    }
    held = {path: document.content for path, document in world.procore.holds().items()}
    if held != wanted:
        raise Wrong(f"Procore differs: {differences(held, wanted)}")


async def _quiet(world: "World") -> None:
    outbox = world.parts.writing.outbox
    with trio.move_on_after(QUIET_WITHIN_S):
        while outbox.waiting([""]):
            incomplete = [item.path for item in outbox.waiting([""]) if item.state == "incomplete"]
            if incomplete:
                outbox.retry(incomplete)  # as a person would
            await trio.sleep(5.0)
        return
    left = [f"{item.path} is {item.state} {item.reason}" for item in outbox.waiting([""])]
    raise Wrong(f"after {QUIET_WITHIN_S:.0f} s there still waits: {'; '.join(left)}")
