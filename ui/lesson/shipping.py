"""The last step: what every measured model reaches and costs, and which one does as is asked."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import pandas as pd
import streamlit as st

from merging.charts.leaderboard import Standing
from merging.charts.lesson import Bar, candidates_figure
from merging.evaluation.accuracy import best_first
from merging.methods.presets import PRESETS
from merging.runs.leaderboard import cheapest_first
from merging.suites.suite import Suite
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.accuracy.leaderboard_view import standings
from ui.accuracy.preset_runs import MethodEntry, look_up
from ui.lesson import questions
from ui.lesson.adaptive import short_run
from ui.lesson.screen import Asked, Lesson, OnScreen, answered
from ui.runs.jobs import run_of
from ui.runs.panel import how_long, run_panel
from ui.runs.queueing import queue
from ui.runs.text import TIMES_ELSEWHERE, duration
from ui.shell import state
from ui.shell.url import choice

ONE, UNLABELLED, BLIND, QUICK, WORST = "One model", "No labels", "No images", "Within a minute", "Best worst task"
DEMANDS = (ONE, UNLABELLED, BLIND, QUICK, WORST)
_MINUTE = 60.0
# In the chart even if they win under no demands.
_ALWAYS = (accuracy_view.ZERO_SHOT, "Task Arithmetic", "AWD + Task Arithmetic")
_FIRST = ("average", "task_arithmetic", "awd_ta", "tsv_m")  # what is offered to be measured for the lesson


@dataclass(frozen=True)
class Candidate:
    """A model, or a set of models, that could be shipped.

    Attributes:
        name: different for each.
        method: what picks colour and pattern.
        accuracy: task → test accuracy, 0 … 1.
        size: bytes to store.
        single: whether it is one model for all tasks.
        images: whether images are needed to make it from the fine-tuned models.
        labels: whether labels are.
        seconds: to make and measure it; None if there is nothing to make.
    """

    name: str
    method: str
    accuracy: Mapping[str, float]
    size: float
    single: bool
    images: bool
    labels: bool
    seconds: float | None

    def does(self, demands: Collection[str]) -> bool:
        """Whether it does as is asked."""
        return not (
            (ONE in demands and not self.single)
            or (UNLABELLED in demands and self.labels)
            or (BLIND in demands and self.images)
            or (QUICK in demands and (self.seconds or 0.0) > _MINUTE)
        )

    def value(self, demands: Collection[str]) -> float:
        """What it is judged by, in percent: the average, or the task it does worst."""
        values = self.accuracy.values()
        return 100 * (min(values) if WORST in demands else sum(values) / len(values))

    @property
    def cost(self) -> str:
        """What it takes, in a few words."""
        needs = "labelled images" if self.labels else "unlabeled images" if self.images else "no images"
        time = "" if self.seconds is None else f", {duration(self.seconds)}"
        return f"{self.size / 1e6:.3g} MB, {needs}{time}"


def ranked(candidates: Sequence[Candidate], demands: Collection[str]) -> list[Candidate]:
    """Those that do as is asked, best first."""
    return _by_value([one for one in candidates if one.does(demands)], demands)


def _by_value(candidates: Sequence[Candidate], demands: Collection[str]) -> list[Candidate]:
    return [candidates[place] for place in best_first([one.value(demands) / 100 for one in candidates])]


def winners(candidates: Sequence[Candidate]) -> list[str]:
    """Names of all that are best under some of the demands, in the order given."""
    sets = [chosen for size in range(len(DEMANDS) + 1) for chosen in combinations(DEMANDS, size)]
    best = {first[0].name for chosen in sets if (first := ranked(candidates, chosen)[:1])}
    return [one.name for one in candidates if one.name in best]


def ship(lesson: Lesson) -> Asked:
    """What is asked of a model, and the models that do so."""
    demands = _demands(lesson)
    entries = look_up(cheapest_first(PRESETS.values()), lesson.tasks)
    baselines = accuracy_view.baseline_series(lesson.tasks)
    found = [_candidate(one, state.suite(), lesson.tasks) for one in standings(entries, baselines) if one.row]
    found += _adapted(lesson.tasks, state.suite())
    if isinstance(lesson, OnScreen):
        with lesson.control:
            accuracy_view.offer_baselines(lesson.tasks)
            _offer([entry for entry in entries if entry.preset.name in _FIRST])
    before = any(entry.run is not None and entry.run.shipped for entry in entries)
    order = ranked(found, demands)
    best = order[0] if order else None
    names = winners(found)
    told = isinstance(lesson, OnScreen) and answered()  # before that the class has to read the costs itself
    bars = [
        Bar(one.name, one.method, one.value(demands), one.cost, out=told and one is not best)
        for one in _by_value(found, demands)
        if one.name in names or one.method in _ALWAYS
    ]
    measure = "Accuracy on the worst task (%)" if WORST in demands else "Average accuracy (%)"
    lesson.draw(
        partial(candidates_figure, bars, measure, dark=lesson.dark),
        key="lesson-8",
        file="candidates",
        takeaway=f"All of this on {_test_images(lesson.tasks)} test images. What it takes counts "
        f"from the tasks' own models; times are of the machine that measured{TIMES_ELSEWHERE if before else ''}."
        + (f" {len(order)} of {len(found)} measured models do as is asked." if told else ""),
        table=_table(ranked(found, {WORST} & set(demands)), demands),
    )
    because = "" if best is None else f"{best.name}: {best.value(demands):.1f} %, {best.cost}."
    question = questions.which_to_ship(demands, names, None if best is None else best.name, because)
    return Asked(question, runs=[measuring.shipped_baselines("test"), *(entry.run for entry in entries if entry.done)])


def _demands(lesson: Lesson) -> list[str]:
    """What is asked of a model; on paper nothing yet."""
    if not isinstance(lesson, OnScreen):
        return []
    pills = lesson.control.pills
    return list(choice(pills, "I need", DEMANDS, selection_mode="multi", key="demands", wrap=True))


def _candidate(line: Standing, suite: Suite, tasks: Sequence[str]) -> Candidate:
    """A measured line of the leaderboard; what it needs counts from the fine-tuned models, which are there."""
    assert line.row is not None
    one, name = suite.base_checkpoint.nbytes, line.title
    size = one
    if line.baseline and line.title == accuracy_view.INDIVIDUAL:
        size, name = len(tasks) * one, f"{line.title}, {len(tasks)} models"
    if line.localised:
        run = state.workspace().store.get(str(line.run))
        storage = run.merged.merge.storage if run.merged else None
        size = storage.localised // 8 if storage else size
    data = line.data
    return Candidate(
        name,
        line.title,
        line.row.accuracy,
        size,
        single=name == line.title and not line.localised,
        images=not line.baseline and (data.needs != "none" or bool(data.chosen)),
        labels=not line.baseline and (data.needs == "labelled" or bool(data.chosen)),
        seconds=line.row.seconds,
    )


def _adapted(tasks: tuple[str, ...], suite: Suite) -> list[Candidate]:
    """What the class let learn in the step before."""
    run = run_of(short_run(state.suite_reference(), tasks, str(state.device())))
    result = None if run is None else run.merged
    if run is None or result is None or result.accuracy is None:
        return []
    return [
        Candidate(
            f"AdaMerging, {run.spec.merge_params['steps']} steps",
            run.spec.label,
            result.accuracy,
            suite.base_checkpoint.nbytes,
            single=True,
            images=True,
            labels=False,
            seconds=result.seconds["total"],
        )
    ]


def _offer(entries: Sequence[MethodEntry]) -> None:
    """A button for the methods that take little time, or how far they are."""
    if any(entry.missing for entry in entries) and not any(entry.run and entry.run.active for entry in entries):
        names = ", ".join(entry.preset.title for entry in entries if entry.missing)
        takes = how_long([entry.spec for entry in entries if entry.missing])
        if st.button("Measure more", icon=":material/play_arrow:", key="lesson-more", help=f"{names}: {takes}"):
            queue([entry.spec for entry in entries if entry.missing])
    going = [entry.run for entry in entries if entry.run is not None and entry.run.active]
    if going:
        run_panel(going, key="lesson-runs")


def _test_images(tasks: Sequence[str]) -> str:
    return f"{sum(measuring.evaluator().count(task, 'test') for task in tasks):,}"


def _table(order: Sequence[Candidate], demands: Collection[str]) -> pd.DataFrame:
    """A row per model, best first."""
    return pd.DataFrame(
        {
            "model": [one.name for one in order],
            "accuracy (%)": [round(one.value(demands), 2) for one in order],
            "megabytes": [round(one.size / 1e6, 2) for one in order],
            "images": [one.images for one in order],
            "labels": [one.labels for one in order],
            "seconds": [one.seconds for one in order],
        }
    )
