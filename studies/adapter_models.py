"""Models on a line θ₀ + λ v, for directions v in weights or in adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from merging.evaluation.accuracy import Accuracy
from merging.evaluation.evaluator import Evaluator
from merging.suites.suite import Split
from studies.adapters import AdapterSettings, folded

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Line:
    """What evaluates θ₀ + λ v.

    Attributes:
        evaluator: of the suite.
        start: θ₀, the weights or adapters that task vectors are differences to.
        settings: of the adapters, which are folded into the suite's base; None where θ₀ is weights.
    """

    evaluator: Evaluator
    start: Tensors
    settings: AdapterSettings | None = None

    def weights(self, direction: Tensors, scaling: float) -> Tensors:
        """Weights of the tower at λ."""
        there = {name: self.start[name].float() + scaling * direction[name] for name in direction}
        if self.settings is None:
            return there
        return folded(self.evaluator.suite.base_checkpoint, self.start, there, self.settings)

    def accuracy(self, direction: Tensors, scaling: float, tasks: Sequence[str], split: Split) -> Accuracy:
        """Top-1 accuracy at λ on every task."""
        return self.evaluator.accuracy(self.weights(direction, scaling), tasks, split)

    def predictions(self, direction: Tensors, scaling: float, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """Task → the class of every test image at λ, int64 ``[N]``."""
        self.evaluator.load(self.weights(direction, scaling))
        return {task: self.evaluator.predictions(task, "test") for task in tasks}
