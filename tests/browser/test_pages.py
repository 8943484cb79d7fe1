"""Every page in a real browser: it renders, nothing overflows, and nobody is shut out."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

PAGES = {
    "/": "One model from many",
    "/learn?suite=tiny": "A task vector is a difference",
    "/task_models": "Task models",
    "/similarity": "Similarity",
    "/merge": "Merge",
    "/what_if": "What if",
    "/accuracy": "Accuracy",
    "/leaderboard": "Leaderboard",
    "/sweeps": "Sweeps",
    "/runs": "Runs",
    "/compare": "Compare",
    "/add_suite": "Add a suite",
}
SERIOUS = ("serious", "critical")


def renders_without_overflow(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    too_wide = page.evaluate(
        "Array.from(document.querySelectorAll('[data-testid=stMain] .stPlotlyChart, [data-testid=stMain] button'))"
        ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).length"
    )
    assert too_wide == 0


@pytest.mark.parametrize("path", PAGES)
def test_page_renders_without_overflow_on_a_wide_screen(path: str, visit: Callable[..., Page]) -> None:
    renders_without_overflow(visit(path, width=1920, height=1080), PAGES[path])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_page_renders_without_overflow_and_is_accessible(path: str, scheme: str, visit: Callable[..., Page]) -> None:
    page = visit(path, scheme=scheme)
    renders_without_overflow(page, PAGES[path])
    expect(page.locator('[data-stale="true"]')).to_have_count(0)
    page.wait_for_function(
        "document.getAnimations().every(one => one.playState !== 'running')"
    )  # nothing fades any more
    found = Axe().run(page)
    violations = [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]}"
        for violation in found.response["violations"]
        if violation["impact"] in SERIOUS
    ]
    assert not violations, "\n".join(violations)
