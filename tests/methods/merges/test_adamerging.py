"""AdaMerging against autograd through the naive merge, on the tiny suite."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from merging.core.errors import Cancelled, MissingPart, NonFiniteWeights
from merging.methods.context import Context
from merging.methods.merges.adamerging import (
    AdaMergingParams,
    CoefficientLearner,
    _batches,
    adamerging,
    mean_entropy,
)
from merging.methods.planned import LinearMerge
from merging.methods.registry import find
from merging.suites import Suite
from merging.weights.vectors import TaskVectors


@pytest.fixture
def task_vectors(suite: Suite) -> TaskVectors:
    return suite.vectors()


def plan(vectors: TaskVectors, context: Context, **values: object) -> LinearMerge:
    return find("merge", "adamerging").plan(vectors, AdaMergingParams(**values), context)


def naive_entropies(
    vectors: TaskVectors, context: Context, coefficients: torch.Tensor, batch: dict[str, torch.Tensor], clamp: bool
) -> torch.Tensor:
    """Entropy per task of the model ``θ₀ + Σ c τ`` with the merge inside the autograd graph, task by task."""
    used = coefficients.clamp(0, 1) if clamp else coefficients
    used = used.expand(len(vectors.names), -1)
    merged = {
        name: base + torch.einsum("t,t...->...", row, stack)
        for row, (name, base, stack) in zip(used, vectors.iterate(), strict=True)
    }
    evaluator = context.need_images("the test", ())
    losses = []
    for task in vectors.tasks:
        features = torch.func.functional_call(evaluator.tower, merged, (batch[task],))
        features = features / features.norm(dim=-1, keepdim=True)
        chances = (evaluator.suite.logit_scale * features @ evaluator.head(task).T).softmax(dim=1)
        losses.append(-(chances * chances.log()).sum(dim=1).mean())
    return torch.stack(losses)


def uneven(shape: torch.Size) -> torch.Tensor:
    """Coefficients that differ, some outside of 0 … 1."""
    return torch.linspace(-0.4, 1.3, shape.numel()).view(shape)


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_the_gradient_is_that_of_autograd_through_the_merge(
    task_vectors: TaskVectors, context: Context, granularity: str, clamp: bool, edited: bool
) -> None:
    if edited:
        task_vectors = task_vectors.edited(lambda name, base, stack: stack * 0.5 + stack.roll(1, 0))
    params = AdaMergingParams(granularity=granularity, clamp=clamp, batch_size=6)
    learner = CoefficientLearner(task_vectors, params, context, context.need_images("the test", ()))
    learner.raw.copy_(uneven(learner.raw.shape))
    batch = next(_batches(context.need_images("the test", ()), task_vectors.tasks, params, seed=0))
    entropies = learner.gradient(batch)

    coefficients = learner.raw.clone().requires_grad_()
    expected = naive_entropies(task_vectors, context, coefficients, batch, clamp)
    (gradient,) = torch.autograd.grad(expected.sum(), coefficients)
    torch.testing.assert_close(entropies.float(), expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learner.raw.grad, gradient, rtol=2e-3, atol=1e-4 * float(gradient.abs().max()))
    if clamp:
        outside = (learner.raw < 0) | (learner.raw > 1)
        assert bool(outside.any())
        assert not bool(outside.all())
        assert not bool(learner.raw.grad[outside].any())


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_the_steps_are_those_of_torch_adam(task_vectors: TaskVectors, context: Context, granularity: str) -> None:
    params = AdaMergingParams(granularity=granularity, steps=4, batch_size=6, learning_rate=0.01)
    found = plan(task_vectors, context, **params.model_dump())
    rows = len(task_vectors.names) if granularity == "layer" else 1
    coefficients = torch.full((rows, len(task_vectors.tasks)), 0.3, requires_grad=True)
    optimiser = torch.optim.Adam([coefficients], lr=0.01)
    batches = _batches(context.need_images("the test", ()), task_vectors.tasks, params, seed=0)
    for step in range(params.steps):
        optimiser.zero_grad()
        losses = naive_entropies(task_vectors, context, coefficients, next(batches), clamp=True)
        assert found.report["entropy"][step] == pytest.approx(losses.tolist(), rel=1e-3)
        losses.sum().backward()
        optimiser.step()
    table = np.stack([found.coefficients[name] for name in task_vectors.names])
    expected = coefficients.detach().expand(len(task_vectors.names), -1).numpy()
    # Adam's first steps have the size of the learning rate whatever the gradient, so tiny gradients may differ.
    assert np.median(np.abs(table - expected)) < 1e-5
    assert np.abs(table - expected).mean() < 2e-3


def test_no_steps_leave_the_initial_coefficients(task_vectors: TaskVectors, context: Context) -> None:
    found = plan(task_vectors, context, steps=0, initial=0.25)
    assert all((row == 0.25).all() for row in found.coefficients.values())
    assert found.report["entropy"] == []
    assert found.report["trajectory"] == [[0.25] * 4]


def test_it_lowers_the_entropy_of_a_batch(task_vectors: TaskVectors, context: Context) -> None:
    found = plan(task_vectors, context, steps=30, batch_size=24, learning_rate=0.02)
    entropy = np.array(found.report["entropy"]).sum(axis=1)
    assert entropy[-1] < entropy[0]


def test_the_report_holds_trajectory_and_snapshots(task_vectors: TaskVectors, context: Context) -> None:
    found = plan(task_vectors, context, steps=25, batch_size=4, split="val")
    layers, tasks = len(task_vectors.names), len(task_vectors.tasks)
    assert np.shape(found.report["entropy"]) == (25, tasks)
    assert np.shape(found.report["trajectory"]) == (26, tasks)
    assert np.shape(found.report["snapshots"]) == (1 + 25 // found.report["snapshot_every"], layers, tasks)
    assert found.report["adapted_on"] == {"split": "val", "images_seen": 25 * 4 * tasks}


def test_the_seed_decides_everything(task_vectors: TaskVectors, context: Context) -> None:
    first, again = (plan(task_vectors, context, steps=5, batch_size=4) for _ in range(2))
    other = plan(task_vectors, replace(context, seed=1), steps=5, batch_size=4)
    assert first.report == again.report
    assert first.report["entropy"] != other.report["entropy"]


def test_coefficients_stay_within_bounds_if_clamped(task_vectors: TaskVectors, context: Context) -> None:
    wild = {"steps": 6, "batch_size": 4, "learning_rate": 0.5}
    clamped = np.stack(list(plan(task_vectors, context, **wild).coefficients.values()))
    free = np.stack(list(plan(task_vectors, context, **wild, clamp=False).coefficients.values()))
    assert clamped.min() >= 0
    assert clamped.max() <= 1
    assert free.min() < 0 or free.max() > 1


def test_batches_larger_than_the_images_take_all_of_them(context: Context) -> None:
    params = AdaMergingParams(batch_size=1000)
    evaluator = context.need_images("the test", ())
    batch = next(_batches(evaluator, ("digits",), params, seed=0))
    assert len(batch["digits"]) == evaluator.count("digits", "test")


def test_every_pass_sees_every_image_once(context: Context) -> None:
    evaluator = context.need_images("the test", ())
    batches = _batches(evaluator, ("digits",), AdaMergingParams(batch_size=8), seed=3)
    seen = torch.cat([next(batches)["digits"] for _ in range(3)]).flatten(1)
    everything = evaluator.images("digits", "test", slice(None)).flatten(1)
    assert torch.equal(seen.sum(dim=1).sort().values, everything.sum(dim=1).sort().values)


def test_it_runs_in_half_precision(suite: Suite, task_vectors: TaskVectors) -> None:
    from merging.evaluation.evaluator import Evaluator

    context = Context(dtype=torch.bfloat16, evaluator=Evaluator(suite, dtype=torch.bfloat16))
    found = plan(task_vectors, context, steps=3, batch_size=4)
    assert np.isfinite(np.stack(list(found.coefficients.values()))).all()


def test_without_images_it_says_what_is_missing(task_vectors: TaskVectors) -> None:
    with pytest.raises(MissingPart, match="AdaMerging needs images"):
        plan(task_vectors, Context())


def test_it_stops_at_the_first_entropy_that_is_no_number(
    task_vectors: TaskVectors, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    found = torch.tensor([1.0] * (len(task_vectors.tasks) - 1) + [np.nan])
    monkeypatch.setattr(CoefficientLearner, "step", lambda learner, batch: steps.append(1) or found)
    with pytest.raises(NonFiniteWeights, match="AdaMerging: the entropy of the predictions is no number in step 1"):
        plan(task_vectors, context)
    assert len(steps) == 1


def test_numbers_that_nobody_waits_for_are_the_same(
    task_vectors: TaskVectors, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU steps go on without a look at their numbers, which are told of together."""
    told: dict[float, list[object]] = {}
    reports = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr("merging.methods.merges.adamerging._patience", lambda device, seconds=seconds: seconds)
        seen: list[object] = []
        told[seconds] = seen
        params = AdaMergingParams(steps=25, batch_size=4)
        found = adamerging(task_vectors, params, replace(context, on_numbers=seen.append))
        reports.append(found.report)
    assert reports[0] == reports[1]
    assert told[0.0] == told[1e9]
    assert [number["step"] for number in told[1e9]] == list(range(1, 26))  # type: ignore[index]


def test_it_stops_when_cancelled(task_vectors: TaskVectors, context: Context) -> None:
    with pytest.raises(Cancelled, match="step 0 of 500"):
        plan(task_vectors, replace(context, cancelled=lambda: True))


def test_entropy_of_even_and_sure_predictions() -> None:
    assert mean_entropy(torch.zeros(3, 8)) == pytest.approx(np.log(8), rel=1e-6)
    assert mean_entropy(torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])) == 0


def test_who_has_enough_keeps_what_a_run_of_so_many_steps_learns(task_vectors: TaskVectors, context: Context) -> None:
    asked = iter([False, False, True])
    ended = plan(task_vectors, replace(context, enough=lambda: next(asked)), steps=50)
    whole = plan(task_vectors, context, steps=3)
    assert ended.report["ended_after"] == 3 and "ended_after" not in whole.report
    assert ended.report["trajectory"] == whole.report["trajectory"]
    assert ended.report["adapted_on"] == whole.report["adapted_on"]
    for name, coefficients in whole.coefficients.items():
        assert (ended.coefficients[name] == coefficients).all()


def test_watching_tells_the_accuracy_and_changes_nothing(task_vectors: TaskVectors, context: Context) -> None:
    told: list[Mapping[str, Any]] = []
    watched = replace(context, on_numbers=told.append, watched_split="test")
    seen = plan(task_vectors, watched, steps=20)
    assert seen.report == plan(task_vectors, context, steps=20).report
    points = [line for line in told if "accuracy" in line]
    assert [line["step"] for line in points] == list(range(0, 21, 2))
    assert context.evaluator is not None
    for line in (points[0], points[-1]):
        assert line["accuracy"].keys() == set(task_vectors.tasks)
    merged = {name: seen(name, base, stack) for name, base, stack in task_vectors.iterate(context.device)}
    assert points[-1]["accuracy"] == context.evaluator.accuracy(merged, task_vectors.tasks, "test").per_task
