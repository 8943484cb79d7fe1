"""What a merge spends its time on: kernels of the card, and lines of this project in every thread."""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench, merge
from benchmarks.gpu.table import Method
from merging.weights.resident import shelf

_KERNELS, _LINES = 14, 24
_INTERVAL = 0.002  # seconds between two looks at what threads do


def profiled(bench: Bench, suite: Path, method: Method) -> None:
    """Print the longest kernels and lines of a merge whose models are on the card."""

    def work() -> None:
        merge(bench, suite, method.settings, bench.device)

    work()
    shelf.clear(bench.device)
    for title, clear in (("with nothing on the card", True), ("again", False)):
        if clear:
            shelf.clear(bench.device)
        seconds = bench.seconds(work)
        phases = ", ".join(f"{name} {value:.3f}" for name, value in bench.phases.items())
        print(f"\n{method.title}, {title}: {seconds:.3f} s; {phases}", flush=True)
    if bench.device.type == "cuda":
        kernels(bench, work)
    for (thread, line), looks in lines(work).most_common(_LINES):
        print(f"{looks * _INTERVAL:7.3f} s {thread:6} {line}", flush=True)


def kernels(bench: Bench, work: Callable[[], None]) -> None:
    """The longest kernels, and how long the card worked in all."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        bench.wait()
    events = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    print(f"kernels: {sum(event.self_device_time_total for event in events) / 1e6:.3f} s", flush=True)
    for event in events[:_KERNELS]:
        print(f"{event.self_device_time_total / 1e3:9.1f} ms {event.count:7d} × {event.key[:110]}", flush=True)


def lines(work: Callable[[], None]) -> Counter[tuple[str, str]]:
    """How often threads were seen at which line of the package while some work was done, by kind of thread and line."""
    seen: Counter[tuple[str, str]] = Counter()
    done = threading.Event()
    main = threading.get_ident()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            for thread, frame in sys._current_frames().items():
                where = _place(frame)
                if where and thread != watcher.ident:
                    seen["main" if thread == main else "others", where] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return seen


def _place(frame: FrameType | None) -> str:
    """The innermost line of the package that a thread is at, and the two functions around it."""
    places: list[str] = []
    while frame is not None and len(places) < 3:
        name = frame.f_code.co_filename
        if "/merging/" in name and "streaming" not in name:
            places.append(f"{Path(name).stem}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places)
