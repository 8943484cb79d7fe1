"""The study of linearised adapters: points on a line of models, training that goes on, and that the page is right."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from merging.evaluation.evaluator import Evaluator
from merging.methods.params import GRID
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.weights.files import open_checkpoint
from merging.weights.vectors import TaskVectors
from studies import adapter_training, linearised_page
from studies.adapter_models import Line
from studies.adapter_training import WAYS, choose_rate, trained_file
from studies.adapters import AdapterSettings, adapters_of, attach
from studies.linearised import ALL_WAYS, EDITS, NAME, SUBSET_SIZES, disturbed, measure_merge
from studies.linearised_page import PAGE, render
from studies.mini_suite.finetune import FineTuningPlan
from studies.page import load

State = dict[str, torch.Tensor]
SETTINGS = AdapterSettings(rank=2, alpha=4.0)


def away(start: Mapping[str, torch.Tensor], size: float = 0.5) -> State:
    generator = torch.Generator().manual_seed(11)
    return {name: size * torch.randn(tensor.shape, generator=generator) for name, tensor in start.items()}


def said(tower: torch.nn.Module, evaluator: Evaluator, task: str) -> np.ndarray:
    """Classes of a task's test images, without any batches."""
    tower.eval()
    with torch.no_grad():
        features = tower(evaluator.images(task, "test", slice(None)))
    head = evaluator.head(task)
    found: np.ndarray = (torch.nn.functional.normalize(features, dim=1) @ head.T).argmax(dim=1).numpy()
    return found


@pytest.fixture
def adapted(suite: Suite) -> torch.nn.Module:
    return attach(Evaluator(suite).tower, SETTINGS, seed=1)


def test_points_in_adapters_are_towers_with_these_adapters(
    suite: Suite, evaluator: Evaluator, adapted: torch.nn.Module
) -> None:
    start = adapters_of(adapted)
    direction, task = away(start), suite.task_names[0]
    line = Line(evaluator, start, SETTINGS)
    for scaling in (0.0, 0.7):
        adapted.load_state_dict({name: start[name] + scaling * direction[name] for name in start}, strict=False)
        np.testing.assert_array_equal(
            line.predictions(direction, scaling, [task])[task], said(adapted, evaluator, task)
        )


def full_line(suite: Suite, evaluator: Evaluator) -> tuple[TaskVectors, Line]:
    return suite.vectors(), Line(evaluator, suite.base_checkpoint)


def test_lambda_comes_from_validation_and_accuracy_from_test(suite: Suite, evaluator: Evaluator) -> None:
    vectors, line = full_line(suite, evaluator)
    result = measure_merge(vectors, line, "task_arithmetic")
    total = {name: vectors.stack(name)[1].sum(dim=0) for name in vectors.names}
    means = [evaluator_accuracy(suite, total, scaling, "val").average for scaling in result["search"]["scalings"]]
    assert result["search"]["scalings"][: len(GRID)] == list(GRID)
    assert result["search"]["average_accuracy"] == means and result["validation"] == max(means)
    assert result["scaling"] == result["search"]["scalings"][int(np.argmax(means))]
    assert result["accuracy"] == evaluator_accuracy(suite, total, result["scaling"], "test").per_task
    assert result["average"] == evaluator_accuracy(suite, total, 1 / len(vectors.tasks), "test").per_task


def evaluator_accuracy(suite: Suite, total: State, scaling: float, split: Any) -> Any:
    state = {name: tensor.float() + scaling * total[name] for name, tensor in suite.base_checkpoint.items()}
    return Evaluator(suite).accuracy(state, suite.mergeable(), split)


def test_a_single_model_is_measured_as_it_is(suite: Suite, evaluator: Evaluator) -> None:
    vectors, line = full_line(suite, evaluator)
    task = vectors.tasks[1]
    one = replace(vectors, tasks=(task,), checkpoints=vectors.checkpoints[1:2])
    result = measure_merge(one, line, "own")
    assert result["accuracy"] == Evaluator(suite).accuracy(suite.checkpoint(task), [task]).per_task
    assert disturbed(one, line, {n: one.stack(n)[1][0].clone() for n in one.names}, 0.6) == {task: 0.0}


def test_what_is_disturbed_is_what_the_other_vectors_change(suite: Suite, evaluator: Evaluator) -> None:
    vectors, line = full_line(suite, evaluator)
    total = {name: vectors.stack(name)[1].sum(dim=0) for name in vectors.names}
    found = disturbed(vectors, line, total, 0.5)
    other, base = Evaluator(suite), suite.base_checkpoint
    for task in vectors.tasks:
        other.load({name: base[name].float() + 0.5 * total[name] for name in base})
        merged = other.predictions(task, "test")
        model = suite.checkpoint(task)
        other.load({name: base[name].float() + 0.5 * (model[name].float() - base[name].float()) for name in base})
        assert found[task] == np.mean(other.predictions(task, "test") != merged)
    assert max(found.values()) > 0


@pytest.mark.parametrize("name", WAYS)
def test_training_moves_adapters_alone_and_is_done_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, 8)
    monkeypatch.setattr(adapter_training, "training_images", lambda task: (images, labels))
    way, evaluator, said_so = WAYS[name], Evaluator(load_suite("mini")), list[str]()
    plan = FineTuningPlan(steps=2, batch=4, learning_rate=1e-2)
    path = trained_file(way, "digits", plan, evaluator, tmp_path, said_so.append)
    assert trained_file(way, "digits", plan, evaluator, tmp_path, said_so.append) == path and len(said_so) == 1
    other = trained_file(way, "digits", replace(plan, steps=1), evaluator, tmp_path, said_so.append)
    assert other != path and len(said_so) == 2
    start = open_checkpoint(adapter_training.start_file(way, tmp_path), part="all")
    vectors = TaskVectors(start, (open_checkpoint(path, part="all"),), ("digits",))
    moved = {name for name in vectors.names if vectors.stack(name)[1].any()}
    assert {name for name in vectors.names if name.endswith("up")} <= moved
    assert (moved == set(vectors.names)) == (name == "lora")  # L-LoRA's first order knows no down


def test_rates_are_tried_until_one_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = dict(zip(adapter_training.RATES, (0.5, 0.75, 0.75, 0.25, 1.0), strict=True))
    rates: list[float] = []

    def file(way: Any, task: str, plan: FineTuningPlan, *rest: Any) -> Path:
        rates.append(plan.learning_rate)
        return adapter_training.start_file(way, tmp_path)

    def measured(line: Line, direction: State, scaling: float, tasks: list[str], split: str) -> Any:
        assert split == "val"
        return type("Measured", (), {"average": reached[rates[-1]]})

    monkeypatch.setattr(adapter_training, "trained_file", file)
    monkeypatch.setattr(Line, "accuracy", measured)
    best, found = choose_rate(WAYS["lora"], Evaluator(load_suite("mini")), tmp_path, lambda text: None)
    assert best == adapter_training.RATES[1]  # the smallest of the best
    assert list(found.values()) == [0.5, 0.75, 0.75, 0.25]


def test_the_page_says_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(load(NAME))


def test_the_study_is_complete_and_of_the_suite_as_it_is(tmp_path: Path) -> None:
    mini, stored, other = load_suite("mini"), load(NAME), load("mini")
    assert stored["tasks"] == list(mini.mergeable()) and tuple(stored["ways"]) == ALL_WAYS
    gram = stored["ways"]["full"]["gram"]
    np.testing.assert_allclose(Workspace(tmp_path).geometry(mini).gram, gram, rtol=1e-4, atol=1e-6)
    assert stored["zero_shot"] == other["zero_shot"] and stored["ways"]["full"]["individual"] == other["individual"]
    for way in stored["ways"].values():
        sizes = [(len(merge["tasks"]), merge["merge"]) for merge in way["merges"]]
        assert sizes == [(size, merge) for size in (len(stored["tasks"]), *SUBSET_SIZES) for merge in EDITS]


def test_normalised_is_relative_to_the_models_of_the_same_way() -> None:
    way = {"individual": {"a": 0.5, "b": 1.0}}
    assert linearised_page.normalised(way, {"a": 0.25, "b": 1.0}) == pytest.approx(75.0)
