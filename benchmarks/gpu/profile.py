"""What a merge spends its time on: kernels of the card, and Python's functions on the thread that asks for them."""

import cProfile
import io
import pstats
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench, merge
from benchmarks.gpu.table import Method

_LINES = 12


def profiled(bench: Bench, suite: Path, method: Method) -> None:
    """Print the longest kernels and functions of a merge whose models are on the card."""
    merge(bench, suite, method.settings, bench.device)
    seconds = bench.seconds(lambda: merge(bench, suite, method.settings, bench.device))
    phases = ", ".join(f"{name} {value:.3f}" for name, value in bench.phases.items())
    print(f"\n{method.title}, again: {seconds:.3f} s; {phases}", flush=True)
    if bench.device.type == "cuda":
        kernels(bench, suite, method)
    functions = cProfile.Profile()
    functions.runcall(merge, bench, suite, method.settings, bench.device)
    text = io.StringIO()
    pstats.Stats(functions, stream=text).sort_stats("tottime").print_stats(_LINES)
    lines = text.getvalue().splitlines()
    print("\n".join(line[:150] for line in lines if line.strip() and "/" in line), flush=True)


def kernels(bench: Bench, suite: Path, method: Method) -> None:
    """The longest kernels, and how long the card worked in all."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        merge(bench, suite, method.settings, bench.device)
        torch.cuda.synchronize(bench.device)
    events = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    print(f"kernels: {sum(event.self_device_time_total for event in events) / 1e6:.3f} s", flush=True)
    for event in events[:_LINES]:
        print(f"{event.self_device_time_total / 1e3:9.1f} ms {event.count:7d} × {event.key[:110]}", flush=True)
