"""The dashboard as users start it, and a real Chromium: for tests, benchmarks and pictures."""

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright

from tests.waiting import PATIENCE, until

ROOT = Path(__file__).resolve().parents[1]
# First the one without a window's trappings, which Playwright would take for pages that nobody sees, too: it starts
# fewer processes and draws the same.
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _BROWSERS)), None)
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--no-opt",  # pages of a test do not live long enough for it to be worth while
]


@contextmanager
def running_dashboard(home: Path, suites: Path | None = None) -> Iterator[str]:
    """Start the dashboard on a free port with a workspace of its own; gives its address, stops it at the end."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = os.environ | {"MERGING_HOME": str(home), "MERGING_SUITES": str(suites or "")}
    command = [
        sys.executable,
        "ui/shell/serve.py",
        "run",
        "app.py",
        "--server.port",
        str(port),
        "--server.headless",
        "true",
        "--server.fileWatcherType",
        "none",
    ]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE)
            _stop_worker(home)


def launch(playwright: Playwright) -> Browser:
    """Chromium, headless.

    Raises:
        RuntimeError: there is none on this machine.
    """
    if CHROMIUM is None:
        raise RuntimeError("there is no Chromium on this machine (apt install chromium-headless-shell, or chromium)")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)


def settled(page: Page) -> None:
    """Wait until the page is connected and its script has run to the end."""
    # Asked for by a selector: what an expectation sees in vain it describes each time, which takes longer than to wait.
    done = '[data-test-connection-state="CONNECTED"][data-test-script-state="notRunning"]'
    page.locator(f'[data-testid="stApp"]{done}').wait_for(state="attached", timeout=1000 * PATIENCE)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server says that it is well.

    Raises:
        AssertionError: it ended, or did not become healthy in time.
    """

    def healthy() -> bool:
        with suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return True
        return False

    until(healthy, going_on=lambda: process.poll() is None)


def _stop_worker(home: Path) -> None:
    """The worker outlives the dashboard on purpose; that of a test must not outlive the test."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in command and str(home.resolve()).encode() in command:
            os.kill(int(process.name), 15)
