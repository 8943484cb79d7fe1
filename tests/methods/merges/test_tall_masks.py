"""Localised models against the definition written out, and their files against what was evaluated."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merging.core.errors import CheckpointError, MissingPart, NonFiniteWeights, SpecError
from merging.methods.context import Context
from merging.methods.params import DataUse
from merging.methods.plan import Plan, plan
from merging.methods.refusals import refusal
from merging.methods.registry import find, merges
from merging.runs.jobs import MergeSpec
from merging.suites import Suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.localised import is_localised, masked_sum, task_weights
from merging.weights.vectors import TaskVectors
from tests.methods.test_plan import EDITS
from tests.random_models import random_state, random_vectors, write_models

State = dict[str, torch.Tensor]


def planned(vectors: TaskVectors, edit: str = "none", context: Context | None = None, **params: object) -> Plan:
    name, edit_params = EDITS[edit]
    spec = MergeSpec.build(
        suite="any", tasks=vectors.tasks, edit=name, edit_params=edit_params, merge="tall_masks", merge_params=params
    )
    return plan(vectors, spec.pair, context or Context())


def written(vectors: TaskVectors, file: Path, edit: str = "none", **params: object) -> Plan:
    made = planned(vectors, edit, **params)
    save_tensors(file, made.infos, made.tensors(), made.metadata)
    return made


def models(vectors: TaskVectors, edit: str = "none", **params: object) -> list[State]:
    made = planned(vectors, edit, **params)
    tensors = dict(made.tensors())
    return [dict(made.served(tensors, task)) for task in vectors.tasks]


def plain(stack: torch.Tensor, threshold: float, base: torch.Tensor, total: torch.Tensor) -> list[torch.Tensor]:
    return [base + (t.abs() > threshold * (total - t).abs()) * total for t in stack]


@pytest.mark.parametrize("tasks", [1, 2, 8])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 3.0])
def test_every_task_has_the_base_and_its_part_of_the_sum(tmp_path: Path, tasks: int, threshold: float) -> None:
    vectors = random_vectors(tmp_path, tasks)
    found = models(vectors, threshold=threshold)
    for name, base, stack in vectors.iterate():
        for model, expected in zip(found, plain(stack, threshold, base, stack.sum(dim=0)), strict=True):
            torch.testing.assert_close(model[name], expected)


@pytest.mark.parametrize("edit", [name for name in EDITS if not refusal(*EDITS[name], "tall_masks")])
def test_it_follows_every_edit_that_is_not_refused(vectors: TaskVectors, edit: str) -> None:
    found = models(vectors, edit)
    applied = planned(vectors, edit).edit
    for name, base, stack in vectors.iterate():
        edited = applied(name, base, stack)
        for model, expected in zip(found, plain(edited, 0.4, base, edited.sum(dim=0)), strict=True):
            torch.testing.assert_close(model[name], expected)


def test_the_shared_vector_can_be_the_ties_sum(vectors: TaskVectors) -> None:
    found = models(vectors, total="ties", keep=0.4)
    trimmed = planned(vectors, "ties").edit
    for name, base, stack in vectors.iterate():
        total = trimmed(name, base, stack).sum(dim=0)
        for model, expected in zip(found, plain(stack, 0.4, base, total), strict=True):
            torch.testing.assert_close(model[name], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_file_gives_back_bit_for_bit_what_was_served(tmp_path: Path, dtype: torch.dtype) -> None:
    base, *states = (
        {
            **random_state(seed, dtype=dtype),
            "scalar": torch.tensor(0.5 + seed, dtype=dtype),
            "n": torch.arange(3) + seed,
        }
        for seed in range(4)
    )
    vectors = write_models(tmp_path, base, states)
    file = tmp_path / "tall.safetensors"
    made = written(vectors, file, "ties")
    tensors = dict(made.tensors())
    assert is_localised(file) and not is_localised(tmp_path / "base.safetensors")
    for task in vectors.tasks:
        rebuilt, served = (
            task_weights(open_checkpoint(tmp_path / "base.safetensors"), file, task),
            made.served(tensors, task),
        )
        assert list(rebuilt) == sorted(base) == list(served)
        for name, tensor in rebuilt.items():
            assert tensor.dtype == base[name].dtype and tensor.shape == base[name].shape
            assert torch.equal(tensor, served[name])
        assert torch.equal(rebuilt["n"], base["n"])


def test_the_file_holds_what_its_description_says(vectors: TaskVectors, tmp_path: Path) -> None:
    """Read without this package's functions: numpy and the text of the module are enough."""
    written(vectors, tmp_path / "tall.safetensors", threshold=0.3)
    stored = load_file(tmp_path / "tall.safetensors")
    assert set(stored) == {f"{kind}.{name}" for kind in ("vector", "masks") for name in vectors.names}
    for name, base, stack in vectors.iterate():
        total = stored[f"vector.{name}"]
        torch.testing.assert_close(total, stack.sum(dim=0))
        bits = np.unpackbits(stored[f"masks.{name}"].numpy(), axis=1)[:, : base.numel()]
        expected = torch.stack([t.abs() > 0.3 * (stack.sum(dim=0) - t).abs() for t in stack])
        assert (bits.reshape(stack.shape) == expected.numpy()).all()


def test_storage_and_shares_are_counted(vectors: TaskVectors, tmp_path: Path) -> None:
    made = written(vectors, tmp_path / "tall.safetensors")
    report = made.merge_report()
    stored = load_file(tmp_path / "tall.safetensors")
    weights = vectors.size
    packed = [tensor for name, tensor in stored.items() if name.startswith("masks.")]
    storage = report["storage"]
    assert storage["base"] == storage["vector"] == 32 * weights
    assert storage["masks"] == 8 * sum(tensor.numel() for tensor in packed)
    assert 3 * weights <= storage["masks"] < 3 * (weights + 8 * len(packed))
    assert storage["masks_compressed"] == 8 * sum(len(zlib.compress(tensor.numpy().tobytes())) for tensor in packed)
    assert storage["localised"] == storage["base"] + storage["vector"] + storage["masks"]
    assert storage["models"] == 4 * 32 * weights
    active = [sum(int((model[n] != vectors.base[n]).sum()) for n in vectors.names) for model in models(vectors)]
    assert report["active"] == pytest.approx([count / weights for count in active])
    assert report["thresholds"] == [0.4] * 3
    assert json.loads(json.dumps(report)) == report


def test_thresholds_are_chosen_as_for_consensus(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads"])
    report = planned(vectors, context=context, threshold="auto").merge.report
    consensus = find("edit", "consensus")
    expected = consensus.plan(vectors, consensus.parse({"threshold": "auto"}), context).report
    assert report == expected and len(report["thresholds"]) == 2
    assert find("merge", "tall_masks").data({"threshold": "auto"}) == DataUse("none", ("merge.threshold",))
    with pytest.raises(MissingPart, match="threshold: auto"):
        planned(vectors, threshold="auto")


def test_wrong_files_bases_and_tasks_are_named(vectors: TaskVectors, tmp_path: Path) -> None:
    file, models = tmp_path / "tall.safetensors", tmp_path / "models"
    written(vectors, file)
    base = open_checkpoint(models / "base.safetensors")
    with pytest.raises(SpecError, match=r"no model for task 'roads'; it has task0, task1, task2"):
        task_weights(base, file, "roads")
    with pytest.raises(CheckpointError, match=r"tall\.safetensors: made from another base model than task0"):
        task_weights(open_checkpoint(models / "task0.safetensors"), file, "task0")
    with pytest.raises(CheckpointError, match=r"base\.safetensors: holds no masks"):
        task_weights(base, models / "base.safetensors", "task0")
    save_file(load_file(file), tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"bare\.safetensors: its header names no tasks"):
        task_weights(base, tmp_path / "bare.safetensors", "task0")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_weights_are_refused(tmp_path: Path, bad: float) -> None:
    states = [random_state(1), random_state(2)]
    states[1]["proj"][0, 0] = bad
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'proj' holds NaN or infinity"):
        models(write_models(tmp_path, random_state(0), states))


def test_overflow_is_an_error_and_not_infinity(tmp_path: Path) -> None:
    base = {"w": torch.full((4,), 30000.0).half()}
    vectors = write_models(tmp_path, base, [{"w": torch.full((4,), 60000.0).half()}] * 2)
    with pytest.raises(NonFiniteWeights, match="overflow float16"):
        models(vectors)


@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32), st.booleans()), min_size=1))
def test_a_masked_sum_is_the_sum_or_the_base(entries: list[tuple[float, float, bool]]) -> None:
    base, vector, mask = (torch.tensor(column) for column in zip(*entries, strict=True))
    found = masked_sum(base, vector, mask)
    for value, (b, v, m) in zip(found.tolist(), entries, strict=True):
        assert value == (float(np.float32(b) + np.float32(v)) if m else b)


def test_golden_values(vectors: TaskVectors) -> None:
    """Pinned results, as in the tests of whole merges."""
    golden = json.loads((Path(__file__).parents[2] / "golden_merges.json").read_text())
    found = [[float(tensor.double().norm()) for tensor in model.values()] for model in models(vectors, threshold=0.3)]
    assert found == [pytest.approx(row, rel=2e-5) for row in golden["none + tall masks"]]


def test_exactly_these_merges_are_localised() -> None:
    assert [name for name, method in merges().items() if method.localised] == ["emr", "tall_masks"]
