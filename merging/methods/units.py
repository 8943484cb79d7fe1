"""Settings that were made for the size of CLIP's task vectors, and how they are carried over to other towers.

A learning rate, a penalty or a length that a paper gives suits task vectors of the size that the paper had: ViT-B/32
fine-tuned at small rates. With ``relative`` a problem is solved on task vectors brought to that size, and what comes
out is brought back, so that the result does not depend on the unit of the weights.
"""

from typing import Any, Literal

import torch
from pydantic import Field

Units = Literal["published", "relative"]
CLIP_SPREAD = 2.5e-4  # root mean square entry of a task vector of ViT-B/32: a rate of 1e-5 is 0.04 of it
CLIP_LENGTH = 0.29  # root mean square norm of its task vectors in one weight matrix of the blocks: 2.0/√48


UNITS: Any = Field(
    "published",
    description="published: settings that have a unit as they are printed, made for CLIP's weights. relative: as if "
    "the task vectors had the size of CLIP's, for towers whose task vectors are of another size.",
    exclude_if=lambda value: value == "published",
)  # of the parameter ``units``


def spread_factor(stack: torch.Tensor) -> float:
    """How many times larger the entries of task vectors ``[T, ...]`` are than CLIP's, zero vectors not counted."""
    squares = stack.flatten(1).double().square().mean(dim=1)
    there = squares > 0
    return float(squares[there].mean().sqrt()) / CLIP_SPREAD if bool(there.any()) else 1.0
