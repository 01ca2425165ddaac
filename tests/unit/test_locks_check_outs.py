"""What locks of this mount send to Procore, and what they do while another user has the document."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from procorefs.locks.flock_table import WouldBlock
from procorefs.locks.tree_documents import Holder
from procorefs.procore.errors import Forbidden, Unreachable
from tests.support.locks_project import (
    BEGAN_S,
    DOCUMENT,
    DOWN,
    EXCLUSIVE,
    FILE,
    LOCAL,
    ME,
    NAMES,
    OTHER,
    SHARED,
    TIMES,
    A,
    B,
    C,
    Journal,
    Mount,
    Project,
    Waiter,
    ends,
    lock,
    locking,
    wall_s,
)


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture
def mount(project: Project) -> Mount:
    return Mount(project)


async def test_a_lock_is_one_check_out_and_one_check_in(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    async with locking(mount, journal) as locks:
        await lock(locks, A)
        (user, until_s), *more = project.sent
        assert (user, more) == (ME, [])
        assert until_s is not None
        assert wall_s() + TIMES.lasts_s - 1 <= until_s <= wall_s() + TIMES.lasts_s
        assert journal.kept == {DOCUMENT: [until_s]}
        locks.unlock(FILE, A)
        assert await ends(lambda: len(project.sent) == 2) <= TIMES.check_in_delay_s + 0.5
        assert project.sent[1] == (ME, None)
        await trio.sleep(TIMES.lasts_s)
        assert len(project.sent) == 2
        assert project.looks == 1
        assert journal.kept == {}


async def test_without_a_mount_point_nobody_keeps_a_check_out(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        locks.check_outs.drop_all()
        await ends(lambda: len(project.sent) == 2)
        assert project.sent[1] == (ME, None)


async def test_a_shared_lock_costs_a_look(project: Project, mount: Mount, autojump_clock: MockClock) -> None:
    async with locking(mount) as locks:
        await lock(locks, A, SHARED)
        await lock(locks, B, SHARED)
        with pytest.raises(WouldBlock):
            await lock(locks, C)
        await trio.sleep(5)
        assert (project.sent, project.looks) == ([], 1)
        project.other_checks_out(60)
        with pytest.raises(WouldBlock):
            await lock(locks, C, SHARED)
        assert (project.sent, project.looks) == ([], 2)


async def test_of_what_we_have_checked_out_nobody_is_asked(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        await trio.sleep(60)
        await lock(locks, A, SHARED)
        assert project.looks == 1


async def test_without_a_network_readers_go_by_what_is_known(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        mount.look_error = DOWN
        await lock(locks, A, SHARED)
        locks.unlock(FILE, A)
        project.other_checks_out(60)
        mount.learn(DOCUMENT)
        with pytest.raises(Unreachable):
            await lock(locks, A, SHARED)


async def test_between_processes_of_the_mount_it_is_handed_over(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks, trio.open_nursery() as nursery:
        await lock(locks, A)
        waiter = Waiter(locks, nursery, B)
        with pytest.raises(WouldBlock):
            await lock(locks, C)
        await trio.sleep(60)
        locks.unlock(FILE, A)
        await wait_all_tasks_blocked()
        assert waiter.got_at_s is not None
        await trio.sleep(10)
        assert len(project.sent) == 1
        locks.unlock(FILE, B)
        await ends(lambda: len(project.sent) == 2)


async def test_ten_locks_in_a_row_are_one(project: Project, mount: Mount, autojump_clock: MockClock) -> None:
    async with locking(mount) as locks:
        for _ in range(10):
            await lock(locks, A)
            locks.unlock(FILE, A)
        await trio.sleep(10)
    assert [until_s is None for _, until_s in project.sent] == [False, True]


async def test_it_is_renewed_while_it_is_held(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        await trio.sleep(TIMES.lasts_s - TIMES.renewed_before_s + 1)
        assert len(project.sent) == 2
        await trio.sleep(3600)
        assert project.holder(DOCUMENT) is not None
        assert len(project.sent) == pytest.approx(1 + 4200 / (TIMES.lasts_s - TIMES.renewed_before_s), abs=1)
        locks.unlock(FILE, A)
        await ends(lambda: project.holder(DOCUMENT) is None)


async def test_during_a_renewal_it_is_ours(project: Project, mount: Mount, autojump_clock: MockClock) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.call_s = 100
        await trio.sleep(TIMES.lasts_s - TIMES.renewed_before_s + 50)
        assert len(project.sent) == 1
        assert locks.claims.holder(FILE) is None
        await lock(locks, A)
        mount.call_s = 0.1


async def test_what_another_user_has_is_refused_without_a_patch(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    project.other_checks_out(600)
    async with locking(mount) as locks:
        for mode in (EXCLUSIVE, SHARED):
            mount.learn(DOCUMENT)
            with pytest.raises(WouldBlock):
                await lock(locks, A, mode)
            assert locks.claims.holder(FILE) == Holder(OTHER, NAMES[OTHER], BEGAN_S + 600)
        for _ in range(100):  # `flock -n` in a loop
            with pytest.raises(WouldBlock):
                await lock(locks, A)
            await trio.sleep(0.1)
    assert project.sent == []
    assert project.looks <= 8


async def test_a_409_says_it_when_the_look_did_not(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks, trio.open_nursery() as nursery:
        mount.call_s = 5
        waiter = Waiter(locks, nursery, A)
        await trio.sleep(7)  # after the look, before the PATCH arrives
        project.other_checks_out(60)
        mount.call_s = 0.1
        await trio.sleep(20)
        assert locks.claims.holder(FILE) is not None
        assert project.sent == []
        await ends(lambda: waiter.got_at_s is not None)
        assert project.holder(DOCUMENT) == Holder(ME, NAMES[ME], project.sent[0][1])


async def test_a_waiter_looks_every_15_s_and_at_the_end(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    project.other_checks_out(50)
    async with locking(mount) as locks, trio.open_nursery() as nursery:
        waiter = Waiter(locks, nursery, A)
        await ends(lambda: waiter.got_at_s is not None)
        assert 50 <= trio.current_time() <= 52
        looked = project.looked_at_s
        assert [b - a >= TIMES.poll_every_s for a, b in pairwise(looked)] == [True, True, True, False]
        assert len(project.sent) == 1


async def test_a_reader_waits_too_and_changes_nothing(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    project.other_checks_out(20)
    mount.learn(DOCUMENT)
    async with locking(mount) as locks, trio.open_nursery() as nursery:
        readers = [Waiter(locks, nursery, owner, SHARED) for owner in (A, B, C)]
        await ends(lambda: all(reader.got_at_s is not None for reader in readers))
        assert 20 <= trio.current_time() <= 25
    assert project.sent == []
    assert project.looks <= 4


async def test_an_early_check_in_of_the_other_is_seen(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    project.other_checks_out(900)
    async with locking(mount) as locks, trio.open_nursery() as nursery:
        waiter = Waiter(locks, nursery, A)
        await trio.sleep(40)
        project.check_out(OTHER, DOCUMENT, None)
        assert await ends(lambda: waiter.got_at_s is not None) <= TIMES.poll_every_s + 1


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 16.0])
@pytest.mark.parametrize("other_has_it", [False, True])
async def test_a_cancelled_waiter_leaves_nothing(
    project: Project, mount: Mount, after_s: float, other_has_it: bool, autojump_clock: MockClock
) -> None:
    if other_has_it:
        project.other_checks_out(3600)
    journal = Journal()
    async with locking(mount, journal) as locks:
        with trio.move_on_after(after_s):
            await lock(locks, A, wait=True)
            await trio.sleep_forever()
        locks.unlock(FILE, A)  # for those who got it
        await trio.sleep(5)
        holder = project.holder(DOCUMENT)
        assert (holder.user if holder else None) == (OTHER if other_has_it else None)
        assert journal.kept == {}
        looks = project.looks
        await trio.sleep(3000)
        assert project.looks == looks
        with pytest.raises(WouldBlock) if other_has_it else trio.CancelScope():
            await lock(locks, B)


async def test_another_host_of_our_own_user_counts_as_somebody_else(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    until_s = int(wall_s()) + 100
    project.holders[DOCUMENT] = Holder(ME, NAMES[ME], until_s)
    async with locking(mount) as locks:
        with pytest.raises(WouldBlock):
            await lock(locks, A)
        assert locks.claims.holder(FILE) is not None
        await trio.sleep(5)
    assert project.holders[DOCUMENT].until_s == until_s


async def test_errors_reach_the_caller_and_leave_no_lock(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    mount.before = Forbidden("Could not check it out: no permission", status=403)
    async with locking(mount) as locks:
        for wait in (True, False):
            with pytest.raises(Forbidden):
                await lock(locks, A, wait=wait)
        mount.before = None
        mount.look_error = DOWN
        await trio.sleep(60)
        with pytest.raises(Unreachable):
            await lock(locks, A, wait=True)
        mount.look_error = None
        await lock(locks, B, SHARED)
    assert project.sent == []


async def test_a_file_without_a_document_is_locked_here(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await locks.lock(LOCAL, A, EXCLUSIVE, wait=False)
        with pytest.raises(WouldBlock):
            await locks.lock(LOCAL, B, SHARED, wait=False)
        await trio.sleep(5)
        assert (project.sent, project.looks) == ([], 0)
        assert locks.claims.holder_name(LOCAL) is None
        mount.documents = {LOCAL: DOCUMENT}
        locks.changed.emit(LOCAL)
        await ends(lambda: project.holder(DOCUMENT) is not None)
        locks.unlock(LOCAL, A)
        await ends(lambda: project.holder(DOCUMENT) is None)


async def test_a_lock_outlives_that_another_file_is_renamed_over_it(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """The file that came instead is the document from then on; the old one's holder still has it."""
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.documents = {LOCAL: DOCUMENT}
        await trio.sleep(1200)
        assert project.holder(DOCUMENT) is not None
        assert locks.claims.holder(LOCAL) is None
        sent = len(project.sent)
        await locks.lock(LOCAL, B, EXCLUSIVE, wait=False)  # another file, as on a local disk
        locks.unlock(FILE, A)
        await trio.sleep(10)
        assert project.holder(DOCUMENT) is not None
        assert len(project.sent) == sent
        locks.unlock(LOCAL, B)
        await ends(lambda: project.holder(DOCUMENT) is None)
        assert len(project.sent) == sent + 1


async def test_a_wish_that_moves_to_the_file_that_came_instead_sends_nothing(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        locks.check_outs.hold(FILE, "office")
        await ends(lambda: locks.claims.is_kept(FILE))
        mount.documents = {LOCAL: DOCUMENT}
        locks.check_outs.hold(LOCAL, "office")
        locks.check_outs.drop(FILE, "office")
        await trio.sleep(10)
        assert len(project.sent) == 1
        locks.check_outs.drop(LOCAL, "office")
        await ends(lambda: project.holder(DOCUMENT) is None)


async def test_a_check_in_waits_for_the_bytes_written_under_the_lock(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.unsent.add(FILE)
        locks.unlock(FILE, A)
        await trio.sleep(30)
        assert project.holder(DOCUMENT) is not None
        mount.unsent.clear()
        locks.changed.emit(FILE)
        assert await ends(lambda: project.holder(DOCUMENT) is None) < 1


async def test_bytes_that_never_go_do_not_keep_it(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.unsent.add(FILE)
        locks.unlock(FILE, A)
        await trio.sleep(TIMES.lasts_s + 5)
        assert project.holder(DOCUMENT) is None
        assert len(project.sent) == 1


async def test_down_to_shared_checks_in_and_up_to_exclusive_checks_out(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A, SHARED)
        await lock(locks, A, EXCLUSIVE)
        assert len(project.sent) == 1
        await lock(locks, A, SHARED)
        await lock(locks, B, SHARED)
        await ends(lambda: len(project.sent) == 2)
        with pytest.raises(WouldBlock):
            await lock(locks, A, EXCLUSIVE)
        locks.unlock(FILE, B)
        await lock(locks, C, EXCLUSIVE)
        assert len(project.sent) == 3


async def test_a_mount_that_changes_nothing_looks_only(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount, sends=False) as locks:
        await lock(locks, A)
        locks.unlock(FILE, A)
        project.other_checks_out(60)
        await trio.sleep(5)
        with pytest.raises(WouldBlock):
            await lock(locks, A)
        assert project.sent == []


async def test_a_mount_that_becomes_read_only_checks_in_what_it_has(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        locks.may_check_out = False
        locks.unlock(FILE, A)
        await trio.sleep(5)
        assert project.sent[-1] == (ME, None)
        await lock(locks, A)
        assert len(project.sent) == 2


async def test_a_check_in_goes_when_the_bytes_are_sent_without_any_time(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.unsent.add(FILE)
        locks.unlock(FILE, A)
        await trio.sleep(60)
        mount.call_s = 0
        mount.unsent.clear()
        began_s = trio.current_time()
        locks.changed.emit(FILE)
        await wait_all_tasks_blocked()
        assert project.sent[-1] == (ME, None)
        assert trio.current_time() == began_s


async def test_a_new_document_is_checked_out_without_any_time(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await locks.lock(LOCAL, A, EXCLUSIVE, wait=False)
        await trio.sleep(60)
        mount.call_s = 0
        mount.documents = {LOCAL: DOCUMENT}
        began_s = trio.current_time()
        locks.changed.emit(LOCAL)
        await wait_all_tasks_blocked()
        assert project.holder(DOCUMENT) is not None
        assert trio.current_time() == began_s


async def test_two_mounts_of_two_users_exclude_each_other(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    theirs = Mount(project, OTHER)
    async with locking(mount) as ours, locking(theirs) as others, trio.open_nursery() as nursery:
        await lock(ours, A)
        with pytest.raises(WouldBlock):
            await lock(others, A)
        waiter = Waiter(others, nursery, B)
        await trio.sleep(100)
        assert waiter.got_at_s is None
        ours.unlock(FILE, A)
        await ends(lambda: waiter.got_at_s is not None)
        with pytest.raises(WouldBlock):
            await lock(ours, A)
