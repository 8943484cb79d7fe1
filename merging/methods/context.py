"""What a method gets besides vectors and parameters: where to compute, how to report, images where it needs some."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from merging.core.errors import MissingPart
from merging.core.progress import Numbers, Work, no_numbers
from merging.evaluation.evaluator import Evaluator
from merging.suites.suite import Split
from merging.weights.geometry import Geometry, measure
from merging.weights.vectors import TaskVectors


@dataclass(frozen=True)
class Context(Work):
    """Device, dtype and seed of a run, its callbacks, and the evaluator where a method needs images.

    ``dtype`` is the one of forward passes; merging arithmetic is always float32 or better. ``on_numbers`` is told what
    a method has learned so far, for those who watch: with ``watched_split``, also how accurate that is on some images
    of it. ``enough`` is asked between the steps of a method that learns: whether what it has is to be kept.
    """

    dtype: torch.dtype = torch.float32
    evaluator: Evaluator | None = None
    known_geometry: Geometry | None = None
    on_numbers: Numbers = no_numbers
    watched_split: Split | None = None
    enough: Callable[[], bool] = lambda: False

    def geometry(self, vectors: TaskVectors) -> Geometry:
        """Gram matrices of the unedited task vectors: those handed over, else measured now."""
        return self.known_geometry or measure(vectors, self)

    def need_images(self, method: str, tasks: Sequence[str]) -> Evaluator:
        """The evaluator, for a method that can't do without images of some tasks.

        Raises:
            MissingPart: there is no suite, or one of the tasks has no images or head.
        """
        lacking = [task for task in tasks if self.evaluator is None or not self.evaluator.suite.measurable(task)]
        if self.evaluator is None or lacking:
            raise MissingPart(
                f"{method} needs images and a head for every chosen task; {', '.join(lacking)} lack them; "
                "add `data` and `head` in suite.yaml, leave these tasks out, or choose a data-free method"
            )
        return self.evaluator
