"""Downloading what a suite names, and only that."""

import io
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from merging.core.errors import Cancelled, HubError, MergingError, MissingPart, SuiteError
from merging.core.limits import MAX_INDEX_BYTES
from merging.runs.jobs.download import Missing, download, estimated_bytes, missing_parts
from merging.suites import Suite, load_suite
from merging.suites.images.suite_images import load_images
from merging.suites.suite import downloaded_suites
from merging.weights.files import save_tensors
from merging.weights.files.writing import Form
from tests.fake_hub import FakeHub, sha256
from tests.random_models import TASKS, write_config, write_yaml
from tests.suites.images.test_kinds import write_parquet

pytest.importorskip("pyarrow")


@pytest.fixture
def content(suite_file: Path) -> dict[str, bytes]:
    """Files of the tiny suite."""
    return {path.name: path.read_bytes() for path in suite_file.parent.iterdir()}


@pytest.fixture
def hubbed(hub: FakeHub, content: dict[str, bytes], tmp_path: Path) -> Path:
    """A suite whose models and one data set are on the hub, and nothing of them here; its suite.yaml."""
    hub.files = {f"zoo/{task}": {"model.safetensors": content[f"{task}.safetensors"]} for task in TASKS}
    hub.files["zoo/base"] = {"pytorch_model.bin": b"", "model.safetensors": content["base.safetensors"]}
    hub.files["datasets/zoo/roads"] = {
        "README.md": b"text",
        "data/test-00000-of-00002.parquet": parquet(0),
        "data/test-00001-of-00002.parquet": parquet(1),
        "data/train-00000-of-00001.parquet": parquet(2),
        "data/contrast-00000-of-00001.parquet": parquet(3),
    }
    tasks: list[dict[str, Any]] = [{"name": task, "checkpoint": {"hub": f"zoo/{task}"}} for task in TASKS]
    tasks[-1]["data"] = {"kind": "huggingface", "dataset": "zoo/roads"}
    return write_yaml(tmp_path / "mine", base={"hub": "zoo/base"}, tasks=tasks)


def parquet(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    write_parquet(file, pixels, [0, 1, 2, 0, 1, 2])
    return file.getvalue()


def test_nothing_is_asked_or_downloaded_until_somebody_asks(hub: FakeHub, hubbed: Path) -> None:
    suite = load_suite(hubbed)
    assert suite.mergeable() == ()
    with pytest.raises(MissingPart, match="no checkpoint file was found"):
        suite.vectors()
    with pytest.raises(MissingPart, match="data set zoo/roads is not in"):
        load_images(suite, "roads", "test", 8)
    assert len(missing_parts(suite)) == len(TASKS) + 2
    assert hub.asked == []


def test_a_suite_arrives_and_can_be_merged(hub: FakeHub, hubbed: Path, suite: Suite) -> None:
    steps: list[tuple[int, int, str]] = []
    found = download(str(hubbed), on_progress=lambda *step: steps.append(step))
    assert [row.file for row in found.files] == [f"zoo/{name}/model.safetensors" for name in ("base", *TASKS)]
    assert found.bytes == sum(row.bytes for row in found.files)
    assert [row.what for row in found.missing] == []
    assert all(0 <= done <= total for done, total, _ in steps)
    assert steps[0][2] == "asking the hub for zoo/base" and "downloading roads, file 5 of 5" in steps[-1][2]
    mine = load_suite(hubbed)
    assert mine.mergeable() == TASKS
    assert mine.vectors().base.fingerprint == suite.base_checkpoint.fingerprint == found.files[0].digest
    asked = len(hub.asked)
    assert download(str(hubbed)).files == [] and len(hub.asked) == asked  # all is here


def test_images_come_when_they_are_asked_for_and_only_used_splits(hub: FakeHub, hubbed: Path) -> None:
    found = download(str(hubbed), ["roads"], data=True)
    files = [row.file for row in found.files]
    assert files == [
        "zoo/base/model.safetensors",
        "zoo/roads/model.safetensors",
        "zoo/roads/data/test-00000-of-00002.parquet",
        "zoo/roads/data/test-00001-of-00002.parquet",
        "zoo/roads/data/train-00000-of-00001.parquet",
    ]
    mine = load_suite(hubbed)
    assert mine.mergeable() == ("roads",)
    assert len(load_images(mine, "roads", "test", 8)) == 12 and len(load_images(mine, "roads", "val", 8)) == 1


def test_half_a_data_set_does_not_count_as_one(hub: FakeHub, hubbed: Path) -> None:
    second = hub.files["datasets/zoo/roads"]["data/test-00001-of-00002.parquet"]
    hub.lies[second] = second[:-1] + b"x"
    with pytest.raises(HubError, match="has the digest"):
        download(str(hubbed), ["roads"], data=True)
    mine = load_suite(hubbed)
    assert [part.what for part in missing_parts(mine, ["roads"])] == ["images zoo/roads"]
    with pytest.raises(MissingPart, match="1 of the files of the test split are missing, 1 are there"):
        load_images(mine, "roads", "test", 8)
    hub.lies.clear()
    hub.asked.clear()
    download(str(hubbed), ["roads"], data=True)
    assert missing_parts(load_suite(hubbed), ["roads"]) == []
    fetched = [path for method, path, _ in hub.asked if method == "GET" and "/cdn/" in path]
    assert f"/cdn/{sha256(second)}" in fetched and len(fetched) == 2  # and the training images; the first was there


def test_without_a_hub_everything_missing_is_listed(hub: FakeHub, hubbed: Path) -> None:
    hub.refused = dict.fromkeys([*hub.files, "datasets/zoo/roads"], (503, ""))
    with pytest.raises(HubError) as caught:
        download(str(hubbed), data=True)
    said = str(caught.value)
    assert said.startswith("zoo/base: the hub answered 503")
    for task in ("base", *TASKS):
        assert f"models--zoo--{task}/snapshots/main/model.safetensors" in said
    assert "datasets--zoo--roads/snapshots/main/data/*.parquet" in said and str(hubbed.parent.parent) not in said


def test_what_no_download_brings_is_said(hub: FakeHub, tmp_path: Path, content: dict[str, bytes]) -> None:
    hub.files["zoo/base"] = {"model.safetensors": content["base.safetensors"]}
    task = {
        "name": "a",
        "checkpoint": "a.safetensors",
        "head": "b.safetensors",
        "data": {"kind": "arrays", "path": "c"},
    }
    found = download(str(write_yaml(tmp_path, base={"hub": "zoo/base"}, tasks=[task])), data=True)
    assert [(row.what, row.on_hub) for row in found.missing] == [
        ("a.safetensors", False),
        ("b.safetensors", False),
        ("images c", False),
    ]


def test_a_promised_checksum_must_be_the_hubs(hub: FakeHub, hubbed: Path, content: dict[str, bytes]) -> None:
    described = yaml.safe_load(hubbed.read_text())
    described["base"]["sha256"] = "0" * 64
    hubbed.write_text(yaml.safe_dump(described))
    with pytest.raises(HubError, match=r"zoo/base: the hub's file has the SHA-256 .*, suite\.yaml wants 0000"):
        download(str(hubbed))
    assert hub.transfers() == []
    described["base"]["sha256"] = sha256(content["base.safetensors"])
    hubbed.write_text(yaml.safe_dump(described))
    download(str(hubbed))
    assert load_suite(hubbed).base_checkpoint.fingerprint == described["base"]["sha256"]


def test_a_file_changed_in_the_cache_is_noticed(hub: FakeHub, hubbed: Path, content: dict[str, bytes]) -> None:
    download(str(hubbed))
    mine = load_suite(hubbed)
    place = mine.path(mine.base).resolve()
    place.write_bytes(content["digits.safetensors"])
    with pytest.raises(Exception, match=r"model\.safetensors: its SHA-256 is .* delete it and download it again"):
        _ = load_suite(hubbed).base_checkpoint.fingerprint


def test_cancelling_stops_before_and_within_transfers(hub: FakeHub, hubbed: Path) -> None:
    with pytest.raises(Cancelled):
        download(str(hubbed), cancelled=lambda: True)
    assert hub.transfers() == []
    with pytest.raises(Cancelled):
        download(str(hubbed), cancelled=lambda: len(hub.transfers()) > 1)
    assert len(hub.transfers()) == 2 and load_suite(hubbed).mergeable() == ()
    download(str(hubbed))
    assert load_suite(hubbed).mergeable() == TASKS


def test_unknown_tasks_and_suites_are_refused(hub: FakeHub, hubbed: Path) -> None:
    with pytest.raises(SuiteError, match="has no task 'birds'"):
        download(str(hubbed), ["birds"])
    with pytest.raises(SuiteError, match="no suite 'gone'"):
        download("gone")
    with pytest.raises(HubError, match="zoo/nothing: no such model"):
        download("zoo/nothing")
    with pytest.raises(HubError, match=r"zoo/base: no suite\.yaml in revision 'main'"):
        download("zoo/base")


def test_a_repository_with_a_suite_yaml_is_a_suite(
    hub: FakeHub, content: dict[str, bytes], suite: Suite, tmp_path: Path
) -> None:
    hub.files["zoo/tiny"] = {**content, "model.safetensors": content["base.safetensors"]}
    hub.small.add(content["suite.yaml"])
    with pytest.raises(SuiteError, match="merging download zoo/tiny looks on the hub"):
        load_suite("zoo/tiny")
    found = download("zoo/tiny", data=True)
    assert found.missing == [] and downloaded_suites().keys() == {"zoo/tiny"}
    files = [row.file for row in found.files]
    assert len({*files}) == len(files) and "zoo/tiny/open_clip_config.json" in files  # of all models there, once
    mine = load_suite("zoo/tiny")
    assert mine.vectors().checkpoints[2].fingerprint == suite.vectors().checkpoints[2].fingerprint
    assert all(mine.present(task) for task in TASKS)
    assert np.array_equal(load_images(mine, "roads", "test", 32).pixels, load_images(suite, "roads", "test", 32).pixels)
    assert download("zoo/tiny", data=True).files == []


def in_shards(suite: Suite, task: str, folder: Path) -> dict[str, bytes]:
    """A task's model in several files and their index, with the configuration that lies beside it, by name."""
    folder.mkdir()
    checkpoint = suite.checkpoint(task)
    save_tensors(
        folder / "model.safetensors",
        checkpoint.infos,
        checkpoint.items(),
        form=Form(shard_bytes=checkpoint.nbytes // 2),
    )
    (folder / "config.json").write_text('{"lr": 1e-5}')
    write_config(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


INDEX = "model.safetensors.index.json"


def test_a_model_in_shards_comes_whole_and_with_its_configuration(
    hub: FakeHub, hubbed: Path, suite: Suite, tmp_path: Path
) -> None:
    """Before: `no model.safetensors or … on the Hugging Face hub`, and of no model what lies beside it."""
    hub.files["zoo/digits"] = in_shards(suite, "digits", tmp_path / "model") | {"README.md": b"text"}
    hub.small |= {content for name, content in hub.files["zoo/digits"].items() if name.endswith(".json")}
    shards = sorted(name for name in hub.files["zoo/digits"] if "-of-" in name)
    found = download(str(hubbed), ["digits"])
    wanted = [INDEX, *shards, "config.json", "open_clip_config.json"]
    assert [row.file for row in found.files] == ["zoo/base/model.safetensors", *(f"zoo/digits/{one}" for one in wanted)]
    assert len(shards) > 1 and found.missing == []
    mine = load_suite(hubbed).checkpoint("digits")
    assert all(torch.equal(mine[name], tensor) for name, tensor in suite.checkpoint("digits").items())
    asked = len(hub.asked)
    assert download(str(hubbed), ["digits"]).files == [] and len(hub.asked) == asked
    (mine.path.parent / shards[0]).unlink()
    assert [str(each) for each in load_suite(hubbed).missing_weights(["digits"])] == ["zoo/digits"]
    assert len(download(str(hubbed), ["digits"]).files) == len(wanted)


def test_a_folder_in_a_suite_of_the_hub_may_hold_shards(
    hub: FakeHub, suite: Suite, content: dict[str, bytes], tmp_path: Path
) -> None:
    described = {**yaml.safe_load(content["suite.yaml"]), "tasks": [{"name": "digits", "checkpoint": "digits/"}]}
    files = {f"digits/{name}": each for name, each in in_shards(suite, "digits", tmp_path / "model").items()}
    hub.files["zoo/tiny"] = {**files, "base.safetensors": content["base.safetensors"]}
    hub.files["zoo/tiny"]["suite.yaml"] = yaml.safe_dump(described).encode()
    assert download("zoo/tiny").missing == []
    assert load_suite("zoo/tiny").checkpoint("digits").path.name == INDEX


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b'{"weight_map": {"proj": "../../secret"}}', "would lie outside of the index's folder"),
        (b'{"weight_map": {"proj": "a-00001-of-00002.safetensors"}}', "no a-00001-of-00002.safetensors in revision"),
        (b"<html>", "a web page"),
        (b" " * (MAX_INDEX_BYTES + 1), "at most 33554432 are read"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(hub: FakeHub, hubbed: Path, index: bytes, message: str) -> None:
    hub.files["zoo/digits"] = {INDEX: index}
    with pytest.raises(MergingError, match=message):
        download(str(hubbed), ["digits"])


def test_a_suite_of_the_hub_that_is_too_large_is_not_fetched(hub: FakeHub) -> None:
    hub.files["zoo/bomb"] = {"suite.yaml": b"# " + b"x" * (3 * 2**20)}
    with pytest.raises(SuiteError, match=r"zoo/bomb: its suite\.yaml has 3145730 bytes"):
        download("zoo/bomb")
    assert hub.transfers() == []


def test_a_suite_of_the_hub_may_not_lead_out_of_its_folder(hub: FakeHub, content: dict[str, bytes]) -> None:
    described = yaml.safe_load(content["suite.yaml"])
    described["base"] = "../../../../secret"
    hub.files["zoo/evil"] = {"suite.yaml": yaml.safe_dump(described).encode()}
    with pytest.raises(SuiteError, match="leads out of the suite's folder"):
        download("zoo/evil")


def test_a_folder_of_that_name_comes_before_the_hub(
    hub: FakeHub, own_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_suite.parent)
    shutil.copytree(own_suite, own_suite.parent / "zoo" / "tiny")
    assert load_suite("zoo/tiny").mergeable() == TASKS and download("zoo/tiny", data=True).files == []
    assert hub.asked == []


def test_the_size_is_estimated_from_the_architecture_alone() -> None:
    """Of the embedded suite the files are there to count in; the hub's own numbers are those of the model cards."""
    mini = load_suite("mini")
    counts = [
        sum(math.prod(one.shape) for one in file.infos.values())
        for file in (mini.base_checkpoint, mini.text_checkpoint)
    ]
    parts = [Missing(name, name, True) for name in ("base.safetensors", "digits.safetensors")]
    assert estimated_bytes(mini, parts) == 4 * 2 * counts[0]
    assert estimated_bytes(mini, [Missing("text.safetensors", "", True)]) == 4 * sum(counts)
    assert estimated_bytes(mini, [Missing("images a/b", "", True), Missing("digits.safetensors", "", False)]) == 0
    published = load_suite("fusion_bench-ViT-B-32")
    assert estimated_bytes(published, [Missing("openai/clip-vit-base-patch32", "", True)]) == 605_109_252
