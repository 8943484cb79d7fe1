"""Models in shards and in folders: one model, read through its index, whole or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import CheckpointError
from merging.hub import cache
from merging.hub.cache import HubFile, located
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.suites.discovery import Discovery
from merging.weights.convert import convert, targets
from merging.weights.files import open_checkpoint
from tests.lightly import transformers
from tests.random_models import HUGGINGFACE_VISION, State, random_tower, write_yaml

TOWER = random_tower(2)
INDEX = "model.safetensors.index.json"
CONFIG = {**HUGGINGFACE_VISION, "projection_dim": 16}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers writes of a model in shards of 30 kB, and of the same model whole."""
    folder = tmp_path_factory.mktemp("written")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**CONFIG))
    model.save_pretrained(folder / "shards", max_shard_size="30KB")
    model.save_pretrained(folder / "whole")
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy of the shards to change."""
    shutil.copytree(written / "shards", tmp_path / "shards")
    return tmp_path / "shards"


def torch_shards(folder: Path, state: State = TOWER) -> Path:
    """A tower of open_clip's in two pickled shards, as the hub has old ones; gives their index."""
    folder.mkdir(parents=True)
    names = sorted(state)
    places = {}
    for number, part in enumerate((names[:20], names[20:]), start=1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({f"visual.{name}": state[name] for name in part}, folder / file)
        places |= {f"visual.{name}": file for name in part}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def assert_same(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("given", ["", INDEX])
def test_shards_of_transformers_are_the_whole_model(written: Path, given: str) -> None:
    found, whole = open_checkpoint(written / "shards" / given), open_checkpoint(written / "whole")
    assert found.path.name == INDEX and len(found.files) > 3 and f"{len(found.files) - 1} shards" in found.summary
    assert whole.path.name == "model.safetensors" and found.layout.title == whole.layout.title
    assert_same(found, whole)


def test_pickled_shards_of_an_open_clip_model(tmp_path: Path) -> None:
    index = torch_shards(tmp_path / "model")
    for given in (index, index.parent):
        assert_same(open_checkpoint(given), dict(sorted(TOWER.items())))


def test_the_fingerprint_is_of_all_shards(shards: Path, written: Path) -> None:
    before = open_checkpoint(written / "shards").fingerprint
    assert open_checkpoint(shards).fingerprint == before
    first = sorted(shards.glob("*.safetensors"))[0]
    state = load_file(first)
    save_file({name: tensor + 1e-6 for name, tensor in state.items()}, first, {"format": "pt"})
    assert open_checkpoint(shards).fingerprint != before


def test_a_folder_with_one_model_stands_for_it(tmp_path: Path) -> None:
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"):  # the safe kind is taken of both
        state = {f"visual.{key}": tensor for key, tensor in TOWER.items()}
        torch.save(state, tmp_path / name) if name.endswith("bin") else save_file(state, tmp_path / name)
        found = open_checkpoint(tmp_path)
        assert found.path.name == name and torch.equal(found["proj"], TOWER["proj"])


def test_a_suite_names_folders_and_indices(shards: Path, workspace: Workspace) -> None:
    """A change of one shard is a change of the suite: nothing known of the old weights is taken for the new ones."""
    index = torch_shards(shards.parent / "tasks" / "cats")
    save_file(random_tower(0), shards.parent / "base.safetensors")
    names = ("tasks/cats", "tasks/cats/pytorch_model.bin.index.json")
    tasks = [{"name": name, "checkpoint": file} for name, file in zip(("folder", "index"), names, strict=True)]
    path = write_yaml(shards.parent, tasks=tasks)
    suite = load_suite(path)
    assert suite.mergeable() == ("folder", "index") and suite.path("tasks/cats") == index
    vectors = workspace.vectors(suite)
    assert torch.equal(vectors.stack("proj")[1][0], TOWER["proj"] - random_tower(0)["proj"])
    prints = [checkpoint.fingerprint for checkpoint in vectors.checkpoints]
    assert prints == [open_checkpoint(index).fingerprint] * 2
    first = index.parent / "pytorch_model-00001-of-00002.bin"
    assert first in Discovery([shards.parent]).files(str(path), suite)
    torch.save({name: tensor + 1 for name, tensor in torch.load(first, weights_only=True).items()}, first)
    assert workspace.fingerprint(load_suite(path).checkpoint("index")) != prints[0]


def test_a_folder_is_evaluated(own_suite: Path, tmp_path: Path) -> None:
    torch_shards(tmp_path / "model", load_file(own_suite / "circles.safetensors"))
    call = [
        "evaluate",
        str(own_suite),
        "--tasks",
        "circles",
        "--device",
        "cpu",
        "--json",
        "--home",
        str(tmp_path / "home"),
    ]
    results = [
        CliRunner().invoke(main, [*call, *which])
        for which in (["--individual"], ["--checkpoint", str(tmp_path / "model")])
    ]
    individual, model = (json.loads(result.stdout) for result in results)
    assert individual["images"] > 0 and individual == model


def test_shards_in_the_hubs_cache(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "hub")
    place = tmp_path / "hub" / "models--laion--big" / "snapshots" / "main"
    place.parent.mkdir(parents=True)
    shards.rename(place)
    assert located(HubFile(hub="laion/big")) == place / INDEX


def test_shards_are_converted_to_one_file(written: Path, tmp_path: Path) -> None:
    files = [written / "shards", written / "whole" / "model.safetensors"]
    found = targets(files, tmp_path / "out")
    assert [target.relative_to(tmp_path).as_posix() for target in found.values()] == [
        "out/shards.safetensors",
        "out/whole/model.safetensors",
    ]
    assert targets([written / "shards" / INDEX], tmp_path)[written / "shards" / INDEX].name == "model.safetensors"
    for file, target in found.items():
        assert convert(file, target).output == str(target)
    assert_same(*(open_checkpoint(target) for target in found.values()))


# --- what is refused -------------------------------------------------------------------------------------------------


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A change of the index."""

    def spoil(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        change(index["weight_map"])
        (folder / INDEX).write_text(json.dumps(index))

    return spoil


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[0]


def doubled(folder: Path) -> None:
    """One tensor in two shards."""
    one, other = sorted(folder.glob("*.safetensors"))[:2]
    save_file(load_file(other) | dict(list(load_file(one).items())[:1]), other)


NAME = "vision_model.embeddings.class_embedding"
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is gone": (lambda folder: first_shard(folder).unlink(), r"index\.json: the shard 'model-.*' is missing"),
    "a shard is cut off": (
        lambda folder: first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:-9]),
        r"model-00001-of-.*: the header declares",
    ),
    "a tensor that is in no shard": (
        rewritten(lambda places: places.update(more=places[next(iter(places))])),
        r"index\.json: the shard model-.* has 1 tensor missing \('more'\)",
    ),
    "a tensor that the index lacks": (
        rewritten(lambda places: places.pop(next(iter(places)))),
        r"index\.json: the shard model-.* has 1 tensor not in the index \('v.*'\)",
    ),
    "a tensor in two shards": (doubled, r"index\.json: tensor 'v.*' is in two shards, one of them model-00002"),
    "a shard elsewhere": (
        rewritten(lambda places: places.update(more="../whole/model.safetensors")),
        r"the shard '\.\./whole/model\.safetensors' would lie outside",
    ),
    "a shard of the whole machine": (
        rewritten(lambda places: places.update(more="/etc/passwd")),
        "the shard '/etc/passwd' would lie outside",
    ),
    "a shard that is no weight file": (
        rewritten(lambda places: places.update(more="config.json")),
        r"config\.json: unknown kind of weight file",
    ),
    "an index within an index": (
        rewritten(lambda places: places.update(more=INDEX)),
        r"index\.json: unknown kind of weight file '\.json'",
    ),
    "no index": (lambda folder: (folder / INDEX).write_text("[1, 2]"), "no index of shards; expected a weight_map"),
    "no JSON": (lambda folder: (folder / INDEX).write_text("{" * 9), "not valid JSON"),
    "a name twice": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "x.bin", "a": "y.bin"}}'),
        "'a' stands there twice",
    ),
    "whole and in shards": (
        lambda folder: save_file(TOWER, folder / "model.safetensors"),
        r"shards: holds model\.safetensors and model\.safetensors\.index\.json",
    ),
    "the index is gone": (
        lambda folder: (folder / INDEX).unlink(),
        r"shards: no such weight file; it is a folder, in which none of model\.safetensors, ",
    ),
    "parts of processes": (
        lambda folder: ((folder / INDEX).unlink(), (folder / "__0_0.distcp").write_bytes(b"x")),
        r"shards: a distributed checkpoint of torch .*dcp_to_torch FOLDER model\.pt",
    ),
    "parts of processes, a folder below": (
        lambda folder: (
            (folder / INDEX).unlink(),
            (folder / "pytorch_model_fsdp_0").mkdir(),
            (folder / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"x"),
        ),
        "shards: a distributed checkpoint of torch",
    ),
    "DeepSpeed's": (
        lambda folder: ((folder / INDEX).unlink(), (folder / "zero_to_fp32.py").write_text("")),
        r"shards: DeepSpeed's own checkpoint",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_not_whole_is_refused(shards: Path, kind: str) -> None:
    spoil, said = SPOILT[kind]
    spoil(shards)
    with pytest.raises(CheckpointError, match=said) as seen:
        open_checkpoint(shards)
    assert str(shards.parent) not in str(seen.value)


def test_a_shard_is_not_taken_for_a_model(shards: Path) -> None:
    with pytest.raises(CheckpointError, match="one of several shards of a model; name the folder"):
        open_checkpoint(first_shard(shards))


def test_the_folder_that_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"^{tmp_path.name}: no such weight file; it is a folder"):
        open_checkpoint(Path("."))
