"""The lesson as a teacher gives it: through all steps, by clicks and keys, on a small and on a large projector."""

import re

from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.conftest import OF_LOOKS, Visits, barriers
from tests.dashboard import settled
from ui.lesson.steps import STEPS

MINI = "tasks=digits&tasks=signs&tasks=shapes"


def answered(page: Page) -> str:
    """The numbers that say why, once they are there."""
    told = page.locator(".st-key-lesson-answer")
    told.wait_for()
    expect(told).not_to_contain_text("Still being measured")
    settled(page)
    return told.inner_text()


SIZES: list[ViewportSize] = [{"width": 1280, "height": 800}, {"width": 1920, "height": 1080}]


def fits(page: Page) -> None:
    """All of a step is in sight, with nothing left of the step before, and can be read from the last row."""
    page.wait_for_function(
        "() => { const main = document.querySelector('[data-testid=stMain]');"
        " return main.scrollWidth <= main.clientWidth && main.scrollHeight <= main.clientHeight }"
    )
    small = page.locator(".st-key-lesson p:visible").evaluate_all(
        "all => Math.min(...all.map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert small >= 15


def test_through_the_lesson(visit: Visits) -> None:
    """On a small and on a large projector, in dark; light is looked at below.

    A step is asked on the one, and looked at on the other, on which the next is asked.
    """
    page = visit(f"/learn?{MINI}", scheme="dark")
    for number, step in enumerate(STEPS, 1):
        expect(page.get_by_role("heading", level=1)).to_have_text(step.title)
        page.get_by_text(f"{number} of {len(STEPS)}", exact=True).wait_for()
        expect(page.locator(".js-plotly-plot")).to_have_count(1)
        show = page.get_by_role("radio", name="Show the answer")
        chosen = page.locator('[role="radio"][aria-checked="true"]').filter(has_text="Show the answer")
        expect(chosen).to_have_count(0)  # that of the step before is gone
        show.click()
        reason = answered(page)
        assert re.search(r"\d", reason) or number == 7
        expect(page.get_by_test_id("stException")).to_have_count(0)
        fits(page)
        assert not barriers(page), step.title
        page.set_viewport_size(SIZES[number % 2])
        fits(page)
        if number < len(STEPS):
            page.locator("body").press("PageDown")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_charts_leave_room_for_what_is_said_of_shipped_results(visit: Visits) -> None:
    """Of all tasks the last two steps have the most below their charts."""
    page = visit("/learn?step=7&answer.7=Show the answer&answer.8=Show the answer")
    for number in (7, 8):
        expect(page.get_by_role("heading", level=1)).to_have_text(STEPS[number - 1].title)
        expect(page.locator(".st-key-lesson-shipped")).to_contain_text("Again takes")
        expect(page.locator(".js-plotly-plot")).to_have_count(1)
        answered(page)
        for size in SIZES:
            page.set_viewport_size(size)
            fits(page)
        page.locator("body").press("PageDown")


def test_a_control_moves_the_chart_and_the_screen_is_a_link(visit: Visits) -> None:
    measured = re.compile(r"on average, on [\d,]+ validation images")
    page = visit(f"/learn?{MINI}&step=3")
    told = page.locator(".st-key-lesson-chart").get_by_test_id("stCaptionContainer")
    expect(told).to_have_text(measured)
    before = told.inner_text()
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("End")
    page.wait_for_url(re.compile("all=1.5"))
    expect(told).not_to_have_text(before)
    expect(told).to_have_text(measured)
    page.get_by_role("radio", name="C", exact=True).click()
    reason, shown = answered(page), told.inner_text()
    link = page.url[page.url.index("/learn") :]
    assert "answer.3=C" in link and "step=3" in link
    assert not barriers(page, OF_LOOKS)
    visit.leave(page)
    again = visit(link)
    assert answered(again) == reason
    expect(again.get_by_role("slider")).to_have_value("1.5")
    expect(again.locator(".st-key-lesson-chart").get_by_test_id("stCaptionContainer")).to_have_text(shown)


def test_a_class_watches_adamerging_learn(visit: Visits) -> None:
    page = visit("/learn?suite=tiny&step=7")
    page.get_by_role("button", name="Let it learn").click()
    page.wait_for_url(re.compile(r"run=\w{12}"))
    page.get_by_text(re.compile("is highest at")).wait_for()
    page.get_by_text("60 steps, 16 unlabeled validation images").wait_for()
    fits(page)
    page.get_by_role("radio", name="Show the answer").click()
    expect(page.locator(".st-key-lesson-answer")).to_contain_text("AdaMerging")  # once it has learned
    settled(page)
    assert not barriers(page, OF_LOOKS)
