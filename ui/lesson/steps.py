"""The steps of the lesson, in order. Each draws its control and its chart, and ends with a question."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from merging.charts.accuracy import Series
from merging.charts.geometry import multiplier_figure
from merging.charts.lesson import slopes_figure, weights_figure
from merging.charts.what_if import agreement_figure, outcome_figure
from merging.core.text import printed
from merging.methods.edits.awd import AwdParams, from_geometry
from merging.runs.jobs.interference import agreement
from merging.runs.positions import Need, Position
from merging.weights.geometry import cosines, mean_abs_cosine
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.lesson import questions
from ui.lesson.adaptive import let_the_data_choose
from ui.lesson.screen import Asked, Lesson, Step, average, merged
from ui.lesson.shipping import ship
from ui.lesson.weights import weights_of
from ui.shell import state
from ui.what_if import live_accuracy
from ui.what_if.coefficients_view import HIGHEST, LOWEST, START, STEP
from ui.what_if.interference_view import pair_table

# What the URL can hold
PARAMETERS = ("step", "lesson", "tuned", "one", "all", "joining", "learn-alpha", "run", "demands")
PREFIXES = ("answer.",)
_HIGHEST_ALPHA = 0.5


def what_it_is(lesson: Lesson) -> Asked:
    """A task vector is a difference."""
    task = lesson.task("Fine-tuned on", "tuned")
    label, found = lesson.labels[task], weights_of(task)
    moved = float(state.geometry((task,)).norms[0])
    lesson.draw(
        partial(weights_figure, found.base, found.tuned, dark=lesson.dark),
        key="lesson-1",
        file="weights",
        takeaway=f"{len(found.base):,} of {found.count:,} weights, drawn at random. On the line: not moved.",
        table=pd.DataFrame({"base": found.base, "fine-tuned": found.tuned}),
    )
    accuracy = (
        tuple(one.accuracy[task] for one in accuracy_view.baseline_series((task,), "val")) if lesson.counts else ()
    )
    before = measuring.shipped_baselines("val") if accuracy else None
    return Asked(questions.how_far(label, moved, found.length, accuracy), runs=[before])


def add_one(lesson: Lesson) -> Asked:
    """Adding one vector."""
    task = lesson.task("Add the vector of", "tuned")
    scaling = _slider(lesson, "λ, how much of it", "one", 0.0)
    shown = Position("none", ((task, scaling),), "val")
    _bars(lesson, shown)
    others = [one for one in lesson.tasks if one != task]
    needs = live_accuracy.full(shown.alone(task), others)
    found, changes = live_accuracy.known(needs), None
    if others and len(found) == len(needs):
        base = accuracy_view.baseline_series(lesson.tasks, "val")[0].accuracy
        changes = {lesson.labels[need.task]: value - base[need.task] for need, value in found.items()}
    question = questions.bystanders(lesson.labels[task], changes)
    return Asked(question, [*live_accuracy.full(shown, lesson.tasks), *needs])


def add_all(lesson: Lesson) -> Asked:
    """Adding all vectors."""
    shown = merged(lesson.tasks, _slider(lesson, "λ for all tasks", "all", START))
    _bars(lesson, shown)
    together = merged(lesson.tasks, 1.0)
    zero_shot, individual = accuracy_view.baseline_series(lesson.tasks, "val")
    geometry = state.geometry(lesson.tasks)
    longer = float(np.sqrt(geometry.gram.sum()) / geometry.norms.mean())
    question = questions.all_in_full(
        len(lesson.tasks), average(together, lesson.tasks), zero_shot.average, individual.average, longer
    )
    return Asked(question, [need for one in (shown, together) for need in live_accuracy.full(one, lesson.tasks)])


def who_disturbs_whom(lesson: Lesson) -> Asked:
    """Cosines and interference."""
    joining = lesson.task("The task that joins", "joining")
    together = merged(lesson.tasks, START)
    without = {one: merged([other for other in lesson.tasks if other != one], START) for one in lesson.tasks}
    order = [joining, *(one for one in lesson.tasks if one != joining)]
    needs = [Need(where, one, None) for where in (together, *map(without.__getitem__, order)) for one in lesson.tasks]
    found = live_accuracy.known(needs)
    change = np.array(
        [
            [
                found.get(Need(together, one, None), np.nan) - found.get(Need(without[other], one, None), np.nan)
                for other in lesson.tasks
            ]
            for one in lesson.tasks
        ]
    )
    cosine = cosines(state.geometry(lesson.tasks).gram)
    place, complete = lesson.tasks.index(joining), len(found) == len(needs)
    lesson.draw(
        partial(agreement_figure, cosine, change, lesson.names, joining=place, dark=lesson.dark),
        key="lesson-4",
        file="cosine-and-interference",
        table=pair_table(cosine, change, lesson.names),
        takeaway=f"Each dot: what a task gains or loses when another joins; large: when {lesson.labels[joining]} "
        f"joins. {_images(lesson)}, λ = {START:g}"
        + ("." if complete else f"; {len(found)} of {len(needs)} accuracies measured."),
    )
    return Asked(questions.closer_loses_more(agreement(cosine, change) if complete else None), needs)


def disentangle(lesson: Lesson) -> Asked:
    """AWD makes them more orthogonal."""
    alpha = _alpha(lesson)
    geometry = state.geometry(lesson.tasks)
    found = from_geometry(geometry, AwdParams(alpha=alpha))
    before, after = cosines(geometry.gram), cosines(found.after.gram)
    means = float(mean_abs_cosine(geometry.gram)), float(mean_abs_cosine(found.after.gram))
    rows, columns = np.triu_indices(len(lesson.tasks), 1)
    lesson.draw(
        partial(slopes_figure, before, after, lesson.names, dark=lesson.dark),
        key="lesson-5",
        file="cosines-awd",
        takeaway=f"A line for each pair of tasks. Mean |cos| {means[0]:.3f} before, {means[1]:.3f} after.",
        table=pd.DataFrame(
            {
                "task": [lesson.names[i] for i in rows],
                "other task": [lesson.names[j] for j in columns],
                "before": before[rows, columns],
                "after": after[rows, columns],
            }
        ),
    )
    plain, edited = merged(lesson.tasks, START), _after_awd(lesson, alpha)
    question = questions.more_orthogonal(average(plain, lesson.tasks), average(edited, lesson.tasks), means, START)
    return Asked(question, [need for one in (plain, edited) for need in live_accuracy.full(one, lesson.tasks)])


def only_coefficients(lesson: Lesson) -> Asked:
    """AWD + Task Arithmetic is Task Arithmetic with other coefficients."""
    alpha = _alpha(lesson)
    multipliers = from_geometry(state.geometry(lesson.tasks), AwdParams(alpha=alpha)).multipliers
    assert multipliers is not None  # with one vector for the whole model there always are some
    lesson.draw(
        partial(_multipliers, multipliers, lesson.names, lesson.dark),
        key="lesson-6",
        file="multipliers",
        takeaway=f"What AWD followed by a sum multiplies each task vector by: {printed(multipliers.min(), '.3f')} "
        f"to {printed(multipliers.max(), '.3f')}.",
        table=pd.DataFrame({"task": lesson.names, "multiplier": multipliers}),
    )
    edited, plain = _after_awd(lesson, alpha), merged(lesson.tasks, (START * multipliers).tolist())
    one_image = 1 / (min(lesson.counts.values()) * len(lesson.tasks))
    question = questions.same_model(average(edited, lesson.tasks), average(plain, lesson.tasks), one_image, START)
    return Asked(question, [need for one in (edited, plain) for need in live_accuracy.full(one, lesson.tasks)])


def _multipliers(multipliers: np.ndarray, names: tuple[str, ...], dark: bool) -> go.Figure:
    """The chart of them, cut closely."""
    figure = multiplier_figure(multipliers, names, dark=dark)
    low, high = min(0.98, float(multipliers.min())), max(1.0, float(multipliers.max()))
    room = 0.3 * (high - low)  # bars start at 1, so the axis need not
    return figure.update_xaxes(range=[low - room, high + (room if high > 1 else 0.1 * room)])


def _slider(lesson: Lesson, label: str, key: str, start: float) -> float:
    return lesson.number(label, LOWEST, HIGHEST, start, STEP, key)


def _alpha(lesson: Lesson) -> float:
    return lesson.number("α, what a long δ costs", 0.0, _HIGHEST_ALPHA, AwdParams().alpha, 0.02, "learn-alpha")


def _after_awd(lesson: Lesson, alpha: float) -> Position:
    return merged(lesson.tasks, START, edit="awd", edit_params={"alpha": alpha})


def _images(lesson: Lesson) -> str:
    return f"{sum(lesson.counts.values()):,} validation images"


def _bars(lesson: Lesson, position: Position) -> None:
    """Accuracy of every task between the base model and the task's own model."""
    found = live_accuracy.outcome(position, lesson.counts, lesson.whole)
    mine = Series("this model", "Task Arithmetic", found.accuracy)
    names = {accuracy_view.ZERO_SHOT: "base model", accuracy_view.INDIVIDUAL: "the task's own model"}
    references = [replace(one, name=names[one.name]) for one in found.references]
    images = _images(lesson) if found.images is None else f"a sample of {found.images} validation images a task"
    lesson.draw(
        partial(outcome_figure, mine, references, {}, lesson.labels),
        key="lesson-bars",
        file="accuracy",
        takeaway=f"{100 * mine.average:.1f} % on average, on {images}.",
        table=pd.DataFrame(
            {
                "task": lesson.names,
                **{
                    f"{one.name} (%)": [round(100 * one.accuracy[task], 2) for task in lesson.tasks]
                    for one in (mine, *references)
                },
            }
        ),
    )


STEPS = (
    Step(
        "A task vector is a difference",
        "Fine-tuning moves every weight a little. The **task vector** τ is where the weights went: fine-tuned minus "
        "base.",
        what_it_is,
        measures=False,
    ),
    Step(
        "Add one: the base model learns a task",
        "θ₀ + λτ. At λ = 0 this is the base model, at λ = 1 the model fine-tuned on the task. Below 0 it forgets.",
        add_one,
    ),
    Step(
        "Add all: one model for every task",
        "θ₀ + λ(τ₁ + τ₂ + …) is **Task Arithmetic**: no training, one λ. Which λ is good?",
        add_all,
        tasks=2,
    ),
    Step(
        "Why accuracy falls: tasks interfere",
        "What one vector adds, another may undo. The cosine says whether two vectors point the same way.",
        who_disturbs_whom,
        tasks=3,
    ),
    Step(
        "AWD: take away what they share",
        "**Adaptive Weight Disentanglement** subtracts one vector δ from all of them, so that they become more "
        "orthogonal.",
        disentangle,
        tasks=2,
    ),
    Step(
        "AWD + Task Arithmetic is Task Arithmetic",
        "δ is made of the task vectors. So after AWD the sum holds each of them still, with another coefficient.",
        only_coefficients,
        tasks=2,
    ),
    Step(
        "Let the data choose the coefficients",
        "**AdaMerging** moves a coefficient for every task and layer until predictions on unlabeled images are sure.",
        let_the_data_choose,
        tasks=2,
    ),
    Step(
        "Which would you ship?",
        "The best model depends on what you ask for.",
        ship,
        measures=False,
    ),
)
