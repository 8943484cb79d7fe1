"""Folders that transformers' Trainer and other trainings leave: a task each, its checkpoint, its base, its name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from merging.cli import main
from merging.cli.options import read_checkpoints
from merging.core.errors import SuiteError
from merging.hub import cache
from merging.runs.jobs.check import check_suite
from merging.suites import load_suite
from merging.suites.folder import checkpoint_folders, task_name
from merging.suites.initialise import Proposal, init_suite, propose
from tests.random_models import random_tower, write_config

STATES = ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "scaler.pt", "training_args.bin")


class Poison:
    """What a pickle must not be able to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


def model(folder: Path, seed: int, name: str = "model.safetensors", config: dict[str, Any] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder)
    state = {f"visual.{key}": tensor for key, tensor in random_tower(seed).items()}
    save_file(state, folder / name) if name.endswith(".safetensors") else torch.save(state, folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))


def checkpoint(training: Path, step: int, seed: int, best: str | None = None, base: str | None = None) -> None:
    """A folder of the Trainer with everything that it writes there."""
    folder = training / f"checkpoint-{step}"
    model(folder, seed, config={"hidden_act": "gelu"} | ({"_name_or_path": base} if base else {}))
    for name in STATES:
        torch.save({"state": {0: torch.ones(2)}, "object": Poison()}, folder / name)
    place = None if best is None else f"/elsewhere/out/{training.name}/{best}"
    state = {"best_model_checkpoint": place, "best_metric": 0.9, "global_step": step, "log_history": []}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def tasks_of(made: Proposal) -> dict[str, str]:
    return {task["name"]: task["checkpoint"] for task in made.content["tasks"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base and two trainings with one checkpoint each."""
    model(tmp_path / "runs" / "base", 0)
    for seed, task in enumerate(("cats", "clip-vit-base-patch32_dogs"), start=1):
        checkpoint(tmp_path / "runs" / task, 500, seed)
    return tmp_path / "runs"


def test_folders_of_the_trainer_are_tasks_called_like_their_training(folder: Path) -> None:
    assert checkpoint_folders(folder.parent) == [folder]
    made = init_suite(folder)
    assert tasks_of(made) == {
        "cats": "cats/checkpoint-500/model.safetensors",
        "dogs": "clip-vit-base-patch32_dogs/checkpoint-500/model.safetensors",
    }
    besides = "what a training keeps besides; never opened"
    assert made.left_out == {f"2 × {name}": besides for name in STATES}
    suite = load_suite(folder)
    assert check_suite(suite).problems == 0
    assert torch.equal(suite.checkpoint("dogs")["proj"], random_tower(2)["proj"])


def test_of_several_checkpoints_the_best_is_taken_and_it_is_said(folder: Path) -> None:
    checkpoint(folder / "cats", 1000, 5, best="checkpoint-1000")
    checkpoint(folder / "cats", 1500, 6, best="checkpoint-1000")
    made = propose(folder)
    assert tasks_of(made)["cats"] == "cats/checkpoint-1000/model.safetensors"
    said = "checkpoint of cats: checkpoint-1000 is the best by the trainer_state.json of checkpoint-1500"
    assert said in made.notes["tasks"]
    passed = "another checkpoint of this training; cats/checkpoint-1000/model.safetensors is taken"
    assert made.left_out["cats/checkpoint-500/model.safetensors"] == passed
    other = propose(folder, checkpoints={"cats": "checkpoint-500"})
    assert tasks_of(other)["cats"] == "cats/checkpoint-500/model.safetensors"


def test_where_nothing_says_which_checkpoint_is_meant_it_is_asked(folder: Path) -> None:
    checkpoint(folder / "cats", 1000, 5)
    said = "task cats: 2 checkpoints of one training, checkpoint-500, checkpoint-1000, and nothing says which is meant"
    with pytest.raises(SuiteError, match=rf"{said}; say it with --checkpoint cats=checkpoint-1000"):
        propose(folder)
    checkpoint(folder / "cats", 1000, 5, best="checkpoint-750")  # which is not here any more
    with pytest.raises(SuiteError, match=said):
        propose(folder)
    call = ["init-suite", str(folder), "--json", "--checkpoint"]
    found = CliRunner().invoke(main, [*call, "cats=checkpoint-500"])
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["suite"]["tasks"][0]["checkpoint"] == "cats/checkpoint-500/model.safetensors"
    for wrong, reason in (
        ("cats=checkpoint-750", "task cats: no checkpoint 'checkpoint-750'; there are checkpoint-500, checkpoint-1000"),
        ("cows=checkpoint-500", "a checkpoint is given for cows; tasks with checkpoints of a training are cats, dogs"),
        ("cats", "expected TASK=NAME"),
    ):
        refused = CliRunner().invoke(main, [*call, wrong, "--force"])
        assert refused.exit_code == 1 and reason in refused.stderr


def test_a_model_beside_its_checkpoints_is_what_the_training_gave(folder: Path) -> None:
    checkpoint(folder / "cats", 1000, 5)
    model(folder / "cats", 7)
    made = propose(folder)
    assert tasks_of(made)["cats"] == "cats/model.safetensors"
    assert "checkpoint of cats: cats/model.safetensors lies beside the checkpoints on its way" in made.notes["tasks"]


@pytest.mark.parametrize(
    "names",
    [
        ("epoch_1.pt", "epoch_2.pt"),
        ("best.pt", "last.pt"),
        ("finetuned.pt", "model.bin"),
        ("checkpoint.pth.tar", "model_best.pth.tar"),
        ("epoch=3-step=100.ckpt", "epoch=4-step=200.ckpt"),
    ],
)
def test_files_of_one_training_are_asked_for_too(folder: Path, names: tuple[str, str]) -> None:
    for seed, name in enumerate(names):
        model(folder / "birds", seed + 3, name)
    with pytest.raises(SuiteError, match=f"task birds: 2 checkpoints of one training, {names[0]}, {names[1]}, and"):
        propose(folder)
    assert tasks_of(propose(folder, checkpoints={"birds": Path(names[0]).stem}))["birds"] == f"birds/{names[0]}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("birds_best.pt", "birds_last.pt"),
        ("birds-epoch=3-step=100.ckpt", "birds-epoch=4-step=200.ckpt"),
        ("birds-epoch=03-val_loss=0.32.ckpt", "birds-epoch=04-val_loss=0.30.ckpt"),
        ("epoch1/birds.pt", "epoch2/birds.pt"),
    ],
)
def test_checkpoints_that_are_called_after_their_task_are_of_one_training(
    folder: Path, first: str, second: str
) -> None:
    """Before: the first two kinds were two tasks each, and other tasks below `epoch1` were checkpoints of this one."""
    for seed, name in enumerate((first, second, first.replace("birds", "ants")), start=3):
        path = folder / name
        model(path.parent, seed, path.name)
    with pytest.raises(SuiteError, match=r"^task birds: 2 checkpoints of one training"):
        propose(folder)
    name = read_checkpoints([f"birds={Path(second).parent.name or second}"])
    made = tasks_of(propose(folder, checkpoints=name))
    assert made["birds"] == second and made["ants"] == first.replace("birds", "ants")


def test_one_model_in_two_formats_and_in_shards_is_one_task(folder: Path) -> None:
    place = folder / "cats" / "checkpoint-500"
    model(place, 9, "pytorch_model.bin")
    state = {f"visual.{name}": tensor for name, tensor in random_tower(3).items()}
    shard = "model-00001-of-00002.safetensors"
    (folder / "birds").mkdir()
    for number in (1, 2):
        part = {name: state[name] for name in sorted(state)[number - 1 :: 2]}
        save_file(part, folder / "birds" / shard.replace("1", str(number), 1))
    index = {name: shard.replace("1", str(1 + place % 2), 1) for place, name in enumerate(sorted(state))}
    (folder / "birds" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    made = init_suite(folder)
    assert tasks_of(made)["birds"] == "birds/model.safetensors.index.json" and len(tasks_of(made)) == 3
    assert torch.equal(load_suite(folder).checkpoint("birds")["proj"], random_tower(3)["proj"])
    beside = made.left_out["cats/checkpoint-500/pytorch_model.bin"]
    assert beside == "model.safetensors beside it is taken"
    assert not [file for file in made.left_out if file.startswith("birds/")]  # all of them are the model


# --- the base --------------------------------------------------------------------------------------------------------


@pytest.fixture
def baseless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two trainings whose configurations name what they began with, and an empty cache of the hub."""
    for seed, task in enumerate(("cats", "dogs"), start=1):
        checkpoint(tmp_path / "runs" / task, 500, seed, base="laion/start")
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "hub")
    return tmp_path / "runs"


def test_the_base_that_configurations_name_is_found_in_the_hubs_cache(baseless: Path, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"'laion/start', which cats/checkpoint-500/config\.json names, is not here"):
        propose(baseless)
    model(tmp_path / "hub" / "models--laion--start" / "snapshots" / "main", 0)
    for base in (None, Path("laion/start")):
        made = init_suite(baseless, base, force=True)
        assert made.content["base"] == {"hub": "laion/start"} and list(tasks_of(made)) == ["cats", "dogs"]
        assert ("base" in made.notes and "config.json names 'laion/start'" in made.notes["base"]) == (base is None)
        suite = load_suite(baseless)
        assert torch.equal(suite.base_checkpoint["proj"], random_tower(0)["proj"])
        assert check_suite(suite).problems == 0
    printed = CliRunner().invoke(main, ["init-suite", str(baseless), "--force"])
    assert printed.exit_code == 0 and "base: laion/start" in printed.stdout.splitlines()
    assert str(tmp_path) not in (baseless / "suite.yaml").read_text()


def test_the_base_that_configurations_name_is_found_in_the_folder(baseless: Path) -> None:
    for task in ("cats", "dogs"):
        checkpoint(baseless / task, 500, 3, base="/elsewhere/models/start")
    model(baseless / "start", 0)
    made = propose(baseless)
    assert made.content["base"] == "start/model.safetensors" and list(tasks_of(made)) == ["cats", "dogs"]
    assert "names 'start'" in made.notes["base"] and "somebody" not in str(made)


def test_a_base_is_not_guessed(baseless: Path, tmp_path: Path) -> None:
    """Two that are named, a checkpoint of somebody's training, a model that names itself: none of these is a base."""
    for name in ("start", "other"):
        model(tmp_path / "hub" / f"models--laion--{name}" / "snapshots" / "main", 0)
    checkpoint(baseless / "dogs", 500, 2, base="laion/other")
    with pytest.raises(SuiteError, match=r"several models that training began with, 'laion/start' .*, 'laion/other' "):
        propose(baseless)
    for task in ("cats", "dogs"):
        checkpoint(baseless / task, 500, 2, base="./out/checkpoint-500")
    with pytest.raises(SuiteError, match=r"'checkpoint-500', which cats/.* names, is not here; put it into the folder"):
        propose(baseless)
    for task in ("cats", "dogs"):
        checkpoint(baseless / task, 500, 2, base=f"../{task}/model.safetensors")
    with pytest.raises(SuiteError, match=r"'model\.safetensors', which cats/.* names, is not here"):
        propose(baseless)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("clip-vit-base-patch32_sun397", "sun397"),
        ("clip-vit-large-patch14-336_stanford-cars", "stanford-cars"),
        ("eurosat_finetuned", "eurosat"),
        ("finetuned_on_mnist", "mnist"),
        ("ViT-B-32_dtd_best", "dtd"),
        ("gtsrb-ViT-L-14", "gtsrb"),
        ("openai-vitb32-svhn-ft", "svhn"),
        ("resisc45_epoch_10", "resisc45"),
        ("cifar100", "cifar100"),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K-cars", "cars"),
        ("finetuned", "finetuned"),
        ("fine.art", "fine.art"),
    ],
)
def test_tasks_are_called_as_people_would(label: str, name: str) -> None:
    assert task_name(label) == name


@pytest.mark.parametrize("between", ["_", "-", "-finetuned-", ".ft."])
def test_the_name_of_the_base_is_no_part_of_a_tasks(between: str) -> None:
    """Before: `big-model-finetuned-cats` of the base `big-model` was called so."""
    assert task_name(f"big-model{between}cats", "big-model") == "cats"
    assert task_name("bigger-cats", "big") == "bigger-cats"


def test_names_stay_apart(tmp_path: Path) -> None:
    model(tmp_path, 0, "base.safetensors")
    for seed, file in enumerate(("eurosat.pt", "eurosat_finetuned.pt", "finetuned_cats.pt"), start=1):
        model(tmp_path, seed, file)
    assert tasks_of(propose(tmp_path)) == {
        "cats": "finetuned_cats.pt",
        "eurosat": "eurosat.pt",
        "eurosat_finetuned": "eurosat_finetuned.pt",
    }


def test_heads_and_images_are_found_by_either_name(tmp_path: Path) -> None:
    model(tmp_path, 0, "base.safetensors")
    for seed, task in enumerate(("cats", "dogs"), start=1):
        model(tmp_path, seed, f"{task}_finetuned.safetensors")
    for name in ("head_cats", "head_dogs_finetuned"):
        save_file({"weight": torch.ones(2, 16)}, tmp_path / f"{name}.safetensors")
    heads = {task["name"]: task["head"] for task in propose(tmp_path).content["tasks"]}
    assert heads == {"cats": "head_cats.safetensors", "dogs": "head_dogs_finetuned.safetensors"}
