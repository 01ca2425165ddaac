"""Reads what Procore has and what is in flight around one change, as the values that plan.py decides on."""

from dataclasses import replace

from procorefs.journal.change import Change, Location, aside_name
from procorefs.journal.in_flight_calls import Call, InFlightCalls
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.document_detail import decode_detail
from procorefs.tree.naming.name_rules import MAX_PATH_CHARACTERS
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.upload.planning.plan import (
    Goal,
    Occupant,
    Situation,
    Step,
    UnansweredCall,
    next_step,
    target_of,
)
from procorefs.upload.planning.refused_content import RefusedContent
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View


class Situations:
    """Reads the tree, the changes and the open calls."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        calls: InFlightCalls,
        fates: ChangeFate,
        content_rules: RefusedContent,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._calls = calls
        self._fates = fates
        self.content_rules = content_rules

    def step(self, change: Change, goal: Goal = Goal.SEND) -> Step:
        """Decide what the next try of a change does, with the present facts."""
        return next_step(change, self.of(change, goal), goal)

    def of(self, change: Change, goal: Goal = Goal.SEND) -> Situation:
        """The situation of a change."""
        known = self.known(change.document)
        unanswered = tuple(
            UnansweredCall(call, self._calls.left_s(call), self._place_blocker(change, call))
            for call in self._calls.given_up(change.inode, change.document)
        )
        refusal = self._fates.sending_refusal(change)
        target = target_of(change, known)
        common = Situation(
            known=known,
            detail=decode_detail(known.detail) if known is not None and change.patch else None,
            unanswered=unanswered,
            content_refusal=self._content_refusal(change, known, target),
            name_refusal=str(refusal) if refusal is not None else "",
            call_in_the_way=self._calls.in_the_way(
                change.inode, change.document, target if goal is Goal.SEND else None
            ),
            aside=_aside(self._store, known) if goal is Goal.STEP_ASIDE and known is not None else None,
        )
        if change.is_removed:
            return self._of_removal(change, common)
        return common if target is None else self._of_target(change, target, common)

    def _content_refusal(self, change: Change, known: Known | None, target: Location | None) -> str:
        if change.staged is None:
            return ""
        name = target.name if target is not None else known.name if known is not None else ""
        return self.content_rules.refusal(name, change.staged.size_bytes)

    def known(self, document: DocumentId | None) -> Known | None:
        """What Procore has of a document; None if it has none."""
        known = self._store.known(document) if document is not None else None
        return known if known is not None and self._store.reachable(known.node.inode) else None

    def _place_blocker(self, change: Change, call: Call) -> Inode | None:
        if not call.is_creating or change.document is not None:
            return None
        return self._calls.ahead_of(call)

    # Removals

    def _of_removal(self, change: Change, common: Situation) -> Situation:
        known = common.known
        if known is None or change.document is None:
            return replace(common, known=None)
        return replace(
            common,
            call_inside=self._call_inside(known.node.inode) if change.is_folder else None,
            removed_above=self._removed_above(known),
            pending_copy=self._view.pending_copy_of(change.document),
        )

    def _call_inside(self, folder: Inode) -> Inode | None:
        """An inode with an open call about an entry of the folder, or to a place in it."""
        for call in self._calls.open_calls():
            if not call.is_late and call.inode != folder and self._is_about(call, folder):
                return call.inode
        return None

    def _is_about(self, call: Call, folder: Inode) -> bool:
        there = self._store.known(call.document) if call.document is not None else None
        into = call.place.folder if call.place is not None else None
        return into == folder or any(
            above == folder
            for inode in (into, there.node.inode if there is not None else None)
            if inode is not None
            for above, _ in self._store.place(inode) or ()
        )

    def _removed_above(self, known: Known) -> Inode | None:
        at = known.node.parent
        for _ in range(DEEPEST):
            if at is None:
                return None
            change = self._view.change(at)
            is_held = change is not None and change.state is ChangeState.GUARDED
            if change is not None and change.is_removed and change.document is not None and not is_held:
                return at
            node = self._store.by_inode(at)
            at = node.parent if node is not None else None
        return None

    # Creations and moves

    def _of_target(self, change: Change, target: Location, common: Situation) -> Situation:
        folder = self._view.change(target.folder)
        is_missing = folder is not None and folder.document is None
        node = self._store.child(target.folder, target.shown) or self._shown_alike(target)
        is_other = node is not None and node.inode != change.inode
        is_inside, leaving = self._way_inside(change, target) if change.is_folder else (False, None)
        return replace(
            common,
            missing_folder=target.folder if is_missing else None,
            occupant=self.occupant(change, node) if node is not None and is_other else None,
            is_inside_itself=is_inside,
            leaving=leaving,
        )

    def _shown_alike(self, target: Location) -> Node | None:
        """The document that is to leave the name under which programs see the new entry: till then the two names are
        one."""
        plain = self._view.names.plain(target.name).encode("utf-8", "replace")
        node = self._store.child(target.folder, plain) if plain != target.shown else None
        theirs = self._view.change(node.inode) if node is not None else None
        return node if theirs is not None and not theirs.is_following else None

    def occupant(self, change: Change, node: Node) -> Occupant:
        """Another document at the change's place, and what is wanted of it."""
        theirs = self._view.change(node.inode)
        inside = self._view.shown_in(node.inode)
        maker = self._calls.maker_of(node) if theirs is None else None
        return Occupant(
            node.inode,
            node.document_id,
            node.kind,
            leaves=theirs is not None and not theirs.is_following,
            has_work=(theirs is not None and not theirs.is_idle)
            or self._dirty_files.is_written(node.inode)
            or self._calls.has(node.inode, node.document_id),
            inside=inside[0] if inside else None,
            maker=maker if maker != change.inode else None,
        )

    def _way_inside(self, change: Change, target: Location) -> tuple[bool, Inode | None]:
        """Whether Procore has the new folder inside the one that is moved, and which folder between is to leave it."""
        leaving: Inode | None = None
        at = target.folder
        for above, _ in self._store.place(target.folder) or ():
            theirs = self._view.change(at)
            if leaving is None and theirs is not None and theirs.is_placed:
                leaving = at
            if above == change.inode:
                return True, leaving
            at = above
        return False, None


def _aside(store: TreeStore, known: Known) -> Location | None:
    """A free name beside its own, no longer than that if Procore would refuse a longer path; None: it has one."""
    folder, document = known.node.parent, known.node.document_id
    if folder is None or document is None:
        return None
    name = aside_name(document)
    if known.name == name:
        return None
    longest = store.longest_below(known.node.inode) if known.node.is_folder else 0
    above = len(store.path(folder))
    if above + 1 + len(name) + (1 + longest if longest else 0) > MAX_PATH_CHARACTERS:
        folder = ROOT
    return Location(folder, name)
