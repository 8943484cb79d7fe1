"""What the measurements share: the card, the time there is, what was found, and merging from files to a file."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from merging.core.progress import PhaseClock, no_progress
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite
from merging.weights.files import save_tensors

OUTPUT = "merged.safetensors"


@dataclass
class Bench:
    """The card, how long it may be used, and what was found so far, which is written to a file each time."""

    device: torch.device
    folder: Path
    target: Path
    deadline: float
    compare: bool
    found: dict[str, Any] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)  # of the last merge

    def time_for(self, what: str, seconds: float) -> bool:
        """Whether there is; else it is named at the end."""
        there = time.monotonic() + seconds < self.deadline
        if not there:
            self.late.append(what)
        return there

    def wait(self) -> None:
        """Until the card has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Of some work, until the card is done."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def median(self, work: Callable[[], object], turns: int = 3) -> float:
        """Of several turns."""
        return statistics.median(self.seconds(work) for _ in range(turns))

    def say(self, title: str, value: object) -> None:
        """Print and keep a number."""
        print(f"{title}: {value:.4g}" if isinstance(value, float) else f"{title}: {value}", flush=True)
        self.keep(title, value)

    def keep(self, title: str, value: object) -> None:
        """Write everything found so far."""
        self.found[title] = value
        self.found["left out for lack of time"] = self.late
        self.target.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")

    def vectors(self, suite: Path) -> Any:
        """The task vectors of a suite, whose fingerprints are known."""
        return Workspace(self.folder / "home").vectors(load_suite(suite))


def merge(bench: Bench, suite: Path, text: str, device: torch.device) -> Path:
    """Files to file, as a run does it."""
    clock = PhaseClock(no_progress)
    context = Context(device, on_progress=clock)
    planned = plan(bench.vectors(suite), Pair.read(text), context)
    output = bench.folder / OUTPUT
    save_tensors(output, planned.infos, planned.tensors(context), planned.metadata)
    bench.phases = clock.seconds()
    return output


def reset_peak(device: torch.device) -> None:
    """Begin to watch the card's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_of(device: torch.device) -> int:
    """The most memory of the card that was held since."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def compared(one: Path, other: Path, base: Path, device: torch.device) -> float:
    """‖one − other‖ / ‖other − base‖ over all weights."""
    first, second, start = (load_file(path, device=str(device)) for path in (one, other, base))
    apart = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    along = sum(float((second[name].double() - start[name].double()).square().sum()) for name in start)
    return float((apart / along) ** 0.5)
