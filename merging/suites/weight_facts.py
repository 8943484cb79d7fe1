"""What can be said of a weight file: layout, size, fingerprint, and how it differs from the base."""

import math
from dataclasses import dataclass, replace

from merging.core.errors import MismatchedCheckpoint
from merging.suites.architecture import tower_of
from merging.weights.files import Checkpoint
from merging.weights.files.other_kinds import other_kind
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors

# A model fine-tuned from a base stays near it; two that were trained apart are further from each other than from zero.
_FAR = 0.5
_NO_TOWER = "no CLIP vision transformer"


@dataclass(frozen=True)
class WeightFacts:
    """What a weight file holds.

    Attributes:
        tensors: number of tensors of the visual tower.
        layout: how they are named in the file.
        dtype: of these tensors; several with a slash between.
        bytes: of these tensors.
        fingerprint: SHA-256 of the file.
        dropped: number of tensors in the file that belong to no visual tower.
        summary: these in words, as `convert` and `merge` print them.
        difference: ‖τ‖, the norm of the task vector; None where there is no base to compare with.
        relative_difference: ‖τ‖ / ‖θ₀‖.
        changed: number of floating-point tensors that differ from the base's.
    """

    tensors: int
    layout: str
    dtype: str
    bytes: int
    fingerprint: str
    dropped: int
    summary: str
    difference: float | None = None
    relative_difference: float | None = None
    changed: int | None = None

    @property
    def text(self) -> str:
        """All of it in words."""
        parts = [self.summary, f"sha256 {self.fingerprint[:12]}"]
        if self.difference is not None and self.relative_difference is not None:
            parts.append(
                f"norm of task vector {self.difference:.3g}, {100 * self.relative_difference:.3g} % of the base's"
            )
        return ", ".join(parts)


def facts_of(checkpoint: Checkpoint) -> WeightFacts:
    """Read a whole weight file.

    Raises:
        NonFiniteWeights: it holds NaN or infinity.
    """
    checkpoint.require_finite()
    dtypes = sorted({str(info.dtype).removeprefix("torch.") for info in checkpoint.infos.values()})
    return WeightFacts(
        tensors=len(checkpoint),
        layout=checkpoint.layout.title,
        dtype="/".join(dtypes),
        bytes=checkpoint.nbytes,
        fingerprint=checkpoint.fingerprint,
        dropped=len(checkpoint.layout.dropped),
        summary=checkpoint.summary,
    )


def compared(facts: WeightFacts, base: Checkpoint, checkpoint: Checkpoint, task: str) -> WeightFacts:
    """The facts with how the file differs from the base.

    Raises:
        MismatchedCheckpoint: it is of another architecture; the message names both where they can be told.
    """
    try:
        vectors = TaskVectors(base, (checkpoint,), (task,))
    except MismatchedCheckpoint as error:
        raise MismatchedCheckpoint(f"{error}{_other_architecture(checkpoint, base)}") from None
    squares = measure(vectors).grams[:, 0, 0]  # ‖τ‖² of every tensor
    difference, norm = math.sqrt(squares.sum()), _norm(base)
    return replace(
        facts,
        difference=difference,
        relative_difference=difference / norm if norm else None,
        changed=int((squares > 0).sum()),
    )


def far_from(base: Checkpoint, checkpoint: Checkpoint) -> str:
    """What to say of a model that is hardly fine-tuned from the base, by its weights; empty of any other.

    Raises:
        MismatchedCheckpoint: it is of another architecture, or no model but a difference.
    """
    squares = measure(TaskVectors(base, (checkpoint,), (checkpoint.path.stem,))).grams[:, 0, 0]
    norm = _norm(base)
    return is_far(math.sqrt(squares.sum()) / norm) if norm else ""


def is_far(relative_difference: float) -> str:
    """What to say of a model at this distance, ‖τ‖ / ‖θ₀‖; empty where that is usual.

    >>> is_far(0.1), is_far(1.2)[:19]
    ('', 'far from the base (')
    """
    if relative_difference <= _FAR:
        return ""
    return f"far from the base (‖τ‖ is {100 * relative_difference:.0f} % of ‖θ₀‖); was it fine-tuned from another one?"


def _norm(base: Checkpoint) -> float:
    """‖θ‖ over the floating-point tensors."""
    flat = (tensor.float().reshape(-1) for tensor in base.values() if tensor.is_floating_point())
    return math.sqrt(sum(float(weights @ weights) for weights in flat))


def _other_architecture(checkpoint: Checkpoint, base: Checkpoint) -> str:
    """What two files look like, to be put behind an error; empty where they look the same, or one is incomplete."""
    own, expected = _architecture(checkpoint), _architecture(base)
    incomplete = _NO_TOWER in (own, expected) and 2 * len(checkpoint.infos.keys() & base.infos) > len(base)
    return "" if own == expected or incomplete else f"; the file looks like {own}, the base like {expected}"


def _architecture(checkpoint: Checkpoint) -> str:
    try:
        return tower_of({name: info.shape for name, info in checkpoint.infos.items()}).label
    except MismatchedCheckpoint:
        return other_kind(checkpoint.infos) or _NO_TOWER
