"""What the server spends on a run of each page, asked in Streamlit's own protocol: a client without a browser.

Times are given as multiples of a fixed loop of plain Python, timed in between, as absolute times differ from machine to
machine. The suite is the embedded one with ten runs in the store, alone and beside twelve other suites, and once with
ten thousand runs for the pages that speak of runs.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.Slider_pb2 import Slider
from websockets.sync.client import ClientConnection, connect

from merging.runs.jobs.merge import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.carrying import execute
from tests.dashboard import ROOT, running_dashboard

PAGES = (
    "",
    "learn",
    "task_models",
    "similarity",
    "merge",
    "what_if",
    "accuracy",
    "leaderboard",
    "beyond",
    "sweeps",
    "runs",
    "compare",
    "add_suite",
)
GOAL = "≤ 1.5 loops"
MANY_RUNS = 10_000
_RUNS, _SUITES = 10, 12
_OF_RUNS = ("", "merge", "accuracy", "leaderboard", "runs", "compare")  # pages that look runs up
_PATIENCE = 180.0  # seconds
_LARGEST = 200 * 2**20  # bytes of a message
_DONE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


@dataclass
class Visitor:
    """Somebody who opens pages and moves sliders.

    Attributes:
        socket: the connection of one session.
        page: the name of the page that is open, as in its address.
        sliders: label → slider, and the fragment that it is in, of that page.
    """

    socket: ClientConnection
    page: str = ""
    sliders: dict[str, tuple[Slider, str]] = field(default_factory=dict)

    def open(self, page: str) -> float:
        """Open a page; gives the seconds until its script has ended.

        Raises:
            RuntimeError: the script raised an exception.
        """
        self.page, self.sliders = page, {}
        message = BackMsg()
        message.rerun_script.page_name = page
        return self._send(message, "")

    def move(self, label: str, value: float, until: str = "") -> float:
        """Move a slider of the open page; gives the seconds until its fragment has run.

        Args:
            label: of the slider; its beginning is enough.
            value: what to move it to.
            until: wait no longer than for a chart whose key this is.

        Raises:
            KeyError: there is no such slider.
            RuntimeError: the script raised an exception.
        """
        slider, fragment = next((one for name, one in self.sliders.items() if name.startswith(label)), (None, ""))
        if slider is None:
            raise KeyError(f"no slider {label!r} on page {self.page!r}; there are {', '.join(self.sliders)}")
        message = BackMsg()
        message.rerun_script.page_name, message.rerun_script.fragment_id = self.page, fragment
        state = message.rerun_script.widget_states.widgets.add()
        state.id = slider.id
        if slider.options:  # it holds texts, and knows its place among them by number
            state.string_array_value.data.append(slider.options[int(value)])
        else:
            state.double_array_value.data.append(value)
        return self._send(message, until)

    def _send(self, message: BackMsg, until: str) -> float:
        started, seconds = time.perf_counter(), None
        self.socket.send(message.SerializeToString())
        while True:
            answer = ForwardMsg()
            answer.ParseFromString(self.socket.recv(_PATIENCE))
            if answer.WhichOneof("type") == "script_finished" and answer.script_finished in _DONE:
                return time.perf_counter() - started if seconds is None else seconds
            element = answer.delta.new_element
            match element.WhichOneof("type"):
                case "exception":
                    raise RuntimeError(f"page {self.page!r}: {element.exception.message}")
                case "slider":
                    self.sliders[element.slider.label] = (element.slider, answer.delta.fragment_id)
                case "plotly_chart" if until and element.plotly_chart.id.endswith(f"-{until}") and seconds is None:
                    seconds = time.perf_counter() - started


@contextmanager
def visiting(url: str) -> Iterator[Visitor]:
    """A session of its own on a running dashboard."""
    address = f"ws://{urlsplit(url).netloc}/_stcore/stream"
    with connect(address, subprotocols=["streamlit"], max_size=_LARGEST, open_timeout=_PATIENCE) as socket:  # type: ignore[list-item]
        yield Visitor(socket)


def loop() -> float:
    """Seconds of three million additions in plain Python."""
    started, total = time.perf_counter(), 0
    for number in range(3_000_000):
        total += number & 7
    return time.perf_counter() - started


def measure(turns: int = 5) -> Iterator[tuple[str, float, float, str]]:
    """Rows of title, median seconds, the same in loops, and what is to be reached."""
    with tempfile.TemporaryDirectory() as folder:
        home, suites = Path(folder) / "home", Path(folder) / "suites"
        fill_store(home)
        suites.mkdir()
        for number in range(_SUITES):
            (suites / f"suite-{number + 1:02}").symlink_to(ROOT / "merging" / "suites" / "mini")
        for beside, around in (("", None), (f", {_SUITES} suites beside", suites)):
            with ExitStack() as stack:
                visitor = stack.enter_context(visiting(stack.enter_context(running_dashboard(home, around))))
                for title, act in _acts(visitor):
                    act()  # warms what is warm for a user too
                    pairs = [(act(), loop()) for _ in range(turns)]
                    seconds, unit = (statistics.median(column) for column in zip(*pairs, strict=True))
                    yield f"{title}{beside}", seconds, seconds / unit, GOAL
        repeat_runs(home, MANY_RUNS)
        with running_dashboard(home) as url, visiting(url) as visitor:
            for page in _OF_RUNS:
                visitor.open(page)
                pairs = [(visitor.open(page), loop()) for _ in range(turns)]
                seconds, unit = (statistics.median(column) for column in zip(*pairs, strict=True))
                yield f"page {page or 'start'}, {MANY_RUNS:,} runs", seconds, seconds / unit, GOAL


def _acts(visitor: Visitor) -> Iterator[tuple[str, Callable[[], float]]]:
    moves = count(1)  # no two alike, as what was measured is remembered
    for page in PAGES:
        yield f"page {page or 'start'}", lambda page=page: visitor.open(page)  # type: ignore[misc]
        if page == "similarity":
            yield "Similarity, α moved: new heat maps", lambda: visitor.move("α", 0.01 * next(moves), until="cosines")
        if page == "what_if":
            yield (
                "What if, λ moved: new direction",
                lambda: visitor.move("All tasks", 0.05 * (next(moves) % 20), until="direction"),
            )


def fill_store(home: Path, runs: int = _RUNS) -> None:
    """Ten finished merges of the embedded suite in a folder for runs, with their accuracies."""
    workspace, tasks = Workspace(home), load_suite("mini").task_names
    for number in range(runs):
        spec = MergeSpec.build(
            suite="mini",
            tasks=tasks,
            merge="task_arithmetic",
            merge_params={"scaling": (number + 1) / 20},
            device="cpu",
        )
        run, _ = workspace.store.take(spec, spec.fingerprint(workspace))
        workspace.store.finish(run.id, execute(spec, workspace))


def repeat_runs(home: Path, count: int) -> None:
    """Fill a folder for runs up to a number of merges with copies of one of its runs, each of another seed and time."""
    store = Workspace(home).store
    with store.connect() as connection:
        connection.execute("begin immediate")
        there = connection.execute("select count(*) from runs").fetchone()[0]
        row = dict(connection.execute("select * from runs where state = 'done' limit 1").fetchone())
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        for number in range(count - there):
            spec = json.dumps({**json.loads(row["spec"]), "seed": number + 1})
            times = {name: row[name] - 60 * number for name in ("created", "started", "finished")}
            copy = {**row, **times, "id": f"{number:012x}", "fingerprint": f"{number:064x}", "spec": spec}
            connection.execute(f"insert into runs ({names}) values ({marks})", tuple(copy.values()))
        connection.execute("commit")
