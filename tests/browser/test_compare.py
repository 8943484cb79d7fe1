"""Comparing runs in a real browser, and what one takes away: pages that work with the network off."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, expect

from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.app.conftest import build_suite
from tests.app.finished_runs import spec_of
from tests.browser.conftest import Server, Tab, barriers, visiting
from tests.browser.keyboard import focus_is_seen, tab_to
from tests.carrying import execute
from tests.dashboard import settled

EVIL = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"


@pytest.fixture(scope="session")
def runs(server: Server) -> list[Run]:
    """Two finished runs of a suite whose names are markup, in the dashboard's workspace."""
    folder = server.home.parent / "suites" / "evil"
    path = build_suite(folder)
    content = yaml.safe_load(path.read_text())
    for number, entry in enumerate(content["tasks"]):
        entry |= {"title": f"{EVIL} {number}", "classes": [f"{EVIL} {index}" for index in range(5)]}
    path.write_text(yaml.safe_dump(content))
    space, suite = Workspace(server.home), load_suite(path)
    found = []
    for scaling in (0.2, 1.5):
        spec = spec_of(suite, merge_params={"scaling": scaling})
        run, new = space.store.take(spec, spec.fingerprint(space))
        if new:
            space.store.finish(run.id, execute(spec, space))
        found.append(space.store.get(run.id))
    return found


@pytest.fixture
def offline(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """Open a file with the network off; anything it asks for, and any error, fails the test."""
    complaints: list[str] = []
    with browser.new_context(offline=True, viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

        def opened(path: Path) -> Page:
            page.goto(path.as_uri())
            return page

        yield opened
    assert not complaints, complaints


@pytest.fixture(scope="module")
def comparison(profile: BrowserContext, server: Server, free_tabs: list[Tab], runs: list[Run]) -> Iterator[Page]:
    """The page with both runs, once for all tests here, which change nothing on it."""
    with visiting(profile, server, free_tabs) as visit:
        page = visit("/compare?suite=evil&" + "&".join(f"run={run.id}" for run in runs))
        page.get_by_role("button", name="Report").wait_for()
        settled(page)
        yield page


def test_runs_are_compared_and_names_stay_text(comparison: Page, runs: list[Run]) -> None:
    page = comparison
    expect(page.locator(".js-plotly-plot:visible")).to_have_count(3)
    page.get_by_text("McNemar's exact test").wait_for()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(f"run={run.id}" in page.url for run in runs)
    assert not barriers(page)


def test_a_chart_is_taken_away_as_html_and_svg(
    comparison: Page, offline: Callable[[Path], Page], tmp_path: Path
) -> None:
    page = comparison
    chart = page.locator(".js-plotly-plot").first
    chart.hover()
    with page.expect_download() as picture:
        chart.locator('[data-title*="Download plot"]').click()
    assert picture.value.suggested_filename == "compare-differences.svg"
    picture.value.save_as(tmp_path / "chart.svg")
    saved = (tmp_path / "chart.svg").read_text()
    assert saved.startswith("<svg")
    assert 'style="fill: rgb(255, 255, 255); fill-opacity: 1;"' in saved[:400]  # the page's ground
    grey = chart.locator(".ytick text").first.evaluate("element => getComputedStyle(element).fill")
    assert max(map(int, re.findall(r"\d+", grey))) <= 118  # the lightest grey with 4.5 : 1 on white
    page.get_by_role("button", name=re.compile("Data")).first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Chart as HTML").click()
    download.value.save_as(tmp_path / "chart.html")
    alone = offline(tmp_path / "chart.html")
    expect(alone.locator(".js-plotly-plot .point").first).to_be_attached()
    assert alone.evaluate("window.hit") is None
    page.keyboard.press("Escape")


def test_a_report_is_taken_without_a_mouse_and_opens_without_a_network(
    comparison: Page, offline: Callable[[Path], Page], tmp_path: Path
) -> None:
    page = comparison
    tab_to(page, "button", "Report")
    assert focus_is_seen(page)
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "comparison.html"
    download.value.save_as(tmp_path / "report.html")
    report = offline(tmp_path / "report.html")
    report.get_by_role("heading", level=1).wait_for()
    report.locator("svg").first.wait_for()
    boxes = report.locator("svg").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert len(boxes) == 1 + 1 + 4 * 3 and min(boxes) > 50
    widths = report.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert widths and min(widths) == 64  # decoded, not broken
    assert report.evaluate("window.hit") is None
    expect(report.get_by_role("heading", level=3).first).to_have_text(f"{EVIL} 0")
