"""What stays here: known when a file is closed or renamed, never for its name alone, and never dropped with content."""

from pathlib import Path

import pytest

from procorefs.journal.change import Stage
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs.refusals import NameRefused, NotPermitted
from tests.support.outbox_room import Room, room_in
from tests.support.tree_documents import file, folder

APPLE = b"\0\5\x16\7".ljust(100, b"\0")
VIM = b"b0VIM 9.1".ljust(100, b"\0")
REAL = b"PK\3\4 somebody's work"


def fate(room: Room, inode: Inode) -> Fate:
    return room.base.fates.fate_of(room.change(inode))


@pytest.mark.parametrize("name", ["~$budget.xlsx", "macro.swp", "._survey.jpg", "desktop.ini", ".DS_Store"])
async def test_a_file_with_content_of_its_own_is_sent_whatever_it_is_called(
    tmp_path: Path, name: str
) -> None:
    with room_in(tmp_path) as room:
        inode = room.create(name)
        assert fate(room, inode) is Fate.LOCAL  # nobody knows yet
        room.write(inode, 0, REAL)
        room.close(inode)
        assert fate(room, inode) is Fate.SENT
    with room_in(tmp_path) as room:
        assert fate(room, inode) is Fate.SENT
        assert list(room.staged.values()) == [REAL]


async def test_junk_stays_here_and_is_gone_with_the_mount(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        inodes = [room.put("._a: b.txt", APPLE), room.put(".a|b.swp", VIM), room.put(".~lock.a:b.odt#", b"")]
        assert {fate(room, inode) for inode in inodes} == {Fate.LOCAL}
        assert not any(room.base.fates.is_own_content(room.change(inode)) for inode in inodes)
    with room_in(tmp_path) as room:
        assert len(room.view) == 0


async def test_what_a_file_is_may_change_each_time_it_is_closed(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        inode = room.put("macro.swp", VIM)
        dirty_file = room.reopen(inode)
        await room.edits.sessions.write(dirty_file, 0, REAL)
        room.close(inode)
        assert fate(room, inode) is Fate.SENT
        dirty_file = room.reopen(inode)
        await room.edits.sessions.write(dirty_file, 0, VIM)
        room.close(inode)
        assert fate(room, inode) is Fate.LOCAL


async def test_a_rename_decides_anew(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        swap, real = room.put("swap", VIM), room.put(".real.swp", REAL)
        assert (fate(room, swap), fate(room, real)) == (Fate.SENT, Fate.SENT)
        room.edits.entries.rename(ROOT, b"swap", ROOT, b".x.swp")
        assert fate(room, swap) is Fate.LOCAL
        room.edits.entries.exchange(ROOT, b".x.swp", ROOT, b".real.swp")
        assert (fate(room, swap), fate(room, real)) == (Fate.LOCAL, Fate.SENT)
        room.edits.entries.rename(ROOT, b".real.swp", ROOT, b"swap")
        assert fate(room, swap) is Fate.SENT


async def test_what_an_earlier_run_was_to_send_is_never_dropped(tmp_path: Path) -> None:
    """Closed and journaled with junk=keep, the daemon killed, mounted without it."""
    with room_in(tmp_path, junk="keep") as room:
        inodes = [room.put(".DS_Store", b"\0\0\0\1Bud1"), room.put("~$budget.xlsx", REAL)]
        room.edits.entries.make_folder(ROOT, b"__MACOSX", Kept())
        inside = room.put("x", REAL, room.view.child(ROOT, b"__MACOSX").inode)  # type: ignore[union-attr]
        assert {fate(room, inode) for inode in (*inodes, inside)} == {Fate.SENT}
    with room_in(tmp_path) as room:
        assert [fate(room, inode) for inode in (*inodes, inside)] == [Fate.LOCAL, Fate.SENT, Fate.LOCAL]
        assert sorted(room.staged.values()) == sorted([b"\0\0\0\1Bud1", REAL, REAL])


async def test_what_lies_in_a_folder_of_programs_stays_with_its_content(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        trash = room.edits.entries.make_folder(ROOT, b".Trash-1000", Kept()).inode
        files = room.edits.entries.make_folder(trash, b"files: all", Kept()).inode
        empty = room.edits.entries.make_folder(trash, b"info", Kept()).inode
        kept, junk = room.put("a|b.dwg", REAL, folder=files), room.put("._x", APPLE, folder=empty)
        assert (fate(room, kept), fate(room, junk)) == (Fate.LOCAL, Fate.LOCAL)
        assert "'.Trash-1000'" in room.base.fates.why_local(room.change(kept))
    with room_in(tmp_path) as room:
        assert {change.inode for change in room.view.changes()} == {trash, files, kept}
        assert room.base.fates.is_own_content(room.change(kept))


async def test_a_file_that_was_cut_off_is_known_by_what_there_is_of_it(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        real, junk = room.create("~$budget.xlsx", REAL), room.create("._x", APPLE)
    with room_in(tmp_path) as room:
        assert room.change(real).stage is Stage.INCOMPLETE
        assert room.view.change(junk) is None


async def test_a_document_is_never_junk(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        room.list_root(file(5, "plan.dwg"), folder(6, "folder"))
        trash = room.edits.entries.make_folder(ROOT, b".Trash-1000", Kept()).inode
        box = room.edits.entries.make_folder(ROOT, b"box", Kept()).inode
        for name in (b"plan.dwg", b"folder"):
            with pytest.raises(NotPermitted):
                room.edits.entries.rename(ROOT, name, trash, name)
        with pytest.raises(NameRefused):
            room.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"._plan: old.dwg")
        room.edits.entries.rename(ROOT, b"plan.dwg", box, b"~$plan.dwg")
        assert fate(room, room.view.child(box, b"~$plan.dwg").inode) is Fate.SENT  # type: ignore[union-attr]
        with pytest.raises(NotPermitted):  # the document would go along
            room.edits.entries.rename(ROOT, b"box", trash, b"box")


async def test_names_of_what_may_be_junk_or_is_temporary_obey_no_rule_of_procores(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        for name in (
            "._a: b.txt",
            "._Icon\r",
            "Icon\r",
            ".~lock.a:b.odt#",
            ".plan: x.dwg.Ab12Cd",
            "~$a?.docx",
        ):
            room.put(name, b"")
        real = room.put("~$a*.docx", REAL)
        refusal = room.base.fates.sending_refusal(room.change(real))
        assert refusal is not None
        assert refusal.character == "*"
        for name in (b"a: b.txt", b"._a\xff", b"._" + b"x" * 254):
            with pytest.raises(NameRefused):
                room.edits.entries.create(ROOT, name, Kept())
        with pytest.raises(NameRefused):
            room.edits.entries.make_folder(ROOT, b"._a: b", Kept())


async def test_junk_goes_with_a_folder_that_procore_removed(tmp_path: Path) -> None:
    with room_in(tmp_path) as room:
        room.list_root(folder(6, "folder"), folder(7, "other"))
        for name, data in (("folder", APPLE), ("other", REAL)):
            inside = room.view.child(ROOT, name.encode())
            assert inside is not None
            room.put("._x", data, folder=inside.inode)
        room.list_root()
        assert room.view.child(ROOT, b"folder") is None
        assert room.view.child(ROOT, b"other") is not None
