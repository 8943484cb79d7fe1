"""Memory and time of merging twenty models beside eight of them, ``python -m benchmarks --rows many_tasks``.

Memory may at most double, and time grow as the number of models does. Both suites name the same files, each turn runs
in a fresh process.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from benchmarks.random_suite import make_suite

FEW, MANY = 8, 20
WORKS = {
    "task_arithmetic": "Task Arithmetic",
    "ties": "TIES",
    "tsv_m": "TSV-M",
    "iso_cts": "Iso-CTS",
    "wudi_closed_form": "WUDI in closed form",
}
Measured = Mapping[str, float]


def suites(folder: Path, architecture: str) -> tuple[Path, Path]:
    """Suites of eight and of twenty random models, in one folder of their own; their files."""
    many = make_suite(folder / f"{architecture}-{MANY}", architecture, MANY)
    content = yaml.safe_load(many.read_text(encoding="utf-8"))
    few = many.with_name(f"first-{FEW}.yaml")
    few.write_text(yaml.safe_dump(content | {"tasks": content["tasks"][:FEW]}), encoding="utf-8")
    return few, many


def rows(measured: Mapping[str, tuple[Sequence[Measured], Sequence[Measured]]]) -> Iterator[str]:
    """A line of a table for each piece of work, from what each turn took with few and with many models."""
    for work, (few, many) in measured.items():
        seconds = [min(turn["seconds"] for turn in turns) for turns in (few, many)]
        memory = [max(turn["peak"] for turn in turns) for turns in (few, many)]
        cells = [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", f"{seconds[1] / seconds[0]:.2f} ×"]
        cells += [f"{memory[0] / 1e6:.0f} MB", f"{memory[1] / 1e6:.0f} MB", f"{memory[1] / memory[0]:.2f} ×"]
        yield f"| {WORKS[work]}, files to file | {' | '.join(cells)} |"


HEAD = (
    f"| | seconds, {FEW} models | {MANY} models | ratio, to reach ≤ {MANY / FEW:g} | anonymous memory, {FEW} models "
    f"| {MANY} models | ratio, to reach ≤ 2 |\n|---|---:|---:|---:|---:|---:|---:|"
)
