"""``python -m benchmarks.peers``: seconds of our merges beside FusionBench's, from the same files to a file.

Each is a process of its own, one after the other in turns; what to quote is the ratio. FusionBench needs an environment
of its own, as for :mod:`benchmarks.agreement`. Its functions are given state dictionaries that were read from the
random files, so that loading towers of transformers is not counted; on the CPU, in float32.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from benchmarks.agreement import State, doge, iso_c, iso_cts, models, sums, ties, tsv_m, wudi
from benchmarks.random_suite import make_suite
from merging.core.memory import PeakMemory
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.suites.suite import load_suite
from merging.weights.files import save_tensors

ROOT = Path(__file__).resolve().parent.parent


# Title → our settings, and FusionBench's function of base, models and task vectors, which gives the update.
METHODS: dict[str, tuple[str, Callable[[State, list[State], list[State]], State]]] = {
    "Task Arithmetic": ("merge.scaling=0.3", lambda base, models, vectors: sums(vectors, 0.3)),
    "TIES": ("edit=ties merge.scaling=0.3", lambda base, models, vectors: ties(vectors)),
    "Iso-C": ("merge=iso_c", lambda base, models, vectors: iso_c(vectors)),
    "TSV-M": ("merge=tsv_m", lambda base, models, vectors: tsv_m(vectors)),
    "Iso-CTS": ("merge=iso_cts", lambda base, models, vectors: iso_cts(vectors)),
    "WUDI, 30 steps": (
        "merge=wudi merge.steps=30 merge.units=published",
        lambda base, models, vectors: wudi(vectors, 30),
    ),
    "DOGE TA, 400 steps": (
        "edit=doge edit.units=published merge.scaling=1.0",
        lambda base, models, vectors: doge(base, models),
    ),
}
QUICK = list(METHODS)[:-1]


def ours(title: str, suite: Path) -> None:
    """A merge by this package."""
    context = Context()
    planned = plan(load_suite(suite).vectors(), Pair.read(METHODS[title][0]), context)
    save_tensors(suite.parent / "merged.safetensors", planned.infos, planned.tensors(context), planned.metadata)


def theirs(title: str, suite: Path) -> None:
    """The same by FusionBench: read all files, subtract, merge, add, write."""
    base = load_file(suite.parent / "base.safetensors")
    fine_tuned = [load_file(suite.parent / f"{task}.safetensors") for task in load_suite(suite).task_names]
    vectors = [{name: model[name] - tensor for name, tensor in base.items()} for model in fine_tuned]
    with contextlib.redirect_stdout(io.StringIO()):
        update = METHODS[title][1](base, fine_tuned, vectors)
    merged = {name: (tensor + update[name]).detach().contiguous() for name, tensor in base.items()}
    save_file(merged, suite.parent / "merged.safetensors")


SIDES = {"ours": ours, "theirs": theirs}


def main() -> None:
    """A line a method; with ``--side`` one merge, of which a line of JSON is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--layers", type=int, help="blocks, where fewer than the architecture has")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=QUICK, metavar="TITLE")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="where random files go")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--suite", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        _one(options.side, options.methods[0], options.suite)
        return
    try:
        version = importlib.metadata.version("fusion-bench")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("fusion-bench is not installed here; docs/performance.md says how to make an environment that has it")
    name = f"{options.architecture}-{options.layers}" if options.layers else options.architecture
    suite = make_suite(options.folder / name, options.architecture, layers=options.layers)
    print(f"8 × {name}, FusionBench {version}; processor seconds in brackets\n")
    print("| | ours, s | FusionBench, s | ratio | of processor time | ours, GB | FusionBench, GB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for title in options.methods:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(options.turns):
            for side in SIDES:
                found[side].append(_measured(side, title, suite))
        first, second = (
            {key: statistics.median(one[key] for one in found[side]) for key in found[side][0]} for side in SIDES
        )
        ratios = [f"{second[key] / first[key]:.1f} ×" for key in ("seconds", "processor")]
        seconds = [f"{one['seconds']:.1f} ({one['processor']:.1f})" for one in (first, second)]
        memory = [f"{one['peak'] / 1e9:.2f}" for one in (first, second)]
        print(f"| {' | '.join([title, *seconds, *ratios, *memory])} |", flush=True)


def _measured(side: str, title: str, suite: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.peers", "--side", side, "--methods", title, "--suite", str(suite)]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def _one(side: str, title: str, suite: Path) -> None:
    if side == "theirs":  # what its functions import is not counted, as ours is loaded already
        base, small = models()
        with contextlib.redirect_stdout(io.StringIO()):
            METHODS[title][1](base, small, [{name: one[name] - base[name] for name in base} for one in small])
    with PeakMemory() as memory:
        started, processor = time.perf_counter(), time.process_time()
        SIDES[side](title, suite)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": memory.peak}))


if __name__ == "__main__":
    main()
