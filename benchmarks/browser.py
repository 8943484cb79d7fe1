"""How long a person waits: the first page of a warm server, and from a slider to new numbers."""

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.dashboard import CHROMIUM, launch, running_dashboard, settled

_ALL_IMAGES = re.compile(r"^All [\d,]+ validation images")


def measure(turns: int = 5) -> Iterator[tuple[str, float, str]]:
    """Rows of title, median seconds and what is to be reached; none without Chromium."""
    if CHROMIUM is None:
        return
    with (
        tempfile.TemporaryDirectory() as home,
        running_dashboard(Path(home)) as url,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(90_000)
        yield "first page, warm", _median(lambda: _load(page, url), turns), "< 2 s"
        page.goto(f"{url}/similarity")
        settled(page)
        page.locator(".js-plotly-plot").first.wait_for()
        yield "slider to redrawn heat maps (mini)", _median(lambda: _slide(page, "α", _HEAT_MAPS), turns), "< 0.3 s"
        page.goto(f"{url}/what_if")
        settled(page)
        page.get_by_text(_ALL_IMAGES).wait_for()
        yield "slider to accuracy on a sample (mini)", _median(lambda: _what_if(page), turns), "< 1.5 s"
        browser.close()


def _median(action: Callable[[], float], turns: int) -> float:
    action()  # warms what is warm for a user too
    return statistics.median(action() for _ in range(turns))


def _load(page: Page, url: str) -> float:
    started = time.perf_counter()
    page.goto(url)
    settled(page)
    page.locator(".js-plotly-plot").first.wait_for()
    return time.perf_counter() - started


def _what_if(page: Page) -> float:
    seconds = _slide(page, "Handwritten digits", _SAMPLE)
    page.get_by_text(_ALL_IMAGES).wait_for()
    return seconds


# Resolves with the milliseconds from pressing a key to what is waited for in the document, painted or about to be.
_UNTIL = """() => new Promise(resolve => {
    let pressed;
    window.addEventListener('keydown', () => pressed = performance.now(), {once: true, capture: true});
    const observer = new MutationObserver(changes => {
        if (pressed && (%s)(changes)) {
            observer.disconnect();
            requestAnimationFrame(() => resolve(performance.now() - pressed));
        }
    });
    observer.observe(document.body, {subtree: true, childList: true, characterData: true});
})"""
_HEAT_MAPS = """changes => changes.some(change => [...change.addedNodes].some(
    node => node.querySelector && (node.matches('.heatmaplayer') || node.querySelector('.heatmaplayer .hm'))))"""
_SAMPLE = "() => document.body.innerText.includes('images a task, drawn at random')"


def _slide(page: Page, name: str, awaited: str) -> float:
    """Seconds from a key pressed on a slider to what is awaited, a function of JavaScript over mutations."""
    slider = page.get_by_role("slider", name=re.compile(name))
    slider.focus()
    page.evaluate(f"() => {{ window.drawn = ({_UNTIL % awaited})(); }}")
    slider.press("ArrowRight")
    milliseconds: float = page.evaluate("() => window.drawn")
    settled(page)
    return milliseconds / 1000
