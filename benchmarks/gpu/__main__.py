"""Measure, print, write."""

import argparse
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import gpu
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.card_tests import run_tests
from benchmarks.gpu.images import evaluation
from benchmarks.gpu.profile import profiled
from benchmarks.gpu.table import METHODS, Method, methods, reading_of
from benchmarks.random_suite import make_suite
from merging.core import devices
from merging.methods.context import Context
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.weights.resident import shelf

ROOT = Path(__file__).resolve().parents[2]
_LARGE = "ViT-L-14"


def options_of(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=gpu.__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gpu", help="where the random files go")
    parser.add_argument("--json", type=Path, default=None, help="where the numbers go; by default into the folder")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new is begun")
    parser.add_argument("--large", action="store_true", help=f"{_LARGE} alone, with methods that take a few minutes")
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--layers", type=int, default=None, help="blocks of the models, to try the script out")
    parser.add_argument("--only", default="", help="parts of the titles of methods, with commas between")
    parser.add_argument("--profile", default="", help="the same: print what these spend their time on, and end")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    parser.add_argument("--no-cpu", action="store_true", help="do not compare with the CPU")
    parser.add_argument("--no-images", action="store_true", help="leave out evaluation and AdaMerging")
    return parser.parse_args(given)


def named(parts: str, among: Sequence[Method]) -> list[Method]:
    """The methods whose titles hold one of several texts, or are one; all of them if there are none."""
    wanted = [part.strip().casefold() for part in parts.split(",") if part.strip()]
    titles = {one.title.casefold(): one for one in among}
    found = {title for part in wanted for title in ([part] if part in titles else titles) if part in title}
    return [one for title, one in titles.items() if not wanted or title in found]


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = options_of(given)
    options.folder.mkdir(parents=True, exist_ok=True)
    name = _LARGE if options.large else options.architecture
    bench = Bench(
        devices.resolve(options.device),
        options.folder,
        options.json or options.folder / "gpu.json",
        time.monotonic() + 60 * options.minutes,
        compare=not options.no_cpu and not options.large,
    )
    bench.say("card", devices.describe(bench.device).title)
    bench.say("date", datetime.date.today().isoformat())
    bench.say("torch", torch.__version__)
    bench.say("CPU cores", os.cpu_count())
    started = time.monotonic()
    suite = make_suite(options.folder / name, name, layers=options.layers)
    bench.say("making the models, s", time.monotonic() - started)
    among = [method for method in METHODS if method.large or not options.large]
    if options.profile:
        for method in named(options.profile, among):
            profiled(bench, suite, method)
        return
    methods(bench, suite, reading_of(bench, suite, name), name, named(options.only, among))
    if not options.large:
        rest(bench, suite, options)
    bench.keep("minutes", options.minutes - (bench.deadline - time.monotonic()) / 60)
    print(f"\nleft out for lack of time: {', '.join(bench.late) or 'nothing'}\nnumbers: {bench.target.name}")


def rest(bench: Bench, suite: Path, options: argparse.Namespace) -> None:
    """What is measured besides the table: selection, tests, evaluation."""
    if bench.time_for("thresholds", 10):
        vectors = shelf.placed(bench.vectors(suite), Context(bench.device))
        found = bench.median(lambda: largest_magnitudes(vectors, vectors.size // 5, Context(bench.device)))
        bench.say("exact thresholds of all vectors, s", found)
    if not options.no_images and bench.time_for("evaluation and AdaMerging", 60):
        evaluation(bench, suite)
    if not options.no_tests and bench.time_for("tests", 30):
        shelf.clear()
        run_tests(bench)


if __name__ == "__main__":
    main()
