"""Pictures of a shared dashboard and of the first minute; ``docs/screenshots.py`` has them made with the others."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, Playwright, expect

from merging.core.guests import OWNER
from merging.core.owner import owner_secret
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from tests.dashboard import CHROMIUM, ROOT, free_port, launch, running_dashboard, settled, wait_until_healthy

IMAGES = ROOT / "docs" / "images"
_NAME = "lab.example"  # by which the browser knows this machine
_WINDOW = {"width": 1280, "height": 800}
_GUEST = "guest 4f1c22aa"
_SECONDS = (0, 2, 10, 60)  # of the film strip


def sharing(playwright: Playwright) -> None:
    """What a guest and the owner see of one run, and a question on the teacher's screen and on a phone."""
    home = Path(tempfile.mkdtemp())
    run = _runs_of_two(home)
    with _served(home) as port:
        rules = f"--host-resolver-rules=MAP {_NAME} 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", rules])
        url = f"http://{_NAME}:{port}"
        for who, secret in (("guest", ""), ("owner", f"&owner={owner_secret(home)}")):
            page = _opened(browser, f"{url}/runs?run={run}{secret}")
            page.set_viewport_size({"width": 1280, "height": 1040})  # who somebody is stands at the foot of the sidebar
            expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
            _keep(_shot(page), f"hosting-{who}")
            page.close()
        _question(browser, url, f"&owner={owner_secret(home)}")
        browser.close()


def _runs_of_two(home: Path) -> str:
    """A run of the owner's and one of a guest's; gives the id of the owner's."""
    space = Workspace(home)
    tasks = ("digits", "fashion", "housenumbers", "landcover", "letters", "shapes", "signs", "textures")
    spec = {"suite": "mini", "tasks": tasks, "device": "cpu"}
    run = space.submit(MergeSpec.build(**spec, merge="task_arithmetic", merge_params={"scaling": 0.3}), OWNER)
    space.submit(MergeSpec.build(**spec, merge="average"), _GUEST)
    subprocess.run([sys.executable, "-m", "merging", "worker", "--once", "--home", str(home)], cwd=ROOT, check=True)
    return run.id


@contextmanager
def _served(home: Path) -> Iterator[int]:
    """``merging serve``, as long as the block; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "merging", "serve", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:
        wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield port
        process.terminate()


def _question(browser: Browser, url: str, secret: str) -> None:
    page = _opened(browser, f"{url}/learn?step=3{secret}")
    page.get_by_role("button", name="Ask the class").click()
    link = page.locator(".class-link p")
    expect(link).to_be_visible()
    address = "http://" + link.inner_text()
    phones = [browser.new_page(viewport={"width": 390, "height": 800}) for _ in range(3)]
    for phone, letter in zip(phones, "CC", strict=False):
        phone.goto(address)
        phone.get_by_role("button", name=re.compile(f"^{letter} ")).click()
    phones[-1].goto(address)
    expect(page.get_by_text("2 answers", exact=True)).to_be_visible()
    _keep(_side_by_side([_shot(page), Image.open(BytesIO(phones[-1].screenshot()))]), "hosting-question")


def first_minute(playwright: Playwright) -> None:
    """The first minute of a dashboard on a machine that never ran it, as one picture."""
    shots = []
    with running_dashboard(Path(tempfile.mkdtemp()) / "home") as url:
        browser = launch(playwright)
        page = browser.new_page(viewport=_WINDOW)  # type: ignore[arg-type]
        page.set_default_timeout(120_000)
        begin = time.monotonic()
        page.goto(url, wait_until="commit")
        for seconds in _SECONDS:
            if seconds == 10:  # what is done meanwhile: a merge of one's own
                page.get_by_role("link", name="Merge", exact=True).click()
                page.get_by_role("button", name="Merge", exact=True).click()
            page.wait_for_timeout(max(0, 1000 * (begin + seconds - time.monotonic())))
            if seconds >= 10:
                page.get_by_role("heading", name="Progress").evaluate("heading => heading.scrollIntoView()")
            shots.append((f"{time.monotonic() - begin:.0f} s", Image.open(BytesIO(page.screenshot()))))
        browser.close()
    _keep(_strip(shots), "first-minute")


def _opened(browser: Browser, url: str) -> Page:
    page = browser.new_page(viewport=_WINDOW)  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.goto(url)
    settled(page)
    return page


def _shot(page: Page) -> Image.Image:
    settled(page)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.wait_for_timeout(2000)  # plotly draws after the script has ended
    return Image.open(BytesIO(page.screenshot()))


def _side_by_side(pictures: list[Image.Image], gap: int = 16) -> Image.Image:
    joined = Image.new("RGB", (sum(one.width + gap for one in pictures) - gap, pictures[0].height), "#8b93a1")
    left = 0
    for one in pictures:
        joined.paste(one, (left, 0))
        left += one.width + gap
    return joined


def _strip(shots: list[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures in two rows, each with the time above it."""
    width, height, gap, head = 800, 500, 12, 34
    strip = Image.new("RGB", (2 * width + gap, (len(shots) + 1) // 2 * (height + head + gap) - gap), "white")
    draw = ImageDraw.Draw(strip)
    for number, (title, picture) in enumerate(shots):
        left, top = number % 2 * (width + gap), number // 2 * (height + head + gap)
        draw.text((left + 4, top + 4), title, "#1c2128", ImageFont.load_default(22))
        strip.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top + head))
        draw.rectangle((left, top + head, left + width - 1, top + head + height - 1), outline="#ccd1d8")
    return strip


def _keep(picture: Image.Image, name: str) -> None:
    """Write a picture with few colours, as a page has."""
    file = IMAGES / f"{name}.png"
    picture.convert("RGB").quantize(224).save(file, optimize=True)
    print(f"docs/images/{name}.png")
