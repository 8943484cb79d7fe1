"""What a method must give when it is asked: of one's own methods this is looked at each time, as nobody else did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from merging.core.errors import SpecError
from merging.methods.planned import LinearEdit, LinearMerge, LocalisedMerge, TensorEdit, TensorMerge
from merging.methods.registry import Kind
from merging.weights.vectors import TaskVectors

Told = Callable[[str], SpecError]  # an error that names the method, from what is wrong
_EXPECTED: dict[Kind, tuple[type, ...]] = {
    "edit": (LinearEdit, TensorEdit),
    "merge": (LinearMerge, TensorMerge, LocalisedMerge),
}


def as_promised(kind: Kind, planned: Any, vectors: TaskVectors, told: Told) -> Any:
    """What an edit or a merge planned, with a function that looks at what it gives of every tensor.

    Args:
        kind: edit or merge.
        planned: what the method's function returned.
        vectors: the task vectors that it was given.
        told: makes the error.

    Raises:
        SpecError: it is none of the classes for that, or its numbers are of another shape or not finite; so does its
            function of a tensor.
    """
    if not isinstance(planned, _EXPECTED[kind]):
        names = ", ".join(one.__name__ for one in _EXPECTED[kind])
        raise told(f"it returns {_what(planned)}; expected one of {names}")
    tasks = len(vectors.tasks)
    if isinstance(planned, LinearEdit):
        _require_numbers("matrices", planned.matrices, (tasks, tasks), vectors, "tasks × tasks", told)
    elif isinstance(planned, LinearMerge):
        _require_numbers("coefficients", planned.coefficients, (tasks,), vectors, "one a task", told)
        missing = [name for name in vectors.names if name not in planned.coefficients]
        if missing:
            raise told(f"its coefficients lack tensor {missing[0]!r}; expected one a task for every tensor")
    elif isinstance(planned, TensorEdit | TensorMerge | LocalisedMerge):
        return with_function(planned, _looked_at(planned, told))
    return planned


def with_function(planned: TensorEdit | TensorMerge | LocalisedMerge, apply: Any) -> Any:
    """The same with another function of a tensor."""
    return replace(planned, apply=apply)


def _require_numbers(
    what: str, given: Mapping[str, Any], shape: tuple[int, ...], vectors: TaskVectors, words: str, told: Told
) -> None:
    for name, values in given.items():
        if name not in vectors.names:
            raise told(f"its {what} name tensor {name!r}, which the models don't have")
        found = np.asarray(values)
        if found.shape != shape:
            raise told(f"its {what} of tensor {name!r} are {_shape(found.shape)}; expected {_shape(shape)}, {words}")
        if not np.issubdtype(found.dtype, np.number) or not np.isfinite(found).all():
            raise told(f"its {what} of tensor {name!r} are not all numbers")


def _looked_at(planned: TensorEdit | TensorMerge | LocalisedMerge, told: Told) -> Any:
    apply = planned.apply

    def of_tensor(name: str, base: torch.Tensor, stack: torch.Tensor) -> Any:
        found = apply(name, base, stack)
        if isinstance(planned, LocalisedMerge):
            if not isinstance(found, tuple) or len(found) != 2:
                raise told(f"of tensor {name!r} it gives {_what(found)}; expected a vector and masks")
            vector, masks = found
            _require_tensor(name, vector, base.shape, told)
            _require_tensor(name, masks, stack.shape, told, "masks")
            if masks.dtype != torch.bool:
                raise told(f"of tensor {name!r} it gives masks of {masks.dtype}; expected torch.bool")
        else:
            _require_tensor(name, found, (stack if isinstance(planned, TensorEdit) else base).shape, told)
        return found

    return of_tensor


def _require_tensor(name: str, found: Any, shape: Sequence[int], told: Told, what: str = "") -> None:
    if not isinstance(found, torch.Tensor):
        raise told(f"of tensor {name!r} it gives {_what(found)}; expected a torch.Tensor")
    if tuple(found.shape) != tuple(shape):
        named = f"{what} of " if what else ""
        raise told(f"of tensor {name!r} it gives {named}{_shape(found.shape)}; expected {_shape(shape)}")
    if not bool(torch.isfinite(found.sum())):
        raise told(f"of tensor {name!r} it gives numbers that are not finite")


def _what(found: Any) -> str:
    return "None" if found is None else f"a {type(found).__name__}"


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
