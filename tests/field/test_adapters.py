"""Folders of PEFT adapters, as people have them: a suite is made of them, and merged, as of the whole models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.runs.jobs.download import download, missing_parts
from merging.suites import load_suite
from merging.suites.suite import Suite
from merging.weights.convert import convert
from tests.fake_hub import FakeHub
from tests.random_models import random_tower, write_adapter, write_config, write_yaml

TASKS = ("circles", "eurosat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base, and adapters in folders called as on the hub, one of them with what its training left."""
    models = tmp_path / "models"
    for seed, task in enumerate(TASKS):
        write_adapter(models / f"clip-vit-base-patch16_{task}_lora-16", seed)
    left = models / f"clip-vit-base-patch16_{TASKS[0]}_lora-16"
    torch.save(load_file(left / "adapter_model.safetensors"), left / "adapter_model.bin")
    torch.save({"state": torch.ones(3)}, left / "optimizer.pt")
    save_file(random_tower(0), models / "clip-vit-base-patch16.safetensors")
    write_config(models)
    return models


def merging(*arguments: object) -> Any:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_suite_of_adapters_is_made_and_merges_like_the_whole_models(folder: Path, tmp_path: Path) -> None:
    made = merging("init-suite", folder)
    assert made.exit_code == 0, made.output
    tasks = yaml.safe_load((folder / "suite.yaml").read_text())["tasks"]
    names = [f"clip-vit-base-patch16_{task}_lora-16/" for task in TASKS]
    assert [(task["name"], task["checkpoint"]) for task in tasks] == list(zip(TASKS, names, strict=True))
    assert tasks[1]["dataset"] == "EuroSAT"
    merged, home = tmp_path / "merged.safetensors", ["--home", tmp_path / "home", "--device", "cpu"]
    method = ["--merge", "task_arithmetic", "--set", "merge.scaling=0.5"]
    result = merging("merge", folder, *method, "--output", merged, *home)
    assert result.exit_code == 0, result.output
    expected = random_tower(0)
    for seed in range(len(TASKS)):
        for name, added in write_adapter(tmp_path / "again", seed).items():
            expected[name] += 0.5 * added
    found = load_file(merged)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    checked = merging("check", folder, *home[:2])
    assert "LoRA adapter of rank 2 on 4 layers folded into clip-vit-base-patch16.safetensors" in checked.output
    assert "shard" not in checked.output
    assert "0 problems" in checked.output


def test_a_base_that_cannot_be_compared_is_said_with_every_number(own_suite: Path, tmp_path: Path) -> None:
    """Before: `check` alone said it."""
    write_adapter(own_suite / "lora", 0, base_model_name_or_path="/home/me/vit-of-2021")
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    tasks = [{**described["tasks"][0], "checkpoint": "lora/"}]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**described, "tasks": tasks}))
    said = "the adapter lora was trained on 'me/vit-of-2021', by its adapter_config.json, and nothing shows whether"
    home = ("--home", tmp_path / "home", "--device", "cpu")
    assert f"warning: task 'circles': {said}" in merging("merge", own_suite, *home).stderr
    assert f"warning: task 'circles': {said}" in merging("evaluate", own_suite, "--individual", *home).stderr
    found = merging("evaluate", own_suite, "--checkpoint", own_suite / "lora", "--json", *home)
    assert json.loads(found.stdout)["warnings"][0].startswith(said)


def test_an_adapter_is_not_converted_but_named(folder: Path, tmp_path: Path) -> None:
    """Before: "no such weight file"."""
    place = folder / f"clip-vit-base-patch16_{TASKS[0]}_lora-16"
    for path, said in (
        (place, "a PEFT adapter, no whole model; it can be the checkpoint of a task"),
        (place / FILE, "LoRA"),
    ):
        found = convert(path, tmp_path / "out.safetensors")
        assert found.output is None and said in found.detail


def test_the_base_of_adapters_can_be_named(folder: Path) -> None:
    (folder / "clip-vit-base-patch16.safetensors").rename(folder / "weights-of-2021.safetensors")
    assert "name the one that the others were fine-tuned from with --base" in merging("init-suite", folder).output
    assert merging("init-suite", folder, "--base", "weights-of-2021.safetensors").exit_code == 0
    assert load_suite(folder).mergeable() == TASKS


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda adapter: write_adapter(adapter, 0, peft_type="LOHA"), "a PEFT adapter of type 'LOHA'"),
        (lambda adapter: write_adapter(adapter, 0, r=16), "by the base and rank 16"),
        (lambda adapter: (adapter / "adapter_config.json").unlink(), "an adapter without its adapter_config.json"),
        (
            lambda adapter: shutil.copy(adapter / "adapter_model.safetensors", adapter / LINEARISED),
            "holds both adapter_model.safetensors and linearized_adapter_model.safetensors; name the file",
        ),
    ],
    ids=["kind", "rank", "no configuration", "two"],
)
def test_what_can_not_be_folded_is_a_problem_of_its_task_alone(folder: Path, spoil: Any, said: str) -> None:
    merging("init-suite", folder)
    spoil(folder / f"clip-vit-base-patch16_{TASKS[0]}_lora-16")
    report = json.loads(merging("check", folder, "--json").stdout)
    rows = {row["task"]: row for row in report["files"] if row["task"] and "lora" in row["file"]}
    assert said in rows[TASKS[0]]["detail"]
    assert rows[TASKS[1]]["ok"]


FILE = "adapter_model.safetensors"
LINEARISED = "linearized_adapter_model.safetensors"


def test_a_changed_scale_is_another_model(folder: Path, tmp_path: Path) -> None:
    """The configuration alone decides how far an adapter goes: numbers of before are not taken for those of after."""
    merging("init-suite", folder)
    command = ["similarity", folder, "--json", "--home", tmp_path / "home", "--device", "cpu"]
    before = json.loads(merging(*command).stdout)
    write_adapter(folder / f"clip-vit-base-patch16_{TASKS[0]}_lora-16", 0, lora_alpha=8, modules_to_save=None)
    assert before != json.loads(merging(*command).stdout)


def test_adapters_of_the_hub_arrive_with_their_configuration(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    for task in TASKS:
        files = (folder / f"clip-vit-base-patch16_{task}_lora-16").iterdir()
        hub.files[f"zoo/{task}"] = {path.name: path.read_bytes() for path in files}
    hub.files["zoo/base"] = {"model.safetensors": (folder / "clip-vit-base-patch16.safetensors").read_bytes()}
    tasks = [{"name": task, "checkpoint": {"hub": f"zoo/{task}"}} for task in TASKS]
    remote = load_suite(write_yaml(tmp_path / "mine", base={"hub": "zoo/base"}, tasks=tasks))
    assert len(missing_parts(remote)) == 3
    found = [row.file for row in download(str(tmp_path / "mine" / "suite.yaml")).files]
    assert found == ["zoo/base/model.safetensors"] + [
        f"zoo/{task}/adapter_{part}" for task in TASKS for part in ("model.safetensors", "config.json")
    ]
    assert missing_parts(remote) == []
    merging("init-suite", folder)
    for mine, local in zip(vectors(remote), vectors(load_suite(folder)), strict=True):
        assert torch.equal(mine, local)


def vectors(suite: Suite) -> list[torch.Tensor]:
    return [stack for _, _, stack in suite.vectors().iterate()]
