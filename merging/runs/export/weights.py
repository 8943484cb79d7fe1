"""The weights of a finished run: rebuilt from its coefficient table, or those that were kept when it was made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from merging.core import devices
from merging.core.errors import MergingError, RunError
from merging.core.files import atomic_path
from merging.methods.context import Context
from merging.methods.plan import rebuilt_from
from merging.methods.spec import Spec
from merging.runs.jobs.merge_result import MergeResult
from merging.weights.files import save_tensors
from merging.weights.files.writing import PLAIN, Form
from merging.weights.vectors import TaskVectors

if TYPE_CHECKING:
    from merging.runs.run import Run
    from merging.runs.table import RunStore

KEPT_WEIGHTS = "model.safetensors"


def require_done(run: Run) -> MergeResult:
    """The result of a finished run.

    Raises:
        RunError: it is not done.
    """
    if run.state != "done" or run.merged is None:
        raise RunError(f"run {run.id} is {run.state}; only finished runs have weights")
    return run.merged


def rebuilt(result: MergeResult, spec: Spec, vectors: TaskVectors) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a linear run from its coefficient table, without solving anything again.

    Raises:
        MergingError: the checkpoints are not the ones that the run used.
    """
    prints = [vectors.base.fingerprint, *(c.fingerprint for c in vectors.checkpoints)]
    if prints != list(result.fingerprints.values()):
        raise MergingError(
            "the checkpoints changed since this run; its coefficients belong to other weights; run it again"
        )
    if result.coefficients is None:
        raise RunError("this run has no table of coefficients, and its weights can't be rebuilt from one")
    table = np.array(result.coefficients.table).T
    return rebuilt_from(vectors, table, Context(devices.resolve(spec.device)))


def write_rebuilt(result: MergeResult, spec: Spec, vectors: TaskVectors, output: Path, form: Form = PLAIN) -> None:
    """Write what :func:`rebuilt` gives into a file; raises as it does."""
    save_tensors(output, vectors.base.infos, rebuilt(result, spec, vectors), {"method": spec.label}, form=form)


def kept_weights(run: Run, store: RunStore) -> Path:
    """The file with the weights of a run that no table can write_rebuilt.

    Raises:
        RunError: it is gone, or was changed since.
    """
    if run.shipped:
        raise RunError(f"run {run.id} came with the suite, without its weights; run it again to have them")
    kept = store.folder(run.id) / KEPT_WEIGHTS
    noted = require_done(run).kept
    if not kept.is_file() or noted not in (None, _state(kept)):
        raise RunError(
            f"run {run.id}: its weights are gone or were changed, or did not come along with it (`runs export FILE "
            "--weights` takes them); delete the run and make it again, or import it with them"
        )
    return kept


def keep_weights(output: Path, kept: Path) -> list[int]:
    """Keep a file of weights for later without a second copy of it, where the file system allows that.

    Returns:
        What :func:`kept_weights` compares: the two names stand for one file, which somebody might write into.

    Raises:
        CheckpointError: the disk refuses.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.unlink(missing_ok=True)
        kept.hardlink_to(output)
    except OSError:
        with atomic_path(kept) as temporary:
            shutil.copyfile(output, temporary)
    return _state(kept)


def _state(path: Path) -> list[int]:
    """Size and time of the last change of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
