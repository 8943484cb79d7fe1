"""Low-rank adapters of a tower's attention, their expansion to first order, and folding them into weights."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from merging.core.errors import MismatchedCheckpoint, SpecError
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.merges.task_arithmetic import TaskArithmeticParams, task_arithmetic
from merging.suites import Suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.checkpoint import TensorInfo
from merging.weights.vectors import TaskVectors
from studies.adapters import Adapter, AdapterSettings, adapters_of, attach, folded

State = dict[str, torch.Tensor]
LORA = AdapterSettings(rank=3, alpha=6.0, dropout=0.0)
L_LORA = replace(LORA, linearised=True)
WIDTH = 8


@pytest.fixture
def base(suite: Suite) -> nn.Module:
    """The tiny suite's tower in float64, so that differences are small enough to be compared with derivatives."""
    return Evaluator(suite).tower.double()


@pytest.fixture
def adapted(base: nn.Module) -> Callable[[AdapterSettings], nn.Module]:
    """Copies of it with adapters at their first values."""
    return lambda settings: attach(copy.deepcopy(base), settings, seed=5).eval()


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def away(start: State, seed: int, size: float = 0.3) -> State:
    """A random point in the adapters' space that is not where they began."""
    generator = torch.Generator().manual_seed(seed)
    return {n: t + size * torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in start.items()}


def between(start: State, end: State, share: float) -> State:
    return {name: start[name] + share * (end[name] - start[name]) for name in start}


def output(tower: nn.Module, adapters: State) -> torch.Tensor:
    return functional_call(tower, adapters, (images(),))


@pytest.mark.parametrize("settings", [LORA, L_LORA])
def test_at_first_adapters_change_nothing(
    base: nn.Module, adapted: Callable[[AdapterSettings], nn.Module], settings: AdapterSettings
) -> None:
    tower = adapted(settings)
    torch.testing.assert_close(tower(images()), base.eval()(images()), rtol=1e-10, atol=1e-10)


def test_only_adapters_learn_and_all_of_them(adapted: Callable[[AdapterSettings], nn.Module]) -> None:
    tower = adapted(LORA)
    blocks = range(len(tower.transformer.resblocks))
    assert set(adapters_of(tower)) == {
        f"transformer.resblocks.{block}.attn.{place}.{part}"
        for block in blocks
        for place in "qv"
        for part in ("up", "down")
    }
    tower.load_state_dict(away(adapters_of(tower), seed=1), strict=False)
    tower(images()).square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().max() > 0)) == (name in adapters_of(tower))


def test_the_same_seed_gives_the_same_start(base: nn.Module) -> None:
    first, same, other = (adapters_of(attach(copy.deepcopy(base), LORA, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(bool(tensor.any()) == name.endswith("down") for name, tensor in first.items())


def naive(tower: nn.Module, weights: State, start: State, adapters: State, settings: AdapterSettings) -> State:
    """Tower weights with every adapter written out as matrices, the expansion by its definition through autograd."""

    def product(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return settings.alpha / settings.rank * (up @ down)

    found = dict(weights)
    for block in range(len(tower.transformer.resblocks)):
        stem = f"transformer.resblocks.{block}.attn"
        added = []
        for place in ("q", "v"):
            now = (adapters[f"{stem}.{place}.up"], adapters[f"{stem}.{place}.down"])
            first = (start[f"{stem}.{place}.up"], start[f"{stem}.{place}.down"])
            if settings.linearised:
                change = tuple(one - two for one, two in zip(now, first, strict=True))
                _, slope = torch.autograd.functional.jvp(product, first, change)
                added.append(product(*first) + slope)
            else:
                added.append(product(*now))
        zero = torch.zeros_like(added[0])
        found[f"{stem}.in_proj_weight"] = found[f"{stem}.in_proj_weight"] + torch.cat([added[0], zero, added[1]])
    return found


@pytest.mark.parametrize("settings", [LORA, L_LORA])
def test_adapters_folded_into_weights_are_the_tower_with_adapters(
    base: nn.Module, adapted: Callable[[AdapterSettings], nn.Module], settings: AdapterSettings
) -> None:
    tower, weights = adapted(settings), base.eval().state_dict()
    start = adapters_of(tower)
    there = away(start, seed=2)
    expected = functional_call(base, naive(tower, weights, start, there, settings), (images(),))
    assert not torch.allclose(expected, base(images()), atol=1e-3)
    torch.testing.assert_close(output(tower, there), expected, rtol=1e-9, atol=1e-9)
    state = folded(weights, start, there, settings)
    again = functional_call(base, {name: tensor.double() for name, tensor in state.items()}, (images(),))
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)
    assert {name for name in weights if not torch.equal(state[name], weights[name].float())} == {
        name for name in weights if name.endswith("in_proj_weight")
    }


@given(seed=st.integers(0, 1000), began=st.booleans())
def test_a_linearised_adapter_is_its_first_order_expansion(seed: int, began: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    plain, linear = (Adapter(WIDTH, s, torch.Generator().manual_seed(seed)).double() for s in (LORA, L_LORA))
    if began:  # elsewhere than at up = 0
        for adapter in (plain, linear):
            nn.init.constant_(adapter.up, 0.1)
            adapter.start_up.copy_(adapter.up.detach())
    start = {name: parameter.detach().clone() for name, parameter in linear.named_parameters()}
    end = away(start, seed)
    x = torch.randn(5, WIDTH, generator=generator, dtype=torch.float64)

    def at(adapter: Adapter, share: float) -> torch.Tensor:
        return functional_call(adapter, between(start, end, share), (x,))

    torch.testing.assert_close(at(linear, 0.0), at(plain, 0.0))
    torch.testing.assert_close(at(linear, 2.5) - at(linear, 0.0), 2.5 * (at(linear, 1.0) - at(linear, 0.0)))
    step = 1e-5
    slope = (at(plain, step) - at(plain, -step)) / (2 * step)
    torch.testing.assert_close(at(linear, 1.0) - at(linear, 0.0), slope, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(at(plain, 1.0), at(linear, 1.0))


def test_the_gradient_of_a_linearised_adapter_is_that_of_the_naive_expansion() -> None:
    adapter = Adapter(WIDTH, L_LORA, torch.Generator().manual_seed(0)).double()
    start_up, start_down = adapter.start_up.clone(), adapter.start_down.clone()
    adapter.load_state_dict(away({"down": start_down, "up": start_up}, seed=3))
    x = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    adapter(x).cos().sum().backward()
    up, down = (tensor.detach().clone().requires_grad_() for tensor in (adapter.up, adapter.down))
    matrix = start_up @ start_down + (up - start_up) @ start_down + start_up @ (down - start_down)
    (LORA.alpha / LORA.rank * x @ matrix.T).cos().sum().backward()
    torch.testing.assert_close(adapter.up.grad, up.grad)
    torch.testing.assert_close(adapter.down.grad, down.grad)
    assert not bool(adapter.down.grad.any())  # up began at zero, so that down has no part in the first order


def test_merging_l_lora_in_adapters_or_in_weights_is_the_same(
    base: nn.Module, adapted: Callable[[AdapterSettings], nn.Module], tmp_path: Path
) -> None:
    tower, weights = adapted(L_LORA), {name: tensor.float() for name, tensor in base.state_dict().items()}
    start = {name: tensor.float() for name, tensor in adapters_of(tower).items()}
    ends = [away(start, seed=seed) for seed in (1, 2, 3)]

    def written(name: str, state: State) -> Path:
        path = tmp_path / f"{name}.safetensors"
        infos = {key: TensorInfo(tuple(tensor.shape), tensor.dtype) for key, tensor in sorted(state.items())}
        save_tensors(path, infos, sorted(state.items()))
        return path

    def merged(states: list[State], settings: AdapterSettings | None) -> State:
        files = [
            written(f"{number}", state if settings is None else folded(weights, start, state, settings))
            for number, state in enumerate(states)
        ]
        base_file, *models = (open_checkpoint(file, part="all") for file in files)
        vectors = TaskVectors(base_file, tuple(models), ("a", "b", "c"))
        plan = task_arithmetic(vectors, TaskArithmeticParams(scaling=0.4), Context())
        return {name: plan(name, *vectors.stack(name)) for name in vectors.names}

    as_weights = merged([start, *ends], L_LORA)
    as_adapters = folded(weights, start, merged([start, *ends], None), L_LORA)
    assert any(not torch.equal(as_weights[name], weights[name]) for name in weights)
    for name, tensor in as_weights.items():
        torch.testing.assert_close(as_adapters[name], tensor, rtol=1e-4, atol=1e-5)


def test_dropout_is_for_training_only(base: nn.Module) -> None:
    tower = attach(copy.deepcopy(base), replace(LORA, dropout=0.5), seed=0)
    tower.load_state_dict(away(adapters_of(tower), seed=9), strict=False)
    tower.eval()
    assert torch.equal(tower(images()), tower(images()))
    tower.train()
    assert not torch.equal(tower(images()), tower(images()))


def test_what_can_have_no_adapters_is_refused() -> None:
    with pytest.raises(SpecError, match="Linear has no blocks with packed attention; expected a visual tower"):
        attach(nn.Linear(2, 2), LORA, seed=0)


def test_adapters_of_another_tower_are_refused(
    base: nn.Module, adapted: Callable[[AdapterSettings], nn.Module]
) -> None:
    start = adapters_of(adapted(LORA))
    foreign = {name.replace("resblocks.1", "resblocks.7"): tensor for name, tensor in start.items()}
    with pytest.raises(
        MismatchedCheckpoint, match=r"resblocks.7.attn.q.up.*no tensor.*resblocks.7.attn.in_proj_weight"
    ):
        folded(base.state_dict(), foreign, foreign, LORA)
