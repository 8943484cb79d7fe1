"""Exact order statistics of streamed magnitudes, in bounded memory."""

import numpy as np
import torch

from merging.context import Context
from merging.streaming import ordered
from merging.vectors import TaskVectors

_SAMPLE = 800_000
_RUN = 16  # neighbours taken together: one line of the cache
_MARGIN = 0.006  # over three standard errors of a quantile near 0.2, even if each run were a single value


def largest_magnitudes(vectors: TaskVectors, count: int, context: Context) -> torch.Tensor:
    """Magnitude of the ``count``-th largest entry of each whole task vector, exactly; float32 ``[T]`` on the CPU.

    A sample of entries brackets the answer; one pass counts the entries above the bracket and collects those
    inside (a percent or so), among which the answer is selected. Should the bracket miss, it is widened.

    Raises:
        NonFiniteWeights: a weight is NaN or infinite.
    """
    stride = max(1, vectors.size // _SAMPLE)
    parts = list(ordered(lambda name: _sampled(vectors, name, stride), vectors.names, context.device))
    sample = np.concatenate(parts, axis=1)
    share = count / vectors.size
    margin = 1.0 if stride == 1 else _MARGIN
    while True:
        low, high = _quantile(sample, 1 - share - margin, 0.0), _quantile(sample, 1 - share + margin, torch.inf)
        found = _select_between(vectors, count, low, high, context)
        if found is not None:
            return found
        margin *= 4


def _quantile(sample: np.ndarray, level: float, outside: float) -> list[float]:
    """Quantile of each row of a sample ``[T, n]``, or ``outside`` beyond its ends."""
    index = round(level * sample.shape[1])
    if 0 < index < sample.shape[1]:
        values: list[float] = np.partition(sample, index, axis=1)[:, index].tolist()
        return values
    return [outside] * len(sample)


def _sampled(vectors: TaskVectors, name: str, stride: int) -> np.ndarray:
    """Magnitudes of about one entry in ``stride``, in short runs, ``[T, n]``; reads no others of unedited vectors."""

    def some(flat: torch.Tensor) -> torch.Tensor:
        runs = flat.unfold(-1, _RUN, _RUN * stride) if flat.shape[-1] >= _RUN * stride else flat[..., ::stride]
        return runs.flatten(-2 if runs.ndim > flat.ndim else -1)

    if vectors.edit is not None:
        return some(vectors.stack(name)[1].flatten(1)).abs().numpy()
    base = some(vectors.base[name].reshape(-1)).float()
    return torch.stack([(some(c[name].reshape(-1)).float() - base).abs() for c in vectors.checkpoints]).numpy()


def _select_between(
    vectors: TaskVectors, count: int, low: list[float], high: list[float], context: Context
) -> torch.Tensor | None:
    """The answer if it lies in ``(low, high]`` (``[0, high]`` where low is 0) for every task, else None."""
    limits = list(zip(low, high, strict=True))

    def one(name: str) -> tuple[list[int], list[torch.Tensor]]:
        above = [0] * len(limits)
        inside: list[list[torch.Tensor]] = [[] for _ in limits]
        for _, _, stack in vectors.pieces(name, context.device):
            magnitudes = stack.abs()
            if not bool(torch.isfinite(magnitudes.sum())):
                raise vectors.owner_of_nonfinite(name)
            for task, (row, (lowest, highest)) in enumerate(zip(magnitudes, limits, strict=True)):
                higher, between = _split(row, lowest, highest)
                above[task] += higher
                inside[task].append(between)
        return above, [torch.cat(parts) for parts in inside]

    total = [0] * len(limits)
    collected: list[list[torch.Tensor]] = [[] for _ in limits]
    for done, (above, inside) in enumerate(ordered(one, vectors.names, context.device)):
        total = [old + new for old, new in zip(total, above, strict=True)]
        for parts, more in zip(collected, inside, strict=True):
            parts.append(more)
        context.step(done + 1, len(vectors.names), "finding thresholds")
    answers = []
    for number, parts in zip(total, collected, strict=True):
        candidates = torch.cat(parts)
        rank = count - number
        if not 1 <= rank <= len(candidates):
            return None
        answers.append(candidates.kthvalue(len(candidates) - rank + 1).values)
    return torch.stack(answers)


def _split(row: torch.Tensor, low: float, high: float) -> tuple[int, torch.Tensor]:
    """How many entries are above ``high``, and those in ``(low, high]`` (``[0, high]`` where low is 0) on the CPU.

    numpy on the CPU: it finds the few True of a mask ten times as fast as torch.
    """
    if row.device.type != "cpu":
        from_low = row > low if low > 0 else row >= 0
        return int((row > high).sum()), row[from_low & (row <= high)].cpu()
    entries = row.numpy()
    higher = entries > high
    from_low = entries > low if low > 0 else entries >= 0
    return int(np.count_nonzero(higher)), torch.from_numpy(entries[from_low ^ higher])
