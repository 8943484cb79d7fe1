"""Files of one's own, dropped on the page Add a suite as a person drops them."""

import base64
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.app.conftest import build_suite
from tests.browser.conftest import Server, Visits, barriers
from tests.dashboard import settled

DROP = """([zone, files]) => {
  const carried = new DataTransfer();
  for (const [name, content] of files)
    carried.items.add(new File([Uint8Array.from(atob(content), letter => letter.charCodeAt(0))], name));
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""


def drop(page: Page, files: dict[str, bytes]) -> None:
    """Drag files from another program and drop them on the first place for files."""
    zone = page.get_by_test_id("stFileUploaderDropzone").first
    zone.wait_for()
    page.evaluate(DROP, [zone.element_handle(), [(n, base64.b64encode(c).decode()) for n, c in files.items()]])


def test_a_good_file_dropped_with_a_bad_one_becomes_a_suite_at_once(
    visit: Visits, server: Server, tmp_path: Path
) -> None:
    folder = build_suite(tmp_path / "own", tasks=("apples",)).parent
    good = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "suite.yaml"}
    page = visit("/add_suite")
    drop(page, {"pears.safetensors": good["apples.safetensors"], **good, "broken.safetensors": b"no weights at all"})
    page.get_by_text("6 files taken in.").wait_for()
    page.get_by_text("broken.safetensors:").wait_for()
    page.get_by_role("button", name="Remove pears.safetensors").press("Enter")
    page.get_by_text("1 task: similarity, merging and accuracy").wait_for()
    settled(page)
    assert not (server.home / "suites").exists() and not barriers(page)
    page.reload()  # what waits stays, as it does when the server is killed
    settled(page)
    name = page.get_by_role("textbox", name="Name of the suite")
    name.fill("dropped")
    name.press("Enter")
    settled(page)
    page.get_by_role("button", name="Add this suite").click()
    page.get_by_text("suite.yaml is written: base base.safetensors, 1 task (apples).").wait_for()
    settled(page)
    assert "suite=dropped" in page.url and (server.home / "suites" / "dropped" / "suite.yaml").is_file()
    page.get_by_test_id("stSidebarNavLink").get_by_text("Merge", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Merge")
    page.get_by_text("1 of 1 tasks selected").wait_for()
