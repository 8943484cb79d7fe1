"""DARE, Consensus, TATR and DOGE against plain implementations on whole tensors or flattened vectors."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from merging.core.errors import MissingPart, SpecError
from merging.core.streaming import COLUMNS
from merging.evaluation.gradients import mean_absolute_gradients
from merging.methods.context import Context
from merging.methods.edits import doge
from merging.methods.registry import find
from merging.suites import Suite
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, random_vectors, write_models


def edited(
    vectors: TaskVectors, edit: str, context: Context | None = None, **params: object
) -> dict[str, torch.Tensor]:
    method = find("edit", edit)
    plan = method.plan(vectors, method.parse(params), context or Context())
    return {name: stack for name, _, stack in vectors.edited(plan).iterate()}


def flat(stacks: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([stack.flatten(1) for stack in stacks.values()], dim=1)


def original(vectors: TaskVectors) -> dict[str, torch.Tensor]:
    return {name: stack for name, _, stack in vectors.iterate()}


# --- DARE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.9])
def test_dare_drops_or_scales_every_entry(tmp_path: Path, drop: float) -> None:
    vectors = random_vectors(tmp_path, 3, shapes={"w": (80, 90)})
    before, after = flat(original(vectors)), flat(edited(vectors, "dare", drop=drop))
    kept = after != 0
    torch.testing.assert_close(after[kept], before[kept] / (1 - drop))
    assert float(kept.float().mean()) == pytest.approx(1 - drop, abs=0.02)
    if drop:
        assert not torch.equal(kept[0], kept[1])


def test_dare_depends_on_seed_and_names_alone(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 3)
    turned = TaskVectors(vectors.base, vectors.checkpoints[::-1], vectors.tasks[::-1])
    for name, stack in edited(vectors, "dare").items():
        assert torch.equal(stack, edited(turned, "dare")[name].flip(0))
    assert not torch.equal(flat(edited(vectors, "dare")), flat(edited(vectors, "dare", Context(seed=1))))


def test_dares_masks_are_torchs_numbers_drawn_at_once(tmp_path: Path) -> None:
    """Old runs are made again: drawn in pieces they are the same."""
    shape = (COLUMNS + 30, 2)
    vectors = random_vectors(tmp_path, 1, shapes={"w": shape})
    digest = hashlib.sha256(f"0\n{vectors.tasks[0]}\nw".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    expected = original(vectors)["w"][0] * (torch.rand(shape, generator=generator) >= 0.3) / 0.7
    assert torch.equal(edited(vectors, "dare", drop=0.3)["w"][0], expected)


# --- Consensus -------------------------------------------------------------------------------------------------------


def plain_consensus(stack: torch.Tensor, merged: torch.Tensor, threshold: float, agree: int) -> torch.Tensor:
    active = sum((t.abs() > threshold * (merged - t).abs()).int() for t in stack)
    return merged * (active >= min(agree, len(stack)))  # type: ignore[operator]


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("agree", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 1.0])
def test_consensus_keeps_what_several_masks_hold(tmp_path: Path, tasks: int, agree: int, threshold: float) -> None:
    vectors = random_vectors(tmp_path, tasks)
    found = edited(vectors, "consensus", threshold=threshold, agree=agree)
    for name, stack in original(vectors).items():
        expected = plain_consensus(stack, stack.sum(dim=0), threshold, agree)
        torch.testing.assert_close(found[name].sum(dim=0), expected)


def test_consensus_of_the_ties_sum(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 4)
    found, trimmed = edited(vectors, "consensus", total="ties", keep=0.5), edited(vectors, "ties", keep=0.5)
    for name, stack in original(vectors).items():
        expected = plain_consensus(stack, trimmed[name].sum(dim=0), 0.4, 2)
        torch.testing.assert_close(found[name].sum(dim=0), expected)


def test_consensus_chooses_thresholds_per_task_on_validation(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads"])
    method = find("edit", "consensus")
    report = method.plan(vectors, method.parse({"threshold": "auto"}), context).report
    evaluator = context.need_images("the test", ())
    for index, task in enumerate(vectors.tasks):
        accuracies = []
        for threshold in report["threshold_search"]["thresholds"]:
            state = {}
            for name, base, stack in vectors.iterate():
                merged = stack.sum(dim=0)
                state[name] = base + merged * (stack[index].abs() > threshold * (merged - stack[index]).abs())
            accuracies.append(evaluator.accuracy(state, [task], "val").average)
        assert report["threshold_search"]["accuracy"][index] == pytest.approx(accuracies)
        chosen = report["threshold_search"]["thresholds"].index(report["thresholds"][index])
        assert accuracies[chosen] == max(accuracies)
    with pytest.raises(MissingPart, match="threshold: auto"):
        method.plan(vectors, method.parse({"threshold": "auto"}), Context())


# --- TATR ------------------------------------------------------------------------------------------------------------


def plain_sensitivity(gradients: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Ω from ``[T, D]`` both, pair by pair."""
    total = torch.zeros_like(vectors[0])
    for i in range(len(vectors)):
        for j in range(len(vectors)):
            if i != j:
                total += gradients[i] * vectors[j].abs()
    return total


def assert_left_out(before: torch.Tensor, after: torch.Tensor, sensitivity: torch.Tensor, drop: float) -> None:
    """Exactly the most sensitive entries are zero; entries that round to the limit may go either way."""
    count = math.floor(drop * before.shape[1] + 1e-9)
    limit = float(sensitivity.kthvalue(before.shape[1] - count).values)
    margin = 1e-5 * limit
    assert not after[:, sensitivity > limit + margin].any()
    assert torch.equal(after[:, sensitivity < limit - margin], before[:, sensitivity < limit - margin])


@pytest.mark.parametrize("drop", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("tasks", [2, 5])
def test_tatr_leaves_out_the_most_sensitive_entries(tmp_path: Path, tasks: int, drop: float) -> None:
    vectors = random_vectors(tmp_path, tasks)
    before, after = flat(original(vectors)), flat(edited(vectors, "trust_region", drop=drop))
    assert_left_out(before, after, plain_sensitivity(before.abs(), before), drop)


def test_tatr_with_gradients(suite: Suite, context: Context) -> None:
    vectors = suite.vectors(["digits", "roads", "leaves"])
    params = {"sensitivity": "gradient", "images": 5, "drop": 0.2}
    before, after = flat(original(vectors)), flat(edited(vectors, "trust_region", context, **params))
    evaluator = context.need_images("the test", ())
    rows = []
    for task in vectors.tasks:
        found = mean_absolute_gradients(evaluator, task, 5, context)
        rows.append(torch.cat([found[name].flatten() for name in vectors.names]))
    assert_left_out(before, after, plain_sensitivity(torch.stack(rows), before), 0.2)
    with pytest.raises(MissingPart, match="TATR"):
        edited(vectors, "trust_region", **params)


def test_mean_absolute_gradients_are_those_of_single_images(suite: Suite, context: Context) -> None:
    evaluator = context.need_images("the test", ())
    found = mean_absolute_gradients(evaluator, "digits", 24, context)  # all validation images, whatever their order
    labels = evaluator.image_set("digits", "val").labels
    total = torch.zeros_like(evaluator.tower.proj)
    for index, label in enumerate(labels.tolist()):
        logits = evaluator.logits(
            "digits", evaluator.features(evaluator.images("digits", "val", slice(index, index + 1)))
        )
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
        total += torch.autograd.grad(loss, evaluator.tower.proj)[0].abs()
    torch.testing.assert_close(found["proj"], total / len(labels), rtol=1e-4, atol=1e-7)


# --- DOGE ------------------------------------------------------------------------------------------------------------

FC, CPROJ = "transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.0.mlp.c_proj.weight"


def plain_update(stack: torch.Tensor, steps: int, rate: float, share: float) -> torch.Tensor:
    """δ ``[m, n]`` with autograd on the published loss and projections written out."""
    rank, tasks = min(stack.shape[1:]), len(stack)
    weights = 0.07 / stack.flatten(1).norm(dim=1)
    tops = [torch.linalg.svd(t, full_matrices=False)[0][:, : max(1, rank // tasks)] for t in stack]
    basis = torch.linalg.svd(torch.cat(tops, dim=1), full_matrices=False)[0][:, : int(share * rank)]
    delta = torch.nn.Parameter(torch.zeros_like(stack[0]))
    optimiser = torch.optim.Adam([delta], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        merged = sum(w * (t + delta) for w, t in zip(weights, stack, strict=True))
        loss = sum((t * (t - merged)).sum(dim=1).square().sum() for t in stack)
        loss.backward()
        delta.grad -= basis @ basis.T @ delta.grad
        optimiser.step()
    return delta.detach()


def plain_limits(stacks: Iterable[torch.Tensor], keep: float) -> list[float]:
    """The smallest magnitude that stays of each task, over all of these matrices."""
    rows = torch.cat([stack.abs().flatten(1) for stack in stacks], dim=1)
    kept = max(1, math.floor(keep * rows.shape[1] + 1e-9))
    return rows.sort(dim=1, descending=True).values[:, kept - 1].tolist()


def plain_doge(stack: torch.Tensor, delta: torch.Tensor, limits: list[float]) -> torch.Tensor:
    kept = torch.stack([t.abs() >= limit for t, limit in zip(stack, limits, strict=True)])
    return 0.07 / stack.flatten(1).norm(dim=1).view(-1, *[1] * delta.ndim) * (stack + delta) * kept


def turned(name: str, stack: torch.Tensor) -> torch.Tensor:
    """A linear weight as ``[T, out, in]``."""
    return stack.mT if name == "proj" else stack.flatten(2)


@pytest.mark.parametrize(
    ("layers", "tasks", "rows"),
    [
        ("published", 1, 24),
        ("published", 4, 24),
        ("published", 2, 150),
        ("all_linear", 2, 24),
        ("all_linear", 4, 24),
        ("everything", 1, 24),
        ("everything", 4, 24),
    ],
)
def test_doge_is_the_plain_implementation(
    tmp_path: Path, layers: str, tasks: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 150 rows it works in several blocks of them, the last one smaller."""
    monkeypatch.setattr(doge, "_ENTRIES", 40 * 2 * 18)
    taken = (FC, CPROJ, "proj", "conv1.weight") if layers == "all_linear" else (FC, CPROJ)
    shapes = {FC: (rows, 18), CPROJ: (18, 12), "ln_post.bias": (7,), "proj": (14, 9), "conv1.weight": (6, 3, 2, 2)}
    vectors = random_vectors(tmp_path, tasks, shapes=shapes)
    found = edited(vectors, "doge", steps=15, learning_rate=1e-3, shared=0.3, layers=layers, units="published")
    stacks = original(vectors)
    together = plain_limits([stacks[name] for name in taken], 0.3)
    for name, stack in stacks.items():
        if name not in taken:
            norms = stack.flatten(1).norm(dim=1).view(-1, *[1] * (stack.ndim - 1))
            expected = 0.07 / norms * stack if layers == "everything" else torch.zeros_like(stack)
        else:
            matrices = turned(name, stack)
            delta = plain_update(matrices, 15, 1e-3, 0.3)
            limits = plain_limits([stack], 0.3) if layers == "everything" else together
            expected = plain_doge(matrices, delta, limits)
            expected = (expected.mT if name == "proj" else expected).reshape(stack.shape)
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-6)


def test_doge_without_its_coefficients_is_for_learned_ones(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 2, shapes={FC: (24, 18)})
    scaled, bare = (edited(vectors, "doge", steps=5, scaled=scaled, units="published")[FC] for scaled in (True, False))
    norms = original(vectors)[FC].flatten(1).norm(dim=1).view(-1, 1, 1)
    torch.testing.assert_close(scaled, 0.07 / norms * bare)


def test_doge_refuses_models_without_blocks(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 2, shapes={"w": (24, 18), "proj": (6, 5)})
    with pytest.raises(SpecError, match="weight matrices of a transformer's blocks, and these models have none"):
        edited(vectors, "doge", steps=1)
    assert flat(edited(vectors, "doge", steps=1, layers="everything")).all()  # as it did at first


# --- All of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", ["dare", "consensus", "trust_region", "doge"])
def test_zero_task_vectors_stay_zero(tmp_path: Path, edit: str) -> None:
    base, model = random_state(0), random_state(1)
    stacks = edited(write_models(tmp_path / "all", base, [base, base]), edit)
    assert not flat(stacks).any() and bool(torch.isfinite(flat(stacks)).all())
    stacks = edited(write_models(tmp_path / "one", base, [model, base]), edit)
    assert bool(torch.isfinite(flat(stacks)).all())
    if edit != "consensus":  # which hands out the merged vector
        assert not flat(stacks)[1].any()
