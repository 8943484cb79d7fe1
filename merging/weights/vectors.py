"""Task vectors τ_t = θ_t − θ₀, streamed tensor by tensor."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from merging.core.errors import MismatchedCheckpoint, NonFiniteWeights, SpecError
from merging.core.streaming import COLUMNS, scratch
from merging.core.wording import differences
from merging.weights.files.checkpoint import POSITIONS, Checkpoint, TensorInfo

# Fine-tuning leaves the gains of layer norms near the base's; a difference from the base has next to none there.
_FEWER = 0.5
_USUAL = 8  # models: of more, pieces have fewer entries of each
_OTHER_IMAGES = "; where images are of another size, image_size: PIXELS in suite.yaml interpolates the embeddings"
_TOGETHER = 1 << 23  # entries of tensors that lie side by side on a GPU and are taken together: few calls, little room
# (name, base [*shape], stack [T, *shape]) → stack [T, *shape], all float32 on one device
StackFunction = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


class OnDevice(Protocol):
    """Weights that are kept on a device: those of the base, then those of every model in order."""

    @property
    def device(self) -> torch.device:
        """Where."""

    @property
    def weights(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """Tensors by name, as stored."""


@dataclass(frozen=True)
class TaskVectors:
    """A base model and T fine-tuned ones with exactly the same names and shapes.

    Attributes:
        base: the pre-trained weights θ₀.
        checkpoints: the fine-tuned weights θ_t, in task order.
        tasks: their names.
        edit: applied to every stack on its way out, once an edit was chosen.
        resident: the weights on a device, where they are kept there, see :mod:`merging.weights.resident`.
    """

    base: Checkpoint
    checkpoints: tuple[Checkpoint, ...]
    tasks: tuple[str, ...]
    edit: StackFunction | None = None
    resident: OnDevice | None = None

    def __post_init__(self) -> None:
        if not self.tasks or len(self.tasks) != len(self.checkpoints):
            raise SpecError(f"{len(self.tasks)} task names for {len(self.checkpoints)} checkpoints; expected as many")
        if len(set(self.tasks)) != len(self.tasks):
            raise SpecError(f"a task is named twice in {list(self.tasks)}")
        for task, checkpoint in zip(self.tasks, self.checkpoints, strict=True):
            _check_same(self.base, checkpoint, task)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The floating-point tensors, sorted; others are copied from the base."""
        return tuple(name for name, info in self.base.infos.items() if info.floating)

    def info(self, name: str) -> TensorInfo:
        """Shape and stored dtype of a tensor."""
        return self.base.infos[name]

    @cached_property
    def size(self) -> int:
        """D, the number of weights that take part."""
        return sum(torch.Size(self.info(name).shape).numel() for name in self.names)

    def stored(self, name: str, device: torch.device | str = "cpu") -> list[torch.Tensor]:
        """θ₀ of one tensor, then that of every model, as they are stored: on the device if kept there, else on the CPU.

        They are views of what is kept, or of mapped files: never write into them.
        """
        if self.resident is not None and self.resident.device == torch.device(device):
            return [weights[name] for weights in self.resident.weights]
        return [checkpoint[name] for checkpoint in (self.base, *self.checkpoints)]

    def stack(
        self, name: str, device: torch.device | str = "cpu", passing: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """θ₀ of one tensor and the task vectors there, ``([*shape], [T, *shape])`` in float32.

        Args:
            name: which tensor.
            device: where the result is to be.
            passing: on the CPU the vectors may lie in memory that the thread's next passing stack overwrites.

        Raises:
            NonFiniteWeights: a file holds NaN or infinity there.
        """
        stored, *models = self.stored(name, device)
        base = stored.to(device, torch.float32)
        shape = (len(self.tasks), *base.shape)
        reused = passing and torch.device(device).type == "cpu"
        stack = scratch(shape) if reused else torch.empty(shape, device=device)
        for row, model in zip(stack, models, strict=True):
            torch.sub(model.to(device, torch.float32), base, out=row)
        if not bool(torch.isfinite(stack.sum())):
            raise self.owner_of_nonfinite(name)
        return base, stack if self.edit is None else self.edit(name, base, stack)

    def pieces(
        self, name: str, device: torch.device | str = "cpu", unit: int = 1
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """One tensor, flattened, in pieces: where it lies, θ₀ ``[n]`` and the task vectors ``[T, n]`` there.

        On the CPU a piece fits in a core's cache, unless an edit needs to see whole tensors; the next piece
        overwrites the last one. No piece cuts a unit of so many entries, such as a row.
        """
        if torch.device(device).type != "cpu" or not getattr(self.edit, "elementwise", self.edit is None):
            base, stack = self.stack(name, device, passing=True)
            yield slice(0, base.numel()), base.reshape(-1), stack.reshape(len(stack), -1)
            return
        flat, *models = (tensor.reshape(-1) for tensor in self.stored(name, device))
        columns = COLUMNS * _USUAL // max(_USUAL, len(models))  # more models share the cache, and the memory
        size = max(1, unit, columns // max(1, unit) * unit)
        buffer = torch.empty((len(models), min(size, flat.numel())))
        for start in range(0, flat.numel(), size):
            where = slice(start, min(start + size, flat.numel()))
            base, stack = flat[where].float(), buffer[:, : where.stop - start]
            for row, model in zip(stack, models, strict=True):
                torch.sub(model[where].float(), base, out=row)
            yield where, base, stack if self.edit is None else self.edit(name, base, stack)

    def groups(self, names: Sequence[str], device: torch.device | str) -> list[tuple[str, ...]]:
        """Tensors that :meth:`entries` takes together, in order: on a GPU many that lie side by side, else each one."""
        kept = self.resident
        if self.edit is not None or kept is None or kept.device != torch.device(device):
            return [(name,) for name in names]
        found: list[list[str]] = []
        size = 0
        for name in names:
            entries = torch.Size(self.info(name).shape).numel()
            if found and size + entries <= _TOGETHER and _side_by_side(kept.weights, found[-1][-1], name):
                found[-1].append(name)
                size += entries
            else:
                found.append([name])
                size = entries
        return [tuple(group) for group in found]

    def entries(self, group: Sequence[str], device: torch.device | str) -> Iterator[torch.Tensor]:
        """The entries of a group of tensors in pieces ``[T, n]``; where one of :meth:`pieces` ends does not matter.

        What comes of several tensors may hold NaN or infinity, which is for who asks to notice.
        """
        if len(group) == 1:
            yield from (stack for _, _, stack in self.pieces(group[0], device))
            return
        assert self.resident is not None
        size = sum(torch.Size(self.info(name).shape).numel() for name in group)
        firsts = (weights[group[0]] for weights in self.resident.weights)
        base, *models = (first.as_strided((size,), (1,)).float() for first in firsts)
        stack = torch.empty(len(models), size, device=device)
        for row, model in zip(stack, models, strict=True):
            torch.sub(model, base, out=row)
        yield stack

    def iterate(self, device: torch.device | str = "cpu") -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """``(name, base, stack)`` of every floating-point tensor, in sorted order."""
        for name in self.names:
            yield name, *self.stack(name, device)

    def edited(self, edit: StackFunction) -> "TaskVectors":
        """The same vectors with ``edit`` applied after the edits they already carry."""
        before = self.edit
        if before is None:
            return self._with(edit=edit)
        return self._with(edit=lambda name, base, stack: edit(name, base, before(name, base, stack)))

    @property
    def unedited(self) -> "TaskVectors":
        """The same vectors without any edit."""
        return self if self.edit is None else self._with(edit=None)

    def kept(self, resident: OnDevice) -> "TaskVectors":
        """The same vectors with all weights on a device."""
        return self._with(resident=resident)

    def _with(self, **changed: object) -> "TaskVectors":
        """The same models, which are not read again to be checked: on a GPU a merge takes little longer than that."""
        other = copy.copy(self)
        other.__dict__.update(changed)
        return other

    def owner_among(self, names: Sequence[str]) -> NonFiniteWeights:
        """As :meth:`owner_of_nonfinite`, of several tensors in one of which it was."""
        for name in names[:-1]:
            if not all(bool(torch.isfinite(one[name]).all()) for one in (self.base, *self.checkpoints)):
                return self.owner_of_nonfinite(name)
        return self.owner_of_nonfinite(names[-1])

    def owner_of_nonfinite(self, name: str) -> NonFiniteWeights:
        """The error to raise when arithmetic on tensor ``name`` gave NaN or infinity: it names the file."""
        for checkpoint in (self.base, *self.checkpoints):
            if not bool(torch.isfinite(checkpoint[name]).all()):
                advice = "this model can't be merged; export it again or leave the task out"
                if checkpoint is self.base:
                    advice = "this is the base, so nothing of the suite can be merged; export or download it again"
                return NonFiniteWeights(f"{checkpoint.path.name}: tensor {name!r} holds NaN or infinity; {advice}")
        return NonFiniteWeights(
            f"tensor {name!r}: the arithmetic overflowed float32; use smaller coefficients, or leave out "
            "a model whose weights are far larger than the others' (`check` gives norms)"
        )


def _side_by_side(weights: Sequence[Mapping[str, torch.Tensor]], one: str, other: str) -> bool:
    """Whether in every model's memory a tensor begins where another one ends."""
    return all(
        model[one].dtype == model[other].dtype
        and model[one].data_ptr() + model[one].nbytes == model[other].data_ptr()
        and model[one].untyped_storage().data_ptr() == model[other].untyped_storage().data_ptr()
        for model in weights
    )


def require_model(base: Checkpoint, other: Checkpoint, where: str) -> None:
    """Insist on a model, no difference of one from its base: as a model that is next to nothing, and is merged as −θ₀.

    Args:
        base: the pre-trained weights θ₀.
        other: a model with the same names.
        where: what to call it.

    Raises:
        MismatchedCheckpoint: the gains of its layer norms are a small part of the base's.
    """
    shared = base.gains.keys() & other.gains.keys()
    own, usual = (sum(one.gains[name] for name in shared) ** 0.5 for one in (other, base))
    if own < _FEWER * usual:
        raise MismatchedCheckpoint(
            f"{where}: the gains of its layer norms have the norm {own:.2g}, those of the base {base.path.name} "
            f"{usual:.2g}; it looks like the difference of a model from its base (a task vector), and is no model; add "
            "the base's weights to it and save the sum"
        )


def _check_same(base: Checkpoint, other: Checkpoint, task: str) -> None:
    """Insist on the base's exact names and shapes, and on a model."""
    where = f"{other.path.name} (task {task!r})"
    wrong = differences({"missing": base.infos.keys() - other.infos, "unexpected": other.infos.keys() - base.infos})
    if wrong:
        raise MismatchedCheckpoint(
            f"{where}: other tensors than the base {base.path.name}: {wrong}; "
            "both must be the visual tower of the same architecture"
        )
    for name, info in base.infos.items():
        if other.infos[name].shape != info.shape:
            raise MismatchedCheckpoint(
                f"{where}: tensor {name!r} has shape {list(other.infos[name].shape)}, "
                f"the base {base.path.name} has {list(info.shape)}; both must be of the same architecture"
                f"{_OTHER_IMAGES if name == POSITIONS else ''}"
            )
        if other.infos[name].floating != info.floating:
            raise MismatchedCheckpoint(
                f"{where}: tensor {name!r} is {other.infos[name].dtype}, in the base {info.dtype}"
            )
    require_model(base, other, where)
