"""Accuracy while sliders move: some images of every task first, then all of them, in steps that a move interrupts.

Streamlit finishes a fragment before it looks at the next move of a slider, unless the fragment asks to be run again. So
the page measures for a moment, asks for another run, and goes on there with whatever the sliders say by then. What was
measured is remembered.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import streamlit as st
import torch

from merging.context import Context
from merging.evaluation import Evaluator
from merging.suites.suite import Split
from merging.what_if import Directions, WhatIf, plan_edit
from ui import state

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
    """

    edit: str
    coefficients: tuple[tuple[str, float], ...]
    split: Split

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
    _edits: OrderedDict[tuple[str, tuple[str, ...]], WhatIf] = field(default_factory=OrderedDict)
    _loaded: tuple[str, tuple[tuple[str, float], ...]] | None = None

    @cached_property
    def evaluator(self) -> Evaluator:
        """Images, heads and the tower."""
        return state.workspace().evaluator(state.suite(), state.device())

    def is_planned(self, position: Position) -> bool:
        """Whether a merge there takes only a moment."""
        return not position.tasks or (position.edit, position.tasks) in self._edits

    def prepare(self, position: Position) -> None:
        """Plan the edit of a position.

        Raises:
            MergingError: it can't be planned.
        """
        with self.lock:
            self._planned(position.edit, position.tasks)

    def _planned(self, edit: str, tasks: tuple[str, ...]) -> WhatIf:
        if (edit, tasks) not in self._edits:
            space, suite = state.workspace(), state.suite()
            context = Context(state.device(), known_geometry=space.geometry(suite, tasks), evaluator=self.evaluator)
            self._edits[edit, tasks] = plan_edit(space.vectors(suite, tasks), edit, context=context).held(context)
            while len(self._edits) > _EDITS:
                self._edits.popitem(last=False)
        self._edits.move_to_end((edit, tasks))
        return self._edits[edit, tasks]

    def measure(self, need: Need) -> float:
        """One accuracy, 0 … 1, and remember it.

        Raises:
            MergingError: the edit can't be planned, or the weights overflow.
        """
        with self.lock:
            where = need.position
            if self._loaded != (where.edit, where.coefficients):
                self._loaded = None  # whatever fails now leaves other weights behind
                self.evaluator.load(self._weights(where))
                self._loaded = (where.edit, where.coefficients)
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
        planned = self._planned(position.edit, position.tasks)
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


def measure_for_a_moment(needs: Iterable[Need]) -> bool:
    """Measure what is missing, in this order, for at most a moment; whether all of it is there now."""
    started, working = time.monotonic(), bench()
    for need in needs:
        if need in working.known:
            continue
        if time.monotonic() - started > _BREATH:
            return False
        working.measure(need)
    return True


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
