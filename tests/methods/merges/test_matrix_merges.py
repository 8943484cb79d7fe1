"""Iso-C, Iso-CTS, TSV-M and WUDI against plain implementations with full decompositions in float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from merging.core.errors import MissingPart
from merging.methods.context import Context
from merging.methods.params import WIDE_GRID
from merging.methods.registry import find
from merging.suites import Suite
from merging.weights import spectra
from merging.weights.vectors import TaskVectors
from tests.random_models import random_state, random_vectors, write_models

SHAPES = {
    "ln_post.bias": (7,),
    "conv1.weight": (6, 3, 2, 2),
    "proj": (24, 16),
    "transformer.resblocks.0.mlp.c_fc.weight": (64, 24),
    "transformer.resblocks.0.mlp.c_proj.weight": (24, 64),
    "transformer.resblocks.0.attn.out_proj.weight": (24, 24),
    "transformer.resblocks.1.mlp.c_proj.weight": (20, 280),
}


def merged(
    vectors: TaskVectors, merge: str, context: Context | None = None, **params: object
) -> dict[str, torch.Tensor]:
    method = find("merge", merge)
    plan = method.plan(vectors, method.parse(params), context or Context())
    return {name: plan(name, base, stack) for name, base, stack in vectors.iterate()}


def thin(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, v


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    u, _, v = thin(matrix)
    return u @ v


def plain_iso_c(stack: torch.Tensor) -> torch.Tensor:
    u, s, v = thin(stack.sum(dim=0))
    return s.mean() * u @ v


def plain_iso_cts(stack: torch.Tensor) -> torch.Tensor:
    tasks, rank = len(stack), min(stack.shape[1:])
    own = round((rank - int(0.8 * rank)) / tasks)
    k = rank - own * tasks
    u, s, v = thin(stack.sum(dim=0))
    us, ss, vs = [u[:, :k]], [s[:k]], [v[:k]]
    for vector in stack if own else []:
        a, b, c = thin(vector - u[:, :k] @ u[:, :k].T @ vector)
        us.append(a[:, :own])
        ss.append(b[:own])
        vs.append(c[:own])
    return torch.cat(ss).mean() * orthogonal(torch.cat(us, dim=1)) @ orthogonal(torch.cat(vs))


def plain_tsv_m(stack: torch.Tensor) -> torch.Tensor:
    count = max(1, min(stack.shape[1:]) // len(stack))
    parts = [thin(vector) for vector in stack]
    u = orthogonal(torch.cat([u[:, :count] for u, _, _ in parts], dim=1))
    v = orthogonal(torch.cat([v[:count] for _, _, v in parts]))
    return u @ torch.diag(torch.cat([s[:count] for _, s, _ in parts])) @ v


PLAIN = {"iso_c": plain_iso_c, "iso_cts": plain_iso_cts, "tsv_m": plain_tsv_m}
spectral = pytest.mark.parametrize("merge", PLAIN)


@spectral
@pytest.mark.parametrize("tasks", [1, 2, 5, 8])
def test_it_is_the_plain_implementation(tmp_path: Path, merge: str, tasks: int) -> None:
    vectors = random_vectors(tmp_path, tasks, shapes=SHAPES)
    for name, found in merged(vectors, merge, scaling=1.3).items():
        base, stack = vectors.stack(name)
        exact = PLAIN[merge](stack.double()) if found.ndim == 2 else stack.double().mean(dim=0)
        torch.testing.assert_close(found.double(), base.double() + 1.3 * exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merge", ["iso_cts", "tsv_m"])
@pytest.mark.parametrize("tasks", [2, 5])
def test_matrices_that_a_gpu_takes_together_are_those_of_the_cpu(
    tmp_path: Path, merge: str, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several of one shape; in one of them a task learned nothing, in another one nobody did."""
    blocks = {f"transformer.resblocks.{i}.{name}.weight": (48, 24) for i in range(4) for name in ("up", "same")}
    shapes = {name: (24, 24) if "same" in name else shape for name, shape in blocks.items()} | {"proj": (24, 60)}
    base, *models = (random_state(seed, shapes) for seed in range(tasks + 1))
    first, second = list(blocks)[:2]
    models[0][first] = base[first]
    for model in models:
        model[second] = base[second]
    vectors = write_models(tmp_path, base, models)
    expected = merged(vectors, merge)
    monkeypatch.setattr(spectra, "multiplies", lambda device: True)
    for name, found in merged(vectors, merge).items():
        assert float((found - expected[name]).norm()) <= 1e-3 * float((expected[name] - base[name]).norm())


@pytest.mark.parametrize("merge", [*PLAIN, "wudi"])
def test_zero_task_vectors_and_zero_tensors_change_nothing(tmp_path: Path, merge: str) -> None:
    base, model = random_state(0, SHAPES), random_state(1, SHAPES)
    for name, tensor in merged(write_models(tmp_path / "zero", base, [base, base]), merge).items():
        assert torch.equal(tensor, base[name])
    frozen = {**model, "proj": base["proj"]}
    vectors = write_models(tmp_path / "frozen", base, [frozen, frozen])
    assert torch.equal(merged(vectors, merge)["proj"], base["proj"])


@pytest.mark.parametrize("merge", ["tsv_m", "wudi"])
def test_a_task_that_learned_nothing_does_not_disturb_the_others(tmp_path: Path, merge: str) -> None:
    base, model = random_state(0, SHAPES), random_state(1, SHAPES)
    alone = merged(write_models(tmp_path / "alone", base, [model]), merge, **CLOSED.get(merge, {}))
    beside = merged(write_models(tmp_path / "beside", base, [model, base]), merge, **CLOSED.get(merge, {}))
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    if merge == "wudi":
        torch.testing.assert_close(beside[name], alone[name], rtol=1e-3, atol=1e-3)
    else:  # half of the rank is left to the other task
        assert float((beside[name] - base[name]).norm()) < float((alone[name] - base[name]).norm())


@spectral
@pytest.mark.parametrize("factor", [1e-4, 1e3])
def test_the_update_scales_with_the_task_vectors(tmp_path: Path, merge: str, factor: float) -> None:
    base = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    models = [random_state(task, SHAPES) for task in range(3)]
    plain = merged(write_models(tmp_path / "plain", base, models), merge)
    longer = [{name: factor * tensor for name, tensor in model.items()} for model in models]
    for name, tensor in merged(write_models(tmp_path / "longer", base, longer), merge).items():
        torch.testing.assert_close(tensor / factor, plain[name], rtol=1e-3, atol=1e-3)


CLOSED = {"wudi": {"solver": "closed_form", "ridge": 1e-5}}


def wudi_loss(update: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    return sum(((update - t) @ t.T).square().sum() / t.square().sum() for t in stack)  # type: ignore[return-value]


LINEAR_WEIGHTS = [name for name in SHAPES if "resblocks" in name]


def test_wudi_takes_adams_steps_on_the_published_loss(tmp_path: Path) -> None:
    vectors = random_vectors(tmp_path, 3, shapes=SHAPES)
    found = merged(vectors, "wudi", steps=20, learning_rate=1e-3, units="published")
    for name in SHAPES:
        base, stack = vectors.stack(name)
        update = stack.mean(dim=0)
        if name in LINEAR_WEIGHTS:
            update = torch.nn.Parameter(stack.sum(dim=0))
            optimiser = torch.optim.Adam([update], lr=1e-3)
            for _ in range(20):
                optimiser.zero_grad()
                wudi_loss(update, stack).backward()
                optimiser.step()
        torch.testing.assert_close(found[name], base + update.detach(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", LINEAR_WEIGHTS)
def test_wudi_in_closed_form_is_the_minimum(tmp_path: Path, name: str) -> None:
    vectors = random_vectors(tmp_path, 3, shapes=SHAPES)
    base, stack = vectors.stack(name)
    update = merged(vectors, "wudi", solver="closed_form", ridge=0.05)[name].double() - base.double()
    stack = stack.double()
    s = sum(t.T @ t / t.square().sum() for t in stack)
    ridge = 0.05 * s.trace() / len(s)

    def objective(m: torch.Tensor) -> torch.Tensor:
        return wudi_loss(m, stack) + ridge * (m - stack.sum(dim=0)).square().sum()

    m = update.clone().requires_grad_()
    objective(m).backward()
    assert float(m.grad.norm()) < 1e-4 * float(stack.norm())
    assert float(objective(update)) < float(objective(stack.sum(dim=0)))


def test_wudi_gives_the_model_of_one_task_back(make_vectors: Callable[..., TaskVectors]) -> None:
    vectors = make_vectors(tasks=1)
    for params in ({}, {"solver": "closed_form"}):
        for name, tensor in merged(vectors, "wudi", **params).items():
            torch.testing.assert_close(tensor, vectors.checkpoints[0][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("merge", [*PLAIN, "wudi"])
def test_auto_takes_the_best_scaling_on_validation(suite: Suite, context: Context, merge: str) -> None:
    vectors = suite.vectors(["digits", "roads"])
    method = find("merge", merge)
    params = {"scaling": "auto", **({"steps": 5} if merge == "wudi" else {})}
    plan = method.plan(vectors, method.parse(params), context)
    search = plan.report["scaling_search"]
    assert search["split"] == "val" and search["scalings"][:21] == list(WIDE_GRID)
    best = search["average_accuracy"].index(max(search["average_accuracy"]))
    assert plan.report["scaling"] == search["scalings"][best]
    fixed = method.plan(vectors, method.parse({**params, "scaling": plan.report["scaling"]}), context)
    for name, base, stack in vectors.iterate():
        torch.testing.assert_close(plan(name, base, stack), fixed(name, base, stack))


def test_auto_needs_images_before_any_work(vectors: TaskVectors) -> None:
    method = find("merge", "iso_c")
    with pytest.raises(MissingPart, match="scaling: auto"):
        method.plan(vectors, method.parse({"scaling": "auto"}), Context())
