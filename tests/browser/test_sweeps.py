"""A sweep as a person does it: fill in, start, leave, come back, read the result; and stop one."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits, barriers
from tests.browser.keyboard import focus_is_seen, tab_to
from tests.dashboard import settled

TINY = "suite=tiny&tasks=apples&tasks=birds"


def open_form(page: Page) -> None:
    """It is folded away where there are sweeps already, which other tests may have started."""
    form = page.locator("details").filter(has=page.get_by_text("New sweep", exact=True))
    form.wait_for()
    if form.get_attribute("open") is None:
        form.locator("summary").first.click()
    page.get_by_role("button", name="Start the sweep").wait_for()


def test_a_sweep_that_a_key_started_survives_a_closed_tab_and_its_link_shows_the_best(visit: Visits) -> None:
    page = visit(f"/sweeps?{TINY}&merges.task_arithmetic.scaling=0.2, 0.4")
    open_form(page)
    page.get_by_text("A grid of 2 trials").wait_for()
    tab_to(page, "button", "Start the sweep")
    assert focus_is_seen(page)
    page.keyboard.press(" ")
    page.wait_for_url(re.compile(r"sweep=\w{12}"))
    link = page.url[page.url.index("/sweeps") :]
    visit.leave(page)
    again = visit(link)
    again.get_by_text("2 of 2 trials").wait_for()
    expect(again.get_by_test_id("stMetricValue").nth(1)).to_have_text(re.compile(r"\d %"))
    settled(again)
    expect(again.locator(".js-plotly-plot")).to_have_count(2)
    expect(again.locator(".js-plotly-plot .parcoords").first).to_be_attached()
    assert again.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not barriers(again)
    again.get_by_text("Details and export on Runs").click()
    settled(again)
    expect(again.get_by_role("heading", level=1)).to_have_text("Runs")
    assert "run=" in again.url


def test_a_running_sweep_can_be_cancelled_and_taken_up_again(visit: Visits) -> None:
    page = visit(f"/sweeps?{TINY}&merges=AdaMerging&merges.adamerging.steps=20000, 19000")
    open_form(page)
    page.get_by_role("button", name="Start the sweep").click()
    page.get_by_text(re.compile("adapting")).first.wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Go on").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text(re.compile("adapting")).first.wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Go on").wait_for()
