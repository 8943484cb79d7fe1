"""The dashboard as users start it, and a real Chromium that looks at it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.app.conftest import build_suite

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# What Chromium says about a server on plain HTTP, or about fonts, is no fault of a page.
HARMLESS = re.compile(r"favicon|preload|Permissions-Policy|Unrecognized feature|sandbox attribute|WebGL|GPU stall")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser; without one it is skipped, or fails where REQUIRE_BROWSER says it must run."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.timeout(600))
        if CHROMIUM is None and not os.environ.get("REQUIRE_BROWSER"):
            item.add_marker(pytest.mark.skip(reason="no Chromium on this machine (apt install chromium)"))


@dataclass(frozen=True)
class Server:
    """A running dashboard."""

    url: str
    home: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard with the embedded suite and a tiny random one, a workspace of its own, on a free port."""
    folder = tmp_path_factory.mktemp("dashboard")
    build_suite(folder / "suites" / "tiny")
    home = folder / "home"
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MERGING_HOME": str(home), "MERGING_SUITES": str(folder / "suites")}
    command = [
        sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true",
        "--server.fileWatcherType", "none",
    ]  # fmt: skip
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield Server(f"http://127.0.0.1:{port}", home)
        finally:
            process.terminate()
            process.wait(30)
            _stop_worker(home)


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended at once"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not become healthy")


def _stop_worker(home: Path) -> None:
    """The worker outlives the server on purpose; a test's must not outlive the test."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in command and str(home).encode() in command:
            os.kill(int(process.name), 15)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    assert CHROMIUM is not None, "browser tests must run here, but there is no Chromium (apt install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open a path of the dashboard in a fresh browser and wait until it is drawn; console errors fail the test."""
    contexts, complaints = [], []

    def opened(path: str = "/", width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(90_000)
        contexts.append(context)
        page = context.new_page()

        def listen(message: ConsoleMessage) -> None:
            if message.type == "error" and not HARMLESS.search(message.text):
                complaints.append(message.text)

        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url + path)
        settled(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints, complaints


def settled(page: Page) -> None:
    """Wait until the page is connected and its script has run to the end."""
    app = page.locator('[data-testid="stApp"]')
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=90_000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=90_000)
