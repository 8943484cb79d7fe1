"""Gram matrices, cosines and the 2-D map against plain float64 arithmetic; the cache against damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import Cancelled, NonFiniteWeights, SpecError
from merging.methods.context import Context
from merging.weights import geometry
from merging.weights.geometry import block_of, cached, cosines, first_largest, mean_abs_cosine, measure
from merging.weights.vectors import TaskVectors
from tests.random_models import flattened, random_state, write_models


def test_grams_are_those_of_flattened_vectors(vectors: TaskVectors, device: torch.device) -> None:
    found = measure(vectors, Context(device=device))
    flat = flattened(vectors)
    np.testing.assert_allclose(found.gram, (flat @ flat.T).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.norms, flat.norm(dim=1).numpy(), rtol=1e-5)
    start = 0
    for name, gram in zip(found.names, found.grams, strict=True):
        part = flat[:, start : start + vectors.base[name].numel()]
        start += vectors.base[name].numel()
        np.testing.assert_allclose(gram, (part @ part.T).numpy(), rtol=1e-4, atol=1e-6)
    assert start == vectors.size


def test_mixed_precisions_strides_scalars_and_integer_buffers(tmp_path: Path) -> None:
    from merging.weights.files import open_checkpoint

    base = {"a": torch.randn(5, 4).half(), "b": torch.randn(7).bfloat16(), "c": torch.tensor(2.0), "n": torch.arange(3)}
    models = [
        {"a": torch.randn(4, 5).T, "b": torch.randn(14)[::2], "c": torch.tensor(1.0).half(), "n": torch.arange(3) + 9},
        {"a": torch.randn(5, 4).bfloat16(), "b": torch.randn(7).double(), "c": torch.tensor(5.0), "n": torch.arange(3)},
    ]
    for index, state in enumerate((base, *models)):
        torch.save(state, tmp_path / f"{index}.pt")
    files = [open_checkpoint(tmp_path / f"{index}.pt") for index in range(3)]
    found = measure(TaskVectors(files[0], tuple(files[1:]), ("x", "y")))
    assert found.names == ("a", "b", "c")
    flat = torch.stack([torch.cat([(m[n].double() - base[n].double()).flatten() for n in found.names]) for m in models])
    np.testing.assert_allclose(found.gram, (flat @ flat.T).numpy(), rtol=1e-5)


def test_tensors_longer_than_a_piece(tmp_path: Path) -> None:
    shapes = {"w": (701, 401)}
    vectors = write_models(tmp_path, random_state(0, shapes), [random_state(t, shapes) for t in (1, 2, 3)])
    flat = flattened(vectors)
    np.testing.assert_allclose(measure(vectors).gram, (flat @ flat.T).numpy(), rtol=1e-5)


def test_an_edit_is_measured_too(vectors: TaskVectors) -> None:
    doubled = measure(vectors.edited(lambda name, base, stack: 2 * stack))
    np.testing.assert_allclose(doubled.grams, 4 * measure(vectors).grams, rtol=1e-6)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.integers(-12, 12))
def test_cosines_are_bounded_symmetric_and_free_of_scale(tasks: int, seed: int, exponent: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(tasks, 4)) * 10.0**exponent
    found = cosines(vectors @ vectors.T)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(np.diagonal(found), 1, rtol=1e-9)
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(found, cosines(7 * vectors @ vectors.T), rtol=1e-9, atol=1e-12)


def test_a_zero_vector_has_cosine_zero_with_everything() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = cosines(vectors @ vectors.T)
    assert found[1].tolist() == [0, 0, 0]
    assert found[0, 2] == pytest.approx(2**-0.5)
    assert mean_abs_cosine(vectors @ vectors.T) == pytest.approx(2**-0.5)  # of the one pair with directions
    assert mean_abs_cosine(np.ones((1, 1))) == 0


def test_selecting_tasks_is_measuring_them(vectors: TaskVectors) -> None:
    whole = measure(vectors)
    chosen = whole.select(["task2", "task0"])
    turned = TaskVectors(vectors.base, (vectors.checkpoints[2], vectors.checkpoints[0]), ("task2", "task0"))
    assert chosen.tasks == ("task2", "task0")
    np.testing.assert_allclose(chosen.grams, measure(turned).grams, rtol=1e-6)
    with pytest.raises(SpecError, match=r"unknown tasks \['nobody'\]"):
        whole.select(["task0", "nobody"])


def test_levels_add_up(vectors: TaskVectors) -> None:
    found = measure(vectors)
    assert found.at("model")[0] == ("model",)
    assert found.at("block")[0] == ("stem", "block 0", "block 1", "output")
    assert found.at("layer")[0] == found.names
    for level in ("model", "block", "layer"):
        np.testing.assert_allclose(found.at(level)[1].sum(axis=0), found.gram)


def test_blocks_are_ordered_by_number() -> None:
    assert block_of("class_embedding") == "stem"
    assert block_of("ln_post.weight") == "output"
    labels = sorted(["block 10", "output", "block 9", "stem"], key=geometry._block_order)
    assert labels == ["stem", "block 9", "block 10", "output"]


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(vectors: TaskVectors, tmp_path: Path) -> Path:
    """The file that caching these vectors makes."""
    cached(vectors, tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "geometry").iterdir()
    return path


def test_the_second_time_nothing_is_measured(
    vectors: TaskVectors, entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measure(vectors)
    monkeypatch.setattr(geometry, "measure", lambda *_: pytest.fail("measured again"))
    found = cached(vectors, tmp_path / "cache")
    assert np.array_equal(found.grams, expected.grams)
    assert (found.tasks, found.names, found.shapes) == (expected.tasks, expected.names, expected.shapes)


def test_other_files_have_an_entry_of_their_own(
    make_vectors: Callable[..., TaskVectors], entry: Path, tmp_path: Path
) -> None:
    other = make_vectors(seed=9)
    np.testing.assert_array_equal(cached(other, tmp_path / "cache").grams, measure(other).grams)
    assert len(list(entry.parent.iterdir())) == 2


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (1, 0)])
def test_tasks_in_another_order_are_not_taken_for_the_first_ones(
    vectors: TaskVectors, entry: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """Their fingerprints are the same; their Gram matrices are not."""
    tasks, models = tuple(vectors.tasks[i] for i in order), tuple(vectors.checkpoints[i] for i in order)
    turned = TaskVectors(vectors.base, models, tasks)
    for _ in range(2):  # measured, then read
        found = cached(turned, tmp_path / "cache")
        assert found.tasks == tasks
        np.testing.assert_array_equal(found.grams, measure(turned).grams)
    assert not np.array_equal(found.grams, measure(vectors).select(sorted(tasks)).grams)


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "garbage": b"garbage" * 50,
        "truncated": content[: len(content) // 2],
        "flipped bits": content[:300] + bytes(255 - byte for byte in content[300:420]) + content[420:],
        "zip header only": b"PK\x03\x04" + b"\0" * 40,
    }


@pytest.mark.parametrize("kind", damaged(b""))
def test_a_damaged_entry_is_measured_again_and_mended(
    vectors: TaskVectors, entry: Path, tmp_path: Path, kind: str
) -> None:
    entry.write_bytes(damaged(entry.read_bytes())[kind])
    expected = measure(vectors)
    assert np.array_equal(cached(vectors, tmp_path / "cache").grams, expected.grams)
    with np.load(entry) as stored:
        assert np.array_equal(stored["grams"], expected.grams)


@pytest.mark.parametrize(
    "content",
    [{"names": np.array(["a"]), "grams": np.zeros((1, 3, 3))}, {"grams": np.zeros((5, 3, 3))}, {"names": np.zeros(0)}],
)
def test_an_entry_that_does_not_fit_is_measured_again(
    vectors: TaskVectors, entry: Path, tmp_path: Path, content: dict[str, np.ndarray]
) -> None:
    np.savez(entry, **content)
    assert np.array_equal(cached(vectors, tmp_path / "cache").grams, measure(vectors).grams)


def test_a_pickled_entry_is_not_unpickled(vectors: TaskVectors, entry: Path, tmp_path: Path) -> None:
    np.savez(entry, names=np.array(vectors.names), grams=np.array([{"a": 1}], dtype=object))
    assert np.array_equal(cached(vectors, tmp_path / "cache").grams, measure(vectors).grams)


# --- what stops it ---------------------------------------------------------------------------------------------------


def test_nonfinite_weights_are_named_and_nothing_is_cached(tmp_path: Path) -> None:
    model = random_state(1)
    model["proj"][2, 2] = float("nan")
    vectors = write_models(tmp_path / "models", random_state(0), [random_state(2), model])
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'proj' holds NaN"):
        cached(vectors, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_it_can_be_cancelled(vectors: TaskVectors) -> None:
    with pytest.raises(Cancelled, match="measuring task vectors"):
        measure(vectors, Context(cancelled=lambda: True))


def test_the_first_of_cosines_that_rounding_leaves_apart_is_the_largest() -> None:
    assert first_largest(np.array([0.1, 0.7, 0.7 + 1e-6])) == 1
    assert first_largest(np.array([0.1, 0.7, 0.7 + 1e-4])) == 2
