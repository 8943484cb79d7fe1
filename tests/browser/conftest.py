"""One dashboard and one Chromium for all browser tests."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.app.conftest import build_suite
from tests.dashboard import CHROMIUM, launch, running_dashboard, settled
from tests.waiting import PATIENCE

# What Chromium says about a server on plain HTTP, or about fonts, is no fault of a page; and for a link to a page
# Streamlit's client first looks for its endpoints below that page's path.
HARMLESS = re.compile(r"/_stcore/|preload|Permissions-Policy|Unrecognized feature|sandbox attribute|WebGL|GPU stall")


# Waits end as soon as what is expected is there; on a busy machine that may take longer than Playwright's five seconds.
expect.set_options(timeout=1000 * PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser; without one it is skipped, or fails where REQUIRE_BROWSER says it must run."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.timeout(1200))
        if CHROMIUM is None and not os.environ.get("REQUIRE_BROWSER"):
            item.add_marker(pytest.mark.skip(reason="no Chromium on this machine (apt install chromium)"))


@dataclass(frozen=True)
class Server:
    """A running dashboard."""

    url: str
    home: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard with the embedded suite and a tiny random one."""
    folder = tmp_path_factory.mktemp("dashboard")
    build_suite(folder / "suites" / "tiny")
    with running_dashboard(folder / "home", folder / "suites") as url:
        yield Server(url, folder / "home")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open a path of the dashboard in a fresh browser and wait until it is drawn; console errors fail the test."""
    contexts, complaints = [], []

    def opened(path: str = "/", width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()

        def listen(message: ConsoleMessage) -> None:
            told = f"{message.text} {message.location['url']}"
            if message.type == "error" and not HARMLESS.search(told):
                complaints.append(told)

        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url + path)
        settled(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints, complaints
