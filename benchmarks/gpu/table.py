"""The table: every data-free method, files to file, as a multiple of reading the files."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.gpu.bench import OUTPUT, Bench, compared, merge, peak_of, reset_peak
from merging.methods.context import Context
from merging.methods.estimate import estimate
from merging.methods.pair import Pair
from merging.methods.spec import Spec
from merging.suites.suite import load_suite
from merging.weights.resident import shelf

TURNS, ENOUGH = 2, 5.0  # seconds after which there is no second turn


@dataclass(frozen=True)
class Method:
    """A method of the table.

    Attributes:
        title: its name.
        settings: as text.
        on_cpu: whether the CPU is quick enough to be compared with.
        large: whether it is measured on large models, too.
    """

    title: str
    settings: str
    on_cpu: bool = True
    large: bool = False


# In the order in which time is given to them.
METHODS = (
    Method("Task Arithmetic", "merge.scaling=0.3", large=True),
    Method("TSV-M", "merge=tsv_m", large=True),
    Method("Iso-CTS", "merge=iso_cts", large=True),
    Method("DOGE, 400 steps", "edit=doge edit.units=published merge.scaling=1.0", on_cpu=False, large=True),
    Method("AWD by rows, 300 steps", "edit=awd edit.scope=row merge.scaling=0.3", large=True),
    Method("TIES", "edit=ties merge.scaling=0.3", large=True),
    Method("DARE", "edit=dare merge.scaling=0.3", large=True),
    Method("WUDI, 300 steps of Adam", "merge=wudi merge.units=published", on_cpu=False),
    Method("Iso-C", "merge=iso_c", large=True),
    Method("TATR, zero-shot", "edit=trust_region merge.scaling=0.3"),
    Method("WUDI, closed form", "merge=wudi merge.solver=closed_form", large=True),
    Method("AWD, one vector a model", "edit=awd merge.scaling=0.3"),
    Method("AWD, one vector a tensor", "edit=awd edit.scope=layer merge.scaling=0.3"),
    Method("Consensus", "edit=consensus merge.scaling=0.3"),
    Method("ACE", "merge=ace"),
    Method("Overlap-scaled WUDI", "merge=overlap"),
    Method("Singular value calibration", "merge=svc"),
    Method("TSV-M, calibrated", "merge=tsv_m merge.calibration=1", on_cpu=False),
    Method("LARV + TSV-M", "edit=larv merge=tsv_m"),
    Method("Parts of WUDI", "edit=parts merge.scaling=1.0"),
    Method("EMR", "merge=emr", on_cpu=False),
    Method("TALL masks", "merge=tall_masks", on_cpu=False),
    Method("Weight averaging", "merge=average"),
)


@dataclass
class Row:
    """What was measured of one method.

    Attributes:
        title: its name.
        seconds: files to file, with nothing on the card.
        times: the same as a multiple of reading the files.
        again: seconds with the models on the card.
        cpu: seconds on the CPU.
        difference: ‖GPU − CPU‖ as a share of the CPU's update.
        peak: bytes of the card that were held.
        estimate: bytes that were estimated.
        phases: seconds of each phase, with nothing on the card.
    """

    title: str
    seconds: float
    times: float
    again: float | None
    cpu: float | None
    difference: float | None
    peak: int
    estimate: int
    phases: dict[str, float]

    @property
    def line(self) -> str:
        """A line of the table."""
        compared = ["", ""] if self.cpu is None else [f"{self.cpu:.2f}", f"{self.difference:.0e}"]
        memory = f"{self.peak / 1e9:.1f} ({self.estimate / 1e9:.1f})"
        again = "" if self.again is None else f"{self.again:.2f}"
        cells = [self.title, f"{self.seconds:.2f}", f"{self.times:.1f} ×", again, *compared, memory]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| | seconds | of reading | again | CPU, seconds | difference | GB held (estimated) |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


def methods(bench: Bench, suite: Path, reading: float, name: str, chosen: Sequence[Method]) -> None:
    """The table of one architecture."""
    print(f"\n{name}, {len(load_suite(suite).task_names)} models\n\n{HEAD}", flush=True)
    rows: list[Row] = []
    for method in chosen:
        if not bench.time_for(f"{name}: {method.title}", 12):
            continue
        try:
            if not rows:  # the first kernels of a process are loaded when they are asked for
                merge(bench, suite, method.settings, bench.device)
            rows.append(measured(bench, suite, reading, method))
            print(rows[-1].line, flush=True)
            bench.keep(name, [asdict(row) for row in rows])
        except Exception as error:  # the other methods are to be seen all the same
            print(f"| {method.title} | {type(error).__name__}: {str(error)[:300]} |", flush=True)
            bench.found.setdefault("failed", []).append(f"{name}: {method.title}: {error}")


def measured(bench: Bench, suite: Path, reading: float, method: Method) -> Row:
    """One method: with an empty card, again with the models there, and on the CPU."""

    def on(device: torch.device) -> Callable[[], Path]:
        return lambda: merge(bench, suite, method.settings, device)

    reset_peak(bench.device)
    seconds: list[float] = []
    while len(seconds) < TURNS and sum(seconds) < ENOUGH:
        shelf.clear(bench.device)
        seconds.append(bench.seconds(on(bench.device)))
    peak, phases = peak_of(bench.device), bench.phases
    again = bench.seconds(on(bench.device)) if seconds[-1] < ENOUGH else None
    cpu, difference = None, None
    if bench.compare and method.on_cpu and bench.time_for(f"{method.title} on the CPU", 15):
        there = (bench.folder / OUTPUT).replace(bench.folder / "merged-there.safetensors")
        cpu = bench.seconds(on(torch.device("cpu")))
        difference = compared(there, bench.folder / OUTPUT, suite.parent / "base.safetensors", bench.device)
    wanted = needed(suite, method.settings, bench.device)
    return Row(method.title, min(seconds), min(seconds) / reading, again, cpu, difference, peak, wanted, phases)


def needed(suite: Path, text: str, device: torch.device) -> int:
    """Bytes that are estimated for a method."""
    loaded = load_suite(suite)
    spec = Spec.build(suite=str(suite), tasks=loaded.task_names, evaluate=False, **Pair.read(text).fields)
    return estimate(loaded.vectors(), spec, measurable=False, device=device).total


def read_one_by_one(suite: Path, device: torch.device) -> None:
    """The unit: the plainest way to get all files onto the card, one after the other."""
    held = [load_file(path, device=str(device)) for path in sorted(suite.parent.glob("*.safetensors"))]
    del held


def reading_of(bench: Bench, suite: Path, name: str) -> float:
    """Seconds of the unit, and of reading as merges do."""
    reading = bench.median(lambda: read_one_by_one(suite, bench.device))
    bench.say(f"{name}: reading the files onto the card, one after the other, s", reading)
    vectors = bench.vectors(suite)
    seconds = []
    for _ in range(3):
        shelf.clear(bench.device)
        seconds.append(bench.seconds(lambda: shelf.placed(vectors, Context(bench.device))))
    bench.say(f"{name}: reading them as merges do, s", statistics.median(seconds))
    return reading
