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
from procorefs.parts import Parts
from tests.simulation import clock, scheduler
from tests.simulation.checks import check_quiet
from tests.simulation.computer import mount_at, run_daemon
from tests.simulation.kernel import Kernel, Notifier
from tests.simulation.model import Model
from tests.simulation.network import Network
from tests.simulation.player import Player, Wrong
from tests.simulation.procore import Procore
from tests.simulation.steps import History

LATENCY_S = (0.02, 0.4)
MEMORY = Path("/dev/shm")


MOST_TURNS = 60_000
"""Turns of tasks in one history, some twenty times what the longest one needs: who takes more goes in circles."""

LONGEST_S = 60
"""Real time of one history: what takes longer goes in circles without ever letting others run."""


class Turns(trio.abc.Instrument):
    """Counts the turns of tasks, and ends a history that goes in circles."""

    def __init__(self) -> None:
        self.count = 0
        self.scope = trio.CancelScope()

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count == MOST_TURNS:
            self.scope.cancel()


class World:
    """Clocks, Procore, network, computer, programs."""

    def __init__(self, history: History, directory: Path, told: Callable[[str], object]) -> None:
        self.history = history
        self.directory = directory
        self.told = told
        self.time = clock.Time()
        clock.begin(self.time, history.seed)
        scheduler.reseed(history.seed)
        self.procore = Procore()
        self._latency = random.Random(f"{history.seed}/latency")
        self.network = Network(self.procore.hosts, lambda: self._latency.uniform(*LATENCY_S))
        self.turns = Turns()
        self.model = Model()
        self.notifier = Notifier()
        self.kernel: Kernel | None = None
        self.parts: Parts | None = None

    async def run(self) -> None:
        """Raises what was wrong."""
        with self.turns.scope:
            await self._run()
        if self.turns.scope.cancelled_caught:
            raise Wrong(
                f"{self.turns.count} turns of tasks by {self.time.now_s():.1f} s: somebody goes in circles"
            )

    async def _run(self) -> None:
        player = Player(self.history.seed, self._kernel_now, self.model)
        async with trio.open_nursery() as outside:
            stop = trio.Event()

            async def daemon(task_status: trio.TaskStatus[Parts] = trio.TASK_STATUS_IGNORED) -> None:
                mount = mount_at(self.directory, self.procore.settings(), MountOptions())
                await run_daemon(
                    mount,
                    self.network,
                    self.notifier,
                    self.notifier.forget,
                    stop=stop,
                    task_status=task_status,
                )

            self.parts = await outside.start(daemon)
            self.kernel = self.notifier.kernel = Kernel(self.parts.operations)  # type: ignore[arg-type]
            for step in self.history.steps:
                self.told(f"{self.time.now_s():9.2f} {step}")
                await player.play(step)
            await player.close_all()
            self.told(f"{self.time.now_s():9.2f} the end")
            await check_quiet(self, player)
            stop.set()

    def _kernel_now(self) -> Kernel:
        assert self.kernel is not None
        return self.kernel


def play(history: History, told: Callable[[str], object] = lambda _: None) -> str:
    """What is wrong; empty: nothing."""
    MEMORY.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="procorefs-simulation-", dir=MEMORY))
    tempfile.tempdir = str(directory)
    try:
        world = World(history, directory, told)
        previous = signal.signal(signal.SIGALRM, _took_too_long)
        signal.alarm(LONGEST_S)
        try:
            trio.run(world.run, clock=world.time.clock, instruments=[world.turns])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return sentence(error)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
            world.procore.close()
        return ""
    finally:
        tempfile.tempdir = None
        shutil.rmtree(directory, ignore_errors=True)


def _took_too_long(_number: int, frame: object) -> None:
    raise Wrong(f"{LONGEST_S} s of real time are over")


def sentence(error: BaseException) -> str:
    """The first error, out of its groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, AssertionError) and str(error):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error))


logging.getLogger("procorefs").setLevel(logging.CRITICAL + 1)
