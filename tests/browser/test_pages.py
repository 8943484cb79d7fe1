"""Every page in a real browser: it renders, nothing overflows, and nobody is shut out."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import barriers

PAGES = {
    "/": "One model from many",
    "/learn?suite=tiny": "A task vector is a difference",
    "/task_models": "Task models",
    "/similarity": "Similarity",
    "/merge": "Merge",
    "/what_if": "What if",
    "/accuracy": "Accuracy",
    "/leaderboard": "Leaderboard",
    "/beyond": "Beyond the benchmark",
    "/beyond?beyond=Corrupted+images": "Beyond the benchmark",
    "/sweeps": "Sweeps",
    "/runs": "Runs",
    "/compare": "Compare",
    "/add_suite": "Add a suite",
}


def renders_without_overflow(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    too_wide = page.evaluate(
        "Array.from(document.querySelectorAll('[data-testid=stMain] .stPlotlyChart, [data-testid=stMain] button'))"
        ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).length"
    )
    assert too_wide == 0


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1280, 800), ("dark", 1920, 1080)])
@pytest.mark.parametrize("path", PAGES)
def test_page_renders_without_overflow_and_is_accessible(
    path: str, scheme: str, width: int, height: int, visit: Callable[..., Page]
) -> None:
    page = visit(path, width=width, height=height, scheme=scheme)
    renders_without_overflow(page, PAGES[path])
    assert not barriers(page)


@pytest.mark.parametrize("path", PAGES)
def test_on_a_phone_the_sidebar_is_closed_and_nothing_lies_beyond_the_edge(
    path: str, visit: Callable[..., Page]
) -> None:
    page = visit(path, width=390, height=844)
    renders_without_overflow(page, PAGES[path])
    expect(page.get_by_test_id("stExpandSidebarButton")).to_be_visible()
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth <= main.clientWidth")
