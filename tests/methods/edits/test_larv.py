"""LARV against its formulas written out with full decompositions in float64."""

from pathlib import Path

import numpy as np
import pytest

from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, write_models

BLOCKS = 6
LAYERS = {"attn.in_proj_weight": (24, 8), "mlp.c_fc.weight": (16, 8), "mlp.c_proj.weight": (8, 16)}
SHAPES = {"conv1.weight": (8, 3, 2, 2), "proj": (8, 6)} | {
    f"transformer.resblocks.{block}.{name}": shape
    for block in range(BLOCKS)
    for name, shape in {**LAYERS, "ln_1.bias": (8,)}.items()
}
SCALES = "edit.low=0.5 edit.middle=0.9 edit.high=1.5"


def rank(matrix: np.ndarray) -> float:
    shares = np.linalg.svd(matrix, compute_uv=False) ** 2 / (matrix**2).sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def conflict(base: np.ndarray, update: np.ndarray) -> float:
    left, right = base @ update.T, base.T @ update
    total = np.linalg.norm(left - left.T) + np.linalg.norm(right - right.T)
    return float(total / (2 * np.linalg.norm(base) * np.linalg.norm(update)))


def plain_scales(vectors: TaskVectors, eta: float, rho: float) -> list[float]:
    contrasts, conflicts = [], []
    for block in range(BLOCKS):
        found = []
        for name in LAYERS:
            base, stack = vectors.stack(f"transformer.resblocks.{block}.{name}")
            weight = base.double().numpy()
            found += [(rank(weight) / rank(t), conflict(weight, t)) for t in stack.double().numpy() if t.any()]
        contrasts.append(np.mean([one for one, _ in found]))
        conflicts.append(np.mean([one for _, one in found]))
    z = (conflicts - np.mean(conflicts)) / np.std(conflicts)
    scores = np.array(contrasts) ** eta * (np.arange(1, BLOCKS + 1) / BLOCKS) ** rho / (1 + np.log1p(np.exp(z)))
    places = list(np.argsort(scores))
    return [(0.5, 0.9, 1.5)[places.index(block) // 2] for block in range(BLOCKS)]


@pytest.mark.parametrize(("eta", "rho"), [(1.0, 0.5), (2.0, 0.0), (0.0, 0.0)])
def test_every_block_has_the_scale_of_its_tier(tmp_path: Path, eta: float, rho: float) -> None:
    base = random_state(0, SHAPES)
    models = [random_state(1 + task, SHAPES, 0.01) for task in range(3)]
    models = [{name: base[name] + tensor for name, tensor in model.items()} for model in models]
    still = "transformer.resblocks.2.mlp.c_fc.weight"
    models[1][still] = base[still]  # a task that left a matrix alone has no say in it
    vectors = write_models(tmp_path, base, models)
    pair = Pair.read(f"edit=larv {SCALES} edit.rank_power={eta} edit.depth_power={rho} merge.scaling=0.4")
    table = plan(vectors, pair, Context()).table
    assert table is not None
    scales = plain_scales(vectors, eta, rho)
    assert sorted(scales) == [0.5, 0.5, 0.9, 0.9, 1.5, 1.5] and scales != sorted(scales)
    for name, row in zip(vectors.names, table, strict=True):
        expected = scales[int(name.split(".")[2])] if "resblocks" in name else 1.0
        np.testing.assert_allclose(row, 0.4 * expected, err_msg=name)


@pytest.mark.parametrize("zero", ["base", "vectors"])
def test_what_shows_no_difference_between_blocks_has_the_middle_scale(tmp_path: Path, zero: str) -> None:
    base = random_state(0, SHAPES, 0.0 if zero == "base" else 1.0)
    models = [random_state(1 + task, SHAPES) for task in range(2)] if zero == "base" else [base, base]
    planned = plan(write_models(tmp_path, base, models), Pair.read(f"edit=larv {SCALES}"), Context())
    assert planned.edit.report["blocks"]["scale"] == [0.9] * BLOCKS
