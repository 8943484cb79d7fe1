"""How work that takes long says how far it is, and how it ends when it is cancelled."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from merging.core.errors import Cancelled

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
class Work:
    """Where work is done, the seed of what it draws, and who is told how far it is.

    Attributes:
        device: where to compute.
        seed: of everything that is drawn at random.
        on_progress: called with steps done, steps in all, and what is going on.
        cancelled: asked between steps.
        resident: whether weights may stay on the device, where they fit.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    on_progress: Progress = no_progress
    cancelled: Callable[[], bool] = lambda: False
    resident: bool = True

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


class PhaseClock:
    """Seconds by phase, from the progress that passes through to somebody else.

    What happens between two messages counts for the phase of the earlier one; before the first one it is *preparing*.

    Args:
        on_progress: told of everything.
    """

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._phase = "preparing"
        self._since = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def __call__(self, done: int, total: int, message: str) -> None:
        """As :data:`merging.core.progress.Progress`."""
        self.enter(phase_of(message))
        self._on_progress(done, total, message)

    def enter(self, phase: str) -> None:
        """Say that a phase begins, or goes on."""
        now = time.perf_counter()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def seconds(self) -> dict[str, float]:
        """Seconds of every phase until now, in the order in which they began, and in all as ``total``."""
        self.enter(self._phase)
        return {**self._seconds, "total": sum(self._seconds.values())}
