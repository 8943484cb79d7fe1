"""The lesson in front of a class: a teacher, and three phones that answer."""

import re

from playwright.sync_api import Browser, expect

from tests.browser.conftest import Visits, barriers
from tests.dashboard import settled
from tests.waiting import PATIENCE


def test_three_phones_answer_a_question(visit: Visits, browser: Browser) -> None:
    page = visit("/learn?suite=tiny&step=3")
    page.get_by_role("button", name="Ask the class").click()
    shown = page.locator(".class-link p")
    expect(shown).to_be_visible()
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
    expect(page.get_by_text("3 answers", exact=True)).to_be_visible()
    page.keyboard.press("a")
    bars = page.locator(".st-key-lesson-class .js-plotly-plot")
    expect(bars).to_be_visible()
    expect(bars.get_by_text("2", exact=True)).to_be_visible()
    page.get_by_role("radio", name="Show the answer").click()
    expect(bars.get_by_text("✓")).to_be_visible()
    expect(page.locator(".st-key-lesson-answer")).to_contain_text("The base model has")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Ask this one").click()
    expect(phones[2].get_by_role("button")).to_have_count(3)  # it looks again by itself
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("button", name="Ask the class")).to_be_visible()
    phones[2].reload()
    expect(phones[2].get_by_role("heading")).to_have_text("No question here")
    for context in contexts:
        context.close()
