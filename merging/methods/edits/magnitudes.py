"""Exact order statistics of streamed magnitudes, in bounded memory, on the device of the run."""

from collections.abc import Sequence

import numpy as np
import torch

from merging.core.streaming import ordered
from merging.methods.context import Context
from merging.weights.vectors import TaskVectors

_SAMPLE = 800_000
_RUN = 16  # neighbours taken together: one line of the cache
_MARGIN = 0.006  # over three standard errors of a quantile near 0.2, even if each run were a single value


def largest_magnitudes(
    vectors: TaskVectors, count: int, context: Context, names: Sequence[str] | None = None
) -> torch.Tensor:
    """Magnitude of the ``count``-th largest entry of each task vector, exactly; float32 ``[T]`` on the CPU.

    A sample of entries brackets the answer; one pass counts the entries above the bracket and collects those
    inside (a percent or so), among which the answer is selected. Should the bracket miss, it is widened.

    Args:
        vectors: the task vectors.
        count: at least one, at most their number of entries.
        context: told of progress.
        names: the tensors whose entries are looked at; all by default.

    Raises:
        NonFiniteWeights: a weight is NaN or infinite.
    """
    names = vectors.names if names is None else names
    size = sum(torch.Size(vectors.info(name).shape).numel() for name in names)
    stride = max(1, size // _SAMPLE)
    share = count / size
    margin = 1.0 if stride == 1 else _MARGIN
    while True:  # seldom twice, so that no sample is kept meanwhile
        sample = _sample(vectors, names, stride, context)
        low, high = _quantile(sample, 1 - share - margin, -1.0), _quantile(sample, 1 - share + margin, torch.inf)
        del sample
        found = _select_between(vectors, names, count, low, high, context)
        if found is not None:
            return found
        margin *= 4


def _quantile(sample: Sequence[np.ndarray], level: float, outside: float) -> list[float]:
    """Quantile of each row of a sample in parts ``[T, n]``, or ``outside`` beyond its ends; a row at a time."""
    size, rows = sum(part.shape[1] for part in sample), len(sample[0])
    index = round(level * size)
    if 0 < index < size:
        joined = (np.concatenate([part[row] for part in sample]) for row in range(rows))
        return [float(np.partition(values, index)[index]) for values in joined]
    return [outside] * rows


def _sample(vectors: TaskVectors, names: Sequence[str], stride: int, context: Context) -> list[np.ndarray]:
    """Magnitudes of about one entry in ``stride``, in short runs, in parts ``[T, n]``."""
    groups = vectors.groups(names, context.device)
    if len(groups) < len(names):
        return [
            _some(stack, stride).abs().cpu().numpy()
            for group in groups
            for stack in vectors.entries(group, context.device)
        ]
    return list(ordered(lambda name: _sampled(vectors, name, stride, context.device), names, context.device))


def _some(flat: torch.Tensor, stride: int) -> torch.Tensor:
    """About one entry in ``stride`` of ``[…, n]``, in short runs."""
    runs = flat.unfold(-1, _RUN, _RUN * stride) if flat.shape[-1] >= _RUN * stride else flat[..., ::stride]
    return runs.flatten(-2 if runs.ndim > flat.ndim else -1)


def _sampled(vectors: TaskVectors, name: str, stride: int, device: torch.device | str) -> np.ndarray:
    """The same of one tensor; reads no others where edits allow it."""
    if not getattr(vectors.edit, "elementwise", vectors.edit is None):
        sample = _some(vectors.stack(name, device, passing=True)[1].flatten(1), stride)
    else:
        base, *models = (
            _some(stored.reshape(-1), stride).to(device, torch.float32) for stored in vectors.stored(name, device)
        )
        sample = torch.stack([model - base for model in models])
        sample = sample if vectors.edit is None else vectors.edit(name, base, sample)
    magnitudes: np.ndarray = sample.abs().cpu().numpy()
    return magnitudes


def _select_between(
    vectors: TaskVectors, names: Sequence[str], count: int, low: list[float], high: list[float], context: Context
) -> torch.Tensor | None:
    """The answer if it lies in ``(low, high]`` for every task, else None."""
    bottom, top = (torch.tensor(limits, device=context.device)[:, None] for limits in (low, high))

    groups = vectors.groups(names, context.device)

    def one(group: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        above = np.zeros(len(low), dtype=np.int64)
        inside = [[np.empty(0, dtype=np.float32)] * len(low)]
        for stack in vectors.entries(group, context.device):
            magnitudes = stack.abs_() if stack.device.type == "cpu" else stack.abs()  # only there it is a copy
            if not bool(torch.isfinite(magnitudes.sum())):
                raise vectors.owner_among(group)
            higher = magnitudes > top
            between = (magnitudes > bottom) ^ higher
            above += _counted(higher)
            inside.append(np.split(_picked(magnitudes, between), np.cumsum(_counted(between))[:-1]))
        return above, [np.concatenate(parts) for parts in zip(*inside, strict=True)]

    above = np.zeros(len(low), dtype=np.int64)
    collected: list[list[np.ndarray]] = [[] for _ in low]
    for done, (more, inside) in enumerate(ordered(one, groups, context.device)):
        above += more
        for parts, part in zip(collected, inside, strict=True):
            parts.append(part)
        context.step(done + 1, len(groups), "finding thresholds")
    answers = []
    for number, parts, limit in zip(above.tolist(), collected, low, strict=True):
        candidates = np.concatenate(parts)
        place = len(candidates) - (count - number)
        if place < 0 and limit == 0:  # fewer than ``count`` entries are not zero
            answers.append(np.float32(0))
            continue
        if not 0 <= place < len(candidates):
            return None
        answers.append(np.partition(candidates, place)[place])
    return torch.tensor(np.array(answers))


def _counted(mask: torch.Tensor) -> np.ndarray:
    """How many are true in each row."""
    if mask.device.type == "cpu":
        counts: np.ndarray = np.count_nonzero(mask.numpy(), axis=1)  # several times as fast as torch
    else:
        counts = mask.count_nonzero(dim=1).cpu().numpy()
    return counts


def _picked(entries: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """The entries where a mask is true, row by row."""
    if mask.device.type == "cpu":
        picked: np.ndarray = entries.numpy()[mask.numpy()]  # ten times as fast as torch where few are
    else:
        picked = entries[mask].cpu().numpy()
    return picked
