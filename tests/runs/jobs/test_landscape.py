"""Accuracy over λ and the plane of two task vectors: equal to plain arithmetic and to runs, point by point."""

from pathlib import Path

import numpy as np
import pytest
import torch

from merging.core.errors import Cancelled, SpecError
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.edits.awd import AwdParams, disentangle
from merging.methods.mixing import WhatIf
from merging.runs.jobs import Job, MergeSpec, parse_job
from merging.runs.jobs import landscape as exploring
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors
from tests.carrying import execute
from tests.random_models import TASKS, flattened, random_vectors


def spec_of(suite_file: Path, job: str, tasks: tuple[str, ...] = TASKS, **choices: object) -> Job:
    return parse_job({"suite": str(suite_file), "tasks": tasks, "job": job, "split": "val", **choices})


@pytest.mark.usefixtures("few_scalings")
@pytest.mark.parametrize("choices", [{"edit": "awd"}, {"edit": "ties"}, {"merge": "iso_c"}], ids=str)
def test_curves_are_those_of_runs(choices: dict[str, object], suite_file: Path, workspace: Workspace) -> None:
    tasks = TASKS[:3]
    result = execute(spec_of(suite_file, "scaling_curve", tasks, **choices), workspace)

    def run(scaling: object, split: str) -> MergeResult:
        return execute(
            MergeSpec.build(
                suite=str(suite_file), tasks=tasks, split=split, merge_params={"scaling": scaling}, **choices
            ),
            workspace,
        )

    searched = run("auto", "test").merge
    assert result.scaling == searched.scaling
    assert result.scalings == searched.scaling_search.scalings
    assert result.val.average == searched.scaling_search.average_accuracy
    for place in (0, 2, len(result.scalings) - 1):
        at = run(result.scalings[place], "test")
        assert result.test.average[place] == at.average
        assert {task: result.test.per_task[task][place] for task in tasks} == at.accuracy
        assert result.test.images == at.images


def test_a_merge_without_one_coefficient_has_no_curve(suite_file: Path) -> None:
    for choices in ({"merge": "average"}, {"merge_params": {"scaling": (0.1, 0.2, 0.3, 0.4)}}):
        with pytest.raises(SpecError, match="no single λ"):
            spec_of(suite_file, "scaling_curve", **choices)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of 3 × 3 (−0.5, 0.5, 1.5), measured on nine images a task."""
    monkeypatch.setattr(exploring, "STEPS", 3)
    monkeypatch.setattr(exploring, "IMAGES", 9)


@pytest.mark.usefixtures("few", "few_scalings")
@pytest.mark.parametrize("scope", ["model", "layer", "row"])
def test_landscape(scope: str, suite: Suite, suite_file: Path, evaluator: Evaluator, workspace: Workspace) -> None:
    tasks = (TASKS[2], TASKS[0])
    result = execute(spec_of(suite_file, "landscape", tasks, edit="awd", edit_params={"scope": scope}), workspace)
    assert result.axis == [-0.5, 0.5, 1.5]
    assert result.counts == dict.fromkeys(tasks, 9)
    vectors = suite.vectors(tasks)
    edit = disentangle(vectors, measure(vectors), AwdParams(scope=scope), Context()).edit

    def expected(x: float, y: float, edited: bool, task: str) -> tuple[float, float]:
        """Loss and accuracy of θ₀ + x u₁ + y u₂ on the task's nine images, written out."""
        state = dict(suite.base_checkpoint.items())
        for name, base, stack in vectors.iterate():
            first, second = edit(name, base, stack) if edited else stack
            state[name] = base + x * first + y * second
        evaluator.load(state)
        chosen = evaluator.draw(task, "val", 9, seed=0)
        with torch.no_grad():
            logits = evaluator.logits(task, evaluator.features(evaluator.images(task, "val", chosen)))
        labels = torch.as_tensor(evaluator.image_set(task, "val").labels[chosen]).long()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return float(loss), float((logits.argmax(dim=1) == labels).float().mean())

    for plane, row, column in (("before", 0, 2), ("before", 1, 0), ("after", 0, 2), ("after", 2, 1)):
        for task in tasks:
            found = [result.planes[plane].of(quantity)[task][row][column] for quantity in ("loss", "accuracy")]
            y, x = result.axis[row], result.axis[column]
            assert found == pytest.approx(expected(x, y, plane == "after", task), rel=1e-4, abs=1e-6)
    for name, edited in (("task_arithmetic", False), ("awd", True)):
        scaling = result.scaling["after" if edited else "before"]
        for task in tasks:
            found = [result.points[name].of(quantity)[task] for quantity in ("loss", "accuracy")]
            assert found == pytest.approx(expected(scaling, scaling, edited, task), rel=1e-4, abs=1e-6)
        if scope != "model" and not edited:
            continue  # the same in every scope
        searched = MergeSpec.build(
            suite=str(suite_file),
            tasks=tasks,
            edit="awd" if edited else "none",
            merge_params={"scaling": "auto"},
            edit_params={"scope": scope} if edited else {},
        )
        assert scaling == execute(searched, workspace).merge.scaling


@pytest.mark.parametrize("scope", ["model", "layer", "row"])
def test_places_in_the_planes(scope: str, tmp_path: Path) -> None:
    vectors: TaskVectors = random_vectors(tmp_path / "two", tasks=2)
    geometry = measure(vectors)
    what_if = WhatIf(vectors, disentangle(vectors, geometry, AwdParams(scope=scope), Context()).edit)
    tau = flattened(vectors).numpy()
    phi = np.concatenate(
        [what_if.edit(name, base, stack).reshape(2, -1).double().numpy() for name, base, stack in vectors.iterate()],
        axis=1,
    )
    points = {
        "base": 0 * tau[0],
        "first": tau[0],
        "second": tau[1],
        "task_arithmetic": 0.4 * tau.sum(axis=0),
        "awd": 0.7 * phi.sum(axis=0),
    }
    found = exploring.places(what_if, geometry, 0.4, 0.7)
    for plane, axes in (("before", tau), ("after", phi)):
        for name, point in points.items():
            place = np.linalg.lstsq(axes.T, point, rcond=None)[0]
            away = np.linalg.norm(point - place @ axes) / max(np.linalg.norm(point), 1e-9)
            np.testing.assert_allclose(found[plane][name], [*place, away], atol=2e-3)
    if scope == "model":
        assert all(place[2] == 0 for plane in found.values() for place in plane.values())


def test_what_spans_no_plane(suite_file: Path, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="two task vectors"):
        spec_of(suite_file, "landscape", edit="awd")
    with pytest.raises(SpecError, match="only edit awd"):
        spec_of(suite_file, "landscape", TASKS[:2])
    with pytest.raises(Cancelled):
        execute(spec_of(suite_file, "landscape", TASKS[:2], edit="awd"), workspace, cancelled=lambda: True)
