"""TIES against a straightforward implementation on flattened vectors."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.methods.context import Context
from merging.methods.edits.ties import TiesParams
from merging.methods.registry import find
from merging.weights.vectors import TaskVectors
from tests.random_models import random_vectors, write_models


def flattened_ties(vectors: torch.Tensor, keep: float, combine: str) -> torch.Tensor:
    """Trim, elect, drop, as the reference code does: on the whole matrix ``[T, D]`` at once."""
    size = vectors.shape[1]
    kept = max(1, math.floor(keep * size + 1e-9))
    limits = vectors.abs().kthvalue(size - kept + 1, dim=1, keepdim=True).values
    trimmed = vectors * (vectors.abs() >= limits)
    signs = trimmed.sum(dim=0).sign()
    signs[signs == 0] = signs.sum().sign()
    selected = torch.where(signs > 0, trimmed > 0, trimmed < 0) & (signs != 0)
    result = trimmed * selected
    return result / selected.sum(dim=0).clamp_min(1) if combine == "mean" else result


def edited(vectors: TaskVectors, params: TiesParams) -> torch.Tensor:
    """The edited stacks, flattened to ``[T, D]``."""
    edit = find("edit", "ties").plan(vectors, params, Context())
    return torch.cat([stack.flatten(1) for _, _, stack in vectors.edited(edit).iterate()], dim=1)


def unedited(vectors: TaskVectors) -> torch.Tensor:
    return torch.cat([stack.flatten(1) for _, _, stack in vectors.iterate()], dim=1)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("keep", [1e-6, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_it_is_the_flattened_algorithm(tmp_path: Path, tasks: int, keep: float, combine: str) -> None:
    vectors = random_vectors(tmp_path, tasks)
    found = edited(vectors, TiesParams(keep=keep, combine=combine))
    assert torch.equal(found, flattened_ties(unedited(vectors), keep, combine))


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=12, max_size=12), min_size=1, max_size=4),
    st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]),
    st.sampled_from(["sum", "mean"]),
)
def test_ties_at_the_threshold_and_exact_cancellations(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], keep: float, combine: str
) -> None:
    models = [{"a": torch.tensor(row[:8]).float().view(2, 4), "b": torch.tensor(row[8:]).float()} for row in rows]
    base = {"a": torch.zeros(2, 4), "b": torch.zeros(4)}
    vectors = write_models(tmp_path_factory.mktemp("ties"), base, models)
    found = edited(vectors, TiesParams(keep=keep, combine=combine))
    assert torch.equal(found, flattened_ties(unedited(vectors), keep, combine))


def test_keeping_everything_of_one_task_changes_nothing(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, tasks=1)
    assert torch.equal(edited(vectors, TiesParams(keep=1.0)), unedited(vectors))


def test_the_report_says_what_was_kept(vectors: TaskVectors) -> None:
    edit = find("edit", "ties").plan(vectors, TiesParams(keep=0.1), Context())
    flat = unedited(vectors)
    for row, threshold in zip(flat, edit.report["thresholds"], strict=True):
        assert int((row.abs() >= threshold).sum()) == edit.report["entries_kept"] == vectors.size // 10
