"""``python -m studies.linearised_page``: ``docs/partial-linearisation.md`` and its plots, from the stored results."""

import string
from pathlib import Path
from typing import Any

import click
import numpy as np

from merging.core.files import atomic_path
from merging.evaluation.accuracy import normalised_accuracy
from merging.weights.geometry import mean_abs_cosine
from studies import tables
from studies.adapter_training import RATE_STEPS, WAYS
from studies.linearised import FOLDED, NAME
from studies.page import PLOTS, ROOT, load
from studies.tables import Result, Rows, average, only

PAGE = ROOT / "docs" / "partial-linearisation.md"
TEMPLATE = Path(__file__).parent / "partial-linearisation.template.md"
TA, TIES = "task_arithmetic", "ties"
STYLES = {
    "full": ("#7a808a", "circle"),
    "lora": ("#2e93d1", "square"),
    "lora_weights": ("#8c6bd8", "x"),
    "l_lora": ("#cc7f00", "diamond"),
}


def render(study: Result) -> str:
    """The page: the template with every table and number filled in."""
    ways = study["ways"]
    numbers = {"zero_shot": percent(study["zero_shot"]), "steps": str(RATE_STEPS)}
    for name, way in ways.items():
        merge = merged(study, name, TA)
        numbers |= {
            f"{name}_ta": f"{average(merge):.1f}",
            f"{name}_average": percent(merge["average"]),
            f"{name}_normalised": f"{normalised(way, merge['accuracy']):.1f}",
            f"{name}_rate": f"{way['rate'] or 0:g}",
        }
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        numbers,
        ways=tables.markdown(*ways_table(study)),
        rates=tables.markdown(*rates_table(study)),
        individual=tables.markdown(*individual_table(study)),
        merged=tables.markdown(*merged_table(study)),
        normalised=tables.markdown(*normalised_table(study)),
        subsets=tables.markdown(*subsets_table(study)),
        disturbed=tables.markdown(*disturbed_table(study)),
    )


def percent(accuracy: dict[str, float]) -> str:
    """Mean over tasks, in percent."""
    return f"{100 * float(np.mean(list(accuracy.values()))):.1f}"


def merged(study: Result, way: str, merge: str, tasks: list[str] | None = None) -> Result:
    """The result of a merge of these tasks, all by default."""
    found = only(study["ways"][way]["merges"], merge=merge, tasks=tasks or study["tasks"])
    assert found is not None, f"{way}, {merge} was not measured"
    return found


def normalised(way: Result, accuracy: dict[str, float]) -> float:
    """Normalised accuracy in percent: relative to the way's own models."""
    value = normalised_accuracy(accuracy, way["individual"])
    assert value is not None
    return 100 * value


def ways_table(study: Result) -> tuple[list[str], Rows]:
    """What every way learns, what its models reach, and how their task vectors lie to each other."""
    rows = []
    for way in study["ways"].values():
        own, added = (f"{mean_abs_cosine(np.array(way[key])):.3f}" for key in ("gram", "gram_added"))
        size = f"{np.sqrt(np.diag(np.array(way['gram_added']))).mean():.2f}"
        rows.append([way["title"], f"{way['numbers']:,}", percent(way["individual"]), own, added, size])
    return [
        "way",
        "numbers in a vector",
        "individual",
        "mean \\|cos\\|",
        "the same in weights",
        "mean norm in weights",
    ], rows


def rates_table(study: Result) -> tuple[list[str], Rows]:
    """Validation accuracy after the short training by learning rate."""
    ways = [study["ways"][name] for name in WAYS]
    rates = list(dict.fromkeys(rate for way in ways for rate in way["rates"]))
    rows = [
        [way["title"], *(f"{100 * way['rates'][rate]:.1f}" if rate in way["rates"] else "–" for rate in rates)]
        for way in ways
    ]
    return ["way", *rates], rows


def individual_table(study: Result) -> tuple[list[str], Rows]:
    """Test accuracy of the unmerged models by task."""
    one = {"zero-shot": study["zero_shot"]} | {
        way["title"]: way["individual"] for name, way in study["ways"].items() if name != FOLDED
    }
    rows = [
        [title, *(f"{100 * found[task]:.1f}" for task in study["tasks"]), percent(found)]
        for title, found in one.items()
    ]
    return ["", *study["tasks"], "average"], rows


def merged_table(study: Result) -> tuple[list[str], Rows]:
    """Test accuracy of all tasks merged, each λ the best on validation."""
    rows = []
    for name, way in study["ways"].items():
        sums, ties = merged(study, name, TA), merged(study, name, TIES)
        rows.append(
            [
                way["title"],
                percent(way["individual"]),
                percent(sums["average"]),
                f"{average(sums):.1f} ({sums['scaling']:g})",
                f"{average(ties):.1f} ({ties['scaling']:g})",
            ]
        )
    return ["way", "individual", "average", "Task Arithmetic (λ)", "TIES (λ)"], rows


def normalised_table(study: Result) -> tuple[list[str], Rows]:
    """The same relative to each way's own individual models."""
    rows = []
    for name, way in study["ways"].items():
        sums, ties = merged(study, name, TA), merged(study, name, TIES)
        values = (sums["average"], sums["accuracy"], ties["accuracy"])
        rows.append([way["title"], *(f"{normalised(way, accuracy):.1f}" for accuracy in values)])
    return ["way", "average", "Task Arithmetic", "TIES"], rows


def subsets_table(study: Result) -> tuple[list[str], Rows]:
    """Task Arithmetic and TIES of fewer tasks: test accuracy, and Task Arithmetic normalised."""
    sets = sorted({tuple(one["tasks"]) for one in study["ways"]["full"]["merges"]}, key=len)
    rows = []
    for name, way in study["ways"].items():
        cells = []
        for tasks in sets:
            sums, ties = (merged(study, name, merge, list(tasks)) for merge in (TA, TIES))
            cells += [f"{average(sums):.1f}", f"{normalised(way, sums['accuracy']):.1f}", f"{average(ties):.1f}"]
        rows.append([way["title"], *cells])
    header = [f"{len(tasks)} tasks, {what}" for tasks in sets for what in ("TA", "normalised", "TIES")]
    return ["way", *header], rows


def disturbed_table(study: Result) -> tuple[list[str], Rows]:
    """Share of test images whose class the other tasks' vectors change, at each way's λ."""
    rows = []
    for name, way in study["ways"].items():
        sums, ties = merged(study, name, TA), merged(study, name, TIES)
        rows.append(
            [
                way["title"],
                f"{sums['scaling']:g}",
                percent(sums["disturbed"]),
                f"{ties['scaling']:g}",
                percent(ties["disturbed"]),
            ]
        )
    return ["way", "λ", "Task Arithmetic", "λ", "TIES"], rows


def scaling_traces(study: Result) -> list[dict[str, Any]]:
    """Validation accuracy of Task Arithmetic over λ, a line a way."""
    traces = []
    for name, way in study["ways"].items():
        search = merged(study, name, TA)["search"]
        colour, symbol = STYLES[name]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": way["title"],
                "x": search["scalings"],
                "y": [100 * value for value in search["average_accuracy"]],
                "line": {"color": colour, "width": 2},
                "marker": {"symbol": symbol, "size": 7, "color": colour},
            }
        )
    return traces


def merged_traces(study: Result) -> list[dict[str, Any]]:
    """Task Arithmetic of all tasks, task by task, a row of dots a way."""
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": way["title"],
            "x": study["tasks"],
            "y": [100 * merged(study, name, TA)["accuracy"][task] for task in study["tasks"]],
            "marker": {"symbol": STYLES[name][1], "size": 11, "color": STYLES[name][0]},
        }
        for name, way in study["ways"].items()
    ]


@click.command()
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the plots anew; needs Chromium.")
def main(plots: bool) -> None:
    """Write the page from the results of `python -m studies.linearised`."""
    study = load(NAME)
    with atomic_path(PAGE) as temporary:
        temporary.write_text(render(study), encoding="utf-8")
    if plots:
        from studies.plots import figure, write_svgs

        figures = {
            "linearised-scaling": figure(scaling_traces(study), "λ", "average validation accuracy (%)"),
            "linearised-tasks": figure(merged_traces(study), "", "test accuracy (%)"),
        }
        write_svgs(figures, PLOTS)
    click.echo(f"{PAGE.relative_to(ROOT)} is written", err=True)


if __name__ == "__main__":
    main()
