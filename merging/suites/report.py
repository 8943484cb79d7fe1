"""Checking every file of a suite and saying what is wrong with each, without stopping at the first."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from merging.checkpoints import Checkpoint
from merging.context import Progress, no_progress
from merging.errors import MergingError, MissingPart, NonFiniteWeights
from merging.evaluation import Evaluator
from merging.suites.suite import Suite
from merging.vectors import TaskVectors

Row = dict[str, Any]


def check_suite(suite: Suite, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Open everything a suite names.

    Returns:
        ``files``, a list of rows with ``file``, ``task``, ``ok``, ``warning`` and ``detail``; ``problems`` and
        ``warnings``, their numbers.
    """
    evaluator = Evaluator(suite)
    rows: list[Row] = [_row(suite.base, None, lambda: _weights(suite.base_checkpoint))]
    base_is_sound = rows[0]["ok"]
    buildable = not base_is_sound  # a broken base can't be tried
    if any(task.data for task in suite.tasks) and base_is_sound:
        rows.append(_row("architecture", None, lambda: _built(suite, evaluator)))
        buildable = rows[-1]["ok"]
    seen: dict[str, str] = {}
    for done, task in enumerate(suite.tasks):
        on_progress(done, len(suite.tasks), f"checking {task.name}")
        rows += _task_rows(suite, evaluator, task.name, seen, base_is_sound, buildable)
    return {
        "suite": suite.name,
        "files": rows,
        "problems": sum(not row["ok"] for row in rows),
        "warnings": sum(row["warning"] for row in rows),
    }


def _task_rows(
    suite: Suite, evaluator: Evaluator, name: str, seen: dict[str, str], base_is_sound: bool, buildable: bool
) -> Iterator[Row]:
    task = suite.task(name)
    if task.checkpoint is None:
        yield _warning("checkpoint", name, "none named: the task can be evaluated, not merged")
    else:
        yield _row(task.checkpoint, name, lambda: _fine_tuned(suite, name, seen, base_is_sound))
    if task.data is None:
        yield _warning("images", name, "none named: no accuracy for this task")
        return
    if not buildable:
        return  # heads and images are checked against the architecture
    yield _row(task.head or "head from text", name, lambda: f"head {list(evaluator.head(name).shape)}")
    yield _row(f"{task.data.path} (val)", name, lambda: f"{evaluator.count(name, 'val')} images")
    yield _row(f"{task.data.path} (test)", name, lambda: f"{evaluator.count(name, 'test')} images")


def _row(file: str, task: str | None, look: Callable[[], str]) -> Row:
    try:
        detail = look()
    except MissingPart as error:
        return _warning(file, task, str(error))
    except MergingError as error:
        return {"file": file, "task": task, "ok": False, "warning": False, "detail": str(error)}
    return {"file": file, "task": task, "ok": True, "warning": detail.startswith("warning"), "detail": detail}


def _warning(file: str, task: str | None, detail: str) -> Row:
    return {"file": file, "task": task, "ok": True, "warning": True, "detail": f"warning: {detail}"}


def _built(suite: Suite, evaluator: Evaluator) -> str:
    _ = evaluator.tower  # built, and loaded with the base model
    return f"{suite.architecture_label}, images of {evaluator.input.size} × {evaluator.input.size} pixels"


def _weights(checkpoint: Checkpoint) -> str:
    for name, tensor in checkpoint.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteWeights(f"{checkpoint.path.name}: tensor {name!r} holds NaN or infinity; export it again")
    return f"{checkpoint.summary}, sha256 {checkpoint.fingerprint[:12]}"


def _fine_tuned(suite: Suite, name: str, seen: dict[str, str], base_is_sound: bool) -> str:
    checkpoint = suite.checkpoint(name)
    detail = _weights(checkpoint)
    if not base_is_sound:
        return f"{detail}; not compared with the base, which is broken"
    vectors = TaskVectors(suite.base_checkpoint, (checkpoint,), (name,))
    norm = sum(float(stack.double().square().sum()) for _, _, stack in vectors.iterate()) ** 0.5
    twin = seen.setdefault(checkpoint.fingerprint, name)
    if norm == 0:
        return f"warning: equal to the base model; {detail}"
    if twin != name:
        return f"warning: the same file as task {twin!r}; {detail}"
    return f"{detail}, norm of task vector {norm:.3g}"
