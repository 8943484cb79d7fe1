"""Makes the pictures of the README and of the docs: ``make screenshots``. Runs the comparison on the embedded suite.

``python docs/screenshots.py HOME`` takes them in a folder for runs that is there; ``--only sharing``, ``--only
first-minute`` or ``--only beyond`` makes those alone.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from docs.pictures_of_sharing import first_minute, sharing  # noqa: E402  needs the path above
from merging.core import devices  # noqa: E402  needs the path above
from merging.evaluation.clip import settings_of  # noqa: E402  needs the path above
from merging.methods.presets import PRESETS  # noqa: E402  needs the path above
from merging.runs import RunStore  # noqa: E402  needs the path above
from merging.runs.annotations import annotate  # noqa: E402  needs the path above
from merging.runs.beyond import generalisation_job  # noqa: E402  needs the path above
from merging.runs.workspace import Workspace  # noqa: E402  needs the path above
from merging.suites import builtin_suites, load_suite  # noqa: E402  needs the path above
from studies.beyond import GENERALISE  # noqa: E402  needs the path above
from studies.beyond import PRESETS as STUDIED  # noqa: E402  needs the path above
from studies.shipped_beyond import generalisation  # noqa: E402  needs the path above
from tests.dashboard import launch, running_dashboard, settled  # noqa: E402  needs the path above

IMAGES = ROOT / "docs" / "images"
SHOTS = {
    "start": "/",
    "learn": "/learn?step=5&answer.5=B",
    "task-models": "/task_models",
    "similarity": "/similarity",
    "merge": "/merge?edit=awd&merge=adamerging",
    "what-if": "/what_if",
    "accuracy": "/accuracy",
    "leaderboard": "/leaderboard",
    "runs": "/runs?run={run}",
    "runs-table": "/runs?sort=Best+average+first",
    "compare": "/compare",
}

COMPARED = [PRESETS[name].title for name in STUDIED]
BEYOND = "/beyond?" + urlencode({"leave": 2, "most": 4, "beyond-methods": COMPARED}, doseq=True)

# Name, tags and star of the newest runs.
NOTES = (
    ("", ["paper"], False),
    ("Table 2, main row", ["paper", "seed study"], True),
    ("", [], False),
    ("odd one", [], True),
)


def main() -> None:
    """Start a dashboard with a workspace of its own (or the folder given), run the comparison, take the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    only = sys.argv[2:] if sys.argv[1:2] == ["--only"] else []
    with sync_playwright() as playwright:
        for name, make in APART.items():
            if name in only or (not only and name not in ("beyond", "sweeps")):
                make(playwright)
    if only:
        return
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    with running_dashboard(home) as url, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(url)
        settled(page)
        compare(page)
        write_about(RunStore(home))
        newest = next(run.id for run in RunStore(home).all() if run.spec.merge == "adamerging")  # its page shows most
        for name, path in SHOTS.items():
            page.goto(url + path.format(run=newest))
            settled(page)
            page.wait_for_timeout(1500)  # plotly draws after the script has ended
            page.screenshot(path=IMAGES / f"{name}.png")
            print(f"docs/images/{name}.png")
        sweep(page, url)
        as_studied(Workspace(home))
        beyond(page, url)
        add_suite(page, url)
        in_class(page, browser, url)
        browser.close()


def as_studied(workspace: Workspace) -> None:
    """What the study of unseen tasks measured, as finished runs: to measure it again takes hours."""
    suite, study = load_suite("mini"), json.loads(GENERALISE.read_text(encoding="utf-8"))
    evaluator = workspace.evaluator(suite)
    counts = {task: evaluator.count(task, "test") for task in suite.task_names}
    for name in study["accuracy"]:
        result = generalisation(name, study, counts)
        left_out = [split["unseen"] for split in study["splits"]]
        device = str(devices.resolve("auto"))
        job = generalisation_job(PRESETS[name], "mini", suite.task_names, left_out, device)
        run, new = workspace.store.take(job, job.fingerprint(workspace))
        if new:
            workspace.store.finish(run.id, result)


def sweep(page: Page, url: str) -> None:
    """The sweep that the empty page offers, once it is done."""
    page.goto(f"{url}/sweeps")
    page.get_by_role("button", name="Try λ from").click()
    expect(page.get_by_text("Best by average accuracy")).to_be_visible(timeout=1_800_000)
    expect(page.get_by_text("20 of 20 trials")).to_be_visible(timeout=1_800_000)
    expect(page.get_by_test_id("stMain").get_by_text("On test", exact=True)).to_be_visible(timeout=1_800_000)
    page.wait_for_timeout(5000)
    page.screenshot(path=IMAGES / "sweeps.png")
    print("docs/images/sweeps.png")


def sweep_alone(playwright: Playwright) -> None:
    """That picture in a workspace of its own."""
    with alone(playwright) as (_, page, url):
        sweep(page, url)


@contextmanager
def alone(playwright: Playwright) -> Iterator[tuple[Workspace, Page, str]]:
    """An empty workspace with a dashboard, a page of a browser and that dashboard's address."""
    with tempfile.TemporaryDirectory() as home, running_dashboard(Path(home)) as url:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(120_000)
        yield Workspace(Path(home)), page, url
        browser.close()


def beyond(page: Page, url: str) -> None:
    """Merged and unseen tasks, from the study's results."""
    page.set_viewport_size({"width": 1440, "height": 1250})
    page.goto(url + BEYOND)
    settled(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "beyond.png")
    print("docs/images/beyond.png")


def beyond_alone(playwright: Playwright) -> None:
    """That picture in a workspace of its own."""
    with alone(playwright) as (workspace, page, url):
        as_studied(workspace)
        beyond(page, url)


# Pictures that need servers of their own, or can be had alone.
APART = {"sharing": sharing, "first-minute": first_minute, "beyond": beyond_alone, "sweeps": sweep_alone}


def write_about(store: RunStore) -> None:
    """Give some runs what people give them."""
    for run, (name, tags, star) in zip(store.all(), NOTES, strict=False):
        annotate(store, run.id, name=name, tags=tags, star=star)


def add_suite(page: Page, url: str) -> None:
    """The page Add a suite with files that were dropped on it, one of which is no weight file."""
    mini = builtin_suites()["mini"]
    names = (
        "base.safetensors",
        "digits.safetensors",
        "fashion.safetensors",
        "heads/digits.safetensors",
        "data/digits.npz",
    )
    files = [{"name": name.split("/")[-1], "buffer": (mini / name).read_bytes()} for name in names]
    files[3]["name"] = "head_digits.safetensors"
    settings = json.dumps(settings_of(load_suite("mini"))).encode()
    files += [{"name": "open_clip_config.json", "buffer": settings}]
    files += [{"name": "notes.safetensors", "buffer": b"no weights"}]
    page.set_viewport_size({"width": 1440, "height": 1580})
    page.goto(f"{url}/add_suite")
    settled(page)
    dropped = [{"mimeType": "application/octet-stream", **file} for file in files]
    page.locator('[data-testid="stFileUploaderDropzoneInput"]').first.set_input_files(dropped)  # type: ignore[arg-type]
    expect(page.get_by_role("button", name="Add this suite")).to_be_enabled()
    settled(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "add-suite.png")
    print("docs/images/add-suite.png")


def in_class(page: Page, browser: Browser, url: str) -> None:
    """The lesson in front of a class of 24 phones."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{url}/learn?step=3")
    page.get_by_role("button", name="Ask the class").click()
    link = "http://" + page.locator(".class-link p").inner_text()
    for number in range(24):
        phone = browser.new_context().request
        fields = dict(re.findall(r'name="(phone|question)" value="(\w+)"', phone.get(link).text()))
        phone.post(link, form={**fields, "choice": "1" if number % 8 < 5 else "02"[number % 2]})
    page.keyboard.press("a")
    page.get_by_role("radio", name="Show the answer").click()
    expect(page.get_by_text("24 answers", exact=True)).to_be_visible()
    expect(page.locator(".st-key-lesson-class").get_by_text("✓")).to_be_visible()
    settled(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "class.png")
    print("docs/images/class.png")


def compare(page: Page) -> None:
    """Run the comparison of the Start page, unless it was run in this workspace before."""
    run, cancel = page.get_by_role("button", name="Run the"), page.get_by_role("button", name="Cancel")
    if run.count() and run.is_enabled():
        run.click()
        cancel.first.wait_for()
    expect(cancel).to_have_count(0, timeout=1_800_000)


if __name__ == "__main__":
    main()
