"""Gram matrices of what reaches every linear layer of the visual tower, for methods that ask what layers are used on.

Layers are found by watching ``torch.nn.functional.linear``, so that they need no names: whatever weight of the tower
is multiplied with rows of features gets the Gram matrix of these rows.
"""

import inspect
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from merging.core.memory import BatchSize
from merging.core.progress import Work
from merging.evaluation.evaluator import Evaluator

_IMAGES = 32  # in one pass; all of a layer's tokens are rows of its input
_PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
_ATTENTION = inspect.signature(functional.multi_head_attention_forward)


class _Enough(Exception):
    """All layers that a pass is for were seen."""


class _Watch(TorchFunctionMode):
    """Adds up ``XᵀX`` and the number of rows of the inputs X of watched weights while it is active.

    With ``everything`` it sees convolutions, whose inputs are patches, and products with bare parameters as well. With
    ``only`` it ends a pass by :class:`_Enough` as soon as all of these were seen.
    """

    def __init__(self, names: Mapping[int, str], everything: bool, only: Collection[str] = ()) -> None:
        super().__init__()
        self._names = {key: name for key, name in names.items() if not only or name in only}  # by id of a parameter
        self._everything = everything
        self._only = frozenset(only)
        self._left: set[str] = set()
        self.sums: dict[str, torch.Tensor] = {}
        self.rows: dict[str, int] = {}

    def see(self, tower: torch.nn.Module, batch: torch.Tensor) -> None:
        """Watch a pass of images ``[N, 3, H, W]`` through a tower."""
        self._left = set(self._only)
        with suppress(_Enough), self:
            tower(batch)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called for every function of torch, with the mode itself switched off inside."""
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            return self._attention(_ATTENTION.bind(*args, **kwargs).arguments)
        if func is functional.linear:
            return self._linear(*args, **kwargs)
        if self._everything and func is functional.conv2d:
            self._see_patches(*args, **kwargs)
        if self._everything and func in _PRODUCTS and len(args) == 2:
            self._see(args[1], args[0])  # x @ W, with W stored [in, out]
        return func(*args, **kwargs)

    def _linear(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        self._see(weight, input)
        return functional.linear(input, weight, bias)

    def _see_patches(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        """The patches that a convolution multiplies with its weights, as rows; not where it has several groups."""
        if groups == 1 and not isinstance(padding, str):
            patches = functional.unfold(input, weight.shape[2:], dilation, padding, stride)  # [N, in, places]
            self._see(weight, patches.mT)

    def _attention(self, arguments: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention with the identity for its last projection, which is then done outside, where it can be seen."""
        query, weight, bias = (arguments[name] for name in ("query", "out_proj_weight", "out_proj_bias"))
        if query is arguments["key"] is arguments["value"]:  # else the packed weight has several inputs
            self._see(arguments["in_proj_weight"], query)
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        mixed, attention = functional.multi_head_attention_forward(
            **{**arguments, "out_proj_weight": identity, "out_proj_bias": None}
        )
        return self._linear(mixed, weight, bias), attention

    def _see(self, weight: torch.Tensor, input: torch.Tensor) -> None:
        name = self._names.get(id(weight))
        if name is not None:
            rows = input.reshape(-1, input.shape[-1]).float()
            self.sums[name] = torch.addmm(self.sums[name], rows.T, rows) if name in self.sums else rows.T @ rows
            self.rows[name] = self.rows.get(name, 0) + len(rows)
            self._left.discard(name)
            if self._only and not self._left:
                raise _Enough


@torch.no_grad()
def input_grams(
    evaluator: Evaluator,
    weights: Mapping[str, torch.Tensor],
    task: str,
    images: int,
    context: Work,
    everything: bool = False,
    only: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Mean of ``x xᵀ`` over the inputs x of every linear layer, one for each token of each image.

    Args:
        evaluator: whose tower gets the weights.
        weights: the model whose layers are looked at.
        task: whose validation images are taken, without their labels.
        images: at most how many.
        context: seed and cancellation.
        everything: whether convolutions and bare parameters that features are multiplied with are layers, too.
        only: weights to look at, after which a pass ends; all by default.

    Returns:
        Name of a weight ``[out, in]`` → float32 ``[in, in]`` on the evaluator's device. The packed weight of
        self-attention is such a weight. A convolution's inputs are patches, ``[channels, height, width]`` flattened.
    """
    evaluator.load(weights)
    names = {id(parameter): name for name, parameter in evaluator.tower.named_parameters()}
    chosen = evaluator.draw(task, "val", images, context.seed)

    def watched(size: int) -> _Watch:
        watch = _Watch(names, everything, only)
        for start in range(0, len(chosen), size):
            context.stop_if_cancelled(f"inputs of {task}")
            batch = evaluator.images(task, "val", chosen[start : start + size])
            watch.see(evaluator.tower, batch)
        return watch

    watch = BatchSize(_IMAGES).fit(watched)
    return {name: total / watch.rows[name] for name, total in watch.sums.items()}
