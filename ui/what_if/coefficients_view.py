"""Coefficients by hand: a slider per task, and what becomes of every task while they move."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import pandas as pd
import streamlit as st

from merging.charts.accuracy import MANY_TASKS, Series, set_apart
from merging.charts.what_if import direction_figure, outcome_figure
from merging.core.errors import MergingError
from merging.core.text import signed
from merging.methods import registry
from merging.methods.grammar import write_value
from merging.methods.mixing import specification
from merging.methods.pair import Pair
from merging.methods.params import AUTO
from merging.methods.presets import PRESETS
from merging.runs.jobs.merge import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.positions import Need, Position
from merging.suites.suite import Split
from merging.weights.geometry import first_largest
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.accuracy.preset_runs import look_up
from ui.look import marks
from ui.look.figure import escape_markdown, show
from ui.look.metric import metric_change
from ui.runs.jobs import result_of, run_of
from ui.shell import state
from ui.shell.url import choice, number, said_below, warn
from ui.what_if import live_accuracy
from ui.what_if.live_accuracy import Outcome

LOWEST, HIGHEST, STEP = -1.0, 1.5, 0.05
START = 0.3  # λ where nobody has chosen one, arXiv 2212.04089
# What the URL can hold
PARAMETERS, PREFIXES = ("what-edit", "merged"), ("c.",)
_SLIDERS = 1000  # pixels for the sliders of many tasks
_ALL = "all-coefficients"
_WHOLE = "what-if-whole"  # session state: the whole page runs, not only the fragment
_TRAIL = "what-if-trail"  # session state: the position shown, and the one before it
_REST_DRAWN = "what-if-rest-drawn"  # session state: the rest was drawn with the page, and did not run by itself
_PAUSE = 0.3  # seconds between two moments of measuring the rest
_MINE = "This merge"


def coefficients_view(tasks: tuple[str, ...], split: Split) -> None:
    """The whole view; a part of it runs again by itself while there is something left to measure."""
    st.session_state[_WHOLE] = True
    _warn_of_others(tasks)
    measurable = set(tasks) <= set(measuring.measurable_tasks())
    counts = {}
    if measurable and measuring.baselines_are_quick():
        images = measuring.evaluator()
        counts = {task: images.count(task, split) for task in tasks}
    _explorer(accuracy_view.task_labels(tasks), split, measurable, counts)


def _warn_of_others(tasks: Sequence[str]) -> None:
    """Say so where a link sets the coefficient of a task that has no slider here."""
    prefix = PREFIXES[0]
    for name in [name for name in st.query_params if name.startswith(prefix)]:
        task = name.removeprefix(prefix)
        if task in tasks or name in st.session_state:  # such as that of a task that was just taken out of the selection
            continue
        suite = state.suite()
        why = f"{task} is not selected" if task in suite.task_names else f"{suite.label} has no task {task}"
        warn(f"The link asks for {name} = {st.query_params[name]}, and {why}. It is left out.")
        del st.query_params[name]


@st.fragment
def _explorer(labels: Mapping[str, str], split: Split, measurable: bool, counts: Mapping[str, int]) -> None:
    """Controls and what they lead to. What asks the file system was found out before.

    Args:
        labels: task → label.
        split: on which images.
        measurable: whether all tasks have images and heads.
        counts: task → number of images, where they are few enough to be measured at once; else empty.
    """
    whole = st.session_state.pop(_WHOLE, False)
    above = st.container()
    left, right = st.columns([0.34, 0.66], gap="large")
    with said_below(left):
        with above:
            edit, merged = _choices(labels)
        with left:
            position = _sliders(labels, edit, merged, split)
    if position is not None:
        with left:
            _onwards(position)
    with right:
        if position is None:
            st.info("No task is merged: this is the base model. Choose at least one task above.")
            return
        with _told():
            result, geometry = st.container(), st.container()
            with geometry:
                _direction(position, labels)
            with result:
                if not measurable:
                    accuracy_view.explain_unmeasurable(tuple(labels))
                elif counts:
                    _live(position, labels, counts, whole)
                else:
                    _queued(position, labels)


@contextmanager
def _told() -> Iterator[None]:
    """Show what goes wrong in a fragment, which does not reach those who look after pages."""
    try:
        yield
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")


def _edits() -> dict[str, registry.Stage]:
    """The edits to choose from: those that need no images."""
    return {name: stage for name, stage in registry.edits().items() if not stage.data({}).images}


def _choices(labels: Mapping[str, str]) -> tuple[str, list[str]]:
    """The edit, and the tasks that take part."""
    edits = _edits()
    left, right = st.columns([0.34, 0.66], gap="large")
    edit = choice(
        left.selectbox,
        "Edit the task vectors",
        {name: method.title for name, method in edits.items()},
        key="what-edit",
        help="With its default parameters; edits that need images are on the page Merge",
    )
    left.caption(edits[edit].summary)
    merged = choice(
        right.pills,
        "Tasks merged",
        labels,
        selection_mode="multi",
        default=list(labels),
        key="merged",
        nothing="No task",
        help="A task that is left out is still measured. The sidebar chooses which tasks there are here.",
        wrap=True,
    )
    return edit, [task for task in labels if task in merged]


def _sliders(labels: Mapping[str, str], edit: str, merged: Sequence[str], split: Split) -> Position | None:
    """A coefficient for every task; None if no task takes part."""
    _resets(edit, merged)
    many = len(labels) >= MANY_TASKS  # then they scroll, so that the charts stay in sight
    kept = {"height": _SLIDERS, "gap": None, "key": "many-sliders"} if many else {"gap": "small"}
    with st.container(border=False, **kept):
        for task, label in labels.items():
            _slider(task, label, tuple(labels), disabled=task not in merged)
    chosen = tuple((task, float(st.session_state[_key(task)])) for task in merged)
    marks.remember(_ALL, (_key(task) for task in merged))
    return Position(edit, chosen, split) if chosen else None


def _slider(task: str, label: str, tasks: tuple[str, ...], *, disabled: bool) -> None:
    """The coefficient of a task, and a button for its own model."""
    slider, only = st.columns([0.82, 0.18], vertical_alignment="bottom", gap="small")
    number(slider.slider, escape_markdown(label), LOWEST, HIGHEST, START, STEP, key=_key(task), disabled=disabled)
    only.button(
        # All but the icon is for screen readers: see style.css.
        f"{escape_markdown(label)} alone",
        key=f"alone-{task}",
        type="tertiary",
        icon=":material/looks_one:",
        on_click=_set_alone,
        args=(task, tasks),
        help=f"{escape_markdown(label)} at 1, all other tasks at 0",
    )


def _key(task: str) -> str:
    """Of a task's slider, in session state and in the URL."""
    return f"c.{task}"


def _resets(edit: str, tasks: Sequence[str]) -> None:
    """Buttons and the slider that set all coefficients at once."""
    best = _best_known(edit, tasks) if tasks else None
    with st.container(horizontal=True, gap="small"):
        st.button(
            f"λ = {START if best is None else best:g}",
            icon=":material/restart_alt:",
            on_click=_set_all,
            args=(START if best is None else best,),
            key="reset-best",
            help="The λ that validation chose in a run on these tasks with this edit"
            if best is not None
            else "The λ of Task Arithmetic's paper; no run on these tasks with this edit has chosen one on validation",
        )
        st.button(
            "Zero",
            icon=":material/exposure_zero:",
            on_click=_set_all,
            args=(0.0,),
            key="reset-zero",
            help="The base model",
        )
    values = [float(st.session_state.get(_key(task), START)) for task in tasks]
    if values:
        st.session_state[_ALL] = _mean(values)
    st.slider(
        "All tasks",
        LOWEST,
        HIGHEST,
        step=STEP,
        key=_ALL,
        on_change=_follow_all,
        disabled=not values,
        help="Sets all sliders below; shows their mean",
    )


def _set_all(value: float) -> None:
    """Callback: every slider that the page has, also those of tasks that are left out for now."""
    for key in [key for key in st.session_state if str(key).startswith("c.")]:
        st.session_state[key] = value


def _follow_all() -> None:
    """Callback: what is set for all, unless one of them was moved.

    Who moves one slider quickly has a browser that has not heard yet where the one for all stands, and answers with
    where it stood, or hears it late, and answers with the mean that it was put to: that is no wish of anybody's.
    """
    values = [float(value) for value in marks.standing(_ALL)]
    if values and st.session_state[_ALL] == _mean(values):
        return
    if marks.is_chosen(_ALL):
        _set_all(st.session_state[_ALL])


def _mean(values: Sequence[float]) -> float:
    """Where the slider for all stands."""
    return round(sum(values) / len(values) / STEP) * STEP


def _set_alone(task: str, tasks: tuple[str, ...]) -> None:
    """Callback: one task's own model."""
    _set_all(0.0)
    st.session_state[_key(task)] = 1.0
    st.session_state["merged"] = [one for one in tasks if one == task or one in st.session_state["merged"]]


def _best_known(edit: str, tasks: Sequence[str]) -> float | None:
    """λ that a finished run of this edit with Task Arithmetic chose on validation for these tasks."""
    wanted = Pair.of(edit).with_scaling(AUTO)
    fitting = [one for one in PRESETS.values() if one.pair == wanted]
    for entry in look_up(fitting[:1], tasks):
        if entry.done and entry.run is not None and entry.run.merged is not None:
            chosen = entry.run.merged.merge.scaling
            return chosen if chosen is not None and LOWEST <= chosen <= HIGHEST else None
    return None


def _direction(position: Position, labels: Mapping[str, str]) -> None:
    """Length and direction of what is added to the base, from inner products alone."""
    found = live_accuracy.directions(position.edit, position.tasks, tuple(labels))
    norm, cosines = found.norm(position.values), found.cosines(position.values)
    names = list(labels.values())
    closest = first_largest(cosines)
    shares = norm / found.norms.mean()
    show(
        partial(direction_figure, cosines, names),
        key="direction",
        file="direction-of-the-merge",
        takeaway=f"The merged vector is {norm:.3f} long, {shares:.2f} times as long as a task vector is on average. "
        + (
            f"It points most towards {names[closest]} (cosine {cosines[closest]:.3f})."
            if norm > 0
            else "All coefficients are 0: this is the base model."
            if not any(position.values)
            else "The task vectors cancel: this is the base model."
        ),
        table=pd.DataFrame({"task": names, "cosine with the merged vector": cosines, "norm of τ": found.norms}),
    )


def _live(position: Position, labels: Mapping[str, str], counts: Mapping[str, int], whole: bool) -> None:
    """Accuracy on a sample, and a fragment that measures everything while nobody moves anything."""
    found = live_accuracy.outcome(position, counts, whole)
    words = accuracy_view.SPLIT_WORDS[position.split]
    said = escape_markdown(measuring.said_of_images(tuple(counts), position.split))
    if found.images is None:
        _outcome(position, _step(position), found, labels)
        st.caption(f"All {sum(counts.values()):,} {words} images. {said}".strip())
        live_accuracy.say_if_shipped(live_accuracy.full(position, tuple(counts)), "what-if")
        return
    _outcome(position, _before(position), found, labels)
    about = f"{found.images} {words} images a task, drawn at random; measuring all {sum(counts.values()):,}"
    st.session_state[_REST_DRAWN] = True
    st.fragment(partial(_rest, live_accuracy.full(position, tuple(counts)), about, said), run_every=_PAUSE)()


def _rest(needs: Sequence[Need], about: str, said: str) -> None:
    """How far measuring all images is. Goes on with it each time it runs by itself, and draws the page at the end.

    No run waits for it to end: sliders are looked at in between, and who opens the page has it at once.
    """
    if not st.session_state.pop(_REST_DRAWN, False):
        done = None
        with _told():
            done = live_accuracy.measure_when_idle(needs)
        if done is None:
            return
        if done:
            st.rerun()
    st.caption(f"{about}: {len(live_accuracy.known(needs))} of {len(needs)} tasks. {said}".strip())


def _before(position: Position) -> Position | None:
    """The position that was fully measured before this one, on the same images."""
    shown, earlier = st.session_state.get(_TRAIL, (None, None))
    found = earlier if shown == position else shown
    return found if found is not None and found.split == position.split else None


def _step(position: Position) -> Position | None:
    """The same, and from now on this position is the one shown."""
    before = _before(position)
    if st.session_state.get(_TRAIL, (None, None))[0] != position:
        st.session_state[_TRAIL] = (position, before)
    return before


def _outcome(position: Position, before: Position | None, found: Outcome, labels: Mapping[str, str]) -> None:
    """Numbers, chart and what changed since the last position, all on the same images."""
    same = [] if before is None else [Need(before, task, found.images) for task in labels]
    earlier = {need.task: value for need, value in live_accuracy.known(same).items()}
    mine, *references = set_apart([_mine(position, found.accuracy), *found.references])
    changes = {task: found.accuracy[task] - earlier[task] for task in labels if task in earlier}
    _numbers(mine, references, changes, labels)
    series = [*references[:1], mine, *references[1:]]
    show(
        partial(outcome_figure, mine, references, changes, labels),
        key="what-if",
        file="what-if",
        takeaway=accuracy_view.takeaway(series),
        table=_task_table(position, mine, references, changes, labels),
    )


def _mine(position: Position, accuracy: Mapping[str, float]) -> Series:
    """This merge; the method of the run that does the same picks colour and marker, and says what it forgets."""
    spec = _spec(position)
    return Series(_MINE, spec.method, accuracy, forgotten=frozenset(spec.forgotten))


def _spec(position: Position) -> MergeSpec:
    asked = specification(
        state.suite_reference(),
        dict(position.coefficients),
        position.edit,
        split=position.split,
        device=str(state.device()),
    )
    return MergeSpec.like(asked)


def _numbers(
    mine: Series, references: Sequence[Series], changes: Mapping[str, float], labels: Mapping[str, str]
) -> None:
    """The average, and the tasks that gained and lost most."""
    cells = st.columns(3, gap="medium")
    counted = [change for task, change in changes.items() if task in mine.counted]
    cells[0].metric(
        "Average accuracy",
        f"{100 * mine.average:.1f} %" if mine.counted else "–",
        **(metric_change(100 * sum(counted) / len(counted)) if counted else {}),
        help="The change is the one since the last position, on the same images"
        + (". Tasks with a negative coefficient are to be forgotten and do not count" if mine.forgotten else ""),
    )
    for cell, title, pick in ((cells[1], "Gained most", max), (cells[2], "Lost most", min)):
        task = pick(changes, key=lambda one: changes[one]) if changes else None
        moved = task is not None and (changes[task] > 0 if pick is max else changes[task] < 0)
        if task is not None and moved:  # the name in small type: in that of the number, half of it would be cut off
            cell.metric(f"{title}: {escape_markdown(labels[task])}", signed(100 * changes[task]))
        else:
            cell.metric(title, "–")


def _task_table(
    position: Position,
    mine: Series,
    references: Sequence[Series],
    changes: Mapping[str, float],
    labels: Mapping[str, str],
) -> pd.DataFrame:
    """A row per task: coefficient, accuracies in percent and the change since the last position in points."""
    coefficients = dict(position.coefficients)
    return pd.DataFrame(
        {
            "Task": list(labels.values()),
            "Coefficient": [coefficients.get(task) for task in labels],
            "Accuracy (%)": [round(100 * mine.accuracy[task], 2) for task in labels],
            "Change": [round(100 * changes[task], 2) if task in changes else None for task in labels],
            **{f"{one.name} (%)": [round(100 * one.accuracy[task], 2) for task in labels] for one in references},
        }
    )


def _queued(position: Position, labels: Mapping[str, str]) -> None:
    """Large models: a button queues the run, and its result shows when it is there."""
    spec = _spec(position)
    result = result_of(
        spec,
        MergeResult,
        key="what-if-run",
        button="Measure this merge",
        icon=":material/speed:",
        reason="With these models accuracy takes longer than a moment, so it is a run of the worker. Length and "
        "direction of the merge are live.",
    )
    if result is None or result.accuracy is None:
        return
    measured = accuracy_view.task_labels(spec.tasks)
    baselines = accuracy_view.baseline_series(spec.tasks, position.split)
    mine, *references = set_apart([_mine(position, result.accuracy), *baselines])
    series = [*references[:1], mine, *references[1:]]
    show(
        partial(outcome_figure, mine, references, {}, measured),
        key="what-if",
        file="what-if",
        takeaway=accuracy_view.takeaway(series),
        table=_task_table(position, mine, references, {}, measured),
    )
    run = run_of(spec)
    st.caption(
        f"All {result.images:,} {accuracy_view.SPLIT_WORDS[position.split]} images, run {run.id if run else 'deleted'}."
    )
    accuracy_view.offer_baselines(spec.tasks, position.split)


def _onwards(position: Position) -> None:
    """The page Merge with the same coefficients."""
    query = {**state.shared_query(), "tasks": list(position.tasks), "merge.scaling": write_value(position.values)}
    if position.edit != "none":
        query["edit"] = position.edit
    st.page_link("pages/merge.py", label="Merge with these coefficients", icon=":material/merge:", query_params=query)
