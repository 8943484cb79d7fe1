"""``python -m studies.beyond``: what AWD and merges ahead of it change beyond the benchmark of the embedded suite.

Measures what ``merging robustness`` and ``merging generalise`` measure, stores it as they print it, and says how two
methods differ on the same splits and images, with standard errors.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from merging.core.files import atomic_path
from merging.runs.beyond import ON_CLEAN, average, spread

RESULTS = Path(__file__).parent / "results"
ROBUSTNESS, GENERALISE = RESULTS / "robustness.json", RESULTS / "generalise.json"
METHODS = ("awd_ta", "adamerging", "tsv_m", "wudi_closed_form", "ace", "overlap")  # each compared with Task Arithmetic
PRESETS = ("task_arithmetic", *METHODS)
COMMANDS: Mapping[Path, Sequence[str]] = {
    ROBUSTNESS: ("robustness", "mini", "--severities", "3"),
    GENERALISE: ("generalise", "mini", "--leave", "2", "--most", "4"),
}
_BY_METHOD = ("titles", "accuracy", "clean", "relative", "averages")  # in what is stored
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


def added(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What was stored with the rows of further methods, or of the same measured again, in the order of the study.

    Raises:
        ValueError: they were not measured on the same splits and images, as the base model shows.
    """
    for part in ("suite", "split", "splits", "corruptions", "severities", "zero_shot"):
        if before.get(part) != new.get(part):
            raise ValueError(f"{part} differs from what is stored; measure all methods again")
    place = {name: rank for rank, name in enumerate(PRESETS)}
    names = {*before["methods"], *new["methods"]}
    methods = sorted(names, key=lambda name: (place.get(name.removesuffix(ON_CLEAN), len(place)), name))
    found = {**before, "methods": methods}
    for part in _BY_METHOD:
        if part in before:
            rows = {**before[part], **new[part]}
            found[part] = {name: rows[name] for name in (*methods, *(rows.keys() - names))}
    return found


@click.command()
@click.option("--presets", help="Measure these alone, names with commas, and keep the rows of the others.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".merging"), help="Folder for runs and caches.")
def main(presets: str | None, home: Path) -> None:
    """Measure both (hours of two cores, minutes of a GPU), store what came out, and print how the methods differ."""
    for file, command in COMMANDS.items():
        chosen = ["--presets", presets or ",".join(PRESETS)]
        call = [sys.executable, "-m", "merging", *command, *chosen, "--home", str(home), "--json"]
        found = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
        with atomic_path(file) as temporary:
            content = added(stored(file), found) if presets else found
            content["measured"] = date.today().isoformat()
            temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    for other in METHODS:
        for what, (points, error) in differences(other, "task_arithmetic").items():
            click.echo(f"{other} against task_arithmetic, {what}: {points:+.2f} ± {error:.2f} points")


if __name__ == "__main__":
    main()
