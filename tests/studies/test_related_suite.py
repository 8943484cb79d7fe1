"""The shipped suite of related tasks: what is in it, that it is what the scripts make, and what it is for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from merging.core.errors import SuiteError
from merging.evaluation import evaluator as evaluator_module
from merging.evaluation.evaluator import Evaluator
from merging.runs.shipped import FILE
from merging.suites import Suite, load_suite
from merging.suites.discovery import Discovery
from merging.suites.images.suite_images import ImageSet, load_images
from merging.weights.geometry import mean_abs_cosine, measure
from studies.mini_suite import related
from studies.mini_suite.build import EMBEDDED, BuildPlan, Reporter
from studies.mini_suite.data import render
from studies.mini_suite.finetune import FineTuningPlan
from studies.mini_suite.model import new_model, zero_shot_head

OWN = [task.name for task in related.OWN]
TASKS = {task.name: task for task in related.OWN}


@pytest.fixture(scope="module")
def suite() -> Suite:
    return load_suite("mini-related")


def test_it_is_found_beside_mini_and_is_none_of_the_published_ones() -> None:
    found = Discovery([])()
    assert list(found.entries)[:2] == ["mini", "mini-related"]
    assert "mini-related" not in found.published and "mini-related" in found.described


def test_all_files_are_there_and_its_own_stay_small(suite: Suite) -> None:
    assert suite.mergeable() == suite.task_names and len(suite.task_names) == 6
    assert all(suite.present(name) for name in suite.task_names)
    files = [file for file in related.RELATED.rglob("*") if file.is_file() and file.name != FILE]
    assert sum(file.stat().st_size for file in files) < 5e6


def test_base_and_three_tasks_are_those_of_mini(suite: Suite) -> None:
    mini = load_suite("mini")
    assert suite.base_checkpoint.fingerprint == mini.base_checkpoint.fingerprint
    shared = [name for name in suite.task_names if name not in OWN]
    assert len(shared) == 3
    for name in shared:
        assert suite.checkpoint(name).fingerprint == mini.checkpoint(name).fingerprint
        assert suite.images_path(name) == mini.images_path(name)


def test_elsewhere_its_paths_lead_out_of_its_folder_as_anybodys_would(tmp_path: Path) -> None:
    shutil.copy(related.RELATED / "suite.yaml", tmp_path)
    with pytest.raises(SuiteError, match="leads out of the suite's folder"):
        load_suite(tmp_path).vectors()


@pytest.mark.parametrize("name", OWN)
def test_images_and_heads_are_what_the_scripts_make(name: str) -> None:
    task = TASKS[name]
    with np.load(related.RELATED / "data" / f"{name}.npz") as arrays:
        for split, count in related.COUNTS.items():
            pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            assert pixels.shape == (count, 32, 32, 3) and set(labels) == set(range(10))
            image, label, _ = render(task, split, 17, seed=0)
            assert np.array_equal(image, pixels[17]) and task.classes[labels[17]] == label
    model = new_model()
    model.load_state_dict({key: part.float() for key, part in load_file(EMBEDDED / "text.safetensors").items()}, False)
    shipped = load_file(related.RELATED / "heads" / f"{name}.safetensors")["weight"]
    torch.testing.assert_close(shipped, zero_shot_head(model, task), atol=1e-5, rtol=0)


def test_task_vectors_are_related_where_those_of_mini_are_not(suite: Suite) -> None:
    gram = {name: measure(load_suite(name).vectors()).gram for name in ("mini", "mini-related")}
    assert mean_abs_cosine(gram["mini"]) < 0.05
    assert mean_abs_cosine(gram["mini-related"]) >= 0.2


def test_every_task_gains_from_fine_tuning(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of four images."""

    def quarter(images: ImageSet) -> ImageSet:
        return replace(images, pixels=images.pixels[::4], labels=images.labels[::4])

    monkeypatch.setattr(evaluator_module, "load_images", lambda *given: quarter(load_images(*given)))
    evaluator = Evaluator(suite, torch.device("cpu"))
    zero_shot = evaluator.accuracy(suite.base_checkpoint, suite.task_names, "val")
    own = {name: evaluator.accuracy(suite.checkpoint(name), [name], "val").per_task[name] for name in suite.task_names}
    assert all(own[name] > max(0.9, zero_shot.per_task[name] + 0.1) for name in suite.task_names)


def test_a_tiny_build_runs_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(related, "COUNTS", {"val": 10, "test": 10})
    plan = BuildPlan(train_images=10, fine_tuning=FineTuningPlan(steps=2, batch=2))
    made = []
    for _ in range(2):
        related.build(plan, EMBEDDED, tmp_path, Reporter())
        made.append(load_file(tmp_path / f"{OWN[0]}.safetensors"))
    assert all(torch.equal(part, made[1][name]) for name, part in made[0].items())
    assert (tmp_path / "suite.yaml").read_bytes() == (related.RELATED / "suite.yaml").read_bytes()
