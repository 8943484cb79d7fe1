"""Every page in a real browser: it renders, nothing overflows, and nobody is shut out.

The pages are looked at in one tab, one after the other by their links: to load the dashboard anew for each takes longer
than to draw it. Other tests come to each of them by its address.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import OF_LOOKS, Server, Tab, asked_in_vain, barriers
from tests.dashboard import settled

# Name in the list of pages, or an address where it is more than that → heading.
PAGES = {
    "Start": "One model from many",
    "Task models": "Task models",
    "Similarity": "Similarity",
    "Merge": "Merge",
    "What if": "What if",
    "Accuracy": "Accuracy",
    "Leaderboard": "Leaderboard",
    "Beyond the benchmark": "Beyond the benchmark",
    "Sweeps": "Sweeps",
    "Runs": "Runs",
    "Compare": "Compare",
    "Add a suite": "Add a suite",
    "/beyond?beyond=Corrupted+images": "Beyond the benchmark",
    "/learn?suite=tiny": "A task vector is a difference",
}
_WITH_TABLES = ("Task models", "Leaderboard", "Runs")
_PHONE = 400  # pixels; what is as narrow is touched

Walk = Callable[..., Tab]


@pytest.fixture(scope="module")
def walk(server: Server, profile: BrowserContext, free_tabs: list[Tab]) -> Iterator[Walk]:
    """Go to a page in the one tab, in a window of some width and height and in light or dark; gives the tab."""
    tab = free_tabs.pop() if free_tabs else Tab.opened(profile)
    fingers = profile.new_cdp_session(tab.page)
    looks: list[tuple[int, str]] = []

    def at(place: str, width: int, height: int, scheme: Literal["light", "dark"]) -> Tab:
        page = tab.page
        if looks[-1:] != [(width, scheme)]:  # comes anew: a page that is open goes along with its window by itself
            looks.append((width, scheme))
            page.goto("about:blank")
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            fingers.send("Emulation.setTouchEmulationEnabled", {"enabled": width < _PHONE})
        tab.complaints.clear()
        address = place if place.startswith("/") else "/" if page.url == "about:blank" else ""
        if address:
            page.goto(server.url + address)
            settled(page)
        if not place.startswith("/") and (place, address) != ("Start", "/"):
            link = page.get_by_test_id("stSidebarNavLink").get_by_text(place, exact=True)
            link.dispatch_event("click")  # on a phone it is folded away
        expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[place])
        settled(page)
        return tab

    yield at
    fingers.detach()
    tab.leave()
    tab.complaints.clear()  # a blank page has no storage to be cleared
    free_tabs.append(tab)


def renders_without_overflow(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.locator('[data-stale="true"], [data-testid="stSkeleton"]')).to_have_count(0)
    page.wait_for_function(  # charts follow the window's width a moment later
        "() => { const inside = one => one.getBoundingClientRect().right <= window.innerWidth + 1;"
        " const main = document.querySelector('[data-testid=stMain]');"
        " return document.documentElement.scrollWidth <= window.innerWidth && main.scrollWidth <= main.clientWidth"
        " && [...main.querySelectorAll('.stPlotlyChart, button')].every(inside) }",
        timeout=60_000,
    )


@pytest.mark.parametrize("place", PAGES)
def test_a_page_renders_without_overflow_and_is_accessible(place: str, walk: Walk) -> None:
    tab = walk(place, 1280, 800, "light")
    renders_without_overflow(tab.page, PAGES[place])
    expect(asked_in_vain(tab.page)).to_have_count(0)  # nothing that the page before has left in the address
    expect(tab.page.locator('[aria-label*="**"]')).to_have_count(0)  # screen readers read asterisks out
    assert not barriers(tab.page)
    assert not tab.complaints, tab.complaints


_COVERED = """() => [...document.querySelectorAll("[data-testid=stMain] .stElementContainer:has(.stDataFrame)")]
    .map(table => {
    const bar = table.querySelector('[data-testid=stElementToolbar]').getBoundingClientRect()
    return [...document.querySelectorAll('[data-testid=stMain] :is(button, a, input, label)')].filter(one => {
        const box = one.getBoundingClientRect()
        return !table.contains(one) && box.width && bar.width
            && box.left < bar.right && box.right > bar.left && box.top < bar.bottom && box.bottom > bar.top
    }).map(one => one.innerText)
})"""


def buttons_of_tables_cover_nothing(page: Page) -> None:
    """Where a finger points they always show, and stand in a row above their table."""
    page.get_by_test_id("stElementToolbar").first.wait_for()
    covered = page.evaluate(_COVERED)
    assert covered and not any(covered), covered


@pytest.mark.parametrize("place", PAGES)
def test_in_the_dark_nothing_lies_beyond_the_edge_of_a_phone_and_all_is_read_on_a_large_screen(
    place: str, walk: Walk
) -> None:
    """Drawn on a phone, where the sidebar is closed; a window that grows has it open, but for the lesson's."""
    tab = walk(place, 390, 844, "dark")
    renders_without_overflow(tab.page, PAGES[place])
    if place in _WITH_TABLES:
        buttons_of_tables_cover_nothing(tab.page)
    expand = tab.page.get_by_test_id("stExpandSidebarButton")
    expand.wait_for()
    tab.page.set_viewport_size({"width": 1920, "height": 1080})
    expect(expand).to_have_count(int(place.startswith("/learn")))
    renders_without_overflow(tab.page, PAGES[place])
    assert not barriers(tab.page, OF_LOOKS)
    assert not tab.complaints, tab.complaints
    tab.page.set_viewport_size({"width": 390, "height": 844})
