"""Weights that stay on the device: the same numbers as from files, kept by content, given back when room is needed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging.core.errors import Cancelled, NonFiniteWeights
from merging.core.progress import Work
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import Plan, plan
from merging.weights import resident
from merging.weights.files import open_checkpoint
from merging.weights.geometry import measure
from merging.weights.resident import Room, Shelf
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, write_models

METHODS = [Pair.of("none"), Pair.of("awd"), Pair.of("ties"), Pair.of("none", None, "tsv_m")]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """An empty one, small buffers, and room enough."""
    monkeypatch.setattr(resident, "_STAGE", 100)
    return Shelf()


def fingerprinted(vectors: TaskVectors) -> TaskVectors:
    assert all(model.fingerprint for model in (vectors.base, *vectors.checkpoints))
    return vectors


def test_what_is_on_the_device_is_what_the_files_hold(vectors: TaskVectors, device: torch.device, shelf: Shelf) -> None:
    placed = shelf.placed(vectors, Work(device))
    assert placed.resident is not None
    assert all(weights[name].device == device for weights in placed.resident.weights for name in vectors.base)
    for name in vectors.names:
        assert all(map(torch.equal, placed.stack(name, device), vectors.stack(name, device)))
    assert (measure(placed).grams == measure(vectors).grams).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_kept_as_they_are_stored(tmp_path: Path, dtype: torch.dtype, shelf: Shelf) -> None:
    base = {**random_state(0, dtype=dtype), "steps": torch.tensor(3), "ln_post.bias": random_state(5)["ln_post.bias"]}
    vectors = write_models(tmp_path, base, [{**base, **random_state(t, dtype=dtype)} for t in (1, 2)])
    weights = shelf.placed(vectors, Work()).resident.weights  # type: ignore[union-attr]
    for kept, model in zip(weights, (vectors.base, *vectors.checkpoints), strict=True):
        assert list(kept) == list(model)
        assert all(
            kept[name].dtype == tensor.dtype and torch.equal(kept[name], tensor) for name, tensor in model.items()
        )


@pytest.mark.parametrize("method", METHODS, ids=lambda pair: pair.label)
def test_merges_are_the_same_bit_for_bit(
    vectors: TaskVectors, device: torch.device, method: Pair, shelf: Shelf
) -> None:
    streamed = merged(plan(vectors, method, Context(device, resident=False)), device)
    kept = merged(plan(shelf.placed(vectors, Work(device)), method, Context(device)), device)
    assert streamed.keys() == kept.keys()
    assert all(torch.equal(streamed[name], kept[name]) for name in streamed)


def merged(planned: Plan, device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu() for name, tensor in planned.tensors(Context(device))}


def test_they_are_found_again_by_content(vectors: TaskVectors, shelf: Shelf) -> None:
    first = shelf.placed(fingerprinted(vectors), Work())
    again = replace(vectors, checkpoints=tuple(map(reopened, reversed(vectors.checkpoints))), tasks=("c", "b", "a"))
    second = shelf.placed(fingerprinted(again), Work())
    assert first.resident is not None
    assert second.resident is not None
    assert [*map(id, second.resident.weights)] == [
        *map(id, (first.resident.weights[0], *first.resident.weights[:0:-1]))
    ]
    assert shelf.nbytes == first.resident.nbytes


def reopened(model: object) -> object:
    return open_checkpoint(model.path)  # type: ignore[attr-defined]


def test_what_has_no_fingerprint_is_not_kept(vectors: TaskVectors, shelf: Shelf) -> None:
    assert shelf.placed(vectors, Work()).resident is not None
    assert shelf.nbytes == 0


def test_what_somebody_wrote_into_is_read_again(vectors: TaskVectors, shelf: Shelf) -> None:
    placed = shelf.placed(fingerprinted(vectors), Work())
    placed.stored("proj")[1].add_(1)
    again = shelf.placed(vectors, Work())
    assert torch.equal(again.stored("proj")[1], vectors.checkpoints[0]["proj"])
    assert again.resident.weights[0] is placed.resident.weights[0]  # type: ignore[union-attr]


def test_others_leave_when_their_room_is_needed(
    make_vectors: Callable[..., TaskVectors], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (fingerprinted(make_vectors(seed=seed)) for seed in (1, 2))
    need = Room.of(one)
    capacity = need.total + need.models // 2  # enough for one and a half
    monkeypatch.setattr(resident, "free_memory", lambda device: capacity - shelf.nbytes)
    assert shelf.placed(one, Work()).resident is not None
    assert shelf.nbytes == need.models
    assert shelf.placed(two, Work()).resident is not None
    assert need.models <= shelf.nbytes <= 1.5 * need.models
    capacity = need.total - 1
    assert shelf.placed(one, Work()).resident is None  # then merges read tensor by tensor
    assert shelf.nbytes < need.models


def test_memory_that_is_gone_when_it_is_asked_for_means_streaming(
    vectors: TaskVectors, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(resident.torch, "empty", none_left)
    assert shelf.placed(vectors, Work()) is vectors


def test_reading_can_be_cancelled_and_reports(vectors: TaskVectors, shelf: Shelf) -> None:
    seen: list[tuple[int, int]] = []
    shelf.placed(fingerprinted(vectors), Work(on_progress=lambda done, total, message: seen.append((done, total))))
    assert seen == [(number, 4) for number in range(5)]
    other = Shelf()
    with pytest.raises(Cancelled, match="reading models onto the device"):
        other.placed(vectors, Work(cancelled=lambda: True))
    assert other.nbytes == 0


def test_on_the_cpu_and_where_nobody_wants_it_files_serve(vectors: TaskVectors, shelf: Shelf) -> None:
    assert shelf.held(vectors, Work()) is vectors
    assert shelf.held(vectors, Work(torch.device("cuda", 0), resident=False)) is vectors


def test_tensors_that_lie_side_by_side_are_taken_together(
    vectors: TaskVectors, device: torch.device, shelf: Shelf
) -> None:
    placed = shelf.placed(vectors, Work(device))
    groups = placed.groups(vectors.names, device)
    assert len(groups) < len(vectors.names) == len(vectors.groups(vectors.names, device))
    assert [name for group in groups for name in group] == list(vectors.names)
    for group in groups:
        expected = torch.cat([vectors.stack(name, device)[1].flatten(1) for name in group], dim=1)
        assert torch.equal(torch.cat(list(placed.entries(group, device)), dim=1), expected)
    apart = placed.groups(vectors.names[::2], device)
    assert [name for group in apart for name in group] == list(vectors.names[::2])
    assert all(len(group) == 1 for group in apart)


def test_a_number_that_is_none_is_found_among_tensors_taken_together(tmp_path: Path, shelf: Shelf) -> None:
    base, model = random_state(0), random_state(1)
    model["proj"][1, 1] = torch.nan
    vectors = shelf.placed(write_models(tmp_path, base, [random_state(2), model]), Work())
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'proj' holds NaN"):
        plan(vectors, Pair.of("ties"), Context())
