"""Many people at once on one dashboard: how long they wait for it, and what they cost the server.

Each opens pages and moves sliders at random, as in a class, with a pause to think in between. Waiting depends on the
machine and on what else it does; processor time and memory hardly do.
"""

import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.pages import PAGES, Visitor, fill_store, visiting
from tests.dashboard import running_dashboard

HEAD = (
    "| people | a page, median, s | 95 %, s | a slider, median, s | 95 %, s | processor time of the server an act, s | "
    "its memory before | after |\n|---:|---:|---:|---:|---:|---:|---:|---:|"
)
PEOPLE = (5, 15, 30)
_THINK, _ACTS = 5.0, 12  # seconds between two acts on average; acts of each
_SLIDER = 0.7  # of the acts where there are sliders, so many move one


@dataclass
class Waited:
    """Seconds that people waited, for pages and for sliders."""

    pages: list[float] = field(default_factory=list)
    sliders: list[float] = field(default_factory=list)

    def act(self, visitor: Visitor, chance: random.Random) -> None:
        """One act of one of them."""
        if visitor.sliders and chance.random() < _SLIDER:
            label = chance.choice(list(visitor.sliders))
            slider = visitor.sliders[label][0]
            steps = max(1, round((slider.max - slider.min) / (slider.step or 1)))
            self.sliders.append(visitor.move(label, slider.min + (slider.step or 1) * chance.randrange(steps)))
        else:
            self.pages.append(visitor.open(chance.choice(PAGES)))


def measure(people: Sequence[int] = PEOPLE, think: float = _THINK, acts: int = _ACTS) -> Iterator[str]:
    """Rows of a table in Markdown, one for each number of people.

    Raises:
        RuntimeError: a page raised an exception.
    """
    with tempfile.TemporaryDirectory() as folder:
        fill_store(Path(folder))
        with running_dashboard(Path(folder)) as url:
            server = _server()
            with visiting(url) as visitor:
                for page in PAGES:
                    visitor.open(page)
            for number in people:
                yield _row(url, server, number, think, acts)


def _row(url: str, server: psutil.Process, people: int, think: float, acts: int) -> str:
    waited, errors, before = Waited(), list[Exception](), server.memory_info().rss
    spent = _processor_time(server)
    threads = [
        threading.Thread(target=_person, args=(url, random.Random(number), think, acts, waited, errors))
        for number in range(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(f"{len(errors)} of {people} people saw an error, one of them: {errors[0]}")
    each = (_processor_time(server) - spent) / (len(waited.pages) + len(waited.sliders))
    numbers = [f"{_share(some, part):.2f}" for some in (waited.pages, waited.sliders) for part in (0.5, 0.95)]
    memory = [f"{size / 1e6:.0f} MB" for size in (before, server.memory_info().rss)]
    return f"| {' | '.join([str(people), *numbers, f'{each:.2f}', *memory])} |"


def _person(url: str, chance: random.Random, think: float, acts: int, waited: Waited, errors: list[Exception]) -> None:
    try:
        time.sleep(chance.uniform(0, think))
        with visiting(url) as visitor:
            for _ in range(acts):
                waited.act(visitor, chance)
                time.sleep(chance.uniform(0.5, 1.5) * think)
    except Exception as error:
        errors.append(error)


def _share(seconds: Sequence[float], part: float) -> float:
    """The seconds within which such a part of them lies; NaN if there are none."""
    return sorted(seconds)[int(part * (len(seconds) - 1))] if seconds else float("nan")


def _processor_time(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


def _server() -> psutil.Process:
    """The dashboard's process, which this one started."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "ui/shell/serve.py" in child.cmdline():
                return child
    raise RuntimeError("the dashboard has ended")
