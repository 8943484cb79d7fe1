"""The shipped suite: what is in it, and that it is what the scripts make."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from studies.mini_suite import build as build_module
from studies.mini_suite import pretrain, suite_files
from studies.mini_suite.data import REAL, render, split_arrays
from studies.mini_suite.finetune import FineTuningPlan
from studies.mini_suite.model import ARCHITECTURE, new_model, zero_shot_head
from studies.mini_suite.pretrain import PretrainingPlan
from studies.mini_suite.suite_files import REAL_COUNTS
from studies.mini_suite.tasks import BY_NAME, TASKS

MINI = build_module.EMBEDDED
MEGABYTE = 10**6
NAMES = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def description() -> dict:
    return yaml.safe_load((MINI / "suite.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def images() -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for name in NAMES:
        with np.load(MINI / "data" / f"{name}.npz") as arrays:
            found[name] = dict(arrays)
    return found


def test_description_names_existing_files_of_eight_tasks(description: dict) -> None:
    assert description["name"] == "mini"
    assert description["architecture"] == ARCHITECTURE
    assert [task["name"] for task in description["tasks"]] == NAMES
    files = [description["base"], description["text_tower"]]
    for task in description["tasks"]:
        files += [task["checkpoint"], task["head"], task["data"]["path"]]
        assert tuple(task["classes"]) == BY_NAME[task["name"]].classes
        assert all(template.count("{}") == 1 for template in task["templates"])
        assert all(task[key] for key in ("title", "description", "source", "licence"))
    assert [file for file in files if not (MINI / file).is_file()] == []


def test_weights_and_images_stay_small() -> None:
    weights = sum(file.stat().st_size for file in MINI.rglob("*.safetensors"))
    pictures = sum(file.stat().st_size for file in MINI.rglob("*.npz"))
    assert weights <= 20 * MEGABYTE
    assert pictures <= 12 * MEGABYTE


@pytest.mark.parametrize("name", NAMES)
def test_arrays_have_the_promised_types_and_all_classes(images: dict, name: str) -> None:
    for split in ("val", "test"):
        pixels, labels = images[name][f"{split}_images"], images[name][f"{split}_labels"]
        assert pixels.dtype == np.uint8
        assert pixels.shape == (len(labels), 32, 32, 3)
        assert labels.dtype == np.int64
        assert set(labels) == set(range(10))


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_image(images: dict, name: str) -> None:
    train, _ = split_arrays(BY_NAME[name], "train", 300, 0)
    splits = [images[name]["val_images"], images[name]["test_images"], train]
    distinct = [{image.tobytes() for image in split} for split in splits]
    assert distinct[0].isdisjoint(distinct[1])
    assert distinct[2].isdisjoint(distinct[0] | distinct[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REAL])
def test_rendering_again_gives_the_shipped_images(images: dict, name: str) -> None:
    for split, index in (("val", 3), ("test", 0), ("test", 17)):
        pixels, label, _ = render(BY_NAME[name], split, index, seed=0)
        assert np.array_equal(pixels, images[name][f"{split}_images"][index])
        assert BY_NAME[name].classes[images[name][f"{split}_labels"][index]] == label


@pytest.mark.parametrize("name", list(REAL))
def test_real_images_are_the_shipped_ones(images: dict, name: str) -> None:
    pixels, labels = split_arrays(BY_NAME[name], "test", REAL_COUNTS["test"], seed=0)
    assert np.array_equal(pixels, images[name]["test_images"])
    assert np.array_equal(labels, images[name]["test_labels"])


def test_heads_are_what_templates_and_text_tower_give() -> None:
    model = new_model()
    text = {key: value.float() for key, value in load_file(MINI / "text.safetensors").items()}
    missing, unexpected = model.load_state_dict(text, strict=False)
    assert unexpected == []
    assert all(key.startswith("visual.") for key in missing)
    for task in TASKS:
        shipped = load_file(MINI / "heads" / f"{task.name}.safetensors")["weight"]
        torch.testing.assert_close(shipped, zero_shot_head(model, task), atol=1e-5, rtol=0)
        torch.testing.assert_close(shipped.norm(dim=-1), torch.ones(len(task.classes)))


@pytest.mark.parametrize("name", NAMES)
def test_task_models_are_near_the_base_and_differ_from_it(name: str) -> None:
    base, own = load_file(MINI / "base.safetensors"), load_file(MINI / f"{name}.safetensors")
    assert base.keys() == own.keys()
    distance = sum((own[key].float() - base[key].float()).square().sum() for key in base).sqrt()
    assert 0.2 < distance < 5


def test_every_task_gains_from_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of four images, which is enough to see it."""
    whole = build_module.accuracy
    monkeypatch.setattr(
        build_module, "accuracy", lambda tower, head, images, labels: whole(tower, head, images[::4], labels[::4])
    )
    found = build_module.accuracies(MINI, "val")
    assert all(individual > zero_shot for zero_shot, individual in found.values())
    zero_shot, individual = (sum(column) / len(found) for column in zip(*found.values(), strict=True))
    assert 0.40 <= zero_shot <= 0.65
    assert individual >= 0.88


def test_a_tiny_build_runs_from_nothing_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for counts in (suite_files.REAL_COUNTS, suite_files.RENDERED_COUNTS):
        monkeypatch.setitem(counts, "val", 10)
        monkeypatch.setitem(counts, "test", 10)
    monkeypatch.setattr(pretrain, "BATCH", dict.fromkeys(pretrain.BATCH, 2))
    work, output = tmp_path / "work", tmp_path / "out"
    plan = build_module.BuildPlan(
        pool_per_task=10,
        train_images=10,
        pretraining=PretrainingPlan(steps=2, tags_from=1),
        fine_tuning=FineTuningPlan(steps=2, batch=2),
    )
    found = build_module.build(plan, work, output, build_module.Reporter())
    assert found.keys() == set(NAMES)
    first = load_file(output / "signs.safetensors")
    build_module.build(plan, work, output, build_module.Reporter())
    assert yaml.safe_load((output / "suite.yaml").read_text(encoding="utf-8"))["name"] == "mini"
    assert all(torch.equal(first[key], value) for key, value in load_file(output / "signs.safetensors").items())
    assert list(output.rglob(".*")) == []
