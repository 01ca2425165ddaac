"""What stays here: known when a file is closed or renamed, never for its name alone, and never dropped with content."""

from pathlib import Path

import pytest

from procorefs.journal.states import ChangeState
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import ROOT, Inode, Kept
from procorefs.vfs.refusals import NameRefused, NotPermitted
from tests.support.offline_project import OfflineProject, offline_project
from tests.support.tree_documents import file, folder

APPLE = b"\0\5\x16\7".ljust(100, b"\0")
VIM = b"b0VIM 9.1".ljust(100, b"\0")
REAL = b"PK\3\4 somebody's work"


def fate(project: OfflineProject, inode: Inode) -> Fate:
    return project.base.fates.fate_of(project.change(inode))


@pytest.mark.parametrize("name", ["~$budget.xlsx", "macro.swp", "._survey.jpg", "desktop.ini", ".DS_Store"])
async def test_a_file_with_content_of_its_own_is_sent_whatever_it_is_called(
    tmp_path: Path, name: str
) -> None:
    with offline_project(tmp_path) as project:
        inode = project.create(name)
        assert fate(project, inode) is Fate.LOCAL  # nobody knows yet
        project.write(inode, 0, REAL)
        project.close(inode)
        assert fate(project, inode) is Fate.SENT
    with offline_project(tmp_path) as project:
        assert fate(project, inode) is Fate.SENT
        assert list(project.staged.values()) == [REAL]


async def test_junk_stays_here_and_is_gone_with_the_mount(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inodes = [
            project.put("._a: b.txt", APPLE),
            project.put(".a|b.swp", VIM),
            project.put(".~lock.a:b.odt#", b""),
        ]
        assert {fate(project, inode) for inode in inodes} == {Fate.LOCAL}
        assert not any(project.base.fates.is_own_content(project.change(inode)) for inode in inodes)
    with offline_project(tmp_path) as project:
        assert len(project.view) == 0


async def test_what_a_file_is_may_change_each_time_it_is_closed(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        inode = project.put("macro.swp", VIM)
        dirty_file = project.reopen(inode)
        await project.edits.sessions.write(dirty_file, 0, REAL)
        project.close(inode)
        assert fate(project, inode) is Fate.SENT
        dirty_file = project.reopen(inode)
        await project.edits.sessions.write(dirty_file, 0, VIM)
        project.close(inode)
        assert fate(project, inode) is Fate.LOCAL


async def test_a_rename_decides_anew(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        swap, real = project.put("swap", VIM), project.put(".real.swp", REAL)
        assert (fate(project, swap), fate(project, real)) == (Fate.SENT, Fate.SENT)
        project.edits.entries.rename(ROOT, b"swap", ROOT, b".x.swp")
        assert fate(project, swap) is Fate.LOCAL
        project.edits.entries.exchange(ROOT, b".x.swp", ROOT, b".real.swp")
        assert (fate(project, swap), fate(project, real)) == (Fate.LOCAL, Fate.SENT)
        project.edits.entries.rename(ROOT, b".real.swp", ROOT, b"swap")
        assert fate(project, swap) is Fate.SENT


async def test_what_an_earlier_run_was_to_send_is_never_dropped(tmp_path: Path) -> None:
    """Closed and journaled with junk=keep, the daemon killed, mounted without it."""
    with offline_project(tmp_path, junk="keep") as project:
        inodes = [project.put(".DS_Store", b"\0\0\0\1Bud1"), project.put("~$budget.xlsx", REAL)]
        project.edits.entries.make_folder(ROOT, b"__MACOSX", Kept())
        inside = project.put("x", REAL, project.child(ROOT, b"__MACOSX").inode)
        assert {fate(project, inode) for inode in (*inodes, inside)} == {Fate.SENT}
    with offline_project(tmp_path) as project:
        assert [fate(project, inode) for inode in (*inodes, inside)] == [Fate.LOCAL, Fate.SENT, Fate.LOCAL]
        assert sorted(project.staged.values()) == sorted([b"\0\0\0\1Bud1", REAL, REAL])


async def test_what_lies_in_a_folder_of_programs_stays_with_its_content(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        trash = project.edits.entries.make_folder(ROOT, b".Trash-1000", Kept()).inode
        files = project.edits.entries.make_folder(trash, b"files: all", Kept()).inode
        empty = project.edits.entries.make_folder(trash, b"info", Kept()).inode
        kept, junk = project.put("a|b.dwg", REAL, folder=files), project.put("._x", APPLE, folder=empty)
        assert (fate(project, kept), fate(project, junk)) == (Fate.LOCAL, Fate.LOCAL)
        assert "'.Trash-1000'" in project.base.fates.why_local(project.change(kept))
    with offline_project(tmp_path) as project:
        assert {change.inode for change in project.view.changes()} == {trash, files, kept}
        assert project.base.fates.is_own_content(project.change(kept))


async def test_a_file_that_was_cut_off_is_known_by_what_there_is_of_it(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        real, junk = project.create("~$budget.xlsx", REAL), project.create("._x", APPLE)
    with offline_project(tmp_path) as project:
        assert project.change(real).state is ChangeState.INCOMPLETE
        assert project.view.change(junk) is None


async def test_a_document_is_never_junk(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(file(5, "plan.dwg"), folder(6, "folder"))
        trash = project.edits.entries.make_folder(ROOT, b".Trash-1000", Kept()).inode
        box = project.edits.entries.make_folder(ROOT, b"box", Kept()).inode
        for name in (b"plan.dwg", b"folder"):
            with pytest.raises(
                NotPermitted, match=f"cannot move to '.Trash-1000/{name.decode()}', which stays"
            ):
                project.edits.entries.rename(ROOT, name, trash, name)
        with pytest.raises(NameRefused):
            project.edits.entries.rename(ROOT, b"plan.dwg", ROOT, b"._plan: old.dwg")
        project.edits.entries.rename(ROOT, b"plan.dwg", box, b"~$plan.dwg")
        assert fate(project, project.child(box, b"~$plan.dwg").inode) is Fate.SENT
        with pytest.raises(NotPermitted):  # the document would go along
            project.edits.entries.rename(ROOT, b"box", trash, b"box")


async def test_names_of_what_may_be_junk_or_is_temporary_obey_no_rule_of_procores(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        for name in (
            "._a: b.txt",
            "._Icon\r",
            "Icon\r",
            ".~lock.a:b.odt#",
            ".plan: x.dwg.Ab12Cd",
            "~$a?.docx",
        ):
            project.put(name, b"")
        real = project.put("~$a*.docx", REAL)
        refusal = project.base.fates.sending_refusal(project.change(real))
        assert refusal is not None
        assert refusal.character == "*"
        for refused in (b"a: b.txt", b"._a\xff", b"._" + b"x" * 254):
            with pytest.raises(NameRefused):
                project.edits.entries.create(ROOT, refused, Kept())
        with pytest.raises(NameRefused):
            project.edits.entries.make_folder(ROOT, b"._a: b", Kept())


async def test_junk_goes_with_a_folder_that_procore_removed(tmp_path: Path) -> None:
    with offline_project(tmp_path) as project:
        project.list_root(folder(6, "folder"), folder(7, "other"))
        for name, data in (("folder", APPLE), ("other", REAL)):
            inside = project.child(ROOT, name.encode())
            assert inside is not None
            project.put("._x", data, folder=inside.inode)
        project.list_root()
        assert project.view.child(ROOT, b"folder") is None
        assert project.view.child(ROOT, b"other") is not None
