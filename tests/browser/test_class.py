"""The lesson in front of a class: a teacher, and three phones that answer."""

import re

from playwright.sync_api import Browser, BrowserContext, WebSocketRoute, expect

from tests.browser.conftest import Server, Visits, barriers
from tests.dashboard import settled
from tests.waiting import PATIENCE


def test_three_phones_answer_a_question(visit: Visits, browser: Browser) -> None:
    page = visit("/learn?suite=tiny&step=3")
    page.get_by_role("button", name="Ask the class").click()
    shown = page.locator(".class-link p")
    shown.wait_for()
    link = "http://" + shown.inner_text()
    settled(page)
    assert not barriers(page)
    contexts = [browser.new_context(viewport={"width": 390, "height": 844}) for _ in range(3)]
    phones = [context.new_page() for context in contexts]
    for phone, letter in zip(phones, "ACC", strict=True):
        phone.set_default_timeout(1000 * PATIENCE)
        phone.goto(link)
        expect(phone.get_by_role("button")).to_have_count(3)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        phone.get_by_role("button", name=re.compile(f"^{letter} ")).click()
        expect(phone.get_by_role("status")).to_contain_text(f"Your answer: {letter}")
    assert not barriers(phones[0])
    phones[0].reload()
    phones[1].goto(link)
    for phone in phones[:2]:
        expect(phone.get_by_role("button")).to_have_count(0)
    page.get_by_text("3 answers", exact=True).wait_for()
    page.keyboard.press("a")
    bars = page.locator(".st-key-lesson-class .js-plotly-plot")
    bars.wait_for()
    bars.get_by_text("2", exact=True).wait_for()
    page.get_by_role("radio", name="Show the answer").click()
    bars.get_by_text("✓").wait_for()
    expect(page.locator(".st-key-lesson-answer")).to_contain_text("The base model has")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Ask this one").click()
    expect(phones[2].get_by_role("button")).to_have_count(3)  # it looks again by itself
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Ask the class").wait_for()
    phones[2].reload()
    expect(phones[2].get_by_role("heading")).to_have_text("No question here")
    for context in contexts:
        context.close()


class SlowLine:
    """Between a page and its server: once it is held, a click comes to the server with a tick of a clock behind it.

    What the server says waits until then, so that the tick says what the page knew before the click.
    """

    def __init__(self, page: WebSocketRoute) -> None:
        self._page, self._held = page, False
        self._asked: list[str | bytes] = []
        self._late: list[str | bytes] = []
        self._server = page.connect_to_server()
        self._server.on_message(self._back)
        page.on_message(self._forth)

    def hold(self) -> None:
        """From now on."""
        self._held = True

    def _forth(self, message: str | bytes) -> None:
        if not self._held:
            self._server.send(message)
            return
        self._asked.append(message)
        if len(self._asked) == 2:
            self._server.send(self._asked[0])

    def _back(self, message: str | bytes) -> None:
        if not self._held:
            self._page.send(message)
            return
        self._late.append(message)
        if len(self._asked) < 2:
            return
        self._held = False  # the server has begun to answer the click
        for asked in self._asked[1:]:
            self._server.send(asked)
        for late in self._late:
            self._page.send(late)


def test_a_clock_that_ticks_while_the_answer_is_on_its_way_does_not_turn_the_page_back(
    server: Server, profile: BrowserContext
) -> None:
    """The browser of a teacher says with each tick which step it shows, as far as it knows."""
    page = profile.new_page()  # of its own, for what it is put on
    lines: list[SlowLine] = []
    page.route_web_socket(re.compile("_stcore/stream"), lambda line: lines.append(SlowLine(line)))
    page.goto(f"{server.url}/learn?suite=tiny&step=3")
    page.get_by_role("button", name="Ask the class").click()
    page.get_by_text("0 answers", exact=True).wait_for()
    settled(page)
    (line,) = lines
    line.hold()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why accuracy falls: tasks interfere")
    settled(page)
    page.get_by_role("button", name="Ask this one").click()
    page.get_by_role("button", name="Link").wait_for()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why accuracy falls: tasks interfere")
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Ask the class").wait_for()
    page.close()
