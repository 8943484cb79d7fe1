"""Accuracy while sliders move: some images of every task first, then all of them, in steps that a move interrupts.

Streamlit finishes a fragment before it looks at the next move of a slider, unless the fragment asks to be run again. So
the page measures for a moment, asks for another run, and goes on there with whatever the sliders say by then. What was
measured is remembered.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import streamlit as st
import torch

from merging.charts.accuracy import Series
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.mixing import Directions, WhatIf, plan_edit
from merging.suites.suite import Split
from ui.accuracy import view as accuracy_view
from ui.shell import state
from ui.shell.url import run_again

SAMPLE = 100  # images of each task that are measured first
SEED = 0  # that draws them
_BREATH = 0.3  # seconds of measuring after which the page looks at its sliders again
_REMEMBERED = 20_000  # accuracies
_EDITS = 6  # planned edits in memory, T · D numbers each where they are not linear


@dataclass(frozen=True)
class Position:
    """Where the sliders stand.

    Attributes:
        edit: name of the edit.
        coefficients: the merged tasks and c of each; the others are left out.
        split: on which images it is measured.
        edit_params: the edit's parameters that differ from its defaults, with their values.
    """

    edit: str
    coefficients: tuple[tuple[str, float], ...]
    split: Split
    edit_params: tuple[tuple[str, float | str], ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The merged tasks."""
        return tuple(task for task, _ in self.coefficients)

    @property
    def values(self) -> tuple[float, ...]:
        """Their coefficients."""
        return tuple(value for _, value in self.coefficients)

    @property
    def base(self) -> "Position":
        """The base model on the same images: nothing is merged."""
        return Position("none", (), self.split)

    def alone(self, task: str) -> "Position":
        """The task's own model on the same images."""
        return Position("none", ((task, 1.0),), self.split)

    @property
    def weights_only(self) -> "Position":
        """The same for all positions with these weights, whatever the images."""
        return replace(self, split="val")

    @property
    def plan(self) -> "Position":
        """The same for all positions with this edit of these tasks, whatever the coefficients."""
        return replace(self.weights_only, coefficients=tuple((task, 1.0) for task in self.tasks))


@dataclass(frozen=True)
class Need:
    """One accuracy that the page wants to show.

    Attributes:
        position: which weights.
        task: on which task.
        images: on how many images; None for all of the split.
    """

    position: Position
    task: str
    images: int | None


@dataclass
class Bench:
    """A tower of its own, as it always holds the weights of the last position; sessions take turns.

    Attributes:
        lock: held while weights are loaded and measured.
        known: what was measured.
    """

    reference: str
    version: state.Stamp
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: OrderedDict[Need, float] = field(default_factory=OrderedDict)
    _edits: OrderedDict[Position, WhatIf] = field(default_factory=OrderedDict)
    _loaded: Position | None = None

    @cached_property
    def evaluator(self) -> Evaluator:
        """Images, heads and the tower."""
        return state.workspace().evaluator(state.suite(), state.device())

    def is_planned(self, position: Position) -> bool:
        """Whether a merge there takes only a moment."""
        return not position.tasks or position.plan in self._edits

    def prepare(self, position: Position) -> None:
        """Plan the edit of a position.

        Raises:
            MergingError: it can't be planned.
        """
        with self.lock:
            self._planned(position)

    def _planned(self, position: Position) -> WhatIf:
        key, tasks = position.plan, position.tasks
        if key not in self._edits:
            space, suite = state.workspace(), state.suite()
            context = Context(state.device(), known_geometry=space.geometry(suite, tasks), evaluator=self.evaluator)
            vectors, params = space.vectors(suite, tasks), dict(position.edit_params)
            self._edits[key] = plan_edit(vectors, position.edit, params, context).held(context)
            while len(self._edits) > _EDITS:
                self._edits.popitem(last=False)
        self._edits.move_to_end(key)
        return self._edits[key]

    def measure(self, need: Need) -> float:
        """One accuracy, 0 … 1, and remember it.

        Raises:
            MergingError: the edit can't be planned, or the weights overflow.
        """
        with self.lock:
            where = need.position
            if self._loaded != where.weights_only:
                self._loaded = None  # whatever fails now leaves other weights behind
                self.evaluator.load(self._weights(where))
                self._loaded = where.weights_only
            chosen = (
                None if need.images is None else self.evaluator.draw(need.task, where.split, need.images, seed=SEED)
            )
            self.known[need] = self.evaluator.share_right(need.task, where.split, chosen)
            while len(self.known) > _REMEMBERED:
                self.known.popitem(last=False)
            return self.known[need]

    def _weights(self, position: Position) -> Mapping[str, torch.Tensor]:
        if not position.tasks:
            return state.suite().base_checkpoint
        planned = self._planned(position)
        return planned.weights(position.values, Context(state.device()))


def bench() -> Bench:
    """The one of the chosen suite."""
    return _bench(state.suite_reference(), state.stamp())


@st.cache_resource(max_entries=2, show_spinner=False)
def _bench(reference: str, version: state.Stamp) -> Bench:
    return Bench(reference, version)


def prepare(position: Position) -> None:
    """Plan the edit of a position, which can take seconds the first time."""
    if not bench().is_planned(position):
        with st.spinner("Editing the task vectors, once for these tasks …"):
            bench().prepare(position)


def known(needs: Iterable[Need]) -> dict[Need, float]:
    """Those of the accuracies that are measured already."""
    found = bench().known
    return {need: found[need] for need in needs if need in found}


def measure_for_a_moment(needs: Iterable[Need], seconds: float = _BREATH) -> bool:
    """Measure what is missing, in this order, for about so many seconds; whether all of it is there now."""
    started, working = time.monotonic(), bench()
    for need in needs:
        if need in working.known:
            continue
        if time.monotonic() - started > seconds:
            return False
        working.measure(need)
    return True


def measure(needs: Sequence[Need], whole: bool) -> None:
    """Measure what is missing, looking at the sliders again now and then, unless the whole page runs."""
    while not measure_for_a_moment(needs):
        if not whole:
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
        done: tasks that are measured on all images already.
    """

    accuracy: Mapping[str, float]
    references: list[Series]
    images: int | None
    done: int


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
    prepare(position)
    everything = full(position, tasks)
    sample = everything if max(counts.values()) <= SAMPLE else [Need(position, task, SAMPLE) for task in tasks]
    ends = [
        Need(where, need.task, need.images) for need in sample for where in (position.base, position.alone(need.task))
    ]
    if len(known(everything)) < len(tasks):
        measure([*sample, *ends], whole)
    done = known(everything)
    if len(done) == len(tasks):
        references = accuracy_view.baseline_series(tasks, position.split)
        return Outcome({need.task: value for need, value in done.items()}, references, None, len(done))
    found = known(ends)

    def reference(name: str, wanted: Callable[[str], Position]) -> Series:
        values = {need.task: value for need, value in found.items() if need.position == wanted(need.task)}
        return Series(name, name, values)

    references = [
        reference(accuracy_view.ZERO_SHOT, lambda task: position.base),
        reference(accuracy_view.INDIVIDUAL, position.alone),
    ]
    drawn = {need.task: value for need, value in known(sample).items()}
    return Outcome(drawn, references, SAMPLE, len(done))


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
