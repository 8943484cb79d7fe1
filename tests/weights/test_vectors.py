"""The stack of task vectors, whole and in pieces, plain and edited."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from merging.methods.planned import LinearEdit, TensorEdit
from merging.weights.files.checkpoint import Checkpoint
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, write_models


def test_a_stack_is_the_models_minus_the_base(vectors: TaskVectors, device: torch.device) -> None:
    assert list(vectors.names) == sorted(vectors.base)
    assert vectors.size == sum(tensor.numel() for tensor in vectors.base.values())
    for name, base, stack in vectors.iterate(device):
        assert base.device == stack.device == device
        assert torch.equal(base.cpu(), vectors.base[name])
        for row, checkpoint in zip(stack.cpu(), vectors.checkpoints, strict=True):
            assert torch.equal(row, checkpoint[name] - vectors.base[name])


def test_edits_are_applied_one_after_the_other(vectors: TaskVectors) -> None:
    turned = vectors.edited(lambda name, base, stack: stack + 1).edited(lambda name, base, stack: stack * 2)
    for name in vectors.names:
        assert torch.equal(turned.stack(name)[1], (vectors.stack(name)[1] + 1) * 2)
    assert vectors.edit is None


def test_models_are_not_read_again_when_an_edit_is_chosen(
    vectors: TaskVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> torch.Tensor:
        raise AssertionError("a file was read")

    monkeypatch.setattr(Checkpoint, "__getitem__", read)
    edit = TensorEdit(lambda name, base, stack: stack)
    edited = vectors.edited(edit)
    assert (edited.edit, vectors.edit) == (edit, None)


@pytest.mark.parametrize("kind", ["none", "linear", "tensor", "chained"])
def test_pieces_put_together_are_the_stack(tmp_path: Path, device: torch.device, kind: str) -> None:
    shapes = {"long": (701, 401), "scalar": (), "short": (3,)}
    vectors = write_models(tmp_path, random_state(0, shapes), [random_state(t, shapes) for t in (1, 2)])
    mixing = LinearEdit({"long": torch.tensor([[1.0, -0.5], [0.25, 2.0]]).numpy()})
    whole = TensorEdit(lambda name, base, stack: stack - stack.mean())
    edits = {"none": [], "linear": [mixing], "tensor": [whole], "chained": [mixing, whole]}[kind]
    for edit in edits:
        vectors = vectors.edited(edit)
    for name in vectors.names:
        base, stack = vectors.stack(name, device)
        flat_base, flat = torch.full_like(base.reshape(-1), torch.nan), torch.full_like(stack.reshape(2, -1), torch.nan)
        unit = max(1, base.shape[-1]) if base.ndim else 1
        for where, part, rows in vectors.pieces(name, device, unit):
            assert where.start % unit == where.stop % unit == 0  # no row is cut
            flat_base[where], flat[:, where] = part, rows
        assert torch.equal(flat_base, base.reshape(-1))
        torch.testing.assert_close(flat, stack.reshape(2, -1), rtol=1e-6, atol=1e-6)


def test_the_base_may_be_the_one_that_is_broken(tmp_path: Path) -> None:
    base = random_state(0)
    base["proj"][1, 1] = torch.inf
    vectors = write_models(tmp_path, base, [random_state(1)])
    assert "base.safetensors: tensor 'proj' holds NaN or infinity" in str(vectors.owner_of_nonfinite("proj"))
    assert "overflowed float32; use smaller coefficients" in str(vectors.owner_of_nonfinite("ln_post.bias"))


def test_a_passing_stack_lasts_until_its_thread_asks_for_the_next(vectors: TaskVectors) -> None:
    first, second = vectors.names[:2]
    kept = vectors.stack(first, passing=True)[1]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: [vectors.stack(name, passing=True) for name in vectors.names]).result()
    assert torch.equal(kept, vectors.stack(first)[1])
    again = vectors.stack(second, passing=True)[1]
    assert torch.equal(again, vectors.stack(second)[1])
    assert again.untyped_storage().data_ptr() == kept.untyped_storage().data_ptr() or again.numel() > kept.numel()
