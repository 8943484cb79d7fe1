"""What every tensor of a visual tower is: the weight of a linear layer, an embedding, part of a norm, a bias.

Methods that treat the weights of linear layers apart all ask here, so that they mean the same layers. Names are
open_clip's; an unknown name is judged by its last part and its shape.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal

import torch

_NORM = re.compile(r"(^|[._])(ln|norm|bn|batchnorm|layernorm)(\d|_|\.)")
_EMBEDDING = re.compile(r"(^|\.)((?!patch)\w*embed(ding)?|cls_token|query)(\.weight)?$")
_TRANSPOSED = re.compile(r"(^|\.)proj$")  # bare parameters that features are multiplied with from the left: x @ proj


@dataclass(frozen=True)
class Role:
    """What one tensor is.

    Attributes:
        kind: ``linear`` is the weight of a linear layer, a convolution included, as it is one on patches.
        shape: of the tensor as it is stored.
        inputs: of a linear weight, on which side of the stored tensor its inputs lie: ``last``, as in ``[out, in]``
            and ``[out, channels, height, width]``, or ``first``, as in ``[in, out]``; None of others.
        block: whether it belongs to one of the transformer's blocks.
    """

    kind: Literal["linear", "embedding", "norm", "bias", "other"]
    shape: tuple[int, ...]
    inputs: Literal["last", "first"] | None = None
    block: bool = False

    @property
    def linear(self) -> bool:
        """Whether it is the weight of a linear layer."""
        return self.kind == "linear"

    @property
    def block_matrix(self) -> bool:
        """Whether it is a linear weight of a block, stored as a matrix ``[out, in]``."""
        return self.linear and self.block and len(self.shape) == 2

    @property
    def two_dimensional(self) -> bool:
        """Whether it is stored as a matrix, whatever its kind: two dimensions, both above one."""
        return len(self.shape) == 2 and min(self.shape) > 1

    def matrices(self, stack: torch.Tensor) -> torch.Tensor:
        """A stack ``[T, *shape]`` of a linear weight as ``[T, out, in]``."""
        return stack.transpose(1, 2).contiguous() if self.inputs == "first" else stack.flatten(2)

    def stored(self, matrix: torch.Tensor) -> torch.Tensor:
        """``[out, in]`` in the shape of the tensor."""
        return (matrix.T if self.inputs == "first" else matrix).reshape(self.shape)


def role_of(name: str, shape: Sequence[int]) -> Role:
    """What a tensor is, by its name and shape.

    A weight with a single row or column is no linear weight here: there is nothing in it to be decomposed.

    >>> role_of("conv1.weight", (64, 3, 8, 8)).kind, role_of("proj", (64, 32)).inputs
    ('linear', 'first')
    >>> [role_of(name, shape).kind for name, shape in {"positional_embedding": (17, 64), "ln_post.bias": (64,)}.items()]
    ['embedding', 'norm']
    """
    return _role_of(name, tuple(shape))


@lru_cache(maxsize=4096)
def _role_of(name: str, shape: tuple[int, ...]) -> Role:
    block = "resblocks." in name
    if _NORM.search(name):
        return Role("norm", shape, block=block)
    if name.endswith("bias"):
        return Role("bias", shape, block=block)
    if _EMBEDDING.search(name):
        return Role("embedding", shape, block=block)
    wide = len(shape) >= 2 and shape[0] > 1 and prod(shape[1:]) > 1
    if wide and len(shape) == 2 and _TRANSPOSED.search(name):
        return Role("linear", shape, "first", block)
    if wide and name.endswith("weight"):
        return Role("linear", shape, "last", block)
    return Role("other", shape, block=block)
