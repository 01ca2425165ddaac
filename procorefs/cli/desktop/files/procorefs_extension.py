"""Shows in Nautilus, Nemo and Caja what Procore has of each file, and offers what can be done with it in the menu.

    file manager ── asks about a file ─▶ known for some seconds? ─▶ answered at once
                                         else the daemon's socket is asked about the whole folder, and the loop
                                         continues until the answer is there, or for two seconds

The file manager never waits: neither the network nor the mount is asked. Threads would not run, because file managers
keep Python's lock. The file imports nothing of ProcoreFS, because file managers bring a Python of their own;
`procorefs desktop install` copies it.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

COMMAND = "procorefs"
"""The installed copy has its absolute path."""

VERSION = 2
ANSWER_S = 2.0
FRESH_S = 4.0
"""How long an answer about a file is used."""

REGISTER_S = 2.0
"""How often the register of mounts is read."""

MOST_KNOWN = 20_000
"""Files; then all are forgotten and asked about again."""

WAITING = frozenset({"pending", "uploading", "dirty", "held", "checked_out"})
STUCK = frozenset({"failed", "incomplete", "guarded"})
WORDS = {"pending": "waiting", "dirty": "being written", "checked_out": "waiting", "local": "stays here"}

Facts = dict[str, Any]
"""What the daemon tells of a file: state, reason, holder, read_only, in_procore."""


class Place(NamedTuple):
    """A file in a mount."""

    mountpoint: str
    socket: str
    below: str
    """The path from the root of the mount."""


class Choice(NamedTuple):
    """An entry of the menu; one with `choices` is a submenu."""

    key: str
    label: str
    choices: tuple["Choice", ...] = ()


def emblem_of(facts: Facts) -> str | None:
    """The emblem of a file; None: there is nothing to tell."""
    if facts["state"] in STUCK:
        return "procorefs-failed"
    if facts["holder"]:
        return "procorefs-locked"
    if facts["state"] in WAITING:
        return "procorefs-waiting"
    return "procorefs-readonly" if facts["read_only"] else None


def text_of(facts: Facts) -> str:
    """The text of the column."""
    state, reason = str(facts["state"]), facts["reason"]
    parts = [] if state == "clean" else [WORDS.get(state, state) + (f": {reason}" if reason else "")]
    if facts["holder"]:
        parts.append(f"locked by {facts['holder']}")
    if facts["read_only"]:
        parts.append("read-only")
    return ", ".join(parts)


def menu_of(facts: list[Facts], page: str) -> tuple[Choice, ...]:
    """What can be done with the selected files; no facts: they are not known yet."""
    choices: list[Choice] = []
    if page:
        choices += [Choice("page", "Open in Procore"), Choice("link", "Copy link")]
    if len(facts) == 1 and facts[0]["in_procore"]:
        choices.append(Choice("versions", "Old versions"))
        if not facts[0]["holder"]:
            choices += [Choice("check-out", "Check out"), Choice("check-in", "Check in")]
    if any(one["state"] in STUCK or one["state"] == "checked_out" for one in facts):
        choices.append(Choice("retry", "Send again"))
    if any(one["state"] in STUCK or one["state"] == "held" for one in facts):
        sure = Choice("discard", "Yes, show what Procore has")
        choices.append(Choice("sure", "Throw the change away", (sure,)))
    return tuple(choices)


class Mounts:
    """The running mounts of this user, from the register that their daemons keep."""

    def __init__(self) -> None:
        self._read_at_s = float("-inf")
        self._sockets: dict[str, str] = {}

    def find(self, path: str) -> Place | None:
        """The mount that a path is in; reads nothing of the mount itself."""
        if time.monotonic() >= self._read_at_s + REGISTER_S:
            self._sockets = dict(_register())
            self._read_at_s = time.monotonic()
        for mountpoint, address in self._sockets.items():
            if path == mountpoint or path.startswith(f"{mountpoint}/"):
                return Place(mountpoint, address, path[len(mountpoint) + 1 :])
        return None


def _register() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    for folder in (
        Path(os.environ.get("XDG_RUNTIME_DIR", "/"), "procorefs"),
        Path(state, "procorefs", "run"),
    ):
        for file in folder.glob("*.mount"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(
                    (str(json.loads(file.read_bytes())["mountpoint"]), str(file.with_suffix(".sock")))
                )
    return found


class Question:
    """A question to a daemon that nobody waits for: sent at once, and received as it comes."""

    def __init__(self, address: str, request: dict[str, Any]) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._received = bytearray()
        try:
            self._socket.connect(address)
            self._socket.sendall(json.dumps({"version": VERSION, "request": request}).encode() + b"\n")
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Any:
        """The answer; None: it is not complete. Raises OSError, ValueError."""
        while not self._received.endswith(b"\n"):
            try:
                piece = self._socket.recv(1 << 16)
            except BlockingIOError:
                return None
            if not piece:
                raise OSError("no answer")
            self._received += piece
        reply = json.loads(self._received)
        if reply.get("error"):
            raise OSError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        self._socket.close()


class Known:
    """What is known of files, for some seconds; whole folders are asked about."""

    def __init__(self, watch: Callable[[Question, Callable[[], bool], Callable[[], None]], None]) -> None:
        """`watch(question, ready, late)`: call `ready` whenever the question can be received from, until it returns
        False, and `late` if that takes too long."""
        self.mounts = Mounts()
        self._watch = watch
        self._facts: dict[str, tuple[float, Facts | None]] = {}
        self._pages: dict[str, str] = {}
        """Of the project, by mount point."""
        self._waiting: dict[str, list[tuple[str, Callable[[], object]]]] = {}
        """Files and what is to be called, by the folder that is being asked about."""

    def fresh(self, path: str) -> tuple[bool, Facts | None]:
        """Whether a file is known, and its facts; None: the daemon tells nothing of it."""
        at_s, facts = self._facts.get(path, (float("-inf"), None))
        return time.monotonic() < at_s + FRESH_S, facts

    def last(self, path: str) -> Facts | None:
        """The last facts, however old."""
        return self._facts.get(path, (0.0, None))[1]

    def page(self, place: Place) -> str:
        """The project's page, if it is known."""
        return self._pages.get(place.mountpoint, "")

    def ask_about(self, path: str, place: Place, done: Callable[[], object]) -> None:
        """Call `done` once the file is known, or cannot be; also before this returns."""
        folder = os.path.dirname(path) if place.below else path
        waiting = self._waiting.setdefault(folder, [])
        waiting.append((path, done))
        if len(waiting) > 1:
            return
        request = {"ask": "files", "paths": [place.below], "folder": os.path.dirname(place.below)}
        try:
            question = Question(place.socket, request)
        except (OSError, ValueError):  # the daemon ends, or the name is no text
            self._finish(folder)
            return

        def ready() -> bool:
            try:
                answer = question.receive()
                if answer is None:
                    return True
                self._take(path, folder, place, answer)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # the files stay unknown
            question.close()
            self._finish(folder)
            return False

        def late() -> None:
            question.close()
            self._finish(folder)

        self._watch(question, ready, late)

    def _take(self, path: str, folder: str, place: Place, answer: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if len(self._facts) > MOST_KNOWN:
            self._facts.clear()
        self._pages[place.mountpoint] = answer.get("page", "")
        for name, facts in answer.get("entries", {}).items():
            self._facts[f"{folder}/{name}"] = now_s, facts
        self._facts[path] = now_s, answer["files"][0]

    def _finish(self, folder: str) -> None:
        for path, done in self._waiting.pop(folder, []):
            if not self.fresh(path)[0]:
                self._facts[path] = time.monotonic(), None  # asked again later
            done()


class Renewals:
    """Files that are shown again after some seconds. Each has one timer, however many views show it."""

    def __init__(self, start_timer: Callable[[Callable[[], bool]], object]) -> None:
        """`start_timer(expired)`: call `expired` after some seconds, once."""
        self._start_timer = start_timer
        self._waiting: set[str] = set()

    def later(self, uri: str, renew: Callable[[], object]) -> None:
        """Call `renew` after some seconds, unless that is going to happen for this file already."""
        if uri in self._waiting:
            return
        self._waiting.add(uri)

        def expired() -> bool:
            self._waiting.discard(uri)
            renew()
            return False

        self._start_timer(expired)


def path_of(uri: str) -> str | None:
    """The local path of an address, or None."""
    parts = urlsplit(uri)
    return os.fsdecode(unquote_to_bytes(parts.path)) if parts.scheme == "file" else None


def versions_uri(place: Place) -> str:
    """The folder of a file's old versions."""
    return "file://" + quote(f"{place.mountpoint}/.procore/versions/{place.below}")


def run_command(*words: str) -> None:
    """Start a command and do not wait for it."""
    nowhere = subprocess.DEVNULL
    command = [
        "/bin/sh",
        "-c",
        '"$@" &',
        "sh",
        COMMAND,
        *words,
    ]  # the shell ends at once, and nobody waits for it
    subprocess.run(
        command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True, check=False
    )


def application() -> str:
    """The file manager whose folder of extensions this file is in; empty: none."""
    folder = Path(__file__).resolve().parent.parent.name
    return {"nautilus-python": "Nautilus", "nemo-python": "Nemo", "caja-python": "Caja"}.get(folder, "")


if application():
    import importlib

    from gi.repository import Gio, GLib, GObject

    Host = importlib.import_module(f"gi.repository.{application()}")

    def _watch(question: Question, ready: Callable[[], bool], late: Callable[[], None]) -> None:
        def came(_fd: int, _condition: object) -> bool:
            goes_on = ready()
            if not goes_on:
                GLib.source_remove(timer)
            return goes_on

        def expired() -> bool:
            GLib.source_remove(source)
            late()
            return False

        source = GLib.io_add_watch(
            question.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, came
        )
        timer = GLib.timeout_add(int(ANSWER_S * 1000), expired)

    # The classes below have ignored types: GObject and the binding of the file manager have none.
    KNOWN = Known(_watch)
    RENEWALS = Renewals(lambda expired: GLib.timeout_add_seconds(int(FRESH_S) + 1, expired))

    class ProcoreInfo(GObject.GObject, Host.InfoProvider, Host.ColumnProvider):  # type: ignore[misc, name-defined]
        """Emblems, and a column."""

        def get_columns(self) -> list[Any]:
            return [
                Host.Column(
                    name="ProcoreFS::state",
                    attribute="procorefs_state",
                    label="Procore",
                    description="Whether Procore has the file as it is here",
                )
            ]

        def update_file_info_full(self, provider: Any, handle: Any, closure: Any, file: Any) -> Any:
            path = path_of(file.get_uri())
            place = KNOWN.mounts.find(path) if path else None
            if path is None or place is None:
                return Host.OperationResult.COMPLETE
            is_fresh, facts = KNOWN.fresh(path)
            if is_fresh:
                self._show(file, facts)
                return Host.OperationResult.COMPLETE

            def show() -> bool:
                self._show(file, KNOWN.last(path))
                Host.info_provider_update_complete_invoke(
                    closure, provider, handle, Host.OperationResult.COMPLETE
                )
                return False

            KNOWN.ask_about(path, place, lambda: GLib.idle_add(show))  # after this method has returned
            return Host.OperationResult.IN_PROGRESS

        def cancel_update(self, _provider: Any, _handle: Any) -> None:
            """The file manager ignores an answer that comes after this."""

        def _show(self, file: Any, facts: Facts | None) -> None:
            if facts is None:
                return
            emblem = emblem_of(facts)
            if emblem is not None:
                file.add_emblem(emblem)
            file.add_string_attribute("procorefs_state", text_of(facts))
            if facts["state"] in WAITING or facts["state"] in STUCK or facts["holder"]:
                RENEWALS.later(file.get_uri(), file.invalidate_extension_info)

    class ProcoreMenu(GObject.GObject, Host.MenuProvider):  # type: ignore[misc, name-defined]
        """The menu of files."""

        def get_file_items(self, *arguments: Any) -> list[Any]:
            """From what is known: a menu must open at once."""
            paths = [path_of(file.get_uri()) for file in arguments[-1]]
            places = [KNOWN.mounts.find(path) if path else None for path in paths]
            if not places or None in places:
                return []
            facts = [known for path in paths if path and (known := KNOWN.last(path))]
            choices = menu_of(facts, KNOWN.page(places[0])) if places[0] else ()
            if not choices:
                return []
            return [self._item(Choice("procore", "Procore", choices), paths, places[0])]

        def _item(self, choice: Choice, paths: list[Any], place: Any) -> Any:
            item = Host.MenuItem(name=f"ProcoreFS::{choice.key}", label=choice.label)
            if choice.choices:
                menu = Host.Menu()
                for one in choice.choices:
                    menu.append_item(self._item(one, paths, place))
                item.set_submenu(menu)
            else:
                item.connect("activate", self._do, choice.key, paths, place)
            return item

        def _do(self, _item: Any, key: str, paths: list[str], place: Place) -> None:
            if key == "page":
                Gio.AppInfo.launch_default_for_uri(KNOWN.page(place), None)
            elif key == "versions":
                Gio.AppInfo.launch_default_for_uri(versions_uri(place), None)
            elif key == "link":
                _copy(KNOWN.page(place))
            elif key in ("retry", "discard"):
                run_command(key, "--", *paths)
            else:
                run_command("desktop", key, "--", paths[0])

        def get_background_items(self, *_arguments: Any) -> list[Any]:
            return []

    def _copy(text: str) -> None:
        from gi.repository import Gdk, Gtk

        if application() == "Nautilus":
            Gdk.Display.get_default().get_clipboard().set(text)
        else:
            Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD).set_text(text, -1)
