"""Plays one history in a world of its own, and says what was wrong."""

import logging
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import trio

from procorefs.config import MountOptions
from procorefs.procore.errors import ProcoreError
from procorefs.wiring.mount import Parts
from tests.simulation import clock, disk, scheduler
from tests.simulation.aftermath import SYNCED_AFTER_S
from tests.simulation.checks import check_quiet
from tests.simulation.computer import Life, begin_boot
from tests.simulation.model import Model
from tests.simulation.network import Network
from tests.simulation.player import Player
from tests.simulation.procore import Held, Procore
from tests.simulation.steps import History, Step
from tests.simulation.together import Together
from tests.simulation.words import Wrong
from tests.support.illegal_steps import raise_illegal_steps

MEMORY = Path("/dev/shm")

FRAMES = 5
"""Of a traceback that are shown."""

MOST_TURNS, WITHIN_S = 8_000, 20.0
"""Turns of tasks in so much virtual time, some twenty times what is usual: who takes more goes in circles."""

LONGEST_S = 60
"""CPU time of one history: what takes longer goes in circles without ever letting others run.

Not real time: a busy machine would end histories that are right.
"""


START_AGAIN_S = 20.0
"""A mount that could not begin, because Procore is away, is tried again."""


class Turns(trio.abc.Instrument):
    """Counts the turns of tasks, and ends a history that goes in circles."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.count = 0
        self.scope = trio.CancelScope()
        self.before_turn: Callable[[], object] = lambda: None
        self._now_s = now_s
        self._looked_s = 0.0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.count += 1
        self.before_turn()
        if self.count % MOST_TURNS == 0:
            now_s = self._now_s()
            if now_s - self._looked_s < WITHIN_S:
                self.scope.cancel()
            self._looked_s = now_s


class World:
    """Clocks, Procore, network, computer, programs."""

    def __init__(self, history: History, directory: Path, told: Callable[[str], object]) -> None:
        self.history = history
        self.directory = directory
        self.told = told
        self.time = clock.Time()
        clock.begin(self.time, history.seed)
        scheduler.reseed(history.seed)
        self.procore = Procore(self.time.now_s)
        self.network = Network(self.procore.hosts, history.seed, self.time.now_s, self.procore.deletions)
        self.network.told = told
        self.turns = Turns(self.time.now_s)
        self.model = Model()
        self.procore.adopt(history.setting)
        self.model.may_describe = not history.setting.is_limited
        self.model.encodes = history.setting.encodes
        self._make_before()
        self.life: Life | None = None
        self.death: Step | None = None
        """The death that was decided on and has not come yet."""
        self._unsynced_s: list[list[float]] = []
        """From when to when no sync can have ended: no daemon ran, or the disk was full, and the log says so."""
        self.was_power_cut = False
        """The last death was one: the files are not as the kernel had them."""
        self._on_disk: dict[str, bytes] = {}
        self._lives = 0
        self._outside: trio.Nursery | None = None

    def _make_before(self) -> None:
        for number, path in enumerate(self.history.setting.made_before):
            content = None if path.endswith("/") else b"made before %d" % number
            self.procore.make(path.rstrip("/"), content)
        for path, document in self.holds().items():
            self.model.has(path, document.content)

    def holds(self) -> dict[str, Held]:
        """What Procore holds, by the paths that programs see when nothing waits."""
        return self.procore.holds(encodes=self.model.encodes)

    def shows(self) -> dict[str, Held]:
        """What of that Procore shows to the mount's account now."""
        return self.procore.holds(encodes=self.model.encodes, hidden=False)

    async def run(self) -> None:
        """Raises what was wrong."""
        with self.turns.scope:
            async with trio.open_nursery() as self._outside:
                await self._outside.start(self.network.run)
                await self._play()
                self._outside.cancel_scope.cancel()
        if self.turns.scope.cancelled_caught:
            raise Wrong(
                f"{self.turns.count} turns of tasks by {self.time.now_s():.1f} s: somebody goes in circles"
            )

    async def _play(self) -> None:
        begin_boot(self.directory, 0)
        await self._start(self.directory / "0")
        if self.history.setting.made_before:
            await self.parts.follower.listed.wait()
        is_loose = any(step.op in ("colleague", "full", "role") for step in self.history.steps)
        player: Player | Together = Together(self) if is_loose else Player(self)
        for step in self.history.steps:
            await player.play(step)
        self.network.calm()
        self._fill_disk(full=False)
        await player.close_all()
        self.told(f"{self.time.now_s():9.2f} the end")
        await check_quiet(self, player, takes_back=self.history.setting.takes_back)
        if isinstance(player, Together):
            player.check()
        await self.now.end()

    async def check(self, player: Player | Together) -> None:
        """Wait until nothing moves, and compare mount, tree, Procore and what is wanted. Raises Wrong."""
        await check_quiet(self, player)

    @property
    def now(self) -> Life:
        """The run of the daemon that programs have now."""
        assert self.life is not None
        return self.life

    @property
    def parts(self) -> Parts:
        return self.now.parts

    def knows_rights(self) -> bool:
        """Whether the mount knows what a limited account may not do: its question may have got no answer."""
        return not self.history.setting.is_limited or self.parts.rights.current.describe is False

    async def _start(self, directory: Path) -> None:
        assert self._outside is not None
        self._lives += 1
        disk.begin(None)
        setting = self.history.setting
        options = MountOptions(
            write_back_s=setting.write_back_s,
            delete_guard=setting.delete_guard,
            invalid_names="encode" if setting.encodes else "reject",
        )
        self.life = Life(
            directory, self.procore.settings(), options, self.network, self.time.now_s, self._on_disk
        )
        disk.begin(self.life.disk)
        await self._outside.start(self.life.run)

    def befall(self, step: Step) -> bool:
        """What no program does; False: it is something else."""
        match step.op:
            case "crash" if step.size:
                self.death = step
                self._arm_death(step)
            case "crash":
                self.die(step)
            case "away":
                self.network.go_away(step.offset)
            case "clock":
                self.time.step_s += step.offset
                self.procore.sandbox.clock.shift_s -= step.offset  # Procore has a clock of its own
            case "full":
                self._fill_disk(full=step.flags == "on")
            case "role":
                self.procore.give_role(step.flags)
            case "expire":
                self.procore.expire_tokens()
            case _:
                return False
        return True

    def _fill_disk(self, *, full: bool) -> None:
        if full and not self.now.disk.is_full:
            self._unsynced_s.append([self.time.now_s(), float("inf")])
        elif not full and self.now.disk.is_full:
            self._unsynced_s[-1][1] = self.time.now_s()
        self.now.disk.is_full = full

    def synced_until_s(self) -> float:
        """The last moment at which a sync could begin; one takes its time, and does not end while none can be made."""
        until_s = self.time.now_s()
        for began_s, ended_s in reversed(self._unsynced_s):
            if until_s - ended_s < SYNCED_AFTER_S:
                until_s = min(until_s, began_s)
        return until_s

    def _arm_death(self, step: Step) -> None:
        """The daemon is to die after so many writes, or turns of tasks, from now on."""
        life, left = self.now, step.size

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                self.die(step)

        if step.flags.endswith("write"):
            life.disk.before_write = count
        else:
            self.turns.before_turn = count

    def die(self, step: Step) -> None:
        """Everything in memory is lost now; what is on disk is copied for the next life."""
        life = self.now
        if life.is_dead:
            return
        self.told(f"{self.time.now_s():9.2f}       the daemon dies ({step.flags})")
        self.was_power_cut = step.flags.startswith("power")
        seed = f"{self.history.seed}/{step.number}/power"
        choose = random.Random(seed) if self.was_power_cut else None
        self.death = None
        if life.disk.is_full:
            self._fill_disk(full=False)
            if not life.says_unsynced:
                self._unsynced_s.pop()  # what was written has been brought to disk all the same
        self._unsynced_s.append([self.time.now_s(), float("inf")])
        self.turns.before_turn = life.disk.before_write = lambda: None
        disk.begin(None)
        self._on_disk = life.disk.copy_to(self.directory / str(self._lives), choose)
        life.die()

    async def restart(self) -> None:
        """The next run of the daemon, with what the last one left on disk."""
        await self.now.ended.wait()
        if self.was_power_cut:
            begin_boot(self.directory, self._lives)
        shutil.rmtree(self.now.directory, ignore_errors=True)
        directory = self.directory / str(self._lives)
        while True:
            try:
                await self._start(directory)
                self._unsynced_s[-1][1] = self.time.now_s()
                return
            except ProcoreError as error:
                if not self.network.is_troubled:
                    raise Wrong(f"the mount can't begin: {error}") from None
            await trio.sleep(START_AGAIN_S)


def play(history: History, told: Callable[[str], object] = lambda _: None) -> str:
    """What is wrong; empty: nothing."""
    raise_illegal_steps()
    MEMORY.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="procorefs-simulation-", dir=MEMORY))
    tempfile.tempdir = str(directory)
    try:
        world = World(history, directory, told)
        previous = signal.signal(signal.SIGPROF, _took_too_long)
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
        try:
            trio.run(world.run, clock=world.time.clock, instruments=[world.turns])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return sentence(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
            disk.begin(None)
            world.procore.close()
        return ""
    finally:
        tempfile.tempdir = None
        shutil.rmtree(directory, ignore_errors=True)


def _took_too_long(_number: int, _frame: object) -> None:
    raise Wrong(f"{LONGEST_S} s of CPU time are over")


def sentence(error: BaseException) -> str:
    """The first error, out of its groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, AssertionError) and str(error):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error, limit=-FRAMES))


logging.getLogger("procorefs").setLevel(logging.CRITICAL + 1)
