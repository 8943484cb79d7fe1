"""Heads of tasks: from their files, of which nothing is guessed, or from the text tower."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from merging.core.errors import MergingError, SuiteError
from merging.core.text import in_a_row, shortened
from merging.evaluation import clip
from merging.evaluation.text_heads import text_head
from merging.suites.suite import Suite
from merging.weights.convert import of_one_norm

_ALIKE = 3  # groups of equal rows of a head that are named


def load_head(
    suite: Suite, task_name: str, cache: Path | None = None, device: torch.device | None = None
) -> torch.Tensor:
    """Head of a task, float32 ``[classes, embed_dim]`` on the CPU: from its file, else from the text tower.

    Args:
        suite: the suite.
        task_name: one of its tasks.
        cache: folder where heads built from text are kept.
        device: where the text tower runs; the CPU by default.

    Raises:
        SuiteError: the file holds no matrix ``weight`` with a row per class and a column per feature, or a bias.
    """
    if suite.task(task_name).head is None:
        return text_head(suite, task_name, cache, device)
    return torch.nn.functional.normalize(_stored_head(suite, task_name), dim=1)


def odd_rows(head: torch.Tensor, classes: Sequence[str]) -> Iterator[str]:
    """What to say of classes that no image can be recognised as, given a head ``[classes, embed_dim]``."""
    zero = int((head == 0).all(dim=1).sum())
    if zero:
        yield f"{zero} of {len(head)} rows are zero: no image is recognised by them"
    rows: dict[bytes, list[int]] = {}
    for label, row in enumerate(head.float().cpu().numpy()):
        if row.any():
            rows.setdefault(row.tobytes(), []).append(label)
    alike = [labels for labels in rows.values() if len(labels) > 1]
    for first, *others in alike[:_ALIKE]:
        called = f" ({in_a_row(repr(classes[label][:60]) for label in (first, *others))})" if classes else ""
        yield (
            f"classes {in_a_row(map(str, (first, *others)))}{called}, counted from 0, have the same row, so that no "
            f"image is ever taken for {in_a_row(map(str, others))}"
        )
    if len(alike) > _ALIKE:
        yield f"{len(alike) - _ALIKE} more rows are there several times"


def head_norm(suite: Suite, task_name: str) -> float | None:
    """The norm of the rows of a task's head in its file; None of one that is built from text.

    Raises:
        SuiteError: as :func:`load_head`.
    """
    if suite.task(task_name).head is None:
        return None
    norms = _stored_head(suite, task_name).norm(dim=1)
    return float(norms[norms > 0].mean()) if bool(norms.any()) else None


def _stored_head(suite: Suite, task_name: str) -> torch.Tensor:
    """The matrix in a task's file of a head, float32, with rows of one norm; raises as :func:`load_head`."""
    task = suite.task(task_name)
    assert task.head is not None
    stored = suite.open(task.head, "all")
    if "weight" not in stored or stored["weight"].ndim != 2:
        held = shortened([*map(repr, stored)], 4)
        raise SuiteError(f"{task.head}: expected a tensor 'weight' [classes, embed_dim]; it holds {held}")
    weight = stored["weight"].float()
    if task.classes and len(weight) != len(task.classes):
        turned = "; it looks transposed" if weight.shape[1] == len(task.classes) else ""
        raise SuiteError(
            f"{task.head}: {len(weight)} rows for {len(task.classes)} classes of task {task_name!r}; 'weight' is "
            f"{list(weight.shape)}, expected [classes, embed_dim]{turned}"
        )
    columns = clip.config(suite)["embed_dim"]
    if weight.shape[1] != columns:
        raise SuiteError(
            f"{task.head}: 'weight' is {list(weight.shape)}; expected {columns} numbers a class"
            f"{_wrong_architecture(suite, weight.shape[1])}"
        )
    if not bool(torch.isfinite(weight).all()):
        raise SuiteError(f"{task.head}: 'weight' holds NaN or infinity; build the head again")
    if "bias" in stored and bool(stored["bias"].any()):
        raise SuiteError(
            f"{task.head}: holds a 'bias' that is not zero, as a linear probe has; heads of a suite have none, and "
            "without it other accuracies come out; train the head without a bias, or build it from the class names"
        )
    norms = weight.norm(dim=1)
    some = norms[norms > 0]
    if len(some) and not of_one_norm(some):
        raise SuiteError(
            f"{task.head}: rows of 'weight' have norms from {float(some.min()):.3g} to {float(some.max()):.3g}; in a "
            "suite all have one norm, as those built from text have, and other accuracies come out where they are made "
            "so; train the head with rows of one norm, or build it from the class names"
        )
    return weight


def _wrong_architecture(suite: Suite, columns: int) -> str:
    """What to say of a head that fits the base model and not the suite's architecture; empty for other heads."""
    try:
        own = suite.base_checkpoint.infos.get("proj")
    except MergingError:
        return ""
    if own is None or own.shape[-1] != columns:
        return ""
    return (
        f" by {suite.architecture_label}, while the base {suite.base} has {columns} outputs too; "
        "check `architecture` in suite.yaml"
    )
