"""Merges with coefficients set by hand, measured one after the other: a planned edit serves many of them."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch

from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.mixing import WhatIf, plan_edit
from merging.runs.workspace import Workspace
from merging.suites.suite import Split, Suite

SEED = 0  # that draws samples of images
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
    """One accuracy that is wanted.

    Attributes:
        position: which weights.
        task: on which task.
        images: on how many images; None for all of the split.
    """

    position: Position
    task: str
    images: int | None

    def written(self) -> list[Any]:
        """JSON-ready."""
        where = self.position
        pairs = [list(pair) for pair in where.coefficients]
        return [where.edit, pairs, where.split, [list(one) for one in where.edit_params], self.task, self.images or 0]

    @classmethod
    def read(cls, written: Any) -> Self:
        """From what :meth:`written` gave.

        Raises:
            TypeError: it is no such thing; also a ValueError.
        """
        edit, pairs, split, params, task, images = written
        coefficients = tuple((str(name), float(value)) for name, value in pairs)
        return cls(Position(edit, coefficients, split, tuple(map(tuple, params))), task, images or None)


@dataclass
class Bench:
    """A tower of its own, as it always holds the weights of the last position; who measures takes turns.

    Attributes:
        workspace: where caches are.
        suite: whose models are merged.
        device: where.
        lock: held while weights are loaded and measured.
        known: what was measured.
    """

    workspace: Workspace
    suite: Suite
    device: torch.device
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: OrderedDict[Need, float] = field(default_factory=OrderedDict)
    _edits: OrderedDict[Position, WhatIf] = field(default_factory=OrderedDict)
    _loaded: Position | None = None

    @cached_property
    def evaluator(self) -> Evaluator:
        """Images, heads and the tower."""
        return self.workspace.evaluator(self.suite, self.device)

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
            space, suite = self.workspace, self.suite
            context = Context(self.device, known_geometry=space.geometry(suite, tasks), evaluator=self.evaluator)
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
            return self.suite.base_checkpoint
        planned = self._planned(position)
        return planned.weights(position.values, Context(self.device))
