"""The command ``download``, and what ``suites`` says of files that are not here."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merging.cli import main
from tests.fake_hub import FakeHub
from tests.random_models import TASKS, write_yaml


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def hubbed(hub: FakeHub, suite_file: Path, tmp_path: Path) -> Path:
    """A suite whose models are on the hub, but for one that is nowhere."""
    for name in ("base", *TASKS[1:]):
        hub.files[f"zoo/{name}"] = {"model.safetensors": (suite_file.parent / f"{name}.safetensors").read_bytes()}
    tasks: list[dict[str, object]] = [{"name": task, "checkpoint": {"hub": f"zoo/{task}"}} for task in TASKS[1:]]
    tasks.append({"name": TASKS[0], "checkpoint": "mine.safetensors"})
    return write_yaml(tmp_path / "mine", base={"hub": "zoo/base"}, tasks=tasks)


def test_a_download_is_reported(hubbed: Path) -> None:
    result = call("download", hubbed, "--tasks", f"{TASKS[1]}, {TASKS[2]}")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [
        f"zoo/{name}/model.safetensors" for name in ("base", TASKS[1], TASKS[2])
    ]
    assert lines[3].startswith("3 files downloaded, ") and len(lines) == 4
    assert "downloading base, file 1 of 3, megabytes" in result.stderr
    result = call("download", hubbed)
    assert result.stdout.splitlines()[1].startswith("1 file downloaded")
    assert "missing: mine.safetensors" in result.stdout
    found = json.loads(call("download", hubbed, "--json").stdout)
    assert found["files"] == [] and [row["place"] for row in found["missing"]] == ["mine.safetensors"]


def test_a_download_that_fails_is_an_error(hubbed: Path, hub: FakeHub) -> None:
    hub.refused["zoo/base"] = (401, "RepoNotFound")
    result = call("download", hubbed)
    assert result.exit_code == 1 and "Error: zoo/base: no such model" in result.stderr
    assert f"models--zoo--{TASKS[2]}/snapshots/main/model.safetensors" in result.stderr


@pytest.mark.parametrize("address", ["https://huggingface.co/zoo/base", "hf.co/zoo/base/tree/main?x=1"])
def test_an_address_in_the_place_of_an_id_is_answered_with_the_id(hub: FakeHub, address: str) -> None:
    result = call("download", address)
    assert result.exit_code == 1 and "merging download zoo/base looks on the hub" in result.stderr
    assert "or the id owner/name of a model repository" in call("download", "zoo/base/more").stderr
    assert hub.asked == []


def test_suites_say_whether_their_files_are_here(hub: FakeHub, suite_file: Path) -> None:
    rows = {row["name"]: row for row in json.loads(call("suites", "--json").stdout)["suites"]}
    assert rows["mini"]["missing"] == [] and rows["mini"]["default"]
    published = rows["fusion_bench-ViT-L-14"]
    assert len(published["missing"]) == 21 and published["missing_usual"] == published["missing"][:9]
    assert published["missing"][0] == "openai/clip-vit-large-patch14"
    assert rows["task_arithmetic-ViT-B-32"]["missing"][:2] == ["zeroshot.safetensors", "SUN397/finetuned.safetensors"]
    text = call("suites").stdout
    assert text.startswith("mini  Mini CLIP, ") and "8 tasks, all files here" in text.splitlines()[0]
    assert "FusionBench, ViT-B-32, ViT-B-32-quickgelu, 20 tasks, 21 files missing" in text
    assert hub.asked == []
    hub.files["zoo/tiny"] = {path.name: path.read_bytes() for path in suite_file.parent.iterdir()}
    assert call("download", "zoo/tiny").exit_code == 0
    assert "zoo/tiny  tiny, ViT 2 × 32, patch 8, 4 tasks, all files here" in call("suites").stdout
    similar = call("similarity", "zoo/tiny", "--json", "--home", suite_file.parent.parent / "home")
    assert json.loads(similar.stdout)["tasks"] == list(TASKS)


def test_merging_without_the_files_lists_them(hub: FakeHub, tmp_path: Path) -> None:
    result = call("merge", "fusion_bench-ViT-B-32", "--home", tmp_path / "home")
    assert result.exit_code == 1 and result.stderr.count("/snapshots/main/model.safetensors") == 9
    assert "merging download fusion_bench-ViT-B-32" in result.stderr and hub.asked == []
