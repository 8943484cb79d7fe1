"""Properties of the methods that look at images: AdaMerging, Fisher merging, and TATR with gradients.

RegMean has its own in ``test_regmean.py``.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.plan import plan
from merging.runs.jobs import MergeSpec
from merging.suites import Suite, load_suite
from tests.random_models import TASKS, write_suite

State = dict[str, torch.Tensor]
METHODS: dict[str, dict[str, object]] = {
    "adamerging": {"merge": "adamerging", "merge_params": {"steps": 3, "batch_size": 4}},
    "adamerging task": {"merge": "adamerging", "merge_params": {"steps": 3, "batch_size": 4, "granularity": "task"}},
    "fisher": {"merge": "fisher", "merge_params": {"images": 3}},
    "tatr": {
        "edit": "trust_region",
        "edit_params": {"sensitivity": "gradient", "images": 3, "drop": 0.1},
        "merge": "task_arithmetic",
        "merge_params": {"scaling": 1.0},
    },
}
LINEAR = "transformer.resblocks.0.mlp.c_fc.weight"
every_method = pytest.mark.parametrize("method", METHODS)


def merged(suite: Suite, tasks: tuple[str, ...], method: str, seed: int = 0) -> State:
    context = replace(Context(evaluator=Evaluator(suite)), seed=seed)
    spec = MergeSpec.build(suite="any", tasks=tasks, **METHODS[method])
    return dict(plan(suite.vectors(tasks), spec.pair, context).tensors(context))


def changed(suite: Suite, folder: Path, changes: dict[str, State]) -> Suite:
    """A copy of a suite with other weight files."""
    shutil.copytree(suite.folder, folder)
    for task, state in changes.items():
        save_file(state, folder / f"{task}.safetensors")
    return load_suite(folder)


def assert_same(found: State, expected: State, tolerance: float = 1e-5) -> None:
    assert list(found) == sorted(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)


@every_method
def test_the_order_of_tasks_does_not_matter(suite: Suite, method: str) -> None:
    # AdaMerging's first steps have the size of its learning rate whatever the gradient.
    tolerance = 1e-3 if "adamerging" in method else 1e-5
    assert_same(merged(suite, TASKS, method), merged(suite, TASKS[::-1], method), tolerance)


@every_method
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_any_number_of_tasks_and_the_same_again_by_the_same_seed(tmp_path: Path, method: str, tasks: int) -> None:
    suite = load_suite(write_suite(tmp_path / "suite", tuple(f"task{index}" for index in range(tasks))))
    found, again = (merged(suite, suite.task_names, method) for _ in range(2))
    for name, tensor in found.items():
        assert bool(tensor.isfinite().all()) and torch.equal(tensor, again[name])
    if tasks == 1 and method == "fisher":
        assert_same(found, dict(suite.checkpoint("task0")))
    if tasks == 5:  # which images are drawn
        other = merged(suite, suite.task_names, method, seed=1)
        assert any(not torch.equal(found[name], other[name]) for name in found)


@every_method
def test_equal_models_give_a_point_on_the_way_to_that_model(suite: Suite, tmp_path: Path, method: str) -> None:
    model, base = dict(suite.checkpoint("roads")), dict(suite.base_checkpoint)
    equal = changed(suite, tmp_path / "equal", {"digits": model, "leaves": model})
    found = merged(equal, ("digits", "leaves", "roads"), method)
    if method == "fisher":
        assert_same(found, model)
        return
    for name, tensor in found.items():
        vector, update = model[name] - base[name], tensor - base[name]
        if method == "tatr":  # entries are left out or three times as long
            out = update == 0
            torch.testing.assert_close(update[~out], 3 * vector[~out], rtol=1e-4, atol=1e-5)
            continue
        factor = float((update * vector).sum() / vector.square().sum())
        torch.testing.assert_close(update, factor * vector, rtol=1e-3, atol=1e-5)
        assert factor == pytest.approx(0.9, abs=0.02)  # three coefficients of 0.3 after three steps of 0.001


@every_method
def test_models_equal_to_the_base_give_the_base_and_one_stays_out(suite: Suite, tmp_path: Path, method: str) -> None:
    base = dict(suite.base_checkpoint)
    same = changed(suite, tmp_path / "same", {"digits": base, "roads": base})
    assert_same(merged(same, ("digits", "roads"), method), base, 1e-7)
    beside = merged(same, ("digits", "leaves"), method)
    assert all(bool(tensor.isfinite().all()) for tensor in beside.values())


@every_method
def test_a_tensor_that_no_task_changed_stays(suite: Suite, tmp_path: Path, method: str) -> None:
    base = dict(suite.base_checkpoint)
    states = {task: {**suite.checkpoint(task), LINEAR: base[LINEAR]} for task in ("digits", "roads")}
    found = merged(changed(suite, tmp_path / "frozen", states), ("digits", "roads"), method)
    torch.testing.assert_close(found[LINEAR], base[LINEAR], rtol=0, atol=1e-7)
    assert not torch.equal(found["proj"], base["proj"])


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_merged_in_float32(
    suite: Suite, tmp_path: Path, method: str, dtype: torch.dtype
) -> None:
    names = ("base", "digits", "roads")
    half = {
        name: {k: t.to(dtype) for k, t in load_file(suite.folder / f"{name}.safetensors").items()} for name in names
    }
    wide = {name: {k: t.float() for k, t in state.items()} for name, state in half.items()}
    small, large = (
        merged(changed(suite, tmp_path / folder, states), ("digits", "roads"), method)
        for folder, states in (("half", half), ("wide", wide))
    )
    assert all(tensor.dtype == dtype for tensor in small.values())
    assert_same(small, {name: tensor.to(dtype) for name, tensor in large.items()}, 1e-2)
