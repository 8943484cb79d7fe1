"""Links as people share and follow them: what they name is in sight, and no page passes on what others don't know."""

import pytest
from playwright.sync_api import Page, expect

from merging.runs import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.app.finished_runs import ended, finished
from tests.browser.conftest import Server, Visits, asked_in_vain
from tests.dashboard import settled

# Link → the pages that one goes to from there: away, back to where its settings may have stayed, and away again, to a
# page that does not know them. Every page is left with the settings of its own in `test_pages.py`.
WALKS = {
    "/similarity?suite=tiny&alpha=0.3&scope=layer&level=block": ("Task models", "Similarity", "Merge", "Start"),
    "/merge?suite=tiny&edit=awd&edit.alpha=0.2": ("Task models", "Merge", "Accuracy"),
    "/leaderboard?suite=tiny&data=No+data": ("Task models", "Leaderboard", "Runs"),
    "/accuracy?suite=tiny&run={0},{1}": ("Task models", "Accuracy", "Leaderboard"),
    "/runs?suite=tiny&run={0}": ("Task models", "Runs", "Add a suite"),
}


@pytest.fixture(scope="module")
def runs(server: Server) -> list[Run]:
    """More runs than the table shows at once, oldest first."""
    suite: Suite = load_suite(server.home.parent / "suites" / "tiny")
    space = Workspace(server.home)
    return [finished(space, suite, 0.5, merge_params={"scaling": 0.02 * number}) for number in range(1, 15)]


def is_in_sight_without_scrolling(run: Run, page: Page) -> None:
    expect(page.get_by_role("heading", name="Task Arithmetic", level=2)).to_be_in_viewport()
    expect(page.get_by_text(run.id, exact=True).first).to_be_in_viewport()
    expect(page.locator(".js-plotly-plot").first).to_be_in_viewport()


def stand_in_the_address(runs: list[Run], page: Page) -> None:
    page.wait_for_url("**/accuracy?*" + "&".join(f"runs={run.id}" for run in runs) + "*")
    page.get_by_text("λ 0.02, set by hand").first.wait_for()


@pytest.mark.parametrize("start", WALKS)
def test_a_link_shows_what_it_names_and_pages_pass_nothing_on_that_others_do_not_know(
    start: str, runs: list[Run], visit: Visits
) -> None:
    page = visit(start.format(runs[0].id, runs[1].id))
    if start.startswith("/runs"):
        is_in_sight_without_scrolling(runs[0], page)
    if start.startswith("/accuracy"):
        stand_in_the_address(runs[:2], page)
    for title in WALKS[start]:
        page.get_by_test_id("stSidebarNavLink").get_by_text(title, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("One model from many" if title == "Start" else title)
        settled(page)
        expect(asked_in_vain(page)).to_have_count(0)


def test_a_linked_run_beside_many_others_is_in_sight_without_scrolling(runs: list[Run], visit: Visits) -> None:
    is_in_sight_without_scrolling(runs[13], visit(f"/runs?suite=tiny&run={runs[13].id}"))


def test_a_value_asked_for_in_vain_is_named(visit: Visits) -> None:
    page = visit("/?suite=tiny&alpha=-5")
    page.get_by_text("The page Start takes no alpha = -5").wait_for()
    visit.leave(page)
    page = visit("/sweeps?suite=tiny&trials=0")
    page.get_by_text("trials = 0, which is no number from 1 to").wait_for()


def test_a_page_asked_for_in_vain_is_named_without_a_dialog_over_the_one_shown(visit: Visits) -> None:
    page = visit("/no_*such*_page?suite=tiny&tasks=apples")
    page.get_by_text("There is no page no_*such*_page. Start is shown.", exact=True).wait_for()
    page.get_by_text("1 of 4 tasks selected").wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_test_id("stSidebarNavLink").get_by_text("Task models", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Task models")
    expect(page.get_by_text("There is no page")).to_have_count(0)
    visit.leave(page)
    page = visit("/start?suite=tiny")  # as its file is called
    expect(page.get_by_role("heading", level=1)).to_have_text("One model from many")
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_run_deleted_elsewhere_is_said_to_be_gone(server: Server, visit: Visits) -> None:
    space = Workspace(server.home)
    run = ended(space, load_suite(server.home.parent / "suites" / "tiny"), "failed", "bad luck", "the last line")
    page = visit(f"/runs?suite=tiny&run={run.id}")
    again = page.get_by_role("button", name="Run again")
    again.wait_for()
    space.store.delete(run.id)
    again.click()
    page.get_by_test_id("stAlert").filter(has_text=f"There is no run {run.id} here").wait_for()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
