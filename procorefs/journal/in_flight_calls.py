"""Calls that change Procore, from before they are sent until it is known what became of them.

    sent ─▶ answered or refused ─▶ forgotten
         ─▶ no answer ─▶ unconfirmed ─▶ asked for (unanswered.py) ─▶ done, or certainly not ─▶ forgotten
                                                                  ─▶ not done so far: late ─▶ forgotten after LATE_S

A call can't be taken back, and nobody knows of an unanswered one whether it was done, or will be: a gateway may give up
while the server behind it goes on. So as long as a call is open, no decision rests on what the tree says of its
document: nothing is "already so", the document is not handed on, its name is not free. Calls are journaled before they
are sent, so that a daemon that dies leaves them unconfirmed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch, Upload
from procorefs.journal.journal import Journal
from procorefs.procore.errors import LATE_S, ProcoreError, Unanswered
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode, Node


class Call(msgspec.Struct, omit_defaults=True, eq=False):
    """One call; a row of the journal."""

    number: int
    inode: Inode
    """Whose change it carries out; who takes over the document takes over the call."""
    kind: Kind
    document: DocumentId | None
    """Of one that makes a document: the one that another call has made in its stead, if it is late."""
    makes: bool = False
    place: Location | None = None
    """Where it makes or moves the document; None: it stays where it is."""
    removes: bool = False
    upload: Upload | None = None
    """The bytes that it makes a version of."""
    patch: MetadataPatch = msgspec.field(default_factory=MetadataPatch, name="wishes")
    """The metadata that it carries."""
    last_inode: Inode = Inode(0)
    """Given out when it was sent: what it makes, and a listing brings first, has a higher one."""
    began_at_s: float = 0.0
    """By clocks.unix_s, as the next."""
    given_up_at_s: float = 0.0
    """0: it is under way, or the daemon died while it was."""
    is_late: bool = False
    """It was looked for and was not done."""

    @property
    def is_creating(self) -> bool:
        """Whether it may yet make a document that nobody here knows."""
        return self.makes and self.document is None

    @property
    def moves(self) -> bool:
        """Whether the document may be elsewhere, or gone, once it is done."""
        return self.place is not None or self.removes

    def belongs_to(self, change: Change) -> bool:
        """Whether the change, of the call's inode, finds out what became of it: it has the document."""
        return self.document == change.document


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Call).decode


class Sending:
    """A call that is being sent; says how it ended."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_refused = False
        self.is_unclear = False

    def answered(self) -> None:
        """It was done: its answer is applied next, and it is in nobody's way any more."""
        self.is_over = True

    def unclear(self) -> None:
        """It was refused, perhaps because an earlier one was done: until that is known, every error leaves it open."""
        self.is_unclear = True

    def refused(self) -> None:
        """It was not done, and won't be."""
        self.is_over = self.is_refused = True

    def not_sent(self) -> None:
        """It was not sent. Nothing is known of an earlier one that it was to repeat."""
        if not self.is_unclear:
            self.refused()


class InFlightCalls:
    """All open calls: at most one that is under way an inode. Synchronous."""

    def __init__(
        self, journal: Journal, row_written: Callable[[], None], last_inode: Callable[[], Inode]
    ) -> None:
        """`row_written` has the journal brought to disk soon."""
        self._journal = journal
        self._row_written = row_written
        self._last_inode = last_inode
        self._calls: dict[int, Call] = {}
        self._sending: dict[int, Sending] = {}
        for number, body in journal.calls():
            call = self._calls[number] = _decode(body)
            call.began_at_s = clocks.past_s(call.began_at_s)
            call.given_up_at_s = clocks.past_s(call.given_up_at_s or clocks.unix_s())
        self._next = max(self._calls, default=0) + 1

    # Sending

    @contextmanager
    def sending(
        self,
        inode: Inode,
        kind: Kind,
        document: DocumentId | None,
        place: Location | None = None,
        *,
        removes: bool = False,
        upload: Upload | None = None,
        patch: MetadataPatch | None = None,
        repeats: Call | None = None,
    ) -> Iterator[Sending]:
        """While it is under way and its answer is applied. Raises sqlite3.Error before anything is sent.

        `repeats`: an unconfirmed call with the same upload, in whose place this one goes.

        Whoever is told an answer says so by `answered` or `refused`. A ProcoreError but Unanswered is a refusal;
        every other end without an answer, and an answer that can't be applied, leave the call unconfirmed.
        """
        call = Call(
            self._next,
            inode,
            kind,
            document,
            document is None,
            place,
            removes,
            upload,
            patch or MetadataPatch(),
            self._last_inode() if repeats is None else repeats.last_inode,
            began_at_s=clocks.unix_s(),
        )
        self._next += 1
        self._write(call)
        state = self._sending[call.number] = Sending()
        state.is_unclear = repeats is not None  # whatever refuses this one says nothing of the other
        self._calls[call.number] = call
        if repeats is not None:
            self.forget(repeats)
        try:
            yield state
        except ProcoreError as error:
            del self._sending[call.number]
            is_open = state.is_over or state.is_unclear or isinstance(error, Unanswered)
            if state.is_refused or not is_open:
                self.forget(call)
            else:
                self._give_up(call)
            raise
        except BaseException:
            del self._sending[call.number]
            if state.is_refused:
                self.forget(call)
            else:
                self._give_up(call)
            raise
        del self._sending[call.number]
        self.forget(call)

    def suppose(self, change: Change) -> None:
        """A change says that its upload may have been used, and no call does: a power cut took the call along."""
        place = change.location if change.location is not None and change.document is None else None
        if change.upload is None or (change.document is None and place is None):
            return
        now_s = clocks.unix_s()
        call = Call(
            self._next,
            change.inode,
            change.kind,
            change.document,
            change.document is None,
            place,
            upload=change.upload,
            last_inode=self._last_inode(),
            began_at_s=change.touched_at_s,
            given_up_at_s=now_s,
        )
        self._next += 1
        self._write(call)
        self._calls[call.number] = call

    def _write(self, call: Call) -> None:
        self._journal.put_call(call.number, _encode(call))
        self._row_written()

    def _give_up(self, call: Call) -> None:
        call.given_up_at_s = clocks.unix_s()
        self._write(call)

    # Questions

    def _open(self) -> Iterator[Call]:
        for number, call in self._calls.items():
            state = self._sending.get(number)
            if state is None or not state.is_over:
                yield call

    def of(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """Open calls of an inode, or about the document that it is, the oldest first."""
        if not self._calls:
            return []
        return [
            call
            for call in self._open()
            if call.inode == inode or (document is not None and call.document == document)
        ]

    def has(self, inode: Inode, document: DocumentId | None) -> bool:
        return bool(self.of(inode, document))

    def makes(self, inode: Inode) -> bool:
        """Whether a document is being made, or may have been."""
        return any(call.is_creating for call in self.of(inode, None))

    def moves(self, inode: Inode, document: DocumentId | None) -> bool:
        """Whether the document may be elsewhere, or gone, by a call that is open."""
        return any(call.moves for call in self.of(inode, document))

    def is_under_way(self, inode: Inode) -> bool:
        return any(call.number in self._sending for call in self.of(inode, None))

    def given_up(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """Those whose answer nobody waits for any more."""
        return [call for call in self.of(inode, document) if call.number not in self._sending]

    def unconfirmed(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """Those of which nobody knows yet whether they were done."""
        return [call for call in self.given_up(inode, document) if not call.is_late]

    def late(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """Those that were looked for and not done, and may still be."""
        return [call for call in self.given_up(inode, document) if call.is_late]

    def in_the_way(self, inode: Inode, document: DocumentId | None, place: Location | None) -> Inode | None:
        """Whose open call is about the same document, or makes or moves one to the same place.

        One that can't be carried out any more is in nobody's way; its own change may look for it once more.
        """
        for call in self._open():
            if call.inode == inode or (call.is_late and not self.left_s(call)):
                continue
            if document is not None and call.document == document:
                return call.inode
            if place is not None and call.place == place:
                return call.inode
        return None

    def may_have_made(self, node: Node) -> bool:
        """Whether a document that a listing brought may be one that an open call makes: nobody wants that by itself."""
        return self.maker_of(node) is not None

    def maker_of(self, node: Node) -> Inode | None:
        """Whose open call may have made a document that a listing brought."""
        for call in self._open() if self._calls else ():
            if (
                call.is_creating
                and call.kind is node.kind
                and node.inode > call.last_inode
                and call.place is not None
                and call.place.folder == node.parent
                and call.place.shown == node.shown
            ):
                return call.inode
        return None

    def maker_at(self, place: Location, kind: Kind) -> Inode | None:
        """Whose open call may have made a document at a place that no listing has brought yet."""
        for call in self._open():
            if call.is_creating and call.kind is kind and call.place == place:
                return call.inode
        return None

    def open_calls(self) -> list[Call]:
        return list(self._open())

    def left_s(self, call: Call) -> float:
        """For how long it may still be carried out, in seconds; 0: not any more."""
        return max(LATE_S - clocks.age_s(call.given_up_at_s), 0.0)

    def load_owners(self) -> None:
        """A moment was not written down: who had which call before it."""
        for number, body in self._journal.calls():
            if number in self._calls:
                self._calls[number].inode = _decode(body).inode

    # What became of them

    def forget(self, call: Call) -> None:
        """It is known what became of it."""
        if self._calls.pop(call.number, None) is not None:
            self._journal.drop_call(call.number)
            self._row_written()

    def not_done_yet(self, call: Call) -> None:
        """It was looked for: it was not done so far, and may still be."""
        if not call.is_late:
            call.is_late = True
            self._write(call)

    def forget_expired(self, inode: Inode) -> None:
        """Nobody wants anything of the inode: its late calls are in the way only as long as they may be carried out."""
        for call in self.late(inode, None):
            if not self.left_s(call):
                self.forget(call)

    def folder_made(self, place: Location, document: DocumentId) -> None:
        """A call has made a folder: as long as it has the name, no other can, and it is nobody else's."""
        for call in self._open():
            is_same = call.is_creating and call.kind is Kind.FOLDER and call.place == place
            if is_same and call.number not in self._sending:
                self.was_made(call, document)

    def was_made(self, call: Call, document: DocumentId) -> None:
        """What a late call was to make has been made by another: as long as that has the name, it can't be done."""
        call.document = document
        self._write(call)

    def hand_over(self, call: Call, inode: Inode) -> None:
        """Another inode's change is to find out what became of it."""
        call.inode = inode
        self._write(call)

    def folder_moved(self, folder: Inode, to: Inode) -> None:
        """A folder's document is another inode now: what calls make in it is made there."""
        for call in self._calls.values():
            if call.place is not None and call.place.folder == folder:
                call.place = Location(to, call.place.name)
                self._write(call)

    def forget_uploaded(self, uuid: str) -> None:
        """An upload is used once: what was asked with it has been answered."""
        for call in [
            call for call in self._calls.values() if call.upload is not None and call.upload.uuid == uuid
        ]:
            if call.number not in self._sending:
                self.forget(call)

    def forget_document(self, document: DocumentId) -> None:
        """The document is gone: nothing can be done to it any more."""
        for call in [call for call in self._calls.values() if call.document == document]:
            if call.number not in self._sending:
                self.forget(call)
