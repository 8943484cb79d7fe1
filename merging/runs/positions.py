"""Merges with coefficients set by hand, measured one after the other: a planned edit serves many of them."""

import math
import threading
import time
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, groupby
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


class _Line:
    """Those who want to measure, one behind the other, where a lock serves whoever is quickest."""

    def __init__(self) -> None:
        self._changed, self._numbers = threading.Condition(), count()
        self._waiting: list[tuple[bool, int]] = []
        self._busy = False
        self.pressing = 0  # how many wait, or have their turn, who can't wait

    @contextmanager
    def turn(self, can_wait: bool = False, patience: float = math.inf) -> Iterator[bool]:
        """Within it nobody else has one; gives whether it came within so many seconds. Who can wait goes last."""
        me = can_wait, next(self._numbers)
        with self._changed:
            self.pressing += not can_wait
            insort(self._waiting, me)
            mine = self._changed.wait_for(
                lambda: not self._busy and self._waiting[0] == me, None if math.isinf(patience) else patience
            )
            self._waiting.remove(me)
            self._busy = self._busy or mine
            self._changed.notify_all()
        try:
            yield mine
        finally:
            with self._changed:
                self.pressing -= not can_wait
                self._busy = self._busy and not mine
                self._changed.notify_all()


@dataclass
class Bench:
    """A tower of its own, as it always holds the weights of the last position; who measures takes turns.

    Attributes:
        workspace: where caches are.
        suite: whose models are merged.
        device: where.
        known: what was measured.
    """

    workspace: Workspace
    suite: Suite
    device: torch.device
    known: OrderedDict[Need, float] = field(default_factory=OrderedDict)
    _line: _Line = field(default_factory=_Line)
    _edits: OrderedDict[Position, WhatIf] = field(default_factory=OrderedDict)
    _loaded: Position | None = None

    @cached_property
    def evaluator(self) -> Evaluator:
        """Images, heads and the tower."""
        return self.workspace.evaluator(self.suite, self.device)

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits for numbers, or is having some measured, who has seen none yet."""
        return self._line.pressing > 0

    def is_planned(self, position: Position) -> bool:
        """Whether a merge there takes only a moment."""
        return not position.tasks or position.plan in self._edits

    def prepare(self, position: Position) -> None:
        """Plan the edit of a position.

        Raises:
            MergingError: it can't be planned.
        """
        with self._line.turn():
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

    def measure(
        self, needs: Iterable[Need], seconds: float = math.inf, *, can_wait: bool = False, patience: float = math.inf
    ) -> bool:
        """Measure and remember accuracies, in this order, once one's turn has come.

        What somebody else asked for before is there by then, and not measured again.

        Args:
            needs: which.
            seconds: after which no further one is begun; at least one is. Samples of a position are one.
            can_wait: whether all others go first.
            patience: seconds to wait for the turn at most.

        Returns:
            Whether all of them are known now.

        Raises:
            MergingError: the edit can't be planned, or the weights overflow.
        """
        wanted = [need for need in needs if need not in self.known]
        if wanted:
            with self._line.turn(can_wait, patience) as mine:
                started = time.monotonic()
                for some in _together(wanted) if mine else ():
                    missing = [need for need in some if need not in self.known]
                    if not missing:
                        continue
                    self._measure(missing)
                    if time.monotonic() - started > seconds:
                        break
        return all(need in self.known for need in wanted)

    def _measure(self, needs: Sequence[Need]) -> None:
        """Measure accuracies of one position on different tasks."""
        where = needs[0].position
        if self._loaded != where.weights_only:
            self._loaded = None  # whatever fails now leaves other weights behind
            self.evaluator.load(self._weights(where))
            self._loaded = where.weights_only
        chosen = {
            need.task: None
            if need.images is None
            else self.evaluator.draw(need.task, where.split, need.images, seed=SEED)
            for need in needs
        }
        shares = self.evaluator.shares_right(chosen, where.split)
        self.known.update({need: shares[need.task] for need in needs})
        while len(self.known) > _REMEMBERED:
            self.known.popitem(last=False)

    def _weights(self, position: Position) -> Mapping[str, torch.Tensor]:
        if not position.tasks:
            return self.suite.base_checkpoint
        planned = self._planned(position)
        return planned.weights(position.values, Context(self.device))


def _together(needs: Iterable[Need]) -> Iterator[list[Need]]:
    """Those that are measured at once: samples of one position that follow each other; of all images, task by task."""
    for (_, images), some in groupby(needs, key=lambda need: (need.position, need.images)):
        if images is None:
            yield from ([need] for need in some)
        else:
            yield list(some)
