"""What must be true when all is quiet: mount, tree, Procore and model agree."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import STUCK, ChangeState
from procorefs.upload.items import is_at_or_below
from tests.simulation.model import File, Folder
from tests.simulation.player import AFTER_LOOK_S, LOOKS, LOOKS_WITHOUT_BIN, Player, Wrong
from tests.simulation.words import differences

if TYPE_CHECKING:
    from tests.simulation.together import Together
    from tests.simulation.world import World

SURE = {"refused", "status_before"}
"""After such a fault nothing was done."""

CHECKED_IN_WITHIN_S = 600.0
"""A check-out that can't be ended at once is tried again some minutes later."""

REFUSED = {400, 403, 404, 405, 409, 410, 415, 422}
QUIET_WITHIN_S = 7200.0
"""Of virtual time: then everything that waits must have gone. A temporary file waits an hour."""


async def check_quiet(world: "World", player: "Player | Together", *, takes_back: bool = False) -> None:
    """Raises Wrong. `takes_back`: what the delete guard holds is discarded; else it is let go."""
    has_taken_back = await _quiet(world, takes_back=takes_back)
    if isinstance(player, Player) and not has_taken_back:
        await player.compare()
        _check_procore(world)
        held = world.procore.holds()
        wrong = player.identities.wrong_in(held)
        if wrong:
            raise Wrong(f"the name's document is another one: {wrong}")
        player.identities.settled(held)
    else:
        await _check_agreement(world)
    await _checked_in(world)
    had_power_cut = any(step.op == "crash" and step.flags.startswith("power") for step in world.history.steps)
    doubled = world.procore.doubled()
    if doubled and not had_power_cut:  # which takes along that a save has just been sent
        raise Wrong(f"a save is two versions: {doubled}")
    _check_calls(world, has_taken_back=has_taken_back)


UNCERTAIN = {"lost_before", "lost_after", "status_after", "gateway", "late"}
"""After such a fault nobody knows what was done, and calls may be refused because they were."""


def _check_calls(world: "World", *, has_taken_back: bool) -> None:
    """No call that the contract forbids; and where everything is known, none that Procore refuses."""
    steps = world.history.steps
    is_certain = not has_taken_back and not any(
        step.op in ("colleague", "crash", "full", "clock", "role")
        or any(fault.kind in UNCERTAIN for fault in step.faults)
        for step in steps
    )
    for request, body, status, told in world.network.finished:
        what = f"{request.method} {request.url.path}: {status} {told[:120]!r}"
        if b"is the folder itself or below it" in told and is_certain:
            raise Wrong(f"a folder was to go into itself: {what}")
        is_check_in = status == 404 and b"checked_out_until" in body  # it went while it was locked
        if request.method != "GET" and status in REFUSED and is_certain and not is_check_in:
            raise Wrong(f"Procore refused what was asked of it: {what}")


async def _check_agreement(world: "World") -> None:
    """Whatever somebody wanted: mount and Procore show the same, but for what status names."""
    with trio.move_on_after(
        QUIET_WITHIN_S
    ):  # a first listing that failed for long is tried again after minutes
        while world.parts.follower.poll_state().state != "complete":  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(AFTER_LOOK_S)
    for _ in range(LOOKS_WITHOUT_BIN if world.history.setting.is_limited else LOOKS):
        with suppress(OSError):
            await world.now.kernel.listing("")
        await trio.sleep(AFTER_LOOK_S)
    named = _named(world)
    shown = {
        path: -1 if attributes.is_folder else attributes.size
        for path, attributes in (await world.now.kernel.walk()).items()
    }
    held = {
        path: -1 if document.is_folder else len(document.content or b"")
        for path, document in world.procore.holds().items()
    }
    for paths in (shown, held):
        for path in [path for path in paths if is_at_or_below(path, named)]:
            del paths[path]
    if shown != held:
        raise Wrong(f"mount and Procore differ: {differences(shown, held)}")


def _named(world: "World") -> list[str]:
    """Paths of what waits, and those that Procore has its documents under until then."""
    view, named = world.parts.project.view, []
    for change, item in world.parts.writing.commands.items():
        named.append(item.path)
        if change.document is not None:
            named.append(view.path_in_procore(change.inode))
    return [path for path in named if path]


def _check_procore(world: "World") -> None:
    wanted: dict[str, Any] = {
        path: None if isinstance(entry, Folder) else bytes(entry.content) for path, entry in world.model.all()
    }
    documents = world.procore.holds()
    held = {path: document.content for path, document in documents.items()}
    if held != wanted:
        raise Wrong(f"Procore differs: {differences(held, wanted)}")
    for path, entry in world.model.all():
        described = world.procore.description(documents[path].id)
        if isinstance(entry, File) and entry.description is not None and described != entry.description:
            raise Wrong(f"Procore describes {path} as {described!r} and not as {entry.description!r}")


async def _checked_in(world: "World") -> None:
    with trio.move_on_after(CHECKED_IN_WITHIN_S):
        while world.procore.checked_out():  # noqa: ASYNC110 - the product has no event for it
            await trio.sleep(1.0)
        return
    raise Wrong(f"nobody has a lock, and yet there are check-outs: {world.procore.checked_out()}")


async def _quiet(world: "World", *, takes_back: bool) -> bool:
    """Wait until nothing waits; returns whether deletions were taken back."""
    commands, has_taken_back = world.parts.writing.commands, False
    with trio.move_on_after(QUIET_WITHIN_S):
        while waiting := commands.waiting([""]):
            incomplete = [item.path for item in waiting if item.state == "incomplete"]
            if incomplete:
                await commands.retry(incomplete)  # as a person would
            elif all(item.state == "guarded" for item in waiting):
                _check_held(world)
                has_taken_back |= takes_back and any(
                    _is_held_removal(change) for change, _ in commands.items()
                )
                await (commands.discard if takes_back else commands.retry)([""])
            await trio.sleep(5.0)
        return has_taken_back
    # What was taken back has its name, and something else may have been put there meanwhile.
    if has_taken_back or any(step.op in ("colleague", "full", "role") for step in world.history.steps):
        moving = [item for item in commands.waiting([""]) if item.state not in STUCK]
    else:
        moving = commands.waiting([""])
    if not moving:
        return has_taken_back
    left = [f"{item.path} is {item.state} {item.reason}" for item in moving]
    raise Wrong(f"after {QUIET_WITHIN_S:.0f} s there still waits: {'; '.join(left)}")


def _is_held_removal(change: Change) -> bool:
    return change.is_removed and change.state is ChangeState.GUARDED


def _check_held(world: "World") -> None:
    """Nothing that the delete guard holds was deleted; where calls are lost, one may have been done before."""
    steps = world.history.steps
    if any(step.op in ("colleague", "crash") or {f.kind for f in step.faults} - SURE for step in steps):
        return
    living = {document.id for document in world.procore.holds().values()}
    for change in filter(_is_held_removal, world.parts.project.view.changes()):
        if change.document not in living:
            raise Wrong(f"document {change.document} was deleted although the delete guard holds it")
