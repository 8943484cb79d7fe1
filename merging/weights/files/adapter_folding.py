"""What an adapter does to the tensors of its base, and a source of tensors in which it is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from merging.weights.files.checkpoint import Checkpoint, TensorInfo
from merging.weights.files.torch_files import Unread


@dataclass(frozen=True)
class Place:
    """Where a tensor under another layout's name lies in the tower.

    Attributes:
        name: the tower's tensor.
        part: which of ``parts`` equal blocks of its rows.
        parts: into how many the other layout parts it.
        transposed: whether the tower has the transpose.
    """

    name: str
    part: int = 0
    parts: int = 1
    transposed: bool = False

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """A view of the tower's tensor as the other layout has it."""
        view = weight.chunk(self.parts)[self.part] if self.parts > 1 else weight
        return view.T if self.transposed else view

    def shape(self, info: TensorInfo) -> tuple[int, ...]:
        """The shape of that view."""
        rows = (info.shape[0] // self.parts, *info.shape[1:]) if self.parts > 1 else info.shape
        return rows[::-1] if self.transposed else rows


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor, or a block of its rows; names are those of stored tensors.

    Attributes:
        place: where.
        whole: the tensor that replaces it, if it was trained as a whole.
        a, b: the factors.
        a0, b0: their initial values, where the adapter is linearised.
        magnitude: norms of the rows in DoRA.
        shift: a bias of ``lora_B``, added to the layer's.
        scale: s.
        embedding: whether the weight of the layer is the transpose of what the factors make.
    """

    place: Place
    whole: str | None = None
    a: str = ""
    b: str = ""
    a0: str | None = None
    b0: str | None = None
    magnitude: str | None = None
    shift: str | None = None
    scale: float = 1.0
    embedding: bool = False

    def apply(self, weight: torch.Tensor, stored: Callable[[str], torch.Tensor]) -> None:
        """Change the tower's tensor, float64, in its place."""
        view = self.place.of(weight)
        if self.whole is not None:
            view.copy_(stored(self.whole))
            return
        if self.shift is not None:
            view.add_(stored(self.shift), alpha=self.scale)
            return
        changed = view.reshape(len(view), -1) + (self._delta(stored).T if self.embedding else self._delta(stored))
        if self.magnitude is not None:
            changed *= (stored(self.magnitude).reshape(-1) / torch.linalg.vector_norm(changed, dim=1))[:, None]
        view.copy_(changed.reshape(view.shape))

    def _delta(self, stored: Callable[[str], torch.Tensor]) -> torch.Tensor:
        a, b = stored(self.a).flatten(1), stored(self.b).flatten(1)
        if self.a0 is None or self.b0 is None:
            return self.scale * (b @ a)
        a0, b0 = stored(self.a0), stored(self.b0)
        return self.scale * ((b - b0) @ a0 + b0 @ a)


class Folded:
    """A source of the tower's tensors: those of the base with the adapter's changes."""

    def __init__(self, base: Checkpoint, adapter: Checkpoint, changes: Sequence[Change]) -> None:
        self._base = base
        self._adapter = adapter
        self._changes: dict[str, list[Change]] = {}
        for change in changes:
            self._changes.setdefault(change.place.name, []).append(change)

    def infos(self) -> dict[str, TensorInfo]:
        """The base's."""
        return self._base.infos

    def own(self) -> dict[str, str]:
        """Every tensor is the tower's own, under its own name."""
        return {name: name for name in self._base.infos}

    def unread(self) -> Unread:
        """Nothing is left unread: what the adapter holds is read, or refused before."""
        return Unread()

    def tensor(self, name: str) -> torch.Tensor:
        """The base's tensor, changed in float64 and rounded to its dtype."""
        weight = self._base[name]
        if name not in self._changes:
            return weight
        folded = weight.to(torch.float64, copy=True)
        for change in self._changes[name]:
            change.apply(folded, self._stored)
        return folded.to(weight.dtype)

    def _stored(self, name: str) -> torch.Tensor:
        return self._adapter[name].to(torch.float64)
