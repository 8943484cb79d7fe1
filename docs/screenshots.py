"""Makes the pictures of the README: ``python docs/screenshots.py``. Runs the comparison on the embedded suite first."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1440, "height": 960}
SHOTS = {
    "start": "/",
    "task-models": "/task-models",
    "similarity": "/similarity",
    "merge": "/merge?edit=awd&merge=adamerging",
    "accuracy": "/accuracy",
    "runs": "/runs",
}


def settled(page: Page) -> None:
    """Wait until the page is connected, its script is done and its charts are drawn."""
    app = page.locator('[data-testid="stApp"]')
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=120_000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=120_000)
    page.wait_for_timeout(1500)  # plotly draws after the script has ended


def main() -> None:
    """Start a dashboard with a workspace of its own, run the comparison, take the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true"],
        cwd=ROOT, env=os.environ | {"MERGING_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            take_all(browser.new_page(viewport=SIZE), f"http://127.0.0.1:{port}")  # type: ignore[arg-type]
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the dashboard did not start")


def take_all(page: Page, url: str) -> None:
    """One picture a page, with the comparison done."""
    page.set_default_timeout(120_000)
    page.goto(url)
    settled(page)
    run = page.get_by_role("button", name="Run the comparison")
    if run.count():
        run.click()
        page.get_by_role("button", name="Cancel").first.wait_for()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=1_800_000)
    for name, path in SHOTS.items():
        page.goto(url + path)
        settled(page)
        page.screenshot(path=IMAGES / f"{name}.png")
        print(f"docs/images/{name}.png")


if __name__ == "__main__":
    main()
