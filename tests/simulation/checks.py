"""What must be true when all is quiet: mount, tree, Procore and model agree."""

import errno
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import STUCK, ChangeState
from procorefs.tree.naming.full_width import decode
from procorefs.upload.items import Item, is_at_or_below
from tests.simulation.attributes import DESCRIPTION, FIELD, KEYS, TAGS, Value, same, value_of
from tests.simulation.model import File, Folder, Model
from tests.simulation.names import (
    LOCKS,
    Stay,
    has_name_of_junk,
    is_junk_file,
    stay_of,
    stays_for_ever,
)
from tests.simulation.player import AFTER_LOOK_S, LOOKS, LOOKS_WITHOUT_BIN, TROUBLE, Player
from tests.simulation.words import Wrong, differences
from tests.simulation.words import named as named_error

if TYPE_CHECKING:
    from tests.simulation.together import Together
    from tests.simulation.world import World

SURE = {"refused", "status_before"}
"""After such a fault nothing was done."""

CHECKED_IN_WITHIN_S = 600.0
"""A check-out that can't be ended at once is tried again some minutes later."""

COUNTED_AFTER_S = 1.0
"""The scheduler counts what changed in batches."""

SHOWN = (DESCRIPTION, TAGS, "user.procore.tracked", FIELD)
"""Attributes that Procore has of files; the first one is none of folders."""
SETS_ATTRIBUTES = {"setxattr", "copyxattr", "removexattr"}
TAGS_AGE_S = 301.0
"""So old may tags be that a mount shows: nothing tells it of others' changes."""

REFUSED = {400, 403, 404, 405, 409, 410, 415, 422}
QUIET_WITHIN_S = 7200.0
"""Of virtual time: then everything that waits must have gone. A temporary file waits an hour."""


async def check_quiet(world: "World", player: "Player | Together", *, takes_back: bool = False) -> None:
    """Raises Wrong. `takes_back`: what the delete guard holds is discarded; else it is let go."""
    has_taken_back = await _quiet(world, takes_back=takes_back)
    if isinstance(player, Player) and not has_taken_back:
        await player.compare()
        await trio.sleep(COUNTED_AFTER_S)
        _check_procore(world)
        held = world.holds()
        wrong = player.identities.wrong_in(held)
        if wrong:
            raise Wrong(f"the name's document is another one: {wrong}")
        player.identities.settled(held)
    else:
        await _check_agreement(world)
        await trio.sleep(TAGS_AGE_S)
    if any(step.op in SETS_ATTRIBUTES for step in world.history.steps):
        await _check_known_attributes(world)
        await _check_shown_attributes(world)
    await _check_checked_in(world)
    _check_junk_is_not_sent(world)
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
    """Whatever somebody wanted: mount and Procore show the same, but for what status names.

    What is private is shown to its maker and to who has the right: no mount can know of more.
    """
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
        for path, document in world.shows().items()
    }
    for paths in (shown, held):
        for path in [path for path in paths if is_at_or_below(path, named)]:
            del paths[path]
    for path in [path for path in shown if has_name_of_junk(path)]:  # it may stay here, and hide a document
        del shown[path]
        held.pop(path, None)
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
    documents = world.holds()
    held = {path: document.content for path, document in documents.items()}
    wanted = _wanted_in_procore(world.model, held)
    _check_staying(world)
    waiting = [path for path in _named(world) if path not in wanted]
    for path in [path for path in held if path not in wanted and is_at_or_below(path, waiting)]:
        del held[path]
    if held != wanted:
        raise Wrong(f"Procore differs: {differences(held, wanted)}")
    for path, entry in world.model.all():
        if path in held:
            _check_attributes(path, entry.attributes, world.procore.attributes(documents[path].id))


async def _check_shown_attributes(world: "World") -> None:
    """The mount shows the attributes that Procore has, but for what waits."""
    documents, named = world.holds(), _named(world)
    for path, attributes in (await world.now.kernel.walk()).items():
        if path not in documents or has_name_of_junk(path) or is_at_or_below(path, named):
            continue
        held = world.procore.attributes(documents[path].id)
        for name in SHOWN[attributes.is_folder :]:
            shown = await _shown_value(world, path, name)
            if not same(shown, held[KEYS[name]], KEYS[name]):
                raise Wrong(f"{name} of {path} shows {shown!r}, and Procore has {held[KEYS[name]]!r}")


async def _check_known_attributes(world: "World") -> None:
    """The mount shows the attributes that the model knows."""
    names = {key: name for name, key in reversed(KEYS.items())}
    for path, entry in world.model.all():
        for key, value in entry.attributes.items():
            shown = await _shown_value(world, path, names[key])
            if not same(shown, value, key):
                raise Wrong(f"{names[key]} of {path} shows {shown!r} and not {value!r}")


async def _shown_value(world: "World", path: str, name: str) -> Value:
    """Read with patience."""
    while True:
        try:
            return value_of(name, (await world.now.kernel.getxattr(path, name)).decode())
        except OSError as error:
            if error.errno == errno.ENODATA:
                return frozenset() if KEYS[name] == "tags" else ""
            if error.errno not in TROUBLE or not world.network.is_troubled:
                raise Wrong(f"{name} of {path} can't be read: {named_error(error.errno or 0)}") from None
        await trio.sleep(AFTER_LOOK_S)


def _check_attributes(path: str, wanted: Mapping[str, Value], held: Mapping[str, Value]) -> None:
    for key in wanted.keys() & held.keys():
        if not same(held[key], wanted[key], key):
            raise Wrong(f"Procore has as {key} of {path} {held[key]!r} and not {wanted[key]!r}")


def _wanted_in_procore(model: Model, held: Container[str]) -> dict[str, bytes | None]:
    """What Procore is to have; junk only where it has it as a document."""
    wanted: dict[str, bytes | None] = {}
    for path, entry in model.all():
        content = None if isinstance(entry, Folder) else bytes(entry.content)
        stay = stay_of(path, content, encodes=model.encodes)
        if stay is Stay.SENT or (stay is Stay.JUNK and path in held):
            wanted[path] = content
    return wanted


def _check_staying(world: "World") -> None:
    """What stays on this machine is named: all that has content of its own, and nothing else."""
    files = {path: entry for path, entry in world.model.all() if isinstance(entry, File) and entry.content}
    encodes = world.model.encodes
    stays = {path: stay_of(path, bytes(file.content), encodes=encodes) for path, file in files.items()}
    local = {
        path
        for path, stay in stays.items()
        if stay is Stay.LOCAL and not is_junk_file(path, bytes(files[path].content))
    }
    commands, sent = world.parts.writing.commands, world.procore.all_contents()
    items = [item for _, item in commands.items()]
    named = {item.path for item in items if item.state == ChangeState.LOCAL}
    if named != local or commands.counts().local != len(local):
        raise Wrong(
            f"status names {sorted(named)}, {commands.counts().local} in all, and {sorted(local)} stay here"
        )
    waiting = {item.path for item in items}
    for path, stay in stays.items():
        if (
            stay in (Stay.HELD, Stay.FAILED)
            and bytes(files[path].content) not in sent
            and path not in waiting
        ):
            raise Wrong(f"{path} stays here, and status does not name it")


def _check_junk_is_not_sent(world: "World") -> None:
    """No document began as what a program keeps for itself; a copy of another document's bytes is somebody's."""

    def is_kept(name: str, content: bytes) -> bool:
        return is_junk_file(decode(name) if world.model.encodes else name, content)

    documents = {content for name, content in world.procore.named_versions() if not is_kept(name, content)}
    for name, content in world.procore.named_versions(first_of_ours=True):
        if is_kept(name, content) and content not in documents:
            raise Wrong(f"{name!r} was sent as a new document, although it is junk")


async def _check_checked_in(world: "World") -> None:
    """A lock file that the mount still has, as its removal was refused, keeps one document checked out."""
    shown = await world.now.kernel.walk()
    lock_files = [path for path in shown if path.rpartition("/")[2] in LOCKS]
    with trio.move_on_after(CHECKED_IN_WITHIN_S):
        while len(world.procore.checked_out()) > len(lock_files):  # noqa: ASYNC110 - the product has no event for it
            await trio.sleep(1.0)
        return
    raise Wrong(
        f"more check-outs than lock files: {world.procore.checked_out()}, and the mount has {lock_files}"
    )


async def _quiet(world: "World", *, takes_back: bool) -> bool:
    """Wait until nothing waits; returns whether deletions were taken back."""
    commands, has_taken_back = world.parts.writing.commands, False
    with trio.move_on_after(QUIET_WITHIN_S):
        while waiting := _moving(world):
            incomplete = [item.path for item in waiting if item.state == "incomplete"]
            if incomplete:
                await commands.retry(incomplete)  # as a person would
            elif all(item.state == "guarded" for item in waiting):
                _check_held(world)
                has_taken_back |= takes_back and any(
                    _is_held_removal(change) for change, _ in commands.items()
                )
                guarded = [item.path for item in waiting]  # not what else is held or failed
                await (commands.discard if takes_back else commands.retry)(guarded)
            await trio.sleep(5.0)
        return has_taken_back
    # What was taken back has its name, and something else may have been put there meanwhile.
    if has_taken_back or any(step.op in ("colleague", "full", "role") for step in world.history.steps):
        moving = [item for item in commands.waiting([""]) if item.state not in STUCK]
    else:
        moving = _moving(world)
    if not moving:
        return has_taken_back
    left = [f"{item.path} is {item.state} {item.reason}" for item in moving]
    raise Wrong(f"after {QUIET_WITHIN_S:.0f} s there still waits: {'; '.join(left)}")


def _moving(world: "World") -> list[Item]:
    """What waits, without what waits for ever because of its name."""
    return [
        item
        for item in world.parts.writing.commands.waiting([""])
        if item.state not in (ChangeState.LOCAL, ChangeState.HELD, ChangeState.FAILED)
        or not stays_for_ever(item.path, encodes=world.model.encodes)
    ]


def _is_held_removal(change: Change) -> bool:
    return change.is_removed and change.state is ChangeState.GUARDED


def _check_held(world: "World") -> None:
    """Nothing that the delete guard holds was deleted; where calls are lost, one may have been done before."""
    steps = world.history.steps
    if any(step.op in ("colleague", "crash") or {f.kind for f in step.faults} - SURE for step in steps):
        return
    living = {document.id for document in world.holds().values()}
    for change in filter(_is_held_removal, world.parts.project.view.changes()):
        if change.document not in living:
            raise Wrong(f"document {change.document} was deleted although the delete guard holds it")
