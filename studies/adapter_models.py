"""What models on a line θ₀ + λ v say of images: in weights, in adapters, or in a linearised tower's adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from merging.adapters import AdapterSettings, LinearisedTower, folded, set_adapters
from merging.evaluation import Accuracy, Evaluator
from merging.suites.suite import Split

Tensors = Mapping[str, torch.Tensor]
Predictions = dict[str, np.ndarray]
_IMAGES = 100  # of a linearised tower in one pass


class Line(Protocol):
    """Models θ₀ + λ v for any direction v in what a way of fine-tuning learns."""

    evaluator: Evaluator

    def predictions(self, direction: Tensors, scaling: float, tasks: Sequence[str], split: Split) -> Predictions:
        """Task → the class of every image, int64 ``[N]``."""


def accuracy(line: Line, direction: Tensors, scaling: float, tasks: Sequence[str], split: Split) -> Accuracy:
    """Top-1 accuracy of θ₀ + λ v on every task."""
    said = line.predictions(direction, scaling, tasks, split)
    labels = {task: line.evaluator.image_set(task, split).labels for task in tasks}
    return Accuracy(
        {task: float((said[task] == labels[task]).mean()) for task in tasks},
        {task: len(labels[task]) for task in tasks},
        split,
    )


@dataclass
class WeightLine:
    """Directions in the weights of the tower."""

    evaluator: Evaluator
    start: Tensors

    def weights(self, there: Tensors) -> Tensors:
        """The weights of the tower at a point."""
        return there

    def predictions(self, direction: Tensors, scaling: float, tasks: Sequence[str], split: Split) -> Predictions:
        """See :class:`Line`."""
        there = {name: self.start[name].float() + scaling * direction[name] for name in direction}
        self.evaluator.load(self.weights(there))
        return {task: self.evaluator.predictions(task, split) for task in tasks}


@dataclass
class AdapterLine(WeightLine):
    """Directions in adapters, which are folded into the suite's base."""

    settings: AdapterSettings

    def weights(self, there: Tensors) -> Tensors:
        """The base with the adapters in it."""
        return folded(self.evaluator.suite.base_checkpoint, self.start, there, self.settings)


@dataclass
class LinearisedLine:
    """Directions in the adapters of a linearised tower: its features at λ are value + λ · slope, so both are kept."""

    evaluator: Evaluator
    tower: LinearisedTower
    _seen: dict[tuple[str, Split], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False)
    _direction: Tensors = field(default_factory=dict, init=False)

    def predictions(self, direction: Tensors, scaling: float, tasks: Sequence[str], split: Split) -> Predictions:
        """See :class:`Line`."""
        if direction is not self._direction:
            self._seen, self._direction = {}, direction
            there = {name: start + direction[name] for name, start in self.tower.start.items()}
            set_adapters(self.tower.tower, there)
        found = {}
        for task in tasks:
            if (task, split) not in self._seen:
                self._seen[task, split] = self._expansion(task, split)
            value, slope = self._seen[task, split]
            features = torch.nn.functional.normalize(value + scaling * slope, dim=-1)
            found[task] = self.evaluator.logits(task, features).argmax(dim=1).numpy()
        return found

    @torch.no_grad()
    def _expansion(self, task: str, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
        self.tower.eval()
        starts = range(0, self.evaluator.count(task, split), _IMAGES)
        parts = [
            self.tower.expansion(self.evaluator.images(task, split, slice(start, start + _IMAGES))) for start in starts
        ]
        values, slopes = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(slopes)
