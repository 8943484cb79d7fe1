"""``python -m studies.beyond``: what AWD, AdaMerging and WUDI change beyond the benchmark of the embedded suite.

Measures what ``merging robustness`` and ``merging generalise`` measure, stores it as they print it, and says how two
methods differ on the same splits and images, with standard errors.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from merging.core.files import atomic_path
from merging.runs.beyond import average, spread

RESULTS = Path(__file__).parent / "results"
ROBUSTNESS, GENERALISE = RESULTS / "robustness.json", RESULTS / "generalise.json"
PRESETS = "task_arithmetic,awd_ta,adamerging,wudi_closed_form"
COMMANDS: Mapping[Path, Sequence[str]] = {
    ROBUSTNESS: ("robustness", "mini", "--presets", PRESETS, "--severities", "3"),
    GENERALISE: ("generalise", "mini", "--presets", PRESETS, "--leave", "2", "--most", "4"),
}
METHODS = ("awd_ta", "adamerging", "wudi_closed_form")  # each compared with Task Arithmetic
Difference = tuple[float, float]  # in points, with its standard error


def stored(file: Path) -> dict[str, Any]:
    """What a command printed."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def differences(one: str, other: str) -> dict[str, Difference]:
    """How much better one method is than another, in points, with standard errors.

    On seen and on unseen tasks over the splits, and on clean and on corrupted images over the tasks: both methods were
    measured on the same ones, so that differences are taken before means.
    """
    robust, unseen = stored(ROBUSTNESS), stored(GENERALISE)
    found = {}
    for part in ("seen", "unseen"):
        means = {
            method: [
                average([accuracy[task] for task in split[part]])
                for split, accuracy in zip(unseen["splits"], unseen["accuracy"][method], strict=True)
            ]
            for method in (one, other)
        }
        found[part] = _difference(means[one], means[other])
    tasks = list(robust["clean"][one])
    found["clean"] = _difference(*([robust["clean"][method][task] for task in tasks] for method in (one, other)))
    found["corrupted"] = corrupted_difference(one, other)
    return found


def corrupted_difference(one: str, other: str) -> Difference:
    """How much better one method is on corrupted images, over the tasks, in points, with its standard error."""
    accuracy = stored(ROBUSTNESS)["accuracy"]
    tasks = list(next(iter(next(iter(accuracy[one].values())).values())))
    return _difference(*([_corrupted(accuracy[method], task) for task in tasks] for method in (one, other)))


def _corrupted(accuracy: Mapping[str, Mapping[str, Mapping[str, float]]], task: str) -> float:
    """Mean over corruptions and severities."""
    return average([tasks[task] for levels in accuracy.values() for tasks in levels.values()])


def _difference(ones: Sequence[float], others: Sequence[float]) -> Difference:
    found = [100 * (a - b) for a, b in zip(ones, others, strict=True)]
    return average(found), (spread(found) or 0.0) / len(found) ** 0.5


@click.command()
@click.option("--home", type=click.Path(path_type=Path), default=Path(".merging"), help="Folder for runs and caches.")
def main(home: Path) -> None:
    """Measure both (hours of two cores, minutes of a GPU), store what came out, and print how the methods differ."""
    for file, command in COMMANDS.items():
        call = [sys.executable, "-m", "merging", *command, "--home", str(home), "--json"]
        printed = subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout
        with atomic_path(file) as temporary:
            temporary.write_bytes(printed)
    for other in METHODS:
        for what, (points, error) in differences(other, "task_arithmetic").items():
            click.echo(f"{other} against task_arithmetic, {what}: {points:+.2f} ± {error:.2f} points")


if __name__ == "__main__":
    main()
