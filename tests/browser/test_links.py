"""Links as people share and follow them: what they name is in sight, and no page passes on what others don't know."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from merging.runs import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.app.finished_runs import ended, finished
from tests.browser.conftest import Server
from tests.dashboard import settled

# Link → the pages that one goes to from there: once through all of them; from the others away, back to where their
# settings may have stayed, and away again, to the page that comes next in the first walk.
WALKS = {
    "/similarity?suite=tiny&alpha=0.3&scope=layer&level=block": (
        *("Task models", "Similarity", "Merge", "Accuracy", "Leaderboard", "Runs", "Add a suite", "Start"),
    ),
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


@pytest.mark.parametrize("start", WALKS)
def test_pages_pass_nothing_on_that_others_do_not_know(start: str, runs: list[Run], visit: Callable[..., Page]) -> None:
    page = visit(start.format(runs[0].id, runs[1].id))
    for title in WALKS[start]:
        page.get_by_test_id("stSidebarNavLink").get_by_text(title, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("One model from many" if title == "Start" else title)
        settled(page)
        asked_in_vain = page.get_by_test_id("stAlert").filter(has_text=re.compile("The page .* takes no|The link asks"))
        expect(asked_in_vain).to_have_count(0)


@pytest.mark.parametrize("place", [0, 13])
def test_a_linked_run_is_in_sight_without_scrolling(place: int, runs: list[Run], visit: Callable[..., Page]) -> None:
    page = visit(f"/runs?suite=tiny&run={runs[place].id}")
    expect(page.get_by_role("heading", name="Task Arithmetic", level=3)).to_be_in_viewport()
    expect(page.get_by_text(runs[place].id, exact=True).first).to_be_in_viewport()
    expect(page.locator(".js-plotly-plot").first).to_be_in_viewport()


def test_runs_chosen_by_link_stand_in_the_address_of_accuracy(runs: list[Run], visit: Callable[..., Page]) -> None:
    page = visit(f"/accuracy?suite=tiny&run={runs[0].id},{runs[1].id}")
    page.wait_for_url(f"**/accuracy?*runs={runs[0].id}&runs={runs[1].id}*")
    expect(page.get_by_text("λ 0.02, set by hand").first).to_be_visible()


def test_a_value_asked_for_in_vain_is_named(visit: Callable[..., Page]) -> None:
    page = visit("/similarity?suite=tiny&alpha=-5")
    expect(page.get_by_text("alpha = -5, which is no number from 0 to 1. 0.1 is shown instead.")).to_be_visible()
    page = visit("/?suite=tiny&alpha=-5")
    expect(page.get_by_text("The page Start takes no alpha = -5")).to_be_visible()


def test_a_run_deleted_elsewhere_is_said_to_be_gone(server: Server, visit: Callable[..., Page]) -> None:
    space = Workspace(server.home)
    run = ended(space, load_suite(server.home.parent / "suites" / "tiny"), "failed", "bad luck", "the last line")
    page = visit(f"/runs?suite=tiny&run={run.id}")
    again = page.get_by_role("button", name="Run again")
    expect(again).to_be_visible()
    space.store.delete(run.id)
    again.click()
    expect(page.get_by_test_id("stAlert").filter(has_text=f"There is no run {run.id} here")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
