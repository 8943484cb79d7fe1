"""The main job as a person does it: pick, compare, disentangle, merge, measure."""

import re

import pytest
from playwright.sync_api import BrowserContext, expect

from merging.methods.presets import PRESETS
from merging.runs.leaderboard import spec_of
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from studies.docs import FIRST_LOOK
from tests.app.finished_runs import result_of
from tests.browser.conftest import Server, Visits
from tests.dashboard import ROOT, settled
from tests.waiting import until

TINY = "suite=tiny"
METHODS = (
    "Zero-shot",
    "Individual",
    "Task Arithmetic",
    "AdaMerging",
    "AWD + Task Arithmetic",
    "AWD + AdaMerging",
)


def test_comparison_survives_a_closed_tab(visit: Visits, server: Server) -> None:
    tasks = ("apples", "birds")  # AdaMerging takes as long as there are tasks, and once is enough
    space, suite = Workspace(server.home), load_suite(server.home.parent / "suites" / "tiny")
    done = spec_of(PRESETS["awd_adamerging"], str(suite.folder / "suite.yaml"), tasks, "cpu")
    run, _ = space.store.take(done, done.fingerprint(space))  # a worker that waits would take a queued one
    space.store.finish(run.id, result_of(suite, done, space))
    start = f"/?{TINY}&tasks=apples&tasks=birds"
    page = visit(start)
    page.get_by_role("button", name="Run the 3 that are missing").click()
    page.get_by_text("Cancel").first.wait_for()
    visit.leave(page)
    again = visit(start)
    until(lambda: not RunStore(server.home).active(), meanwhile=lambda: again.wait_for_timeout(200))
    expect(again.get_by_role("button", name="Cancel")).to_have_count(0)
    settled(again)
    for method in METHODS:
        expect(again.get_by_text(method, exact=True).first).to_be_attached()
    expect(again.get_by_role("button", name=re.compile("^Run the"))).to_have_count(0)
    again.get_by_text("Compare in detail").click()
    settled(again)
    expect(again.get_by_role("heading", level=1)).to_have_text("Accuracy")
    assert "runs=" in again.url


def test_a_view_of_the_similarity_page_is_a_link_and_a_slider_changes_it(visit: Visits) -> None:
    """Also while it moves faster than the browser hears that the page shows no reading of the paper any more."""
    page = visit(f"/similarity?{TINY}&level=block&tasks=apples&tasks=doors")
    expect(page.locator('[role="radio"][aria-checked="true"]').filter(has_text="Reading A")).to_have_count(1)
    slider = page.get_by_role("slider", name=re.compile("α"))
    expect(slider).to_have_value("0.1")
    page.get_by_text("2 of 4 tasks selected").wait_for()
    value = page.get_by_test_id("stMetricValue").first
    before = value.inner_text()
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(30)
    expect(value).not_to_have_text(before)
    settled(page)
    expect(page.locator('[role="radio"][aria-checked="true"]').filter(has_text="Reading A")).to_have_count(0)
    expect(slider).to_have_value("0.14")
    assert "alpha=0.14" in page.url
    page.get_by_text("Merge with these settings").click()
    settled(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Merge")
    for setting in ("--edit awd", "edit.alpha=0.14"):
        page.get_by_text(setting).wait_for()


def test_merge_shows_progress_and_result(visit: Visits) -> None:
    page = visit(f"/merge?{TINY}&edit=ties")
    page.get_by_role("button", name="Merge", exact=True).click()
    page.wait_for_url(re.compile(r"run=\w{12}"))
    page.get_by_text("Average accuracy").wait_for()
    run = re.search(r"run=(\w+)", page.url)
    assert run is not None
    page.get_by_text("Details and export on Runs").click()
    settled(page)
    assert f"run={run.group(1)}" in page.url
    expect(page.get_by_text(run.group(1)).first).to_be_attached()


def test_what_somebody_has_asked_for_comes_into_sight_each_time(visit: Visits) -> None:
    page = visit(f"/merge?{TINY}&merge.scaling=0.21")
    button = page.get_by_role("button", name="Merge", exact=True)
    top = page.get_by_role("heading", level=1)
    button.click()
    expect(page.get_by_role("heading", name="Progress")).to_be_in_viewport()
    expect(page.get_by_text("Average accuracy")).to_be_in_viewport(ratio=1)
    for _ in range(2):  # then it shows the run that is there
        top.scroll_into_view_if_needed()
        expect(page.get_by_text("Average accuracy")).not_to_be_in_viewport()
        button.click()
        expect(page.get_by_text("Average accuracy")).to_be_in_viewport(ratio=1)
        settled(page)


def test_a_running_merge_can_be_cancelled(visit: Visits) -> None:
    page = visit(f"/merge?{TINY}&merge=adamerging&merge.steps=20000")
    page.get_by_role("button", name="Merge", exact=True).click()
    page.wait_for_url(re.compile(r"run=\w{12}"))
    run = page.url.split("run=")[1][:12]  # others of another test may be under way beside it
    page.get_by_text(re.compile("Adapting")).first.wait_for()
    page.locator(f'[class*="cancel-{run}"]').get_by_role("button").click()
    page.get_by_role("button", name="Run again").wait_for()


def test_the_selection_is_shared_by_all_pages(visit: Visits) -> None:
    page = visit(f"/task_models?{TINY}&tasks=apples&tasks=birds")
    page.get_by_text("2 of 4 tasks selected").wait_for()
    page.get_by_test_id("stSidebarNavLink").get_by_text("Similarity").click()
    settled(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Similarity")
    page.get_by_text("2 of 4 tasks selected").wait_for()
    page.get_by_test_id("stSidebarNavLink").get_by_text("Task models").click()
    page.get_by_role("button", name="Select none").click()
    page.wait_for_url(re.compile(r"(?=.*[?&]suite=tiny(&|$)).*[?&]tasks=(&|$)"))
    page.reload()
    settled(page)
    page.get_by_text("0 of 4 tasks selected").wait_for()


@pytest.mark.parametrize("content", ["<h1>Start</h1>", '<div data-testid="stAlert">No.</div>'])
def test_the_first_look_goes_once_there_is_a_page(content: str, profile: BrowserContext) -> None:
    look = (ROOT / FIRST_LOOK).read_text(encoding="utf-8")
    page = profile.new_page()
    page.set_content(f"<!DOCTYPE html><html lang=en><title>Any</title><body><div id=root></div>{look}</body></html>")
    expect(page.locator("#first-look")).to_contain_text("AWD + Task Arithmetic")
    page.evaluate("document.getElementById('root').innerHTML = '<p>Connecting</p>'")
    page.locator("#first-look").wait_for()
    page.evaluate(f"document.getElementById('root').innerHTML = `<main data-testid=stMain>{content}</main>`")
    expect(page.locator("#first-look")).to_have_count(0)
    page.close()


def test_the_embedded_suite_is_there_at_once(visit: Visits) -> None:
    page = visit("/")
    page.get_by_text(re.compile("Measured when the suite was built")).first.wait_for()
    page.get_by_text("8 of 8 tasks selected").wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
