"""What a run predicts for every image of a task, as the table of runs keeps it: under which key, and in which bytes."""

import numpy as np
import torch

from merging.evaluation.evaluator import Evaluator, evaluation_key
from merging.methods.spec import Spec

_STORED = np.dtype("<i4")


def answers_key(run_id: str, spec: Spec, evaluator: Evaluator, task: str) -> str:
    """Names the answers of a run on a task's present images, by the content of images and head; 64 hex digits.

    Args:
        run_id: of the run, whose weights its id stands for.
        spec: what the run did.
        evaluator: of its suite; the run may have been made on another kind of device than this one's.
        task: which task.
    """
    device = "" if spec.device == "auto" else torch.device(spec.device).type
    return evaluation_key([run_id], evaluator, task, spec.split, device)


def packed(classes: np.ndarray) -> bytes:
    """Class indices, int64 ``[N]``, as they are kept."""
    return classes.astype(_STORED).tobytes()


def unpacked(stored: bytes) -> np.ndarray:
    """The class indices, int64 ``[N]``, of what :func:`packed` gave."""
    return np.frombuffer(stored, _STORED).astype(np.int64)
