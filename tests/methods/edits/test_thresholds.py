"""Exact order statistics of whole task vectors, on distributions made to be hard."""

from pathlib import Path

import pytest
import torch

from merging.core.errors import NonFiniteWeights
from merging.methods.context import Context
from merging.methods.edits import magnitudes as thresholds
from merging.methods.edits.magnitudes import largest_magnitudes
from merging.weights.vectors import TaskVectors
from tests.random_models import write_models

SIZE = 6000


def distributions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(SIZE, generator=generator)
    spikes = torch.zeros(SIZE)
    spikes[torch.randperm(SIZE, generator=generator)[:37]] = 5.0
    every_third = torch.zeros(SIZE)
    every_third[::3] = normal[::3]
    return {
        "normal": normal,
        "constant": torch.full((SIZE,), -0.25),
        "all zero": torch.zeros(SIZE),
        "few values": (normal * 2).round(),
        "spikes": spikes,
        "in step with the sample": every_third,
        "sorted": normal.sort().values,
        "heavy tail": normal**5,
        "tiny": normal * 1e-30,
    }


def vectors_of(folder: Path, rows: list[torch.Tensor]) -> TaskVectors:
    """Task vectors with these entries, over three tensors."""
    models = [{"a": row[:1000].view(50, 20), "b": row[1000:1001], "c": row[1001:]} for row in rows]
    base = {name: torch.zeros_like(tensor) for name, tensor in models[0].items()}
    return write_models(folder, base, [{n: t.contiguous() for n, t in model.items()} for model in models])


@pytest.mark.parametrize("count", [1, 2, 36, 37, 38, 1200, 2000, 2001, SIZE - 1, SIZE])
@pytest.mark.parametrize("sample", [400_000, 3000, 40])
def test_it_is_the_order_statistic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, sample: int) -> None:
    """Small samples make brackets that miss, so that they have to be widened."""
    monkeypatch.setattr(thresholds, "_SAMPLE", sample)
    rows = list(distributions().values())
    found = largest_magnitudes(vectors_of(tmp_path, rows), count, Context())
    expected = torch.stack([row.abs().kthvalue(SIZE - count + 1).values for row in rows])
    assert torch.equal(found, expected)


def test_zeros_do_not_widen_the_bracket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector that is mostly zero is answered in one pass, without collecting its zeros."""
    passes = []
    select = thresholds._select_between
    monkeypatch.setattr(thresholds, "_SAMPLE", 3000)
    monkeypatch.setattr(thresholds, "_select_between", lambda *given: passes.append(1) or select(*given))
    rows = [distributions()["all zero"], distributions()["spikes"]]
    assert largest_magnitudes(vectors_of(tmp_path, rows), 1200, Context()).tolist() == [0, 0]
    assert len(passes) == 1


def test_infinite_weights_are_named(tmp_path: Path) -> None:
    rows = [torch.ones(SIZE), torch.ones(SIZE)]
    rows[1][1000] = torch.inf
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'b' holds NaN or infinity"):
        largest_magnitudes(vectors_of(tmp_path, rows), 10, Context())
