"""One dashboard and one Chromium for all browser tests."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

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
            item.add_marker(
                pytest.mark.skip(
                    reason="no Chromium on this machine (apt install chromium-headless-shell, or chromium)"
                )
            )


# What Streamlit writes and nobody can change, rule by rule: headings of sections among the items of the list of pages;
# the place for files, which is called one of presentation and has a name.
_NOT_OURS = {
    "list": '[data-testid="stSidebarNavItems"]',
    "listitem": '[data-testid="stSidebarNavItems"]',
    "presentation-role-conflict": '[data-testid="stFileUploaderDropzone"]',
}
_LOOK = """async ([others, rules]) => {
    const of = rules.length ? {runOnly: rules} : {}
    const {violations} = await axe.run(document, {reporter: "no-passes", elementRef: true, preload: false, ...of})
    const excused = (one, node) => others[one.id] && node.element.closest(others[one.id])
    return violations.map(one => ({...one, nodes: one.nodes.filter(node => !excused(one, node))}))
        .filter(one => one.nodes.length)
        .map(one => `${one.id} (${one.impact}): ${one.nodes[0].html.slice(0, 200)}`)
}"""
# The rules that find other faults of the same elements once colours and widths are others.
OF_LOOKS = ("color-contrast", "scrollable-region-focusable")


def barriers(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds wrong with a page, by any of its rules, once all of it is drawn and nothing fades any more.

    Args:
        page: which.
        rules: those that are asked; all if empty.
    """
    expect(page.locator('[data-stale="true"]')).to_have_count(0)
    page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(Axe().axe_script)
    found: list[str] = page.evaluate(_LOOK, [_NOT_OURS, rules])
    return found


def asked_in_vain(page: Page) -> Locator:
    """What a page says of values in its address that it does not know."""
    return page.get_by_test_id("stAlert").filter(has_text=re.compile("The page .* takes no|The link asks"))


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


@pytest.fixture(scope="session")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """What a browser keeps of a server: 2 MB of scripts, which take longer to fetch and compile than most pages."""
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE)
    yield context
    context.close()


@dataclass
class Tab:
    """A tab of the browser, and what is wrong with what it shows.

    Attributes:
        page: what it shows.
        complaints: errors of scripts and on the console since it was last emptied.
    """

    page: Page
    complaints: list[str]

    @classmethod
    def opened(cls, profile: BrowserContext) -> "Tab":
        """A new one."""
        tab = cls(profile.new_page(), [])
        tab.page.add_init_script("localStorage.clear()")  # what the user of another test chose
        tab.page.on("console", tab._listen)
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        return tab

    def _listen(self, message: ConsoleMessage) -> None:
        told = f"{message.text} {message.location['url']}"
        if message.type == "error" and not HARMLESS.search(told):
            self.complaints.append(told)

    def leave(self) -> None:
        """Away from a test's page, as if the tab was closed: another test may come."""
        self.page.mouse.move(0, 0)
        self.page.evaluate("sessionStorage.clear()")
        self.page.goto("about:blank")


@pytest.fixture(scope="session")
def free_tabs() -> list[Tab]:
    """Those that tests have left: a new one is a new process, which compiles all scripts anew."""
    return []


class Visits:
    """Opens paths of the dashboard, each in a tab of its own.

    Args:
        profile: the browser's.
        url: of the dashboard.
        free: tabs that nobody uses; those of here come to them.
    """

    def __init__(self, profile: BrowserContext, url: str, free: list[Tab]) -> None:
        self._profile, self._url, self._free = profile, url, free
        self._taken: list[Tab] = []
        self.complaints: list[str] = []

    def __call__(self, path: str = "/", width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        """Open one and wait until it is drawn."""
        tab = self._free.pop() if self._free else Tab.opened(self._profile)
        self._taken.append(tab)
        page = tab.page
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(self._url + path)
        settled(page)
        return page

    def leave(self, page: Page) -> None:
        """Close a tab, as the server sees it: its connection ends, and what the tab knew of its session is gone."""
        (tab,) = (one for one in self._taken if one.page is page)
        self._taken.remove(tab)
        self.complaints += tab.complaints
        tab.leave()
        tab.complaints.clear()  # a blank page has no storage to be cleared
        self._free.append(tab)

    def leave_all(self) -> None:
        """Close all of them."""
        for tab in list(self._taken):
            self.leave(tab.page)


@contextmanager
def visiting(profile: BrowserContext, server: Server, free_tabs: list[Tab]) -> Iterator[Visits]:
    """As long as the block; console errors of the pages fail it."""
    visits = Visits(profile, server.url, free_tabs)
    yield visits
    visits.leave_all()
    assert not visits.complaints, visits.complaints


@pytest.fixture
def visit(profile: BrowserContext, server: Server, free_tabs: list[Tab]) -> Iterator[Visits]:
    """Open a path of the dashboard in a tab of its own and wait until it is drawn; console errors fail the test."""
    with visiting(profile, server, free_tabs) as visits:
        yield visits
