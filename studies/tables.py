"""Tables of the study: pure functions from the stored results to rows of text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from merging.core.text import signed
from merging.methods import registry
from merging.weights.geometry import mean_abs_cosine
from studies.cases import SCOPES, SOLVERS, VARIANTS

Result = Mapping[str, Any]
Rows = list[list[str]]
AWD_OF = {"none": "no AWD", "model": "AWD, model", "layer": "AWD, layer", "row": "AWD, row"}


def average(result: Result) -> float:
    """Mean test accuracy over the tasks of a result, in percent."""
    return 100 * float(np.mean(list(result["accuracy"].values())))


def pick(results: Iterable[Result], **wanted: object) -> list[Result]:
    """The results with these fields."""
    return [result for result in results if all(result[name] == value for name, value in wanted.items())]


def only(results: Iterable[Result], **wanted: object) -> Result | None:
    """The one result with these fields, or None."""
    found = pick(results, **wanted)
    return found[0] if found else None


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [" | ".join(cells) for cells in (header, *rows)]
    lines.insert(1, " | ".join(["---", *["---:"] * (len(header) - 1)]))
    return "\n".join(f"| {line} |" for line in lines)


def solvers_table(study: Result) -> tuple[list[str], Rows]:
    """What every scope and solver does to cosines, norms and Task Arithmetic."""
    plain = pick(study["cases"], section="merges", merge="task_arithmetic", variant="none")
    gram = np.array(study["before"])
    rows = [["no AWD", f"{mean_abs_cosine(gram):.4f}", f"{np.sqrt(np.diag(gram)).mean():.3f}", *_accuracies(plain)]]
    names = [*(f"{scope}, {solver}" for scope in SCOPES for solver in SOLVERS), "reading B"]
    for name in names:
        results = pick(study["cases"], section="solvers", variant=name)
        if results:
            cosine, norms = results[0]["mean_abs_cosine"], results[0]["norms"]
            rows.append([name, f"{cosine:.4f}", f"{np.mean(norms):.3f}", *_accuracies(results)])
    return ["scope, solver", "mean \\|cos\\|", "mean norm", "λ = 0.3", "best λ", "that λ"], rows


def _accuracies(results: Sequence[Result]) -> list[str]:
    """Accuracy at the default λ, at the best one, and which it is; a dash where a merge has none."""
    fixed, best = only(results, best=False), only(results, best=True)
    return [
        "–" if fixed is None else f"{average(fixed):.1f}",
        "–" if best is None else f"{average(best):.1f}",
        "–" if best is None else f"{best['scaling']:g}",
    ]


def gain(points: float, digits: int = 1) -> str:
    """A difference as the page prints it; what is nothing once rounded has no minus sign.

    >>> gain(-0.04), gain(-0.25, 2)
    ('+0.0', '−0.25')
    """
    return signed(round(points, digits) + 0.0, digits)


def merges_table(study: Result, best: bool) -> tuple[list[str], Rows]:
    """Accuracy of every merge without and with AWD in front, at its default λ or at the best one for each cell."""
    rows = []
    for merge in merge_names(study):
        cells = pick(study["cases"], section="merges", merge=merge, best=best)
        by_variant = {cell["variant"]: average(cell) for cell in cells}
        if set(by_variant) >= set(VARIANTS):
            gains = [f"{by_variant[scope]:.1f} ({gain(by_variant[scope] - by_variant['none'])})" for scope in SCOPES]
            rows.append([merge_title(merge), f"{by_variant['none']:.1f}", *gains])
    return ["merge", *(AWD_OF[name] for name in VARIANTS)], rows


def merge_names(study: Result) -> list[str]:
    """Merges of the study, in the order in which they were run."""
    return list(dict.fromkeys(case["merge"] for case in study["cases"] if case["section"] == "merges"))


def merge_title(merge: str) -> str:
    """What people call a merge of the study.

    >>> merge_title("wudi, closed form")
    'WUDI, closed form'
    """
    name, comma, solver = merge.partition(",")
    return registry.find("merge", name).title + comma + solver


def gains_by_count(study: Result, variant: str, best: bool) -> dict[int, list[float]]:
    """Number of tasks → what AWD of one scope adds to Task Arithmetic, in points, one entry a subset."""
    cases = pick(study["cases"], section="counts", best=best)
    plain = {tuple(case["tasks"]): average(case) for case in pick(cases, variant="none")}
    found: dict[int, list[float]] = {}
    for case in pick(cases, variant=variant):
        tasks = tuple(case["tasks"])
        found.setdefault(len(tasks), []).append(average(case) - plain[tasks])
    return found


def counts_table(study: Result) -> tuple[list[str], Rows]:
    """Mean gain of AWD over subsets of 2 tasks to all."""
    kinds = [(variant, best) for best in (False, True) for variant in ("model", "layer")]
    columns = [gains_by_count(study, variant, best) for variant, best in kinds]
    plain = pick(study["cases"], section="counts", variant="none", best=True)
    rows = []
    for count in sorted(columns[0]):
        level = np.mean([average(case) for case in plain if len(case["tasks"]) == count])
        gains = [gain(float(np.mean(column[count])), 2) for column in columns]
        rows.append([str(count), str(len(columns[0][count])), f"{level:.1f}", *gains])
    header = [f"{variant}, {'best λ' if best else 'λ = 0.3'}" for variant, best in kinds]
    return ["tasks", "subsets", "Task Arithmetic, best λ", *header], rows


def combinations_table(study: Result, limit: int) -> tuple[list[str], Rows]:
    """Pairs without data on all tasks, best on validation first."""
    results = [one for one in study["combinations"] if len(one["tasks"]) == len(study["tasks"])]
    rows = [
        [
            one["label"],
            "yes" if one["published"] else "no",
            f"{100 * one['validation']:.1f}",
            f"{average(one):.1f}",
            f"{one['scaling']:g}",
        ]
        for one in sorted(results, key=lambda one: -one["validation"])[:limit]
    ]
    return ["edit + merge", "published", "validation", "test", "λ"], rows


def subsets_table(study: Result) -> tuple[list[str], Rows]:
    """The shortlist on all tasks and on subsets: test accuracy on each, the mean, and the mean on validation."""
    sizes = sorted({len(one["tasks"]) for one in study["combinations"]}, reverse=True)
    by_label: dict[str, list[Result]] = {}
    for one in sorted(study["combinations"], key=lambda one: -len(one["tasks"])):
        by_label.setdefault(one["label"], []).append(one)
    rows = []
    for label, results in by_label.items():
        if len(results) == len(sizes):  # else it was not on the shortlist
            tests = [average(one) for one in results]
            validation = 100 * float(np.mean([one["validation"] for one in results]))
            published = "yes" if results[0]["published"] else "no"
            rows.append([label, published, *(f"{value:.1f}" for value in [*tests, float(np.mean(tests)), validation])])
    rows.sort(key=lambda row: -float(row[-1]))
    return ["edit + merge", "published", *(f"{size} tasks" for size in sizes), "test, mean", "validation, mean"], rows
