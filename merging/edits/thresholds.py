"""Exact order statistics of streamed magnitudes, in bounded memory."""

import torch

from merging.context import Context
from merging.streaming import ordered
from merging.vectors import TaskVectors

_SAMPLE = 400_000
_MARGIN = 0.004  # five standard errors of a quantile near 0.2 estimated from the sample


def largest_magnitudes(vectors: TaskVectors, count: int, context: Context) -> torch.Tensor:
    """Magnitude of the ``count``-th largest entry of each whole task vector, exactly; float32 ``[T]`` on the CPU.

    An even sample of entries brackets the answer; one pass counts the entries above the bracket and collects those
    inside (a percent or so), among which the answer is selected. Should the bracket miss, it is widened.

    Raises:
        NonFiniteWeights: a weight is NaN or infinite.
    """
    stride = max(1, vectors.size // _SAMPLE)
    sample = torch.cat([_sampled(vectors, name, stride) for name in vectors.names], dim=1).sort(dim=1).values
    share = count / vectors.size
    margin = 1.0 if stride == 1 else _MARGIN
    while True:
        low, high = _quantile(sample, 1 - share - margin, 0.0), _quantile(sample, 1 - share + margin, torch.inf)
        found = _select_between(vectors, count, low, high, context)
        if found is not None:
            return found
        margin *= 4


def _quantile(sample: torch.Tensor, level: float, outside: float) -> torch.Tensor:
    """Per-row quantile of a sorted sample, or ``outside`` beyond its ends."""
    index = round(level * sample.shape[1])
    if 0 < index < sample.shape[1]:
        return sample[:, index].clone()
    return torch.full((len(sample),), outside)


def _sampled(vectors: TaskVectors, name: str, stride: int) -> torch.Tensor:
    """Magnitude of every ``stride``-th entry of one tensor, ``[T, n]``; reads no others of unedited vectors."""
    if vectors.edit is not None:
        return vectors.stack(name)[1].reshape(len(vectors.tasks), -1)[:, ::stride].abs()
    base = vectors.base[name].reshape(-1)[::stride].float()
    return torch.stack([(c[name].reshape(-1)[::stride].float() - base).abs() for c in vectors.checkpoints])


def _select_between(
    vectors: TaskVectors, count: int, low: torch.Tensor, high: torch.Tensor, context: Context
) -> torch.Tensor | None:
    """The answer if it lies in ``(low, high]`` (``[0, high]`` where low is 0) for every task, else None."""
    limits = list(zip(low.tolist(), high.tolist(), strict=True))

    def one(name: str) -> tuple[list[int], list[list[torch.Tensor]]]:
        above = [0] * len(limits)
        inside: list[list[torch.Tensor]] = [[] for _ in limits]
        for _, _, stack in vectors.pieces(name, context.device):
            magnitudes = stack.abs()
            if not bool(torch.isfinite(magnitudes.sum())):
                raise vectors.owner_of_nonfinite(name)
            for task, (row, (lowest, highest)) in enumerate(zip(magnitudes, limits, strict=True)):
                higher = row > highest
                above[task] += int(higher.sum())
                between = higher.logical_not_()
                if lowest > 0:
                    between &= row > lowest
                inside[task].append(row[between].cpu())
        return above, inside

    total = [0] * len(limits)
    collected: list[list[torch.Tensor]] = [[] for _ in limits]
    for done, (above, inside) in enumerate(ordered(one, vectors.names, context.device)):
        total = [old + new for old, new in zip(total, above, strict=True)]
        for parts, more in zip(collected, inside, strict=True):
            parts += more
        context.step(done + 1, len(vectors.names), "finding thresholds")
    answers = []
    for number, parts in zip(total, collected, strict=True):
        candidates = torch.cat(parts)
        rank = count - number
        if not 1 <= rank <= len(candidates):
            return None
        answers.append(candidates.kthvalue(len(candidates) - rank + 1).values)
    return torch.stack(answers)
