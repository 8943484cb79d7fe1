"""What the study of AWD runs: which merges, of which tasks, with which variant of AWD in front.

Every case is one run, identified and kept like any other, so that a study that was stopped goes on where it was.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merging.methods import registry
from merging.runs.jobs.merge import MergeSpec

SCOPES = ("model", "layer", "row")
SOLVERS = ("descent", "exact", "adam")
# What stands in front of a merge: nothing, or AWD of one scope with the solver that the paper describes.
VARIANTS: dict[str, dict[str, Any] | None] = {"none": None, **{scope: {"scope": scope} for scope in SCOPES}}
SUBSETS = 2  # random subsets for each number of tasks below all
_ADAM_STEP = 1e-5  # in units of a weight, as in reading B; β of the other solvers is no such step


@dataclass(frozen=True)
class Case:
    """One run of the study.

    Attributes:
        section: the part of the study it belongs to: solvers, merges or counts.
        merge: the merge's name, with its solver if it has several.
        variant: none, or what kind of AWD comes first.
        tasks: what is merged.
        best: whether λ is the best on validation; else the merge's default.
        spec_fields: the rest of the specification.
    """

    section: str
    merge: str
    variant: str
    tasks: tuple[str, ...]
    best: bool
    spec_fields: dict[str, Any] = field(hash=False)

    def spec(self, suite: str, device: str) -> MergeSpec:
        """What to run."""
        return MergeSpec.build(suite=suite, tasks=self.tasks, device=device, **self.spec_fields)


def all_cases(tasks: Sequence[str]) -> list[Case]:
    """Every case of the study on a suite with these tasks."""
    return [*solver_cases(tuple(tasks)), *merge_cases(tuple(tasks)), *count_cases(tuple(tasks))]


def solver_cases(tasks: tuple[str, ...]) -> Iterator[Case]:
    """Scopes × solvers, and reading B, in front of Task Arithmetic."""
    for scope, solver in itertools.product(SCOPES, SOLVERS):
        step = {"beta": _ADAM_STEP, "units": "published"} if solver == "adam" else {}
        yield from _both(
            "solvers",
            "task_arithmetic",
            f"{scope}, {solver}",
            tasks,
            {
                "scope": scope,
                "solver": solver,
                **step,
            },
        )
    reading_b = dict(registry.find("edit", "awd").presets["Reading B: one per matrix, Adam (unverified)"])
    yield from _both("solvers", "task_arithmetic", "reading B", tasks, reading_b)


def merge_cases(tasks: tuple[str, ...]) -> Iterator[Case]:
    """Every variant in front of every merge that takes an edit."""
    for name in registry.merges():
        if registry.find("merge", name).unedited:
            continue
        for variant, awd in VARIANTS.items():
            as_printed = {"units": "published"} if name == "wudi" else {}
            yield from _both("merges", name, variant, tasks, awd, name, as_printed)
            if name == "wudi":
                closed = {"solver": "closed_form"}
                yield from _both("merges", "wudi, closed form", variant, tasks, awd, name, closed)


def count_cases(tasks: tuple[str, ...]) -> Iterator[Case]:
    """Task Arithmetic of 2 tasks to all, of random subsets that depend on nothing but their size."""
    for count in range(2, len(tasks) + 1):
        for chosen in subsets(tasks, count):
            for variant in ("none", "model", "layer"):
                yield from _both("counts", "task_arithmetic", variant, chosen, VARIANTS[variant])


def subsets(tasks: tuple[str, ...], count: int, number: int = SUBSETS) -> list[tuple[str, ...]]:
    """Different random subsets of one size, in the suite's order; the only one if all are taken."""
    every = list(itertools.combinations(tasks, count))
    picked = np.random.default_rng(count).permutation(len(every))[:number]
    return [every[index] for index in sorted(picked)]


def _both(
    section: str,
    label: str,
    variant: str,
    tasks: tuple[str, ...],
    awd: dict[str, Any] | None,
    merge: str = "",
    merge_params: dict[str, Any] | None = None,
) -> Iterator[Case]:
    """A pair with the merge's default λ, and with the best on validation if the merge has a λ."""
    merge = merge or label
    fields: dict[str, Any] = {"merge": merge, "merge_params": merge_params or {}}
    if awd is not None:
        fields |= {"edit": "awd", "edit_params": awd}
    yield Case(section, label, variant, tasks, False, fields)
    scaling = registry.find("merge", merge).params.scaling_name()
    if scaling is not None:
        best = {**fields, "merge_params": {**fields["merge_params"], scaling: "auto"}}
        yield Case(section, label, variant, tasks, True, best)
