"""The keyboard alone: Tab reaches a control, and one sees where one is."""

import re
from typing import Literal

from playwright.sync_api import Page

Role = Literal["button", "slider", "tab"]
_MANY = 120  # presses of Tab that reach anything on a page


def tab_to(page: Page, role: Role, name: str) -> None:
    """Press Tab until a control of a page that is drawn is in focus."""
    control = page.get_by_role(role, name=re.compile(name)).first.element_handle()
    for _ in range(_MANY):
        page.keyboard.press("Tab")
        if control.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{_MANY} presses of Tab do not reach the {role} {name!r}")


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
