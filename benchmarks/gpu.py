"""``python -m benchmarks.gpu``, or ``make gpu``: merges on a GPU, timed as multiples of reading the files onto it.

For a machine with a GPU and nothing else to reach. It makes random models of ViT-B/32 (and of ViT-L/14 with
``--large``), runs the tests that are marked ``gpu``, and times every data-free method twice: with nothing on the card,
and again with the models there. Each result is compared with that of the CPU beside it. It prints a table and writes
it as JSON. What there is no time for is left out and named.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from benchmarks.random_suite import make_suite
from merging.core import devices
from merging.core.progress import PhaseClock, no_progress
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.methods.estimate import estimate
from merging.methods.merges.adamerging import AdaMergingParams, CoefficientLearner, mean_entropy
from merging.methods.mixing import plan_edit
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.methods.spec import Spec
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from merging.weights.files import save_tensors
from merging.weights.resident import shelf

ROOT = Path(__file__).resolve().parent.parent
# Title, settings, and whether the CPU is quick enough to be compared with. In the order in which time is given to them.
METHODS = (
    ("Task Arithmetic", "merge.scaling=0.3", True),
    ("AWD, one vector a model", "edit=awd merge.scaling=0.3", True),
    ("TIES", "edit=ties merge.scaling=0.3", True),
    ("Iso-C", "merge=iso_c", True),
    ("TSV-M", "merge=tsv_m", True),
    ("Iso-CTS", "merge=iso_cts", True),
    ("AWD by rows, 300 steps", "edit=awd edit.scope=row merge.scaling=0.3", True),
    ("TATR, zero-shot", "edit=trust_region merge.scaling=0.3", True),
    ("DOGE, 400 steps", "edit=doge merge.scaling=1.0", False),
    ("WUDI, closed form", "merge=wudi merge.solver=closed_form", True),
    ("WUDI, 300 steps of Adam", "merge=wudi", False),
    ("DARE", "edit=dare merge.scaling=0.3", True),
    ("Consensus", "edit=consensus merge.scaling=0.3", True),
    ("ACE", "merge=ace", True),
    ("Singular value calibration", "merge=svc", True),
    ("Overlap-scaled WUDI", "merge=overlap", True),
    ("Weight averaging", "merge=average", True),
    ("EMR", "merge=emr", False),
    ("TALL masks", "merge=tall_masks", False),
)
TURNS, OUTPUT = 2, "merged.safetensors"
_IMAGES = 256  # a task, of random ones


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


@dataclass
class Bench:
    """The card, how long it may be used, and what was found so far."""

    device: torch.device
    folder: Path
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
        self.found[title] = value


def merge(bench: Bench, suite: Path, text: str, device: torch.device) -> Path:
    """Files to file, as a run does it."""
    clock = PhaseClock(no_progress)
    vectors = Workspace(bench.folder / "home").vectors(load_suite(suite))
    context = Context(device, on_progress=clock)
    planned = plan(vectors, Pair.read(text), context)
    output = bench.folder / OUTPUT
    save_tensors(output, planned.infos, planned.tensors(context), planned.metadata)
    bench.phases = clock.seconds()
    return output


def methods(bench: Bench, suite: Path, reading: float, name: str) -> None:
    """The table of one architecture."""
    print(f"\n{name}, 8 models\n\n{HEAD}", flush=True)
    rows: list[Row] = []
    for title, text, on_cpu in METHODS:
        if not bench.time_for(f"{name}: {title}", 12):
            continue
        try:
            if not rows:  # the first kernels of a process are loaded when they are asked for
                merge(bench, suite, text, bench.device)
            rows.append(measured(bench, suite, reading, title, text, on_cpu))
            print(rows[-1].line, flush=True)
        except Exception as error:  # the other methods are to be seen all the same
            print(f"| {title} | {type(error).__name__}: {str(error)[:300]} |", flush=True)
            bench.found.setdefault("failed", []).append(f"{name}: {title}: {error}")
    bench.found[name] = [asdict(row) for row in rows]


def measured(bench: Bench, suite: Path, reading: float, title: str, text: str, on_cpu: bool) -> Row:
    """One method: with an empty card, again with the models there, and on the CPU."""

    def on(device: torch.device) -> Callable[[], Path]:
        return lambda: merge(bench, suite, text, device)

    reset_peak(bench.device)
    seconds: list[float] = []
    while len(seconds) < TURNS and sum(seconds) < 5:
        shelf.clear(bench.device)
        seconds.append(bench.seconds(on(bench.device)))
    peak, phases = peak_of(bench.device), bench.phases
    again = bench.seconds(on(bench.device)) if seconds[-1] < 5 else None
    there = (bench.folder / OUTPUT).replace(bench.folder / "merged-there.safetensors")
    cpu, difference = None, None
    if bench.compare and on_cpu and bench.time_for(f"{title} on the CPU", 15):
        cpu = bench.seconds(on(torch.device("cpu")))
        difference = compared(there, bench.folder / OUTPUT, suite.parent / "base.safetensors", bench.device)
    wanted = needed(suite, text, bench.device)
    return Row(title, min(seconds), min(seconds) / reading, again, cpu, difference, peak, wanted, phases)


def reset_peak(device: torch.device) -> None:
    """Begin to watch the card's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_of(device: torch.device) -> int:
    """The most memory of the card that was held since."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def needed(suite: Path, text: str, device: torch.device) -> int:
    """Bytes that are estimated for a method."""
    loaded = load_suite(suite)
    spec = Spec.build(suite=str(suite), tasks=loaded.task_names, evaluate=False, **Pair.read(text).fields)
    return estimate(loaded.vectors(), spec, measurable=False, device=device).total


def compared(one: Path, other: Path, base: Path, device: torch.device) -> float:
    """‖one − other‖ / ‖other − base‖ over all weights."""
    first, second, start = (load_file(path, device=str(device)) for path in (one, other, base))
    apart = sum(float((first[name].double() - second[name].double()).square().sum()) for name in first)
    along = sum(float((second[name].double() - start[name].double()).square().sum()) for name in start)
    return float((apart / along) ** 0.5)


def read_one_by_one(suite: Path, device: torch.device) -> None:
    """The unit: the plainest way to get all files onto the card, one after the other."""
    held = [load_file(path, device=str(device)) for path in sorted(suite.parent.glob("*.safetensors"))]
    del held


def reading_of(bench: Bench, suite: Path, name: str) -> float:
    """Seconds of the unit, and of reading as merges do."""
    reading = bench.median(lambda: read_one_by_one(suite, bench.device))
    bench.say(f"{name}: reading the files onto the card, one after the other, s", reading)
    workspace = Workspace(bench.folder / "home")
    vectors = workspace.vectors(load_suite(suite))

    seconds = []
    for _ in range(3):
        shelf.clear(bench.device)
        seconds.append(bench.seconds(lambda: shelf.placed(vectors, Context(bench.device))))
    bench.say(f"{name}: reading them as merges do, s", statistics.median(seconds))
    return reading


def with_images(suite: Path, images: int) -> Suite:
    """The suite with random images and heads for every task."""
    loaded = load_suite(suite)
    described = yaml.safe_load(suite.read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    width = loaded.base_checkpoint.infos["proj"].shape[1]
    for task in described["tasks"]:
        arrays: dict[str, Any] = {
            f"{split}_{what}": made
            for split in ("val", "test")
            for what, made in (
                ("images", random.integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)),
                ("labels", random.integers(0, 10, images)),
            )
        }
        with (suite.parent / f"{task['name']}.npz").open("wb") as file:
            np.savez(file, **arrays)
        head = torch.nn.functional.normalize(torch.randn(10, width), dim=1)
        save_file({"weight": head}, suite.parent / f"{task['name']}.head.safetensors")
        task |= {
            "head": f"{task['name']}.head.safetensors",
            "classes": [f"class {number}" for number in range(10)],
            "data": {"kind": "arrays", "path": f"{task['name']}.npz"},
        }
    target = suite.with_name("with-images.yaml")
    target.write_text(yaml.safe_dump(described), encoding="utf-8")
    return load_suite(target)


def evaluation(bench: Bench, suite: Path) -> None:
    """Images a second, What if from slider to accuracies, and AdaMerging's step."""
    loaded = with_images(suite, _IMAGES)
    vectors = Workspace(bench.folder / "home").vectors(loaded)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        evaluator = Evaluator(loaded, bench.device, dtype)

        def everything(e: Evaluator = evaluator) -> None:
            e.accuracy(loaded.base_checkpoint, loaded.task_names)

        everything()  # loads images and the tower
        seconds = bench.median(everything)
        bench.say(f"evaluation in {name}, images a second", _IMAGES * len(loaded.task_names) / seconds)
        context = Context(bench.device, dtype=dtype, evaluator=evaluator)
        what_if = plan_edit(vectors, "none", context=context).held(context)

        def slide(e: Evaluator = evaluator, w: Any = what_if, c: Context = context) -> None:
            e.accuracy(w.weights([0.1 * number for number in range(8)], c), loaded.task_names)

        bench.say(f"what if in {name}, slider to {8 * _IMAGES} images of 8 tasks, s", bench.median(slide))
        for batch_size in (16, 32):
            if bench.time_for(f"AdaMerging in {name}, {batch_size}", 15):
                adamerging_step(bench, evaluator, vectors, context, batch_size, name)


def adamerging_step(
    bench: Bench, evaluator: Evaluator, vectors: Any, context: Context, batch_size: int, name: str
) -> None:
    """A step of 8 tasks, and the same images forward and backward, task by task, with nothing learned."""
    learner = CoefficientLearner(vectors, AdaMergingParams(), context, evaluator)
    batch = {task: evaluator.images(task, "test", slice(0, batch_size)) for task in vectors.tasks}

    def passes() -> None:
        for task, images in batch.items():
            mean_entropy(evaluator.logits(task, evaluator.features(images))).backward()

    for work in (lambda: learner.step(batch), passes):
        for _ in range(3):
            work()
    reset_peak(bench.device)
    step = bench.median(lambda: learner.step(batch), 15)
    bench.say(f"AdaMerging step in {name}, 8 × {batch_size} images, s", step)
    bench.say(f"the same, GB held in {name}, 8 × {batch_size}", peak_of(bench.device) / 1e9)
    bench.say(f"8 forward and backward passes in {name}, 8 × {batch_size} images, s", bench.median(passes, 15))


def selection(bench: Bench, suite: Path) -> None:
    """Exact thresholds of all task vectors that lie on the card."""
    vectors = shelf.placed(Workspace(bench.folder / "home").vectors(load_suite(suite)), Context(bench.device))
    count = vectors.size // 5
    bench.say(
        "exact thresholds of 8 vectors, s",
        bench.median(lambda: largest_magnitudes(vectors, count, Context(bench.device))),
    )


def run_tests(bench: Bench) -> None:
    """The tests that need a GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-rf",
        "--no-header",
        *("-n", "6", "-p", "no:benchmark"),
    ]
    with suppress(subprocess.TimeoutExpired):
        started = time.monotonic()
        places = [
            "tests/gpu",
            "tests/weights",
            "tests/evaluation",
            "tests/methods/test_plan.py",
            "tests/methods/test_estimate.py",
        ]
        ended = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        said = ended.stdout.splitlines()
        print("\n".join(line[:300] for line in said if line.startswith(("E  ", "FAILED", "ERROR"))), flush=True)
        bench.say(
            "tests that need a GPU", f"{said[-1] if said else ended.stderr[-500:]}; {time.monotonic() - started:.0f} s"
        )
        return
    bench.say("tests that need a GPU", "not done after 200 s")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gpu", help="where the random files go")
    parser.add_argument("--json", type=Path, default=None, help="where the numbers go; by default into the folder")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun")
    parser.add_argument("--large", action="store_true", help="ViT-L/14, too")
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    parser.add_argument("--no-cpu", action="store_true", help="do not compare with the CPU")
    parser.add_argument("--no-images", action="store_true", help="leave out evaluation and AdaMerging")
    options = parser.parse_args()
    device = devices.resolve(options.device)
    deadline = time.monotonic() + 60 * options.minutes
    bench = Bench(device, options.folder, deadline, compare=not options.no_cpu)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench.say("card", devices.describe(device).title)
    bench.say("date", datetime.date.today().isoformat())
    bench.say("torch", torch.__version__)
    bench.say("CPU cores", os.cpu_count())
    try:
        started = time.monotonic()
        suite = make_suite(options.folder / options.architecture, options.architecture)
        bench.say("making the models, s", time.monotonic() - started)
        if not options.no_tests and bench.time_for("tests", 30):
            run_tests(bench)
        reading = reading_of(bench, suite, options.architecture)
        if not options.no_images and bench.time_for("evaluation and AdaMerging", 60):
            evaluation(bench, suite)
        methods(bench, suite, reading, options.architecture)
        if bench.time_for("thresholds", 10):
            selection(bench, suite)
        if options.large and bench.time_for("ViT-L-14", 90):
            shelf.clear()
            large = make_suite(options.folder / "ViT-L-14", "ViT-L-14")
            methods(bench, large, reading_of(bench, large, "ViT-L-14"), "ViT-L-14")
    finally:
        bench.found["left out for lack of time"] = bench.late
        target = options.json or options.folder / "gpu.json"
        target.write_text(json.dumps(bench.found, indent=1) + "\n", encoding="utf-8")
        print(f"\nleft out for lack of time: {', '.join(bench.late) or 'nothing'}\nnumbers: {target.name}")


if __name__ == "__main__":
    main()
