"""Check-outs whose answer was lost, that a network failure delayed or that an earlier daemon left."""

import pytest
import trio
from trio.testing import MockClock

from procorefs.locks.flock_table import WouldBlock
from procorefs.locks.tree_documents import Holder
from procorefs.procore.errors import LATE_S, Forbidden, Unanswered
from tests.support.locks_project import (
    DOCUMENT,
    DOWN,
    FILE,
    LOCAL,
    LOST,
    ME,
    NAMES,
    TIMES,
    A,
    B,
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


async def test_a_check_out_whose_answer_was_lost_is_taken_back(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    mount.after = LOST
    journal = Journal()
    async with locking(mount, journal) as locks:
        with pytest.raises(Unanswered):
            await lock(locks, A)
        assert project.holder(DOCUMENT) is not None
        assert DOCUMENT in journal.kept
        mount.after = None
        await ends(lambda: project.holder(DOCUMENT) is None)
        await ends(lambda: not journal.kept)


async def test_in_doubt_nothing_of_another_is_taken_back(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """The check-out never arrived, and another user made one: an administrator's check-in would end it."""
    mount.before = LOST
    async with locking(mount) as locks:
        with pytest.raises(Unanswered):
            await lock(locks, A)
        project.other_checks_out(600)
        mount.before = None
        await trio.sleep(30)
        assert project.sent == []
        with pytest.raises(WouldBlock):
            await lock(locks, A)


async def test_in_doubt_what_nobody_has_is_not_taken_back(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    mount.before = LOST
    journal = Journal()
    async with locking(mount, journal) as locks:
        with pytest.raises(Unanswered):
            await lock(locks, A)
        mount.before = None
        await ends(lambda: not journal.kept, LATE_S + 60)
    assert project.sent == []


async def test_what_could_not_be_checked_in_is_taken_back_from_whatever_file_it_is_now(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """A program saved by rename before its lock file went: the document is another file from then on."""
    journal = Journal()
    async with locking(mount, journal) as locks:
        await lock(locks, A)
        mount.before = LOST
        mount.documents = {LOCAL: DOCUMENT}
        locks.unlock(FILE, A)
        await trio.sleep(TIMES.check_in_delay_s + 2 * mount.call_s)
        mount.before = None
        assert locks.claims.holder(LOCAL) is None
        await ends(lambda: project.holder(DOCUMENT) is None)
        assert locks.claims.holder(LOCAL) is None
        await ends(lambda: not journal.kept)


async def test_unlocking_succeeds_without_a_network_and_is_sent_later(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.before = DOWN
        mount.look_error = DOWN
        locks.unlock(FILE, A)
        await trio.sleep(200)
        assert project.holder(DOCUMENT) is not None
        mount.before = mount.look_error = None
        await ends(lambda: project.holder(DOCUMENT) is None, 70)


async def test_what_could_not_be_checked_in_before_its_end_is_left_alone(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    async with locking(mount, journal) as locks:
        await lock(locks, A)
        mount.before = mount.look_error = DOWN
        locks.unlock(FILE, A)
        await trio.sleep(TIMES.lasts_s + 70)
        mount.before = mount.look_error = None
        project.other_checks_out(600)
        await trio.sleep(100)
        assert journal.kept == {}
        assert len(project.sent) == 1


async def test_a_renewal_that_fails_for_a_while_keeps_the_lock(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.before = DOWN
        await trio.sleep(TIMES.lasts_s - 100)
        assert len(project.sent) == 1
        assert locks.claims.holder(FILE) is None
        mount.before = None
        await ends(lambda: len(project.sent) == 2, 70)
        await trio.sleep(TIMES.lasts_s - TIMES.renewed_before_s - 100)
        assert project.holder(DOCUMENT) is not None


async def test_a_lock_that_was_lost_is_taken_again_when_it_is_free(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """An administrator checked it in, and somebody else took it."""
    async with locking(mount) as locks:
        await lock(locks, A)
        project.other_checks_out(700)
        await trio.sleep(TIMES.lasts_s - TIMES.renewed_before_s + 5)
        assert locks.claims.holder(FILE) is not None
        await trio.sleep(200)
        assert project.holder(DOCUMENT) == Holder(ME, NAMES[ME], project.sent[-1][1])
        assert locks.claims.holder(FILE) is None


async def test_ending_checks_in_at_once(project: Project, mount: Mount, autojump_clock: MockClock) -> None:
    journal = Journal()
    async with locking(mount, journal) as locks:
        await lock(locks, A)
    assert project.sent[-1] == (ME, None)
    assert journal.kept == {}


async def test_ending_in_the_middle_of_a_check_out_takes_it_back(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    async with locking(mount, journal) as locks, trio.open_nursery() as nursery:
        Waiter(locks, nursery, A)
        await ends(lambda: project.holder(DOCUMENT) is not None)
        assert not locks.claims.is_kept(FILE)
        nursery.cancel_scope.cancel()
    assert project.holder(DOCUMENT) is None
    assert journal.kept == {}


async def killed(mount: Mount, journal: Journal) -> None:
    """A daemon that locks and dies."""
    async with locking(mount, journal, kill=True) as locks:
        await lock(locks, A)
    mount.before = mount.look_error = None


async def test_the_next_daemon_takes_a_check_out_up_again(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    await killed(mount, journal)
    assert project.holder(DOCUMENT) is not None
    async with locking(mount, journal) as locks:
        assert locks.claims.holder(FILE) is None
        await lock(locks, B)
        assert [until_s is None for _, until_s in project.sent] == [False, False]
        locks.unlock(FILE, B)
        await ends(lambda: project.holder(DOCUMENT) is None)


async def test_the_next_daemon_takes_back_what_nobody_wants(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    await killed(mount, journal)
    async with locking(mount, journal):
        await ends(lambda: project.holder(DOCUMENT) is None, 15)
        await ends(lambda: not journal.kept)


async def test_the_next_daemon_leaves_alone_what_another_host_took(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    await killed(mount, journal)
    until_s = int(wall_s()) + 1234
    project.holders[DOCUMENT] = Holder(ME, NAMES[ME], until_s)
    async with locking(mount, journal) as locks:
        with pytest.raises(WouldBlock):
            await lock(locks, A)
        await trio.sleep(LATE_S + 60)
        assert journal.kept == {}
    assert project.holders[DOCUMENT].until_s == until_s


async def test_a_daemon_killed_before_it_renewed_leaves_an_end_that_the_next_one_knows(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    await killed(mount, journal)
    had_until_s = project.holders[DOCUMENT].until_s
    journal.remember(DOCUMENT, int(wall_s()) + TIMES.lasts_s + 600)  # and no call was sent
    async with locking(mount, journal) as locks:
        mount.learn(DOCUMENT)
        assert project.holders[DOCUMENT].until_s == had_until_s
        assert locks.claims.holder(FILE) is None
        await ends(lambda: project.holder(DOCUMENT) is None, 15)
        await ends(lambda: not journal.kept, LATE_S + 60)  # the call may have been sent


async def test_what_an_earlier_daemon_has_is_kept_until_the_tree_knows_the_document(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    await killed(mount, journal)
    documents, mount.documents = mount.documents, {}
    async with locking(mount, journal) as locks:
        await trio.sleep(60)
        assert DOCUMENT in journal.kept
        mount.documents = documents
        mount.learn(DOCUMENT)
        locks.documents_changed.emit([DOCUMENT])
        assert locks.claims.holder(FILE) is None
        await ends(lambda: project.holder(DOCUMENT) is None, 15)
        await ends(lambda: not journal.kept)


async def test_a_check_out_that_is_done_late_is_still_ours(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    mount.before = LOST
    journal = Journal()
    async with locking(mount, journal) as locks:
        with pytest.raises(Unanswered):
            await lock(locks, A)
        (until_s,) = journal.kept[DOCUMENT]
        mount.before = None
        await trio.sleep(LATE_S / 2)
        project.holders[DOCUMENT] = Holder(ME, NAMES[ME], until_s)
        mount.learn(DOCUMENT)
        assert locks.claims.holder(FILE) is None
        await lock(locks, A)
        locks.unlock(FILE, A)
        await ends(lambda: project.holder(DOCUMENT) is None)


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_check_out_that_is_done_late_is_taken_back(
    project: Project, mount: Mount, is_restarted: bool, autojump_clock: MockClock
) -> None:
    """Nobody wants it any more, and other users would wait a quarter of an hour."""
    mount.before = LOST
    journal = Journal()
    async with locking(mount, journal) as locks:
        with pytest.raises(Unanswered):
            await lock(locks, A)
        mount.before = None
        (until_s,) = journal.kept[DOCUMENT]
        await trio.sleep(LATE_S / 2)
        if not is_restarted:
            project.holders[DOCUMENT] = Holder(ME, NAMES[ME], until_s)
            await ends(lambda: project.holder(DOCUMENT) is None, LATE_S)
            await ends(lambda: not journal.kept)
    if is_restarted:
        async with locking(mount, journal):
            await trio.sleep(LATE_S / 2)
            project.holders[DOCUMENT] = Holder(ME, NAMES[ME], until_s)
            await ends(lambda: project.holder(DOCUMENT) is None, LATE_S)
            await ends(lambda: not journal.kept)


async def test_what_a_late_check_in_took_is_checked_out_again(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """A check-in was given up, and the next lock's check-out is ended by it."""
    async with locking(mount) as locks:
        await lock(locks, A)
        mount.before = LOST
        locks.unlock(FILE, A)
        await trio.sleep(5)
        mount.before = None
        await lock(locks, B)
        project.check_out(ME, DOCUMENT, None)
        await ends(lambda: project.holder(DOCUMENT) is not None, LATE_S + 30)
        await ends(lambda: locks.claims.is_kept(FILE))


async def test_a_check_out_that_is_done_late_is_ours_whatever_was_asked_for_in_the_same_second(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """Two calls that ask for one end could not be told apart: the answer to one would speak for the other."""
    mount.call_s = 0.01
    async with locking(mount) as locks:
        mount.before = LOST
        with pytest.raises(Unanswered):
            await lock(locks, A)
        given_up_s = int(wall_s()) + TIMES.lasts_s
        mount.before = None
        await lock(locks, A)
        locks.unlock(FILE, A)
        await ends(lambda: project.holder(DOCUMENT) is None)
        project.check_out(ME, DOCUMENT, given_up_s)
        mount.learn(DOCUMENT)
        assert locks.claims.holder(FILE) is None


async def test_a_renewal_that_is_refused_leaves_what_was_had(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    journal = Journal()
    async with locking(mount, journal) as locks:
        await lock(locks, A)
        had = list(journal.kept[DOCUMENT])
        mount.before = Forbidden("Could not check it out: no permission", status=403)
        await trio.sleep(TIMES.lasts_s - TIMES.renewed_before_s + 5)
        assert journal.kept[DOCUMENT] == had
        assert locks.claims.is_kept(FILE)
        mount.before = None


async def test_a_look_that_was_given_up_is_not_waited_for_again(
    project: Project, mount: Mount, autojump_clock: MockClock
) -> None:
    """A program tries several names of lock files; a silent Procore costs it two seconds once."""
    mount.call_s = 30.0
    async with locking(mount) as locks:
        with trio.move_on_after(2.0) as first:
            await locks.polls.look(FILE)
        assert first.cancelled_caught
        began_s = trio.current_time()
        await locks.polls.look(FILE)
        assert trio.current_time() == began_s
        await trio.sleep(60)
        assert project.looks == 1
        await locks.polls.look(FILE)
        assert project.looks == 2
