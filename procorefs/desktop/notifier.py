"""Shows desktop notifications about one mount, and does what people choose in them.

    known() ── every few seconds ─▶ NoticeHistory ─▶ not shown yet ─▶ SessionBus ─▶ action ─▶ retry, folder, status page

The bus is contacted only when there is something to tell, so a server never notices. What cannot be shown now, because
the session is only starting, is tried again.
"""

import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from procorefs.desktop.notices import LABELS, Action, Kind, Known, Notice, NoticeHistory, Withdrawn
from procorefs.desktop.session_bus import NoDesktop, SessionBus, connected
from procorefs.storage.failures import first_cause

log = logging.getLogger(__name__)

POLL_S = 5.0
"""How often the mount's state is read."""

RETRY_S = 60.0
"""Time before a bus that failed is tried again."""

LAST_S = 2.0
"""How long the end of the mount waits for its last notification."""

_NO_PAGE = "The status page is not served. Run `procorefs serve`, or `procorefs status` in a terminal."


@dataclass(slots=True)
class DesktopNotifier:
    """The notifications of one mount; `run` must run."""

    address: str
    """Of the session's bus."""
    mountpoint: Path
    known: Callable[[], Known]
    retry: Callable[[tuple[str, ...]], Awaitable[object]]
    """Send again what is at or below these paths."""
    poll_s: float = POLL_S
    _history: NoticeHistory = field(default_factory=NoticeHistory)
    _waiting: dict[Kind, Notice | Withdrawn] = field(default_factory=dict)
    """What is not shown yet: the newest of each kind."""
    _shown: dict[Kind, tuple[int, Notice]] = field(default_factory=dict)
    """The notification of each kind on the present connection, by its id."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell what is new until cancelled."""
        task_status.started()
        while True:
            with _faults_logged():
                await self._await_news()
                async with connected(self.address) as bus:
                    await self._tell(bus)
            self._shown.clear()
            await trio.sleep(RETRY_S)

    async def show_last(self, text: tuple[str, str] | None) -> None:
        """Show a last notification, which nothing replaces; returns soon in any case."""
        if text is None:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_S), _faults_logged():
            async with connected(self.address) as bus:
                await bus.show(*text)

    def _poll(self) -> None:
        for news in self._history.next(self.known(), trio.current_time()):
            self._waiting[news.kind] = news

    async def _await_news(self) -> None:
        """Wait until there is something to show."""
        self._poll()
        while not self._waiting:
            await trio.sleep(self.poll_s)
            self._poll()

    async def _tell(self, bus: SessionBus) -> None:
        """Show what is new on this connection until it breaks."""
        messages = await bus.invoked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer, bus, messages)
            while True:
                await self._await_news()
                for kind, news in list(self._waiting.items()):
                    await self._show(bus, news)
                    del self._waiting[kind]

    async def _show(self, bus: SessionBus, news: Notice | Withdrawn) -> None:
        number, _ = self._shown.get(news.kind, (0, None))
        if isinstance(news, Notice):
            actions = [(action.value, LABELS[action]) for action in news.actions]
            number = await bus.show(
                news.summary, news.body, actions, critical=news.is_critical, replaces=number
            )
            self._shown[news.kind] = number, news
        elif number:
            await bus.close(number)
            del self._shown[news.kind]

    async def _answer(self, bus: SessionBus, messages: trio.MemoryReceiveChannel[object]) -> None:
        """Do what people choose in notifications of this mount."""
        async for message in messages:
            number, key = getattr(message, "body", (0, ""))[:2]
            for shown, notice in list(self._shown.values()):
                if shown == number and key in [action.value for action in notice.actions]:
                    await self._do(bus, Action(key), notice)

    async def _do(self, bus: SessionBus, action: Action, notice: Notice) -> None:
        match action:
            case Action.RETRY:
                await self.retry(notice.paths)
            case Action.FOLDER if notice.paths:
                with suppress(NoDesktop):  # no file manager runs, and none can be started
                    await bus.show_in_folder(self.mountpoint / notice.paths[0])
            case Action.PAGE:
                if not await open_status_page():
                    await bus.show("ProcoreFS", _NO_PAGE)


@contextmanager
def _faults_logged() -> Iterator[None]:
    """Log each error, and go on: a notification must not end the mount."""
    try:
        yield
    except* NoDesktop as group:
        log.debug("No desktop notification is shown (%s).", first_cause(group))
    except* Exception:
        log.warning("Desktop notifications failed.", exc_info=True)


async def open_status_page() -> bool:
    """Let `procorefs open` show the status page in a browser; False: it is not served."""
    command = [sys.executable, "-m", "procorefs.cli", "open"]
    # No pipes: a browser that starts now would keep them open, and this would wait for its end.
    nowhere = subprocess.DEVNULL
    done = await trio.run_process(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, check=False)
    return done.returncode == 0
