"""AWD on files: scopes and solvers against plain implementations on whole vectors."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from merging.core.errors import Cancelled
from merging.methods.context import Context
from merging.methods.edits import awd
from merging.methods.edits.awd import TARGET_NORM, AwdParams, disentangle, from_geometry
from merging.methods.planned import LinearEdit
from merging.methods.registry import find
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors
from tests.methods.edits.test_redundancy import plain_descent, plain_objective
from tests.random_models import SHAPES, random_state, write_models


@pytest.fixture
def coarse(tmp_path: Path) -> TaskVectors:
    """Task vectors of small multiples of 1/256: float32 inner products are exact and can be compared tightly."""
    base = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    common = random_state(50, spread=60)
    models = [
        {name: (tensor + common[name]).round() / 256 for name, tensor in random_state(60 + task, spread=80).items()}
        for task in range(4)
    ]
    return write_models(tmp_path / "coarse", base, models)


def stacks(vectors: TaskVectors) -> dict[str, torch.Tensor]:
    """τ of every tensor in float64, ``[T, *shape]``."""
    return {name: stack.double() for name, _, stack in vectors.iterate()}


def plainly_disentangled(stack: torch.Tensor, params: AwdParams) -> torch.Tensor:
    """One layer or row ``[T, N]``: rescaled to the target norm, descended on, scaled back."""
    scale = TARGET_NORM / stack.square().sum(dim=1).mean().sqrt()
    delta = plain_descent(stack * scale, params.alpha, params.beta, params.steps)[0][-1]
    return stack - delta / scale


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert (found.double() - expected).norm() <= tolerance * expected.norm()


def edited(vectors: TaskVectors, params: AwdParams) -> dict[str, torch.Tensor]:
    edit = find("edit", "awd").plan(vectors, params, Context())
    return {name: stack for name, _, stack in vectors.edited(edit).iterate()}


@pytest.mark.kernels
def test_scope_model_is_descent_on_the_whole_vector(coarse: TaskVectors) -> None:
    params = AwdParams(steps=100)
    found = edited(coarse, params)
    whole = torch.cat([stack.flatten(1) for stack in stacks(coarse).values()], dim=1)
    expected = whole - plain_descent(whole, params.alpha, params.beta, params.steps)[0][-1]
    assert_close(torch.cat([stack.flatten(1) for stack in found.values()], dim=1), expected)


@pytest.mark.kernels
def test_scope_layer_is_descent_on_every_rescaled_layer(coarse: TaskVectors) -> None:
    params = AwdParams(scope="layer", steps=100)
    found = edited(coarse, params)
    for name, stack in stacks(coarse).items():
        assert_close(found[name].flatten(1), plainly_disentangled(stack.flatten(1), params))


@pytest.mark.kernels
def test_scope_row_is_descent_on_every_rescaled_row(coarse: TaskVectors) -> None:
    params = AwdParams(scope="row", steps=40)
    found = edited(coarse, params)
    for name, stack in stacks(coarse).items():
        if stack.ndim == 2:  # a vector counts as one row
            assert_close(found[name], plainly_disentangled(stack, params))
            continue
        for row in range(stack.shape[1]):
            assert_close(found[name][:, row].flatten(1), plainly_disentangled(stack[:, row].flatten(1), params))


def plain_adam(stack: torch.Tensor, params: AwdParams, scale: float) -> torch.Tensor:
    """δ by torch's Adam on autograd's gradient of the objective; α weighs the norm in scaled units."""
    delta = torch.zeros(stack.shape[1], dtype=stack.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=params.beta)
    for _ in range(params.steps):
        optimiser.zero_grad()
        plain_objective(stack, delta, params.alpha * scale).backward()
        optimiser.step()
    return delta.detach()


@pytest.mark.kernels
def test_adam_on_the_whole_model_is_torch_adam_on_autograd(coarse: TaskVectors) -> None:
    params = AwdParams(solver="adam", beta=1e-3, units="published", steps=25)
    found = edited(coarse, params)
    whole = torch.cat([stack.flatten(1) for stack in stacks(coarse).values()], dim=1)
    delta = whole - torch.cat([stack.flatten(1) for stack in found.values()], dim=1)
    assert_close(delta[0], plain_adam(whole, params, 1.0), 1e-3)


@pytest.mark.parametrize("scope", ["layer", "row"])
def test_adam_per_layer_and_row_is_torch_adam_on_autograd(coarse: TaskVectors, scope: str) -> None:
    params = AwdParams(solver="adam", beta=1e-3, units="published", steps=25, scope=scope)
    found = edited(coarse, params)
    for name, stack in stacks(coarse).items():
        split = scope == "row" and stack.ndim > 2
        units = stack.flatten(2).unbind(1) if split else [stack.flatten(1)]
        deltas = (stack - found[name])[0].flatten(1).unbind(0) if split else [(stack - found[name])[0].flatten()]
        for unit, delta in zip(units, deltas, strict=True):
            scale = TARGET_NORM / float(unit.square().sum(dim=1).mean().sqrt())
            assert_close(delta, plain_adam(unit, params, scale), 1e-3)


@pytest.mark.kernels
@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "exact", "adam"])
def test_reported_geometry_is_that_of_the_edited_vectors(coarse: TaskVectors, scope: str, solver: str) -> None:
    params = AwdParams(scope=scope, solver=solver, beta=1e-3 if solver == "adam" else 0.01, units="published", steps=30)
    found = disentangle(coarse, measure(coarse), params, Context())
    seen = measure(coarse.edited(found.edit))
    np.testing.assert_allclose(found.after.grams, seen.grams, rtol=1e-4, atol=1e-5)
    deltas = [coarse.stack(name)[1][0] - stack[0] for name, _, stack in coarse.edited(found.edit).iterate()]
    norm = torch.cat([delta.flatten() for delta in deltas]).norm()
    assert found.redundant_norm == pytest.approx(float(norm), rel=1e-3)
    assert found.curve[-1] < found.curve[0]
    report = found.edit.report
    assert report["objective_before"] == found.curve[0]
    assert report["objective_after"] == found.curve[-1]


@pytest.mark.kernels
def test_multipliers_are_what_a_sum_of_edited_vectors_multiplies_by(coarse: TaskVectors) -> None:
    found = from_geometry(measure(coarse), AwdParams(solver="exact"))
    assert found.multipliers is not None
    assert isinstance(found.edit, LinearEdit)
    for name, _, stack in coarse.iterate():
        summed = found.edit(name, stack[0], stack).sum(dim=0)
        expected = torch.einsum("t,t...->...", torch.as_tensor(found.multipliers, dtype=torch.float32), stack)
        torch.testing.assert_close(summed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "adam"])
def test_only_matrices_leaves_the_other_tensors_alone(coarse: TaskVectors, scope: str, solver: str) -> None:
    params = AwdParams(scope=scope, solver=solver, tensors="matrices", steps=20)
    found = edited(coarse, params)
    for name, stack in stacks(coarse).items():
        changed = not torch.equal(found[name].double(), stack)
        assert changed == (name not in ("conv1.weight", "ln_post.bias"))


@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "exact", "adam"])
def test_one_task_and_no_task_vector_stay_as_they_are(
    make_vectors: Callable[..., TaskVectors], tmp_path: Path, scope: str, solver: str
) -> None:
    params = AwdParams(scope=scope, solver=solver, steps=10)
    alone = make_vectors(tasks=1)
    base = random_state(0)
    still = write_models(tmp_path / "still", base, [base, base, base])
    for vectors in (alone, still):
        found = edited(vectors, params)
        for name, _, stack in vectors.iterate():
            assert torch.equal(found[name], stack)


def with_a_model_equal_to_the_base(vectors: TaskVectors, folder: Path) -> TaskVectors:
    """The same task models and, second in the row, the base once more."""
    base, *models = (dict(checkpoint) for checkpoint in (vectors.base, *vectors.checkpoints))
    return write_models(folder, base, [models[0], base, *models[1:]])


@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "exact", "adam"])
def test_a_model_equal_to_the_base_changes_nothing_for_the_others(
    coarse: TaskVectors, tmp_path: Path, scope: str, solver: str
) -> None:
    params = AwdParams(scope=scope, solver=solver, beta=1e-3 if solver == "adam" else 0.01, units="published", steps=30)
    more = with_a_model_equal_to_the_base(coarse, tmp_path / "more")
    expected, found = edited(coarse, params), edited(more, params)
    for name in coarse.names:
        assert not found[name][1].any()
        torch.testing.assert_close(found[name][[0, 2, 3, 4]], expected[name], rtol=1e-4, atol=1e-6)
    without, report = (disentangle(each, measure(each), params, Context()) for each in (coarse, more))
    assert report.redundant_norm == pytest.approx(without.redundant_norm, rel=1e-5)
    np.testing.assert_allclose(report.curve, without.curve, rtol=1e-5)
    if report.multipliers is not None and without.multipliers is not None:
        np.testing.assert_allclose(report.multipliers[..., [0, 2, 3, 4]], without.multipliers, rtol=1e-5)
        assert (report.multipliers[..., 1] == 1).all()


@pytest.fixture
def partly_still(coarse: TaskVectors, tmp_path: Path) -> TaskVectors:
    """Task 1 did not change one tensor, task 2 not the first rows of another, no task the last of its rows."""
    base = dict(coarse.base)
    models = [dict(checkpoint) for checkpoint in coarse.checkpoints]
    models[1]["proj"] = base["proj"]
    rows = "transformer.resblocks.0.mlp.c_fc.weight"
    models[2][rows] = models[2][rows].clone()
    models[2][rows][:5] = base[rows][:5]
    for model in models:
        model[rows] = torch.cat([model[rows][:-1], base[rows][-1:]])
    return write_models(tmp_path / "partly", base, models)


def plainly_disentangled_beside_zeros(stack: torch.Tensor, params: AwdParams) -> torch.Tensor:
    """As :func:`plainly_disentangled` on the rows of ``[T, N]`` that are not zero; the others stay so."""
    there = stack.abs().sum(dim=1) > 0
    result = torch.zeros_like(stack)
    if there.sum() > 1:
        result[there] = plainly_disentangled(stack[there], params)
    else:
        result[there] = stack[there]
    return result


@pytest.mark.parametrize("scope", ["layer", "row"])
def test_tensors_and_rows_that_a_task_did_not_change_take_no_part(partly_still: TaskVectors, scope: str) -> None:
    params = AwdParams(scope=scope, steps=40)
    found = edited(partly_still, params)
    for name, stack in stacks(partly_still).items():
        if scope == "layer" or stack.ndim == 2:
            assert_close(found[name].flatten(1), plainly_disentangled_beside_zeros(stack.flatten(1), params))
            continue
        for row in range(stack.shape[1]):
            expected = plainly_disentangled_beside_zeros(stack[:, row].flatten(1), params)
            assert_close(found[name][:, row].flatten(1), expected)


@pytest.mark.parametrize("scope", ["layer", "row"])
def test_adam_leaves_out_what_a_task_did_not_change(partly_still: TaskVectors, scope: str) -> None:
    params = AwdParams(solver="adam", beta=1e-3, units="published", steps=25, scope=scope)
    found = edited(partly_still, params)
    rows, still = "transformer.resblocks.0.mlp.c_fc.weight", stacks(partly_still)
    others, moved = [0, 2, 3], still["proj"][0] - found["proj"][0]
    assert not found["proj"][1].any() and not found[rows][:, -1].any()
    if scope == "layer":
        unit = still["proj"][others].flatten(1)
        scale = TARGET_NORM / float(unit.square().sum(dim=1).mean().sqrt())
        assert_close(moved.flatten(), plain_adam(unit, params, scale), 1e-3)
    else:
        assert not found[rows][2, :5].any()
        unit = still[rows][[0, 1, 3], 0]
        scale = TARGET_NORM / float(unit.square().sum(dim=1).mean().sqrt())
        assert_close((still[rows] - found[rows])[0, 0], plain_adam(unit, params, scale), 1e-3)


@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "exact", "adam"])
def test_reported_geometry_is_that_of_the_edited_vectors_beside_zeros(
    partly_still: TaskVectors, scope: str, solver: str
) -> None:
    params = AwdParams(scope=scope, solver=solver, beta=1e-3 if solver == "adam" else 0.01, units="published", steps=30)
    found = disentangle(partly_still, measure(partly_still), params, Context())
    seen = measure(partly_still.edited(found.edit))
    np.testing.assert_allclose(found.after.grams, seen.grams, rtol=1e-4, atol=1e-5)
    if scope == "layer" and solver != "adam":
        assert isinstance(found.edit, LinearEdit) and found.multipliers is not None
        for index, (name, _, stack) in enumerate(partly_still.iterate()):
            weights = torch.as_tensor(found.multipliers[index], dtype=torch.float32)
            expected = torch.einsum("t,t...->...", weights, stack)
            torch.testing.assert_close(found.edit(name, stack[0], stack).sum(dim=0), expected, rtol=1e-4, atol=1e-5)


def blurred(grams: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Inner products ``[…, T, T]`` as a library that sums in another order finds them."""
    noise = random.uniform(-2e-7, 2e-7, grams.shape)
    lengths = np.sqrt(np.diagonal(grams, axis1=-2, axis2=-1))
    return grams + (noise + np.swapaxes(noise, -1, -2)) / 2 * lengths[..., :, None] * lengths[..., None, :]


@pytest.mark.kernels
@pytest.mark.parametrize("scope", ["model", "layer", "row"])
@pytest.mark.parametrize("solver", ["descent", "exact", "adam"])
def test_equal_models_share_nothing_that_rounding_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, solver: str
) -> None:
    """However the inner products were summed; with exact under an α that makes it no better to call all redundant."""
    random = np.random.default_rng(0)
    vectors = write_models(tmp_path, random_state(0), [random_state(1)] * 3)
    grams = awd._grams
    monkeypatch.setattr(awd, "_grams", lambda units: torch.as_tensor(blurred(grams(units).numpy(), random)))
    measured = measure(vectors)
    params = AwdParams(
        scope=scope,
        solver=solver,
        alpha=10.0 if solver == "exact" else 0.1,
        beta=1e-3 if solver == "adam" else 0.01,
        units="published",
        steps=50,
    )
    found = disentangle(vectors, measured.with_grams(blurred(measured.grams, random)), params, Context())
    for name, _, stack in vectors.edited(found.edit).iterate():
        torch.testing.assert_close(stack, vectors.stack(name)[1], rtol=0, atol=1e-6)
    assert found.curve[-1] == pytest.approx(1, abs=1e-6) and found.redundant_norm < 1e-6


@pytest.mark.kernels
def test_what_is_redundant_in_equal_models_leaves_nothing_behind(tmp_path: Path) -> None:
    """A light penalty makes it best to call all of them redundant: what rounding leaves has no cosines."""
    vectors = write_models(tmp_path, random_state(0), [random_state(1)] * 3)
    measured = measure(vectors)
    shown = measured.with_grams(blurred(measured.grams, np.random.default_rng(0)))
    for scope in ("model", "layer"):
        found = from_geometry(shown, AwdParams(scope=scope, solver="exact", alpha=0.01))
        assert not found.after.grams.any()
        assert found.multipliers is not None and np.abs(found.multipliers).max() < 1e-5


def test_no_steps_is_no_edit(vectors: TaskVectors) -> None:
    for name, stack in edited(vectors, AwdParams(steps=0)).items():
        assert torch.equal(stack, vectors.stack(name)[1])


@pytest.mark.parametrize(
    "values", [{"alpha": -1}, {"beta": 0}, {"steps": -1}, {"scope": "head"}, {"solver": "newton"}, {"gamma": 1}]
)
def test_parameters_out_of_bounds_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AwdParams(**values)


def test_presets_are_valid() -> None:
    method = find("edit", "awd")
    assert len(method.presets) == 2
    for values in method.presets.values():
        method.parse(values)


@pytest.mark.parametrize("params", [AwdParams(scope="row"), AwdParams(solver="adam")])
def test_long_solvers_can_be_cancelled(vectors: TaskVectors, params: AwdParams) -> None:
    with pytest.raises(Cancelled):
        disentangle(vectors, measure(vectors), params, Context(cancelled=lambda: True))


@pytest.mark.parametrize("solver", ["descent", "exact"])
def test_problems_solved_in_parallel_batches_are_those_solved_one_by_one(
    solver: str, monkeypatch: pytest.MonkeyPatch, three_threads: None
) -> None:
    """However many threads there are, and wherever a batch ends; the curve is the mean over all problems."""
    vectors = np.random.default_rng(0).normal(size=(23, 3, 6))
    grams = vectors @ vectors.swapaxes(1, 2)
    params = AwdParams(scope="row", solver=solver, steps=30)  # type: ignore[arg-type]
    alone = [awd._solve(grams[[number]], params) for number in range(len(grams))]
    seen: set[int] = set()
    solve = getattr(awd, solver)
    monkeypatch.setattr(awd, solver, lambda *given: (seen.add(threading.get_ident()), solve(*given))[1])
    monkeypatch.setattr(awd, "AT_ONCE", 4)
    found = awd._solve(grams, params)
    np.testing.assert_allclose(found.coefficients, np.concatenate([one.coefficients for one in alone]), rtol=1e-9)
    np.testing.assert_allclose(found.curve, np.mean([one.curve for one in alone], axis=0), rtol=1e-9)
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("solver", ["descent", "exact"])
@pytest.mark.parametrize("at_once", [4, 100])
def test_the_curve_is_that_of_the_problems_it_is_asked_of(
    solver: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a vector that is zero in one of these, and in one of the others."""
    vectors = np.random.default_rng(0).normal(size=(11, 4, 6))
    vectors[2, 1] = vectors[9, 0] = vectors[10, 2:] = 0
    grams = vectors @ vectors.swapaxes(1, 2)
    params = AwdParams(scope="row", solver=solver, steps=30)  # type: ignore[arg-type]
    monkeypatch.setattr(awd, "AT_ONCE", at_once)
    first, all_of_them = awd._solve(grams[:6], params), awd._solve(grams, params, told=6)
    np.testing.assert_allclose(all_of_them.coefficients[:6], first.coefficients, rtol=1e-9)
    if solver == "descent":
        np.testing.assert_allclose(all_of_them.curve, first.curve, rtol=1e-9)
    assert not np.allclose(first.curve, awd._solve(grams, params).curve, rtol=1e-3)


def test_what_a_nudge_moves_is_not_in_what_is_told(vectors: TaskVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problems are solved once more beside themselves: neither result nor curve is that of the second."""
    geometry = measure(vectors)
    usual = from_geometry(geometry, AwdParams(scope="layer"))
    monkeypatch.setattr(awd, "_NUDGE", 0.3)
    nudged = from_geometry(geometry, AwdParams(scope="layer"))
    assert nudged.doubt and not usual.doubt
    assert nudged.coefficients is not None and usual.coefficients is not None
    np.testing.assert_allclose(nudged.coefficients, usual.coefficients, atol=1e-9)
    np.testing.assert_allclose(nudged.curve, usual.curve, rtol=1e-9)


@pytest.mark.parametrize(
    ("length", "units", "doubted"), [(0.15, "published", True), (0.15, "relative", False), (2.0, "published", False)]
)
def test_steps_that_do_not_settle_are_said(tmp_path: Path, length: float, units: str, doubted: bool) -> None:
    """The published step is made for task vectors of CLIP's length; on short ones rounding decides where it ends."""
    base = random_state(0)
    taus = [random_state(task + 1) for task in range(4)]
    norm = torch.cat([tensor.flatten() for tensor in taus[0].values()]).norm()
    models = [{name: base[name] + length / norm * tau[name] for name in base} for tau in taus]
    vectors = write_models(tmp_path / "models", base, models)
    for scope in ("model", "layer"):
        found = from_geometry(measure(vectors), AwdParams(scope=scope, units=units))
        assert bool(found.doubt) == (doubted and scope == "model")  # layers are brought to that length
        assert found.edit.report.get("warnings", []) == [found.doubt][: bool(found.doubt)]
    assert not found.doubt or "of root mean square norm 0.15 " in found.doubt
