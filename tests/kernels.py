"""``python -m tests.kernels``: the numerical tests with every kernel that this processor has besides its own.

Libraries choose their kernels by the processor they find, and each sums in an order of its own. A setting makes them
take those of another processor, so that a machine runs, in turn, what others would. The tests are those marked
``kernels``. A setting that this processor can't follow is skipped and named.
"""

import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = min(4, os.cpu_count() or 1)
# What torch says that the processor can, from which on it can all that stands before.
LEVELS = ("DEFAULT", "AVX2", "AVX512")


@dataclass(frozen=True)
class Setting:
    """The kernels that all libraries take on one kind of processor.

    Attributes:
        variables: of the environment, with what they are set to.
        level: of :data:`LEVELS`, what this processor must be able to do.
    """

    variables: tuple[tuple[str, str], ...]
    level: str = "DEFAULT"

    @property
    def name(self) -> str:
        """As one writes it before a command."""
        return " ".join("=".join(one) for one in self.variables)


# What the libraries choose by themselves is what `make test` runs. A processor chooses for MKL, for torch and for
# numpy's OpenBLAS at once; they share nothing, so that a run for each of their settings would see no more.
SETTINGS = (
    Setting(  # needs AVX alone, of which torch does not tell
        (("MKL_CBWR", "COMPATIBLE"), ("ATEN_CPU_CAPABILITY", "default"), ("OPENBLAS_CORETYPE", "Sandybridge")), "AVX2"
    ),
    Setting((("MKL_CBWR", "AVX2"), ("ATEN_CPU_CAPABILITY", "avx2"), ("OPENBLAS_CORETYPE", "Haswell")), "AVX2"),
    Setting((("OPENBLAS_CORETYPE", "SkylakeX"),), "AVX512"),
)


def untouched() -> dict[str, str]:
    """The environment without any setting."""
    set_here = {name for one in SETTINGS for name, _ in one.variables}
    return {name: value for name, value in os.environ.items() if name not in set_here}


def ability() -> str:
    """The highest of :data:`LEVELS` that this processor has; ``DEFAULT`` on others than x86."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "DEFAULT"
    asked = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run([sys.executable, "-c", asked], env=untouched(), capture_output=True, text=True, check=True)
    return done.stdout.strip() if done.stdout.strip() in LEVELS else "DEFAULT"


def possible(setting: Setting, able: str) -> bool:
    """Whether a processor of this ability can follow a setting: others crash at the first instruction they lack."""
    return LEVELS.index(setting.level) <= LEVELS.index(able)


def marked_files() -> list[str]:
    """Files with a test marked ``kernels``: only these are collected, as importing all takes longer than the tests."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.kernels" in file.read_text(encoding="utf-8")]


def run(setting: Setting) -> tuple[Setting, int, str]:
    """The marked tests under a setting: exit status and what pytest printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "kernels", "-p", "no:cacheprovider", *marked_files()]
    done = subprocess.run(
        command, cwd=ROOT, env={**untouched(), **dict(setting.variables)}, capture_output=True, text=True
    )
    return setting, done.returncode, done.stdout + done.stderr


def main() -> int:
    """Run all settings, some at once; 1 if a test failed under any."""
    started, able, failed = time.monotonic(), ability(), 0
    for setting in SETTINGS:
        if not possible(setting, able):
            print(f"skipped  {setting.name}: needs {setting.level}, this processor has {able}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for setting, status, output in pool.map(run, [one for one in SETTINGS if possible(one, able)]):
            summary = output.strip().splitlines()[-1] if output.strip() else ""
            print(f"{'failed ' if status else 'passed '}  {setting.name}: {summary}", flush=True)
            if status:
                failed += 1
                print(output)
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
