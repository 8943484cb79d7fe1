"""Pages with the keyboard alone: Tab reaches the main control, Enter or Space works it, and one sees where one is.

A sweep is started so in `test_sweeps.py`, and a report taken in `test_compare.py`.
"""

import re

from playwright.sync_api import expect

from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.app.finished_runs import finished
from tests.browser.conftest import Server, Visits, barriers
from tests.browser.keyboard import focus_is_seen, tab_to
from tests.dashboard import settled


def test_coefficients_are_moved_and_set_without_a_mouse(visit: Visits) -> None:
    page = visit("/what_if?suite=tiny&tasks=apples&tasks=birds")
    tab_to(page, "slider", "Apples")
    assert focus_is_seen(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(r"c\.apples=0\.35"))
    settled(page)
    tab_to(page, "button", "Apples alone")
    assert focus_is_seen(page)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"c\.apples=1"))


def test_a_tab_is_opened_and_a_run_deleted_and_had_back_without_a_mouse(visit: Visits, server: Server) -> None:
    space = Workspace(server.home)
    run = finished(space, load_suite(server.home.parent / "suites" / "tiny"), seed=271)
    kept = space.store.folder(run.id) / KEPT_WEIGHTS
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")

    page = visit(f"/runs?suite=tiny&run={run.id}")
    page.get_by_role("heading", name="Task Arithmetic").wait_for()
    tab_to(page, "tab", "Accuracy")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Coefficients")).to_have_attribute("aria-selected", "true")
    page.wait_for_url(re.compile(rf"tab\.{run.id}=Coefficients"))
    settled(page)
    for name in ("^Delete$", "^Delete it$"):
        tab_to(page, "button", name)
        page.keyboard.press("Enter")
    page.get_by_text(f"{run.id} was deleted").wait_for()
    assert space.store.find(run.fingerprint) is None
    settled(page)
    tab_to(page, "button", "^Undo$")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"{run.id} was deleted")).to_have_count(0)
    assert space.store.get(run.id) == run and kept.read_bytes() == b"weights"
    assert not barriers(page)
