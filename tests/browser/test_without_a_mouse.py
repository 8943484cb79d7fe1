"""Pages with the keyboard alone: Tab reaches the main control, Enter or Space works it, and one sees where one is."""

import re
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.app.finished_runs import finished
from tests.browser.conftest import Server
from tests.browser.test_sweeps import open_form
from tests.dashboard import settled

TINY = "suite=tiny&tasks=apples&tasks=birds"
Role = Literal["button", "slider", "tab"]
MANY = 120  # presses of Tab that reach anything on a page


def focus_is_seen(page: Page) -> bool:
    """Whether the element in focus looks otherwise without the focus."""
    element = page.evaluate_handle("document.activeElement").as_element()
    assert element is not None
    box = element.bounding_box()
    assert box is not None
    around = {"x": box["x"] - 8, "y": box["y"] - 8, "width": box["width"] + 16, "height": box["height"] + 16}
    focused = page.screenshot(clip=around, animations="disabled")  # type: ignore[arg-type]
    element.evaluate("one => one.blur()")
    plain = page.screenshot(clip=around, animations="disabled")  # type: ignore[arg-type]
    element.focus()
    return focused != plain


def tab_to(page: Page, role: Role, name: str) -> None:
    """Press Tab until a control is in focus."""
    control = page.get_by_role(role, name=re.compile(name)).first
    for _ in range(MANY):
        page.keyboard.press("Tab")
        if control.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{MANY} presses of Tab do not reach the {role} {name!r}")


@pytest.mark.parametrize(
    ("path", "role", "name", "key", "shown"),
    [
        (f"/what_if?{TINY}", "slider", "Apples", "ArrowRight", "c.apples=0.35"),
        (f"/what_if?{TINY}", "button", "Apples alone", "Enter", "c.apples=1"),
        (f"/sweeps?{TINY}&merges.task_arithmetic.scaling=0.2", "button", "Start the sweep", " ", "sweep="),
    ],
)
def test_the_main_control_works_without_a_mouse(
    path: str, role: Role, name: str, key: str, shown: str, visit: Callable[..., Page]
) -> None:
    page = visit(path)
    if path.startswith("/sweeps"):
        open_form(page)
    tab_to(page, role, name)
    assert focus_is_seen(page)
    page.keyboard.press(key)
    expect(page).to_have_url(re.compile(re.escape(shown)))


def test_a_report_is_downloaded_and_a_tab_opened_without_a_mouse(visit: Callable[..., Page], server: Server) -> None:
    space, suite = Workspace(server.home), load_suite(server.home.parent / "suites" / "tiny")
    runs = [finished(space, suite, merge_params={"scaling": scaling}) for scaling in (0.21, 0.22)]
    page = visit(f"/compare?suite=tiny&run={runs[0].id}&run={runs[1].id}")
    expect(page.get_by_role("button", name="Report")).to_be_visible()
    settled(page)
    tab_to(page, "button", "Report")
    assert focus_is_seen(page)
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "comparison.html"
    page = visit(f"/runs?suite=tiny&run={runs[0].id}")
    tab_to(page, "tab", "Accuracy")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Coefficients")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(re.compile(rf"tab\.{runs[0].id}=Coefficients"))
