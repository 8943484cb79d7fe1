"""Low-rank adapters (LoRA, arXiv 2106.09685) of a visual tower's attention, and their linearisation (arXiv 2310.04742).

An adapter adds ``s · up · down · x`` to the queries or to the values of one block; everything else is frozen. Adapters
are a mapping from names such as ``transformer.resblocks.0.attn.q.down`` to tensors, so that files of them are
checkpoints like any others, and the adapters that training began with are the base of task vectors.

Partial linearisation (L-LoRA) puts in place of every adapter its first-order Taylor expansion about those it began
with, adapter by adapter, as the authors' code does. As an adapter is a product of two matrices, the expansion can be
written down and needs no forward-mode differentiation: ``s · (up₀ · down + (up − up₀) · down₀) · x``. With LoRA's usual
beginning, up₀ = 0, it is ``s · up · down₀ · x``: LoRA with down as it was drawn. What an adapter adds is then linear in
its parameters; what the tower makes of it is not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from merging.core.errors import MismatchedCheckpoint, SpecError

Tensors = Mapping[str, torch.Tensor]
_PLACES = {"q": 0, "v": 2}  # which third of the packed projection [3 · width, width] an adapter is added to
_PACKED = "in_proj_weight"


@dataclass(frozen=True)
class AdapterSettings:
    """What adapters are like; the defaults are those of arXiv 2310.04742.

    Attributes:
        rank: inner dimension r.
        alpha: what an adapter's output is multiplied by, times r.
        dropout: share of an adapter's inputs that are zeroed in training.
        linearised: whether every adapter is replaced by its expansion (L-LoRA).
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.1
    linearised: bool = False

    @property
    def scale(self) -> float:
        """s = α / r."""
        return self.alpha / self.rank


class Adapter(nn.Module):
    """``s · up · down · x``, or the expansion of that about the values which the adapter was made with.

    Attributes:
        down: ``[r, width]``, uniform within ± 1/√width as in LoRA.
        up: ``[width, r]``, zero.
    """

    start_down: torch.Tensor
    start_up: torch.Tensor

    def __init__(self, width: int, settings: AdapterSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.down = nn.Parameter((2 * torch.rand(settings.rank, width, generator=generator) - 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(width, settings.rank))
        self.register_buffer("start_down", self.down.detach().clone(), persistent=False)
        self.register_buffer("start_up", self.up.detach().clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added for inputs ``[…, width]``."""
        x = functional.dropout(x, self.settings.dropout, self.training)
        if not self.settings.linearised:
            return self.settings.scale * _through(x, self.down, self.up)
        unmoved, moved = _through(x, self.down, self.start_up), _through(x, self.start_down, self.up - self.start_up)
        return self.settings.scale * (unmoved + moved)


def _through(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.linear(functional.linear(x, down), up)


class AdaptedAttention(nn.Module):
    """A block's frozen self-attention with adapters on queries and values."""

    def __init__(self, attention: nn.MultiheadAttention, settings: AdapterSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = attention
        self.q = Adapter(attention.embed_dim, settings, generator)
        self.v = Adapter(attention.embed_dim, settings, generator)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """As the attention of open_clip's blocks is called: all three inputs are the same, ``[N, tokens, width]``."""
        own = self.attention
        packed = functional.linear(query, own.in_proj_weight, own.in_proj_bias)
        queries, keys, values = packed.chunk(3, dim=-1)
        parts = (queries + self.q(query), keys, values + self.v(query))
        q, k, v = (part.unflatten(-1, (own.num_heads, own.head_dim)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return own.out_proj(mixed.transpose(1, 2).flatten(2)), None


def attach(tower: nn.Module, settings: AdapterSettings, seed: int) -> nn.Module:
    """Freeze a visual tower and give the attention of all its blocks adapters, in place.

    Args:
        tower: a tower of open_clip, with torch's own attention in ``transformer.resblocks``.
        settings: what the adapters are like.
        seed: of their first values; models to be merged must have begun with the same.

    Returns:
        the tower; only its adapters learn, and at first it computes what it did before.

    Raises:
        SpecError: the tower has no such attention.
    """
    found = [
        (module, name, child)
        for path, module in tower.named_modules()
        for name, child in module.named_children()
        if "resblocks" in path and isinstance(child, nn.MultiheadAttention) and child.batch_first
    ]
    if not found:
        raise SpecError(
            f"adapters: {type(tower).__name__} has no blocks with packed attention; expected a visual tower of "
            "open_clip such as ViT-B-32"
        )
    tower.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module, name, attention in found:
        adapted = AdaptedAttention(attention, settings, generator).to(attention.in_proj_weight)
        adapted.attention.requires_grad_(False)
        setattr(module, name, adapted)
    return tower


def adapters_of(tower: nn.Module) -> dict[str, torch.Tensor]:
    """The adapters of a tower as they are now, by name, detached copies."""
    return {name: value.detach().clone() for name, value in tower.named_parameters() if value.requires_grad}


def folded(base: Tensors, start: Tensors, adapters: Tensors, settings: AdapterSettings) -> dict[str, torch.Tensor]:
    """Weights of an ordinary tower that computes what the base with these adapters does.

    A model merged from adapters, linearised or not, is thus served, stored and evaluated like any other.

    Args:
        base: weights of the tower without adapters.
        start: the adapters that training began with.
        adapters: those to fold in.
        settings: what they are like.

    Returns:
        all weights of the base, in float32, with the adapters added to queries and values.

    Raises:
        MismatchedCheckpoint: an adapter belongs to no packed projection of the base.
    """
    state = {name: tensor.float() for name, tensor in base.items()}
    for name in (name for name in adapters if name.endswith(".up")):
        place, packed = _target(name, state)
        pair = (adapters[name], adapters[name.removesuffix("up") + "down"])
        first = (start[name], start[name.removesuffix("up") + "down"])
        weight = state[packed].clone()
        third = weight.shape[1] * place
        weight[third : third + weight.shape[1]] += _matrix(pair, first, settings)
        state[packed] = weight
    return state


def _target(name: str, state: Tensors) -> tuple[int, str]:
    """Which third of which tensor an adapter adds to."""
    block, _, place = name.removesuffix(".up").rpartition(".")
    packed = f"{block}.{_PACKED}"
    if place not in _PLACES or packed not in state:
        raise MismatchedCheckpoint(
            f"adapter {name!r}: the base has no tensor {packed!r} to add it to; expected adapters named after its "
            "blocks' attention, such as transformer.resblocks.0.attn.q.up"
        )
    return _PLACES[place], packed


def _matrix(
    pair: tuple[torch.Tensor, torch.Tensor], first: tuple[torch.Tensor, torch.Tensor], settings: AdapterSettings
) -> torch.Tensor:
    """The matrix ``[width, width]`` that an adapter multiplies its input with, from (up, down) now and at first."""
    (up, down), (first_up, first_down) = pair, first
    product = first_up @ down + (up - first_up) @ first_down if settings.linearised else up @ down
    return settings.scale * product
