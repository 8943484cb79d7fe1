"""EMR against the definition written out in numpy, entry by entry, and its file against what was evaluated."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from merging.core.errors import CheckpointError
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import Plan, plan
from merging.weights.files import save_tensors
from merging.weights.localised import task_weights
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, write_models

RESCALES = ["tensors", "entries", "none"]


def planned(vectors: TaskVectors, settings: str = "") -> Plan:
    return plan(vectors, Pair.read(f"merge=emr {settings}"), Context())


def models(vectors: TaskVectors, settings: str = "") -> list[dict[str, torch.Tensor]]:
    made = planned(vectors, settings)
    tensors = dict(made.tensors())
    return [dict(made.served(tensors, task)) for task in vectors.tasks]


def plain(vectors: TaskVectors, rescale: str) -> tuple[list[float], list[dict[str, np.ndarray]]]:
    """Factors, and what is added to the base, of every task."""
    average = {"tensors": np.mean, "entries": np.sum, "none": np.mean}[rescale]
    lengths, elected, parts = [0.0] * len(vectors.tasks), [0.0] * len(vectors.tasks), [{} for _ in vectors.tasks]
    for name in vectors.names:
        stack = vectors.stack(name)[1].double().numpy()
        vector = np.zeros(stack[0].shape)
        sign = np.where(stack.sum(axis=0) > 0, 1.0, -1.0)
        for where in np.ndindex(vector.shape):
            agreeing = [abs(task[where]) for task in stack if task[where] * sign[where] > 0]
            vector[where] = sign[where] * max(agreeing, default=0.0)
        for t, task in enumerate(stack):
            parts[t][name] = np.where(task * sign > 0, vector, 0.0)
            lengths[t] += average(np.abs(task))
            elected[t] += average(np.abs(parts[t][name]))
    factors = [a / b if rescale != "none" else 1.0 for a, b in zip(lengths, elected, strict=True)]
    return factors, [{n: s * part for n, part in task.items()} for s, task in zip(factors, parts, strict=True)]


@pytest.mark.parametrize("tasks", [2, 5])
@pytest.mark.parametrize("rescale", RESCALES)
def test_every_task_has_its_part_of_the_elected_vector(
    make_vectors: Callable[..., TaskVectors], tasks: int, rescale: str
) -> None:
    vectors = make_vectors(tasks=tasks)
    factors, parts = plain(vectors, rescale)
    assert planned(vectors, f"merge.rescale={rescale}").merge.report["scales"] == pytest.approx(factors, rel=1e-5)
    for model, part in zip(models(vectors, f"merge.rescale={rescale}"), parts, strict=True):
        for name, expected in part.items():
            update = model[name].double().numpy() - vectors.base[name].double().numpy()
            np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_file_gives_back_bit_for_bit_what_was_served(tmp_path: Path, dtype: torch.dtype) -> None:
    base, *states = (random_state(seed, dtype=dtype) for seed in range(4))
    vectors = write_models(tmp_path, base, states)
    file, made = tmp_path / "emr.safetensors", planned(vectors)
    save_tensors(file, made.infos, made.tensors(), made.metadata)
    tensors = dict(made.tensors())
    for task in vectors.tasks:
        served = made.served(tensors, task)
        for name, tensor in task_weights(vectors.base, file, task).items():
            assert tensor.dtype == dtype and torch.equal(tensor, served[name])


@pytest.mark.parametrize("scales", ["[1.0]", "[1.0, NaN, 1.0]", '["a", 1, 1]', f"[1, 1, {10**400}]", "2"])
def test_wrong_factors_in_a_file_are_refused(vectors: TaskVectors, tmp_path: Path, scales: str) -> None:
    file, made = tmp_path / "emr.safetensors", planned(vectors)
    save_tensors(file, made.infos, made.tensors(), made.metadata)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert json.loads(header["scales"]) == made.merge.report["scales"]
    save_file(load_file(file), tmp_path / "bad.safetensors", {**header, "scales": scales})
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: its header names no tasks .*, or wrong factors"):
        task_weights(vectors.base, tmp_path / "bad.safetensors", "task0")
