"""Exact order statistics of streamed magnitudes, in bounded memory."""

import torch

from merging.context import Context
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
    samples = [stack.reshape(len(stack), -1)[:, ::stride].abs().cpu() for _, _, stack in vectors.iterate()]
    sample = torch.cat(samples, dim=1).sort(dim=1).values
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


def _select_between(
    vectors: TaskVectors, count: int, low: torch.Tensor, high: torch.Tensor, context: Context
) -> torch.Tensor | None:
    """The answer if it lies in ``(low, high]`` for every task, else None."""
    above = [0] * len(vectors.tasks)
    inside: list[list[torch.Tensor]] = [[] for _ in vectors.tasks]
    for done, (name, _, stack) in enumerate(vectors.iterate(context.device)):
        magnitudes = stack.reshape(len(stack), -1).abs_()
        if not bool(torch.isfinite(magnitudes.sum())):
            raise vectors.owner_of_nonfinite(name)
        for task, row in enumerate(magnitudes):
            candidates = row[row > low[task].item()] if low[task] > 0 else row
            higher = candidates > high[task].item()
            above[task] += int(higher.sum())
            inside[task].append(candidates[~higher].cpu())
        context.step(done + 1, len(vectors.names), "finding thresholds")
    answers = []
    for task, parts in enumerate(inside):
        collected = torch.cat(parts)
        rank = count - above[task]
        if not 1 <= rank <= len(collected):
            return None
        answers.append(collected.kthvalue(len(collected) - rank + 1).values)
    return torch.stack(answers)
