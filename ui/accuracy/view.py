"""Accuracies as several pages show them: baselines, the ranking, the sentence under the chart."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from merging.charts.accuracy import Series, set_apart
from merging.charts.columns import AVERAGE, MARK, METHOD, mark
from merging.charts.run_series import scaling_of
from merging.core.text import in_a_row, shown_as, signed
from merging.evaluation.accuracy import best_first, normalised_accuracy
from merging.runs import Run
from merging.runs.listing import Facts, listing, read_runs
from merging.runs.naming import BASELINES
from merging.suites.suite import Split
from ui.accuracy import measuring
from ui.look.columns import method_columns
from ui.look.figure import escape_markdown, offer_csv
from ui.runs.choice import linked_ids
from ui.runs.jobs import run_of
from ui.runs.panel import offer_job
from ui.runs.text import duration
from ui.shell import state

ZERO_SHOT, INDIVIDUAL = BASELINES
SPLIT_WORDS: dict[Split, str] = {"val": "validation", "test": "test"}
MOST_OFFERED = 200  # runs to choose from; more in one list can't be looked through
NORMALISED = "Normalised accuracy: mean over the tasks of accuracy divided by that of the task's own model, in percent"


@dataclass(frozen=True)
class Measured:
    """Finished runs with accuracies, as far as a page offers them.

    Attributes:
        runs: on the present weights: the newest, newest first, and those that somebody has chosen.
        elsewhere: number of those on other weights, but for what came with other suites.
        older: number of those left out as there are too many to choose from.
    """

    runs: list[Run]
    elsewhere: int
    older: int

    @property
    def left_out(self) -> str:
        """What is not offered, as sentences in markdown; empty if that is nothing."""
        sentences = []
        if self.older:
            sentences.append(
                f"The newest {MOST_OFFERED} runs are offered here; {self.older:,} older ones can be chosen on the page "
                "Runs, which finds any of them."
            )
        if self.elsewhere:
            sentences.append(
                f"{self.elsewhere:,} more runs belong to other suites, or to files that have changed since."
            )
        return escape_markdown(" ".join(sentences))


def measured_runs(chosen: Collection[str] = ()) -> Measured:
    """Finished runs with accuracies on the present weights.

    Args:
        chosen: ids of runs that are among them, however old they are.
    """
    present, store = state.fingerprints(), state.workspace().store
    wanted = {*chosen, *linked_ids()}
    measured = [one for one in listing(store) if one.base]
    here = [one for one in measured if one.base in present.values()]
    looked_at = [one for place, one in enumerate(here) if place < MOST_OFFERED or one.shipped or one.id in wanted]
    runs = read_runs(store, looked_at)
    ours = [run for run in runs if run.merged and run.merged.fingerprints.items() <= present.items()]
    elsewhere = _own(measured) - _own(here) + _own(runs) - _own(ours)
    return Measured(ours, elsewhere, len(here) - len(looked_at))


def _own(runs: Iterable[Facts | Run]) -> int:
    """How many did not come with a suite."""
    return sum(not one.shipped for one in runs)


def task_labels(tasks: Sequence[str]) -> dict[str, str]:
    """Task → label, no two the same; a task that the suite no longer has keeps its name."""
    return state.suite().task_labels(tasks)


def explain_unmeasurable(tasks: Sequence[str]) -> bool:
    """Whether accuracy can't be measured for some of the tasks; says which, and what to do."""
    lacking = [task for task in tasks if task not in measuring.measurable_tasks()]
    if not lacking:
        return False
    names = escape_markdown(", ".join(task_labels(lacking).values()))
    st.info(
        f"No accuracy without images and heads: {names} lack them. Add `data` and `head` to suite.yaml, or choose "
        "other tasks in the sidebar. Similarity and merging work without.",
        icon=":material/info:",
    )
    st.page_link("pages/similarity.py", label="Look at the task vectors", icon=":material/grid_view:")
    return True


def baseline_series(tasks: Sequence[str], split: Split = "test") -> list[Series]:
    """Zero-shot and individual accuracy on the images of some tasks; empty if they are not measured."""
    measured = measuring.baseline_accuracy(split)
    if measured is None or not set(tasks) <= measured.zero_shot.per_task.keys():
        return []
    pairs = ((ZERO_SHOT, measured.zero_shot), (INDIVIDUAL, measured.individual))
    return [Series(name, name, {task: accuracy.per_task[task] for task in tasks}) for name, accuracy in pairs]


def offer_baselines(tasks: Sequence[str], split: Split = "test") -> None:
    """Where measuring both baselines takes too long to do it unasked: a button for it, or how far the worker is."""
    if not set(tasks) <= set(measuring.measurable_tasks()) or measuring.baseline_accuracy(split) is not None:
        return
    job = measuring.baseline_job(split)
    offer_job(
        job,
        run_of(job),
        key=f"baselines-{split}",
        button="Measure the baselines",
        icon=":material/speed:",
        reason="Zero-shot and individual accuracy are not measured yet; with these models that may take minutes.",
    )


def takeaway(series: Sequence[Series]) -> str:
    """What a chart of accuracies shows, in one sentence, from the numbers."""
    series = set_apart(series)
    named = {one.name: one for one in series}
    merged = [one for one in series if one.method not in (ZERO_SHOT, INDIVIDUAL)]
    if not merged:
        if ZERO_SHOT in named and INDIVIDUAL in named:
            gap = 100 * (named[INDIVIDUAL].average - named[ZERO_SHOT].average)
            return f"One model per task is {gap:.1f} points better on average than the base model for all tasks."
        return "There is nothing to compare yet."
    merged = [one for one in merged if one.counted]
    if not merged:
        return "There is no average, as every task here is to be forgotten."
    best = merged[best_first([one.average for one in merged])[0]]
    forgets = len(best.accuracy) - len(best.counted)
    over = f" over the {_tasks(len(best.counted))} not to be forgotten" if forgets else ""
    verb = "is the best merge:" if len(merged) > 1 else "keeps" if forgets else "reaches"
    sentence = f"{best.name} {verb} {100 * best.average:.1f} % on average{over}"
    normalised = normalised_accuracy(best.counted, named[INDIVIDUAL].accuracy) if INDIVIDUAL in named else None
    if normalised is not None:
        sentence += f", normalised {100 * normalised:.1f} %"
    if ZERO_SHOT in named:
        sentence += f", {signed(100 * (best.average - named[ZERO_SHOT].average))} points against zero-shot"
    return sentence + "."


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


def note_on_forgotten(series: Sequence[Series]) -> str:
    """Which tasks count in no average and why, as a sentence; empty if all do."""
    labels = task_labels(sorted({task for one in series for task in one.forgotten}))
    if not labels:
        return ""
    are, end = ("is", "s") if len(labels) == 1 else ("are", "")
    named = in_a_row(labels.values())
    return escape_markdown(f"{named} {are} to be forgotten by a run shown here and count{end} in no average.")


def ranking(series: Sequence[Series], runs: Mapping[str, Run]) -> pd.DataFrame:
    """Methods by average accuracy, best first.

    Args:
        series: what to rank.
        runs: series' name → its run, for those that are runs.
    """
    series = set_apart(series)
    by_name = {one.name: one for one in series}
    rows = []
    for one in sorted(series, key=lambda one: -one.average):
        run = runs.get(one.name)
        row: dict[str, Any] = {MARK: mark(one.style), METHOD: one.name}
        row[AVERAGE] = round(100 * one.average, 1)  # as Python rounds, not the browser; NaN is shown as missing
        if ZERO_SHOT in by_name:
            gain = 100 * (one.average - by_name[ZERO_SHOT].average)
            row["vs zero-shot"] = None if one.name == ZERO_SHOT else shown_as(gain)
        if INDIVIDUAL in by_name:
            normalised = normalised_accuracy(one.counted, by_name[INDIVIDUAL].accuracy)
            row["Normalised (%)"] = None if normalised is None else round(100 * normalised, 1)
        coefficients = {ZERO_SHOT: "the base model as it is", INDIVIDUAL: "one model per task, no merge"}
        row["Coefficients"] = coefficients.get(one.name, "") if run is None else scaling_of(run)
        own = run.merged if run is not None and not run.shipped else None
        row["Time"] = duration(own.seconds["total"]) if own else ""
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if table["Time"].any() else table.drop(columns="Time")


def show_ranking(table: pd.DataFrame, file: str) -> None:
    """The ranking with bars for the averages, and its download under this name."""
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        placeholder="–",
        column_config={
            **method_columns(table[METHOD].tolist()),
            "vs zero-shot": st.column_config.NumberColumn(format="%+.1f", help="Percentage points", width=85),
            "Normalised (%)": st.column_config.NumberColumn("Normalised", format="%.1f", help=NORMALISED, width=95),
            "Coefficients": st.column_config.TextColumn(width=200),
            "Time": st.column_config.TextColumn(width=95, help="From files to accuracy, on this machine"),
        },
    )
    offer_csv(table, key=f"{file}-ranking", file=file)
