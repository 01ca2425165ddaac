"""Chromium without a window, driven over the WebDriver protocol (W3C) of Debian's chromedriver."""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

START_S = 60.0

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id in answers (WebDriver, section Elements)."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs Debian's chromium and chromium-driver; `make browser` installs them",
)


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._session = session

    def _post(self, path: str, **body: object) -> Any:
        return _value(self._client.post(f"/session/{self._session}/{path}", json=body))

    def _get(self, path: str) -> Any:
        return _value(self._client.get(f"/session/{self._session}/{path}"))

    def open(self, address: str) -> None:
        self._post("url", url=address)

    def find(self, selector: str) -> list[str]:
        """The elements that a CSS selector matches."""
        return [found[ELEMENT] for found in self._post("elements", using="css selector", value=selector)]

    def text(self, selector: str = "body") -> str:
        return str(self._get(f"element/{self.find(selector)[0]}/text"))

    def click(self, element: str) -> None:
        self._post(f"element/{element}/click")

    def press(self, keys: str) -> None:
        """Press keys on whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self._post("execute/sync", script=script, args=[])

    def resize(self, width: int, height: int) -> None:
        self._post("window/rect", width=width, height=height)

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._get("screenshot")))

    def console(self) -> list[str]:
        """What the console has told since the last call, such as violations of the content security policy."""
        return [entry["message"] for entry in self._post("se/log", type="browser")]


def _value(answer: httpx.Response) -> Any:
    found = answer.json()["value"]
    assert answer.status_code == 200, found
    return found


@contextmanager
def browsing(folder: Path, *flags: str) -> Iterator[Browser]:
    """A browser with a new profile."""
    with (
        (folder / "chromedriver.log").open("wb") as log,
        subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=log, text=True
        ) as driver,
    ):
        try:
            assert driver.stdout is not None
            port = next(
                line.split()[-1].rstrip(".")
                for line in driver.stdout
                if "on port" in line and line.split()[-1].rstrip(".") != "0"
            )
            options = {
                "args": [*FLAGS, *flags, f"--user-data-dir={folder / 'profile'}"],
                "binary": shutil.which("chromium"),
            }
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=START_S, trust_env=False
            ) as client:
                made = _value(client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}))
                try:
                    yield Browser(client, made["sessionId"])
                finally:
                    client.delete(f"/session/{made['sessionId']}")
        finally:
            driver.terminate()
