"""Models that are the same in all their weights: what such a set comes to is rarely what was meant."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from merging.core.text import in_a_row
from merging.weights.files import Checkpoint
from merging.weights.vectors import TaskVectors


def identical(models: Mapping[str, Checkpoint]) -> list[tuple[str, ...]]:
    """Groups of two or more models that are equal in every floating-point tensor, whatever file or precision they have.

    Tensor by tensor, and only of models that were equal so far: of different ones little more than the first is read.

    Args:
        models: name → weights; all have the same tensors.

    Returns:
        Names in each group, in the order given.
    """
    groups = [tuple(models)]
    infos = next(iter(models.values())).infos if models else {}
    for tensor in (name for name, info in infos.items() if info.floating):
        groups = [part for group in groups for part in _split(group, models, tensor) if len(part) > 1]
        if not groups:
            break
    return [group for group in groups if len(group) > 1]


def _split(group: Iterable[str], models: Mapping[str, Checkpoint], tensor: str) -> Iterator[tuple[str, ...]]:
    """A group parted by what its models hold in one tensor."""
    parts: dict[bytes, list[str]] = {}
    for name in group:
        content = hashlib.sha256(models[name][tensor].float().reshape(-1).numpy().data)
        parts.setdefault(content.digest(), []).append(name)
    return map(tuple, parts.values())


def notes_of(models: Mapping[str, Checkpoint]) -> list[str]:
    """What task models say themselves before they are used, given task → model."""
    return [f"task {task!r}: {note}" for task, model in models.items() for note in model.notes]


def oddities(vectors: TaskVectors) -> list[str]:
    """What to say of task models before they are merged: what they say themselves, those that are the base or twins."""
    models = dict(zip(vectors.tasks, vectors.checkpoints, strict=True))
    said = notes_of(models)
    for group in identical({"": vectors.base, **models}):  # no task has an empty name
        quoted = [repr(name) for name in group if name]
        tasks = f"task {quoted[0]} equals" if len(quoted) == 1 else f"tasks {in_a_row(quoted)} equal"
        if "" in group:
            adds = "adds" if len(quoted) == 1 else "add"
            said.append(f"{tasks} the base model {vectors.base.path.name}, so {adds} nothing to the merge")
        else:
            said.append(f"{tasks} each other in all weights, so that one model counts {len(quoted)} times")
    return said
