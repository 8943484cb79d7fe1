"""What a method gets besides vectors and parameters: where to compute, and how to report."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from merging.errors import Cancelled, MissingPart

if TYPE_CHECKING:
    from merging.evaluation import Evaluator
    from merging.geometry import Geometry
    from merging.vectors import TaskVectors

Progress = Callable[[int, int, str], None]
Numbers = Callable[[Mapping[str, Any]], None]  # JSON-ready


def phase_of(message: str) -> str:
    """What goes on by a message of progress, without how far it is.

    >>> phase_of("adapting, entropy 1.234"), phase_of("choosing λ on validation: 0.3"), phase_of("gradients of digits")
    ('adapting', 'choosing λ', 'gradients')
    """
    return re.split(r"[,:]| of | on ", message, maxsplit=1)[0]


def no_progress(done: int, total: int, message: str) -> None:
    """Report to nobody."""


def no_numbers(numbers: Mapping[str, Any]) -> None:
    """Show numbers to nobody."""


@dataclass(frozen=True)
class Context:
    """Device, dtype and seed of a run, its callbacks, and the evaluator where a method needs images.

    ``dtype`` is the one of forward passes; merging arithmetic is always float32 or better. ``on_numbers`` is told what
    a method has learned so far, for those who watch.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    seed: int = 0
    on_progress: Progress = no_progress
    cancelled: Callable[[], bool] = lambda: False
    evaluator: "Evaluator | None" = None
    known_geometry: "Geometry | None" = None
    on_numbers: Numbers = no_numbers

    def geometry(self, vectors: "TaskVectors") -> "Geometry":
        """Gram matrices of the unedited task vectors: those handed over, else measured now."""
        from merging.geometry import measure

        return self.known_geometry or measure(vectors, self)

    def step(self, done: int, total: int, message: str) -> None:
        """Report progress and stop here if the work was cancelled.

        Raises:
            Cancelled: somebody asked for the work to stop.
        """
        self.stop_if_cancelled(f"{message!r}, step {done} of {total}")
        self.on_progress(done, total, message)

    def stop_if_cancelled(self, during: str = "a long computation") -> None:
        """Stop here if the work was cancelled, without reporting anything.

        Raises:
            Cancelled: somebody asked for the work to stop.
        """
        if self.cancelled():
            raise Cancelled(f"cancelled during {during}")

    def need_images(self, method: str, tasks: Sequence[str]) -> "Evaluator":
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
