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
from procorefs.journal.journal import Journal, JournalDamaged
from procorefs.procore.errors import LATE_S, ProcoreError, Unanswered
from procorefs.procore.wire.models import DocumentId, Kind
from procorefs.storage import clocks
from procorefs.storage.failures import UNDECODABLE
from procorefs.tree.nodes import Inode, Node


class Call(msgspec.Struct, gc=False, omit_defaults=True, eq=False):
    """One call; a row of the journal."""

    number: int
    inode: Inode
    """The inode whose change it sends; a takeover of the document moves the call, too."""
    kind: Kind
    document: DocumentId | None
    """The call's document. For a late creation, the document that another call made instead."""
    makes: bool = False
    place: Location | None = None
    """Where the call creates the document or moves it to; None if it stays where it is."""
    removes: bool = False
    upload: Upload | None = None
    """The uploaded bytes that it makes a version of."""
    patch: MetadataPatch = msgspec.field(default_factory=MetadataPatch, name="wishes")
    """The metadata that it carries."""
    last_inode: Inode = Inode(0)
    """The last inode that was given out when it was sent: a document that it makes gets a higher one from a listing."""
    began_at_s: float = 0.0
    """When it was sent, by clocks.unix_s."""
    given_up_at_s: float = 0.0
    """When it ended without an answer, by clocks.unix_s; 0 if it is under way or the daemon died meanwhile."""
    is_late: bool = False
    """Whether it was looked up and was not done so far."""
    made: DocumentId | None = None
    """The document that its answer named, noted before the inode's row says so."""

    @property
    def is_creating(self) -> bool:
        """Whether it may still make a document that is unknown here."""
        return self.makes and self.document is None

    @property
    def moves(self) -> bool:
        """Whether the call moves or removes the document."""
        return self.place is not None or self.removes

    def belongs_to(self, change: Change) -> bool:
        """Whether the change of the call's inode can find out its outcome, because it has the document."""
        return change.document == self.document or (self.made is not None and change.document == self.made)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Call).decode


class Sending:
    """A call that is being sent; records how it ended."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.is_over = False
        self.is_refused = False
        self.is_unclear = False

    @property
    def place(self) -> Location | None:
        """Where it puts the document: the folder's document may be another inode than when it was sent."""
        return self._call.place

    def answered(self) -> None:
        """Record that it was done: its answer is applied next, without an await, and it no longer blocks others."""
        self.is_over = True

    def unclear(self) -> None:
        """Record that this call or an earlier one was done, or may have been: every error leaves it open."""
        self.is_unclear = True

    def refused(self) -> None:
        """Record that it was not done and will not be."""
        self.is_over = self.is_refused = True

    def not_sent(self) -> None:
        """Record that it was not sent. The outcome of an earlier call that it was to repeat stays unknown."""
        if not self.is_unclear:
            self.refused()


class InFlightCalls:
    """All open calls, with at most one under way for each inode. Synchronous."""

    def __init__(
        self, journal: Journal, row_written: Callable[[], None], last_inode: Callable[[], Inode]
    ) -> None:
        """`row_written` makes the journal reach the disk soon."""
        self._journal = journal
        self._row_written = row_written
        self._last_inode = last_inode
        self._calls: dict[int, Call] = {}
        self._sending: dict[int, Sending] = {}
        for number, body in journal.calls():
            try:
                call = self._calls[number] = _decode(body)
            except UNDECODABLE as error:
                raise JournalDamaged(
                    f"The journal has a call that cannot be read ({error}), so nobody knows what Procore was told; "
                    "use the version of ProcoreFS that wrote it, or move the state directory aside; its folder "
                    "staging has the bytes that were not sent."
                ) from error
            call.began_at_s = clocks.past_s(call.began_at_s)
            call.given_up_at_s = clocks.past_s(call.given_up_at_s or clocks.unix_s())
        self._drop_repeated()
        self._next = max(self._calls, default=0) + 1

    def _drop_repeated(self) -> None:
        """Drop calls that were repeated with the same upload, if a crash prevented that: the newest stands for all."""
        newest: dict[str, int] = {}
        for number, call in sorted(self._calls.items()):
            if call.upload is not None:
                before = newest.get(call.upload.uuid)
                newest[call.upload.uuid] = number
                if before is not None:
                    del self._calls[before]
                    self._journal.drop_call(before)

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
        """Hold a call open while it is sent and its answer is applied. Raises sqlite3.Error before anything is sent.

        `repeats`: an unconfirmed call with the same upload, which this one replaces. That one may have moved the
        document, so its place is kept. The block reports the end by `answered` or `refused`. A ProcoreError other
        than Unanswered is a refusal. Every other end without an answer, and an answer that cannot be applied, leaves
        the call unconfirmed.
        """
        call = Call(
            self._next,
            inode,
            kind,
            document,
            document is None,
            place if repeats is None else repeats.place,
            removes,
            upload,
            patch or MetadataPatch(),
            self._last_inode() if repeats is None else repeats.last_inode,
            began_at_s=clocks.unix_s(),
        )
        self._next += 1
        self._write(call)
        state = self._sending[call.number] = Sending(call)
        state.is_unclear = repeats is not None  # the refusal says nothing about the repeated call
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

    @contextmanager
    def applying(self, call: Call) -> Iterator[None]:
        """Apply what an unconfirmed call has done: it blocks others no longer, and is forgotten only after that.

        A daemon that dies in between would take what the call made for another user's.
        """
        state = self._sending[call.number] = Sending(call)
        state.answered()
        try:
            yield
        finally:
            del self._sending[call.number]
        self.forget(call)

    def suppose(self, change: Change) -> None:
        """Add an unconfirmed call for a change whose upload may have been used and whose call a power cut lost."""
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
        """The open calls of an inode or about its document, the oldest first."""
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
        """Whether an open call makes the inode's document, or may have made it."""
        return any(call.is_creating for call in self.of(inode, None))

    def moves(self, inode: Inode, document: DocumentId | None) -> bool:
        """Whether an open call may have moved or removed the document."""
        return any(call.moves for call in self.of(inode, document))

    def is_under_way(self, inode: Inode) -> bool:
        return any(call.number in self._sending for call in self.of(inode, None))

    def given_up(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """The calls whose answer no task waits for any more."""
        return [call for call in self.of(inode, document) if call.number not in self._sending]

    def unconfirmed(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """The calls whose outcome is unknown."""
        return [call for call in self.given_up(inode, document) if not call.is_late]

    def late(self, inode: Inode, document: DocumentId | None) -> list[Call]:
        """The calls that were looked up, were not done, and may still take effect."""
        return [call for call in self.given_up(inode, document) if call.is_late]

    def in_the_way(self, inode: Inode, document: DocumentId | None, place: Location | None) -> Inode | None:
        """The inode with an open call about the same document or to the same place.

        A call that can no longer take effect does not count; its own change may look it up once more.
        """
        for call in self._open():
            if call.inode == inode or (call.is_late and not self.left_s(call)):
                continue
            if document is not None and call.document == document:
                return call.inode
            if place is not None and call.place == place:
                return call.inode
        return None

    def ahead_of(self, call: Call) -> Inode | None:
        """Another inode with a call to the same place that is under way, or older: they are confirmed one by one."""
        for other in self._open():
            if other.inode == call.inode or other.place != call.place:
                continue
            is_ahead = other.number in self._sending or other.number < call.number
            if is_ahead and (not other.is_late or self.left_s(other)):
                return other.inode
        return None

    def may_have_made(self, node: Node) -> bool:
        """Whether a document in a listing may be one that an open call makes, so that it is not shown separately."""
        return self.maker_of(node) is not None

    def maker_of(self, node: Node) -> Inode | None:
        """The inode whose open call may have made a document in a listing."""
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
        """The inode whose open call may have made a document at a place, which no listing shows yet."""
        for call in self._open():
            if call.is_creating and call.kind is kind and call.place == place:
                return call.inode
        return None

    def open_calls(self) -> list[Call]:
        return list(self._open())

    def left_s(self, call: Call) -> float:
        """For how many more seconds the call may take effect; 0 if it cannot any more."""
        return max(LATE_S - clocks.age_s(call.given_up_at_s), 0.0)

    def load_owners(self) -> None:
        """After a failed transaction: restore which inode each call belongs to."""
        for number, body in self._journal.calls():
            if number in self._calls:
                self._calls[number].inode = _decode(body).inode

    # Outcomes

    def forget(self, call: Call) -> None:
        """Forget a call whose outcome is known."""
        if self._calls.pop(call.number, None) is not None:
            self._journal.drop_call(call.number)
            self._row_written()

    def not_done_yet(self, call: Call) -> None:
        """Note that the call was looked up and not done so far."""
        if not call.is_late:
            call.is_late = True
            self._write(call)

    def forget_expired(self, inode: Inode) -> None:
        """Note that nothing is wanted of the inode: its late calls count only while they may take effect."""
        for call in self.late(inode, None):
            if not self.left_s(call):
                self.forget(call)

    def folder_there(self, place: Location, document: DocumentId) -> None:
        """Note a folder that a call made or moved there: while it has the name, no other call can make one, and the
        folder is no other call's result."""
        for call in self._open():
            is_same = call.is_creating and call.kind is Kind.FOLDER and call.place == place
            if is_same and call.number not in self._sending:
                self.was_made(call, document)

    def answered(self, inode: Inode, document: DocumentId) -> None:
        """Note the document that the call under way has made: if the inode has another one, the result is not its."""
        for number in self._sending:
            call = self._calls[number]
            if call.inode == inode and call.is_creating:
                call.made = document
                self._write(call)

    def was_made(self, call: Call, document: DocumentId) -> None:
        """Note that another call made what a late call was to make: while that has the name, the late call cannot
        take effect."""
        call.document = document
        self._write(call)

    def hand_over(self, call: Call, inode: Inode) -> None:
        """Let another inode's change find out the outcome."""
        call.inode = inode
        self._write(call)

    def folder_moved(self, folder: Inode, to: Inode) -> None:
        """Move the places of calls to the inode that a folder's document has now."""
        for call in self._calls.values():
            if call.place is not None and call.place.folder == folder:
                call.place = Location(to, call.place.name)
                self._write(call)

    def forget_uploaded(self, uuid: str) -> None:
        """Forget the calls with an upload whose use was answered: it can be used only once."""
        for call in [
            call for call in self._calls.values() if call.upload is not None and call.upload.uuid == uuid
        ]:
            if call.number not in self._sending:
                self.forget(call)

    def forget_document(self, document: DocumentId) -> None:
        """Forget the calls about a document that is gone."""
        for call in [call for call in self._calls.values() if call.document == document]:
            if call.number not in self._sending:
                self.forget(call)
