"""The page What if in a real browser: a moved slider changes the numbers, first on a sample, then on all images."""

import re

from playwright.sync_api import expect

from merging.methods.mixing import specification
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.browser.conftest import Server, Visits, barriers
from tests.carrying import execute
from tests.dashboard import settled

MINI = "tasks=digits&tasks=signs"
SAMPLE = "50 validation images a task, drawn at random"
# Notes that a text was on the page, however short: on a fast machine full numbers follow at once.
WATCH = """text => {
    new MutationObserver(() => { if (document.body.innerText.includes(text)) window.seen = true })
        .observe(document.body, {subtree: true, childList: true, characterData: true})
}"""


def test_moved_sliders_change_the_numbers_and_the_last_of_many_moves_counts(visit: Visits, server: Server) -> None:
    page = visit(f"/what_if?{MINI}")
    value = page.get_by_test_id("stMetricValue").first
    page.get_by_text("All 450 validation images").wait_for()
    before = value.inner_text()
    page.evaluate(WATCH, SAMPLE)
    slider = page.get_by_role("slider", name=re.compile("Traffic signs"))
    slider.focus()
    slider.press("Home")
    page.wait_for_function("window.seen")
    page.get_by_text("All 450 validation images").wait_for()
    expect(value).not_to_have_text(before)
    settled(page)
    assert "c.signs=-1" in page.url
    assert load_suite("mini").task("signs").label in page.get_by_test_id("stMetric").nth(2).inner_text()
    slider = page.get_by_role("slider", name=re.compile("Handwritten digits"))
    slider.focus()
    for _ in range(8):
        slider.press("ArrowRight")
    settled(page)
    page.get_by_text("All 450 validation images").wait_for()
    page.wait_for_url(re.compile(r"c\.digits=0\.7"))
    run = execute(
        MergeSpec.like(specification("mini", {"digits": 0.7, "signs": -1.0}, "none", split="val")),
        Workspace(server.home),
    )
    expect(value).to_have_text(f"{100 * run.accuracy['digits']:.1f} %")  # signs are to be forgotten


def test_a_view_is_a_link(visit: Visits) -> None:
    page = visit("/what_if?suite=tiny&c.birds=0&what-edit=TIES&what-split=Test")
    page.get_by_text("All 96 test images").wait_for()
    page.get_by_text("chosen on test").wait_for()
    expect(page.get_by_role("slider", name=re.compile("Birds"))).to_have_value("0")


def test_jobs_show_their_results_and_all_views_are_accessible(visit: Visits) -> None:
    page = visit("/what_if?suite=tiny&what=Drop+one+out")
    assert not barriers(page)
    page.get_by_role("button", name="Drop one out", exact=True).last.click()
    page.get_by_text("Does cosine predict interference?").wait_for()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    for view, button in (("λ curves", "Measure the curves"), ("Landscape", "Measure the landscape")):
        page.get_by_role("radio", name=view, exact=True).click()
        page.get_by_role("button", name=button).wait_for()
        settled(page)
        assert not barriers(page), view
