"""Models that are each other, or the base, under several names."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.weights.files import Checkpoint
from merging.weights.twins import identical, oddities
from tests.random_models import State, random_state, write_models


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one[name].double(), other[name].double()) for name in one)


@given(st.lists(st.sampled_from(["a", "b", "b, one tensor off", "c"]), min_size=1, max_size=6))
def test_groups_are_those_of_comparing_every_pair(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    last = sorted(random_state(1))[-1]
    states: dict[str, State] = {"a": random_state(1), "b": random_state(2), "c": random_state(3)}
    states["b, one tensor off"] = states["b"] | {last: states["b"][last] + 1}
    folder = tmp_path_factory.mktemp("models")
    vectors = write_models(folder, random_state(0), [states[kind] for kind in kinds])
    models = dict(zip(vectors.tasks, vectors.checkpoints, strict=True))
    found = identical(models)
    together = {pair for group in found for pair in combinations(group, 2)}
    assert together == {pair for pair in combinations(models, 2) if equal(models[pair[0]], models[pair[1]])}


def test_file_and_precision_do_not_matter(tmp_path: Path) -> None:
    whole = random_state(1)
    half = {name: tensor.half() for name, tensor in whole.items()}
    exact = {name: tensor.float() for name, tensor in half.items()}
    vectors = write_models(tmp_path / "models", random_state(0), [half, exact, whole])
    assert identical(dict(zip("abc", vectors.checkpoints, strict=True))) == [("a", "b")]
    assert identical({}) == []


def test_of_different_models_only_the_first_tensor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = write_models(tmp_path, random_state(0), [random_state(1), random_state(2)])
    read: list[str] = []
    get = Checkpoint.__getitem__
    monkeypatch.setattr(Checkpoint, "__getitem__", lambda self, name: (read.append(name), get(self, name))[1])
    assert oddities(vectors) == []
    assert set(read) == {vectors.names[0]}


def test_what_is_said_of_twins(tmp_path: Path) -> None:
    base, other = random_state(0), random_state(1)
    vectors = write_models(tmp_path, base, [base, other, base, other, random_state(2)])
    one, two, three, four, _ = map(repr, vectors.tasks)
    assert oddities(vectors) == [
        f"tasks {one} and {three} equal the base model {vectors.base.path.name}, so add nothing to the merge",
        f"tasks {two} and {four} equal each other in all weights, so that one model counts 2 times",
    ]
