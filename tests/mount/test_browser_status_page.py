"""The status page in a real browser: it updates, its buttons work by keyboard, and it fits a narrow window."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browsing, needs_chromium
from tests.support.mounting import Home, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse"),
]

PORT = 18_912
UPDATE_S = 30.0
ENTER, TAB = "\ue007", "\ue004"
"""Keys of WebDriver."""

PICTURES = os.environ.get("PROCOREFS_TEST_PICTURES")
"""A folder that gets pictures of the page, to look at."""


@pytest.fixture
def address(home: Home) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "procorefs.cli", "serve", "--port", str(PORT)],
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        process.wait(30)


def picture(browser: Browser, name: str) -> None:
    if PICTURES:
        browser.picture(Path(PICTURES) / f"{name}.png")


def open_page(browser: Browser, address: str) -> None:
    def is_shown() -> bool:
        browser.open(address)
        return bool(browser.find("main"))

    wait_until(is_shown, "the page", UPDATE_S)


def fits(browser: Browser) -> bool:
    """Whether nothing sticks out at the right."""
    return bool(browser.run("return document.documentElement.scrollWidth <= window.innerWidth"))


def with_failures(mount_project: Callable[..., MountedProject], sandbox: SandboxHandle) -> MountedProject:
    project = mount_project("freshness=3600")
    project.mounted.expect_warning("was refused")
    sandbox.faults(dialect={"empty_files": "refused_at_file"})
    for name in ("first.txt", f"second with a name that is {'very_' * 30}long.txt"):
        (project.path / name).touch()
    assert len(project.settle()) == 2
    return project


def test_a_change_is_discarded_by_keyboard_and_the_page_follows(
    mount_project: Callable[..., MountedProject], sandbox: SandboxHandle, address: str, tmp_path: Path
) -> None:
    project = with_failures(mount_project, sandbox)
    with browsing(tmp_path) as browser:
        open_page(browser, address)
        assert "token" not in browser.run("return location.href")
        assert "first.txt" in browser.text()
        picture(browser, "failed")
        summaries = browser.find("details.sure summary")
        assert len(summaries) == 2
        browser.run("document.querySelector('details.sure summary').focus()")
        browser.press(ENTER)
        browser.press(TAB)
        assert browser.run("return document.activeElement.tagName") == "BUTTON"
        browser.press(ENTER)
        wait_until(lambda: len(project.waiting()) == 1, "the change to be discarded", UPDATE_S)
        wait_until(lambda: len(browser.find("details.sure")) == 1, "the page to show it", UPDATE_S)
        browser.run("document.activeElement.blur()")
        (project.path / "third.txt").touch()
        wait_until(lambda: "third.txt" in browser.text(), "the page to update itself", UPDATE_S)
        assert [line for line in browser.console() if "favicon" not in line] == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_narrow_window_shows_everything(
    mount_project: Callable[..., MountedProject],
    sandbox: SandboxHandle,
    address: str,
    tmp_path: Path,
    is_dark: bool,
) -> None:
    with_failures(mount_project, sandbox)
    with browsing(tmp_path, f"--blink-settings=preferredColorScheme={int(not is_dark)}") as browser:
        open_page(browser, address)
        assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") is is_dark
        for width in (1280, 500):
            browser.resize(width, 900)
            assert fits(browser), width
        picture(browser, "dark" if is_dark else "narrow")
