"""Accuracy while sliders move: some images of every task first, then all of them, in steps that a move interrupts.

Streamlit finishes a fragment before it looks at the next move of a slider, unless the fragment asks to be run again. So
the page measures for a moment, asks for another run, and goes on there with whatever the sliders say by then. What was
measured is remembered, for all who look; where several ask at once, the samples of all come before the rest of any.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from merging.charts.accuracy import Series
from merging.methods.context import Context
from merging.methods.mixing import Directions, plan_edit
from merging.runs import Run
from merging.runs.positions import Bench, Need, Position
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.runs import shipped
from ui.shell import state
from ui.shell.url import run_again

_SUITES = 32  # whose accuracies are remembered; their towers are not
SAMPLE, FEW = 50, 25  # images of each task that are measured first, and where others wait
_BREATH = 2.0  # seconds of measuring after which the page looks at its sliders again
_REST_BREATH = 0.3  # the same, and how long to wait for one's turn, where others go first


def bench() -> Bench:
    """The one of the chosen suite."""
    return _bench(state.suite_reference(), state.stamp())


@st.cache_resource(max_entries=2, show_spinner=False)
def _bench(reference: str, version: state.Stamp) -> Bench:
    return Bench(state.workspace(), state.suite(), state.device(), _measured(reference, version))


@st.cache_resource(max_entries=_SUITES, show_spinner=False)
def _measured(reference: str, version: state.Stamp) -> OrderedDict[Need, float]:
    """What was measured of a suite, which stays when its tower has to make way for others'."""
    return OrderedDict()


def prepare(position: Position) -> None:
    """Plan the edit of a position, which can take seconds the first time."""
    if not bench().is_planned(position):
        with st.spinner("Editing the task vectors, once for these tasks …"):
            bench().prepare(position)


def known(needs: Iterable[Need]) -> dict[Need, float]:
    """Those of the accuracies that are measured already, here or when the suite was built."""
    found, before = _measured(state.suite_reference(), state.stamp()), _shipped()
    return {need: found.get(need, before.get(need, 0.0)) for need in needs if need in found or need in before}


def _shipped() -> Mapping[Need, float]:
    return {} if shipped.declined() else _came_with(state.suite_reference(), state.stamp())


@st.cache_resource(max_entries=_SUITES, show_spinner=False)
def _came_with(reference: str, version: state.Stamp) -> dict[Need, float]:
    run = measuring.shipped_baselines("val")
    pairs = [] if run is None else state.workspace().store.shipped.accuracies(run.fingerprint)
    return {Need.read(written): float(value) for written, value in pairs}


def say_if_shipped(needs: Iterable[Need], key: str) -> None:
    """Below a chart: that numbers in it came with the suite, if any did, and a button that measures them here."""
    shipped.say_measured_before(shipped_with(needs), key)


def shipped_with(needs: Iterable[Need]) -> Run | None:
    """The results that came with the suite, if any of these numbers is one of them."""
    before = _shipped()
    own = _measured(state.suite_reference(), state.stamp())
    some = any(need in before and need not in own for need in needs)
    return measuring.shipped_baselines("val") if some else None


def measure_for_a_moment(needs: Iterable[Need], seconds: float = _BREATH) -> bool:
    """Measure what is missing, in this order, for about so many seconds; whether all of it is there now."""
    return bench().measure(_not_shipped(needs), seconds)


def measure_when_idle(needs: Iterable[Need]) -> bool:
    """The same as long as nobody waits for numbers that they have not seen at all."""
    return bench().measure(_not_shipped(needs), _REST_BREATH, can_wait=True, patience=_REST_BREATH)


def _not_shipped(needs: Iterable[Need]) -> list[Need]:
    before = _shipped()
    return [need for need in needs if need not in before]


def measure(needs: Sequence[Need], whole: bool) -> None:
    """Measure what is missing in one turn, or looking at the sliders again now and then if a fragment runs."""
    if not measure_for_a_moment(needs, math.inf if whole else _BREATH):
        again(whole)


def again(whole: bool) -> None:
    """Run the fragment, or the whole page, again at once, with the sliders as they are by then."""
    if whole:
        run_again()
    st.rerun(scope="fragment")


@dataclass(frozen=True)
class Outcome:
    """Accuracy of a position and of what it is compared with, all on the same images.

    Attributes:
        accuracy: task → accuracy of the merge, 0 … 1.
        references: zero-shot and individual accuracy.
        images: of each task that it is measured on; None for all.
    """

    accuracy: Mapping[str, float]
    references: list[Series]
    images: int | None


def full(position: Position, tasks: Sequence[str]) -> list[Need]:
    """Accuracy of a position on all images of some tasks."""
    return [Need(position, task, None) for task in tasks]


def outcome(position: Position, counts: Mapping[str, int], whole: bool) -> Outcome:
    """What is known of a position, at least on a sample, which is measured now if nothing is.

    Args:
        position: which merge.
        counts: task to show → number of its images.
        whole: whether the whole page runs, and not only a fragment.
    """
    tasks = tuple(counts)
    everything, images = full(position, tasks), _sample_size(position, tasks)
    sample = everything if max(counts.values()) <= SAMPLE else [Need(position, task, images) for task in tasks]
    ends = [Need(position.base, need.task, need.images) for need in sample]
    ends += [Need(position.alone(need.task), need.task, need.images) for need in sample]
    if len(known(everything)) < len(tasks):
        prepare(position)
        measure([*sample, *ends], whole)
    done = known(everything)
    if len(done) == len(tasks):
        references = accuracy_view.baseline_series(tasks, position.split)
        return Outcome({need.task: value for need, value in done.items()}, references, None)
    found = known(ends)

    def reference(name: str, wanted: Callable[[str], Position]) -> Series:
        values = {need.task: value for need, value in found.items() if need.position == wanted(need.task)}
        return Series(name, name, values)

    references = [
        reference(accuracy_view.ZERO_SHOT, lambda task: position.base),
        reference(accuracy_view.INDIVIDUAL, position.alone),
    ]
    drawn = {need.task: value for need, value in known(sample).items()}
    return Outcome(drawn, references, images)


def _sample_size(position: Position, tasks: Sequence[str]) -> int:
    """How many images of each task are measured first: as for this position before, else fewer where others wait."""
    for images in (SAMPLE, FEW):
        if known(Need(position, task, images) for task in tasks):
            return images
    return FEW if bench().is_crowded else SAMPLE


def directions(edit: str, merged: tuple[str, ...], shown: tuple[str, ...]) -> Directions:
    """Inner products of the edited vectors of the merged tasks with all task vectors shown."""
    return _directions(state.suite_reference(), state.stamp(), edit, merged, shown)


@st.cache_resource(max_entries=64, show_spinner="Measuring the edited task vectors, once for these tasks …")
def _directions(
    reference: str, version: state.Stamp, edit: str, merged: tuple[str, ...], shown: tuple[str, ...]
) -> Directions:
    space, suite = state.workspace(), state.suite()
    context = Context(state.device(), known_geometry=space.geometry(suite, merged))
    what_if = plan_edit(space.vectors(suite, merged), edit, context=context)
    return what_if.directions(space.vectors(suite, shown), space.geometry(suite, shown), context)
