"""The tests that need a GPU, as a number among the others."""

import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu.bench import Bench

_ROOT = Path(__file__).resolve().parents[2]
_PLACES = (
    "tests/gpu",
    "tests/weights",
    "tests/evaluation",
    "tests/methods/test_plan.py",
    "tests/methods/test_estimate.py",
)
_MOST = 200  # seconds


def run_tests(bench: Bench) -> None:
    """Run them, and say what failed."""
    together = ["-n", "6"] if find_spec("xdist") else []
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-rf", "--no-header", "-p", "no:benchmark", *together]
    command = [sys.executable, "-m", "pytest", *options, *_PLACES]
    with suppress(subprocess.TimeoutExpired):
        started = time.monotonic()
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_MOST, check=False)
        said = ended.stdout.splitlines()
        print("\n".join(line[:300] for line in said if line.startswith(("E  ", "FAILED", "ERROR"))), flush=True)
        last = said[-1] if said else ended.stderr[-500:]
        bench.say("tests that need a GPU", f"{last}; {time.monotonic() - started:.0f} s")
        return
    bench.say("tests that need a GPU", f"not done after {_MOST} s")
