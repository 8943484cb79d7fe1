"""``python -m benchmarks``: time and memory of the main work, beside what each is compared with.

Work and comparison take turns, every turn in a fresh process, so that a machine that slows down slows both. What to
quote are the ratios of medians; absolute times depend on the machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from benchmarks import browser, many_tasks, pages, people
from benchmarks.random_suite import make_suite
from merging.runs.deleted import erase
from merging.runs.table import RunStore

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """One line of the table: a piece of work, what it is compared with, and what is to be reached."""

    title: str
    work: str
    other: str | None
    other_title: str
    goal: str
    turns: int | None = None  # fewer than the others, where one takes minutes


ROWS = (
    Row("check: every file, against the base", "check", "sum_bytes", "summing the same bytes", ""),
    Row("Gram matrices, 8 × {a}", "gram", "sum_bytes", "summing the same bytes", "≤ 4 ×, ≤ 400 MB"),
    Row("the same, plain loop", "gram_plain_loop", "sum_bytes", "summing the same bytes", "(comparison)"),
    Row("similarity before and after AWD, seen before", "similarity_seen", None, "", "< 1 s"),
    Row("AWD re-solve, 152 layers, 300 steps", "awd_resolve", None, "", "≤ 0.03 s"),
    Row(
        "Task Arithmetic, files to file",
        "task_arithmetic",
        "task_arithmetic_plain_loop",
        "plain torch loop",
        "≤ 1.2 ×, ≤ 600 MB",
    ),
    Row("AWD + Task Arithmetic, files to file", "awd", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("AWD by rows + Task Arithmetic, files to file", "awd_rows", "task_arithmetic", "Task Arithmetic", ""),
    Row("export of a run from its coefficients", "export", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("TIES, files to file", "ties", "task_arithmetic_plain_loop", "plain TA loop", "≤ 1.2 GB"),
    Row("DARE, files to file", "dare", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("Consensus TA, files to file", "consensus", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("TATR, zero-shot, files to file", "trust_region", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("TALL masks, files to file", "tall_masks", "task_arithmetic_plain_loop", "plain TA loop", ""),
    Row("Iso-C, files to file", "iso_c", "iso_c_full_decompositions", "a full SVD per matrix", "≤ 0.5 ×, ≤ 1.2 GB"),
    Row("Iso-CTS, files to file", "iso_cts", "task_arithmetic", "Task Arithmetic", "≤ 1.2 GB"),
    Row("TSV-M, files to file", "tsv_m", "task_arithmetic", "Task Arithmetic", "≤ 1.2 GB"),
    Row(
        "WUDI in closed form, files to file",
        "wudi_closed_form",
        "iso_c_full_decompositions",
        "a full SVD per matrix",
        "≤ 1.2 GB",
    ),
    Row(
        "WUDI by Adam, 300 steps, files to file",
        "wudi_adam",
        "iso_c_full_decompositions",
        "a full SVD per matrix",
        "≤ 1.2 GB",
        turns=1,
    ),
    Row(
        "DOGE TA, 400 steps, files to file",
        "doge",
        "task_arithmetic",
        "Task Arithmetic",
        "≤ 1.2 GB",
        turns=1,
    ),
    *(
        Row(f"{title}, files to file", work, None, "", "", turns=1)
        for title, work in {
            "ACE-Merging": "ace",
            "LARV + Task Arithmetic": "larv",
            "Task Arithmetic + SVC": "svc",
            "TSV-M + SVC": "tsv_m_svc",
            "Overlap-scaled WUDI": "overlap",
            "the parts of WUDI's closed form": "parts",
            "EMR": "emr",
            "RegMean, 256 images a task": "regmean",
            "RegMean++, 256 images a task": "regmean_plus_plus",
        }.items()
    ),
    Row(
        "Iso-C's decompositions, 12 equal shapes a batch",
        "isotropic_batches",
        "isotropic_threads",
        "a matrix a thread",
        "(comparison)",
    ),
    Row(
        "TSV-M's decompositions, 12 × 8 equal shapes a batch",
        "leading_batches",
        "leading_threads",
        "a layer a thread",
        "(comparison)",
    ),
    Row(
        "WUDI's linear systems, 12 × 8 equal shapes a batch",
        "ridge_batches",
        "ridge_threads",
        "a layer a thread",
        "(comparison)",
    ),
    Row(
        "AdaMerging step, 8 tasks (mini)",
        "adamerging_step",
        "eight_batches",
        "8 batches forward and backward",
        "≤ 1.1 ×",
    ),
    Row("accuracy on mini, 8 tasks", "mini_accuracy", None, "", "< 2 s"),
)
COMMANDS = (
    ("merging merge, Task Arithmetic, whole process", [], "≤ 2.5 s"),
    ("merging merge, TIES, whole process", ["--edit", "ties"], "≤ 6 s"),
    ("merging merge, Iso-C, whole process", ["--merge", "iso_c"], "≤ 6 s"),
)


def main() -> None:
    """Run all rows and print a table in Markdown."""
    everything = [*(row.work for row in ROWS), "commands", "browser", "pages", "people", "many_tasks"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="ViT-B-32", help="open_clip model whose shapes the files get")
    parser.add_argument("--turns", type=int, default=3, help="turns of each piece of work")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="WORK",
        choices=everything,
        default=everything,
        help="only these pieces of work, by their names in benchmarks/work.py; commands: whole "
        "processes; browser: the dashboard; pages: what the server spends on it; people: many of them at once, and "
        "many_tasks: twenty models beside eight, in tables of their own",
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="where the random files go")
    options = parser.parse_args()
    if options.rows == ["many_tasks"]:
        _print_many_tasks(options.folder, options.architecture, options.turns)
        return
    if options.rows == ["people"]:
        print(people.HEAD, *people.measure(), sep="\n", flush=True)
        return
    suite = make_suite(options.folder / options.architecture, options.architecture)
    print(f"{os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB, torch {torch.__version__}\n")
    print("| work | seconds | anonymous memory | compared with | ratio | to reach |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if row.work in options.rows:
            _print_row(row, suite, options.architecture, min(options.turns, row.turns or options.turns))
    for title, extra, goal in COMMANDS if "commands" in options.rows else ():
        own, plain = [], []
        for _ in range(options.turns):
            own.append(_command(suite, options.folder, extra))
            plain.append(_whole_process("task_arithmetic_plain_loop", suite))
        seconds, ratio = statistics.median(own), statistics.median(own) / statistics.median(plain)
        print(f"| {title} | {seconds:.2f} | | plain TA loop, whole process | {ratio:.2f} × | {goal} |", flush=True)
    for title, seconds, goal in browser.measure() if "browser" in options.rows else ():
        print(f"| {title} | {seconds:.2f} | | | | {goal} |", flush=True)
    for title, seconds, ratio, goal in pages.measure(options.turns) if "pages" in options.rows else ():
        print(f"| {title} | {seconds:.3f} | | 3 million additions | {ratio:.2f} × | {goal} |", flush=True)
    if "people" in options.rows:
        print(f"\n{people.HEAD}", *people.measure(), sep="\n", flush=True)
    if "many_tasks" in options.rows:
        print()
        _print_many_tasks(options.folder, options.architecture, options.turns)


def _print_many_tasks(folder: Path, architecture: str, turns: int) -> None:
    few, many = many_tasks.suites(folder, architecture)
    print(many_tasks.HEAD)
    for work in many_tasks.WORKS:
        pairs = [(measure(work, few), measure(work, many)) for _ in range(turns)]
        taken = {work: ([one for one, _ in pairs], [other for _, other in pairs])}
        print(*many_tasks.rows(taken), sep="\n", flush=True)


def _print_row(row: Row, suite: Path, architecture: str, turns: int) -> None:
    own, other = [], []
    for _ in range(turns):
        own.append(measure(row.work, suite))
        if row.other is not None:
            other.append(measure(row.other, suite))
    seconds = statistics.median(result["seconds"] for result in own)
    memory = max(result["peak"] for result in own) / 1e6
    ratio = ""
    if other:
        ratio = f"{seconds / statistics.median(result['seconds'] for result in other):.2f} ×"
    title = row.title.format(a=architecture)
    print(f"| {title} | {seconds:.3f} | {memory:.0f} MB | {row.other_title} | {ratio} | {row.goal} |", flush=True)


def measure(work: str, suite: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of a piece of work in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.work", work, str(suite)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def _whole_process(work: str, suite: Path) -> float:
    """Seconds of a piece of work with the start of its process and all that it loads."""
    started = time.perf_counter()
    measure(work, suite)
    return time.perf_counter() - started


def _command(suite: Path, folder: Path, extra: list[str]) -> float:
    """Seconds of the whole command, with no runs of the last turn to take the result from; files were seen before."""
    home = folder / "home"
    store = RunStore(home)
    for run in store.all():
        erase(store, run.id)
    output = folder / "merged.safetensors"
    command = [
        sys.executable,
        "-m",
        "merging",
        "merge",
        str(suite),
        *extra,
        "--output",
        str(output),
        "--home",
        str(home),
    ]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
