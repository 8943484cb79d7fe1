"""A suite.yaml made by looking at a folder: every way in which people name and place their files."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import CheckpointError, SuiteError
from merging.runs.jobs.check import check_suite
from merging.suites import load_suite
from merging.suites.folder import label
from merging.suites.initialise import Answers, init_suite, propose
from merging.weights.files.layouts import huggingface_names
from tests.random_models import ARCHITECTURE, TASKS, random_state, random_tower, write_config


def put(path: Path, seed: int = 0, state: dict[str, torch.Tensor] | None = None) -> Path:
    """A weight file of the tiny tower, other weights for other seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = random_tower(seed) if state is None else state
    if state is None:
        write_config(path.parent)
    torch.save(weights, path) if path.suffix == ".pt" else save_file(weights, path)
    return path


def tasks_of(folder: Path, base: Path | None = None) -> dict[str, str]:
    return {task["name"]: task["checkpoint"] for task in propose(folder, base).content["tasks"]}


def test_a_complete_folder_becomes_a_suite_that_passes_its_check(own_suite: Path) -> None:
    written = yaml.safe_load((own_suite / "suite.yaml").read_text())
    (own_suite / "suite.yaml").unlink()
    made = init_suite(own_suite, name="mine")
    suite = load_suite(own_suite)
    assert suite.name == "mine" and suite.base == "base.safetensors"
    assert suite.task_names == TASKS and suite.mergeable() == TASKS
    for task, before in zip(suite.tasks, written["tasks"], strict=True):
        assert (task.checkpoint, task.head, task.data.path) == (  # type: ignore[union-attr]
            before["checkpoint"],
            before["head"],
            before["data"]["path"],
        )
        assert task.licence == task.source == ""
    assert made.missing == () and made.left_out == {}
    assert check_suite(suite).problems == 0
    vision, original = made.content["architecture"]["vision_cfg"], ARCHITECTURE["vision_cfg"]
    assert vision == original
    text = (own_suite / "suite.yaml").read_text()
    assert "# source and licence" in text and "2 attention heads (open_clip_config.json beside base" in text
    assert "logit_scale" in text


def test_a_folder_a_task_as_the_first_published_checkpoints_have_it(tmp_path: Path) -> None:
    put(tmp_path / "zeroshot.pt")
    for number, task in enumerate(["SUN397", "Cars"]):
        put(tmp_path / task / "finetuned.pt", number + 1)
        put(tmp_path / f"head_{task}.pt", state={"weight": torch.randn(5, 16)})
    put(tmp_path / "Cars" / "zeroshot.pt")
    made = propose(tmp_path)
    assert made.content["base"] == "zeroshot.pt"
    assert [(task["name"], task["checkpoint"], task["head"]) for task in made.content["tasks"]] == [
        ("Cars", "Cars/finetuned.pt", "head_Cars.pt"),
        ("SUN397", "SUN397/finetuned.pt", "head_SUN397.pt"),
    ]
    assert made.left_out == {"Cars/zeroshot.pt": "another base beside zeroshot.pt"}


def test_repositories_of_the_hub_named_after_their_base(tmp_path: Path) -> None:
    for number, end in enumerate(["", "_dtd", "_gtsrb"]):
        put(tmp_path / f"clip-vit-base-patch32{end}" / "model.safetensors", number)
    made = propose(tmp_path)
    assert made.content["base"] == "clip-vit-base-patch32/model.safetensors"
    assert list(tasks_of(tmp_path)) == ["dtd", "gtsrb"]


def test_the_same_base_beside_every_task_is_one_base(tmp_path: Path) -> None:
    for number, task in enumerate(["a", "b"]):
        put(tmp_path / task / "finetuned.safetensors", number + 1)
        put(tmp_path / task / "zeroshot.safetensors")
    assert propose(tmp_path).content["base"] == "a/zeroshot.safetensors"
    put(tmp_path / "b" / "zeroshot.safetensors", 7)
    with pytest.raises(SuiteError, match=r"2 files may be the base: a/zeroshot\.safetensors, b/zeroshot\.saf"):
        propose(tmp_path)
    assert propose(tmp_path, Path("b/zeroshot.safetensors")).content["base"] == "b/zeroshot.safetensors"


def test_without_a_name_that_says_base_one_has_to_be_given(tmp_path: Path) -> None:
    for number, name in enumerate(["start", "cats", "dogs"]):
        put(tmp_path / f"{name}.safetensors", number)
    with pytest.raises(SuiteError, match=r"no file is named as a base.*cats\.safetensors, dogs\.safetensors, start"):
        propose(tmp_path)
    for given in (Path("start.safetensors"), tmp_path / "start.safetensors"):
        assert tasks_of(tmp_path, given) == {"cats": "cats.safetensors", "dogs": "dogs.safetensors"}
    outside = put(tmp_path.parent / f"{tmp_path.name}-outside.safetensors")
    for wrong in (Path("gone.safetensors"), outside):
        with pytest.raises(SuiteError, match="no such file in"):
            propose(tmp_path, wrong)


def test_a_linked_base_is_named_by_its_link(tmp_path: Path) -> None:
    stored = put(tmp_path / "blobs" / "0a1b")
    folder = tmp_path / "suite"
    put(folder / "cats.safetensors", 1)
    (folder / "start.safetensors").symlink_to(stored)
    assert propose(folder, Path("start.safetensors")).content["base"] == "start.safetensors"


def test_names_that_occur_twice_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    put(tmp_path / "base.safetensors")
    put(tmp_path / "first" / "cats.safetensors", 1)
    put(tmp_path / "second" / "cats.safetensors", 2)
    assert set(tasks_of(tmp_path)) == {"first-cats", "second-cats"}


def test_what_is_no_model_of_this_base_is_left_out_and_why(tmp_path: Path) -> None:
    put(tmp_path / "base.safetensors")
    put(tmp_path / "cats.safetensors", 1)
    put(tmp_path / "other.safetensors", state=random_state(0))
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    (tmp_path / ".hidden.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    made = propose(tmp_path)
    assert list(tasks_of(tmp_path)) == ["cats"]
    assert set(made.left_out) == {"broken.pt", "other.safetensors"}
    assert "other tensors than the base" in made.left_out["other.safetensors"]
    (tmp_path / "cats.safetensors").unlink()
    with pytest.raises(SuiteError, match=r"no fine-tuned model beside the base base\.safetensors.*broken\.pt"):
        propose(tmp_path)


def test_empty_and_missing_folders_and_broken_bases(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no weight files"):
        propose(tmp_path)
    with pytest.raises(SuiteError, match="no such folder"):
        propose(tmp_path / "gone")
    (tmp_path / "base.safetensors").write_bytes(b"nonsense")
    put(tmp_path / "cats.safetensors")
    with pytest.raises(CheckpointError):
        propose(tmp_path)
    assert not (tmp_path / "suite.yaml").exists()


def test_images_beside_the_models_are_found_with_their_classes(tmp_path: Path) -> None:
    put(tmp_path / "base.safetensors")
    put(tmp_path / "Stanford_Cars" / "finetuned.safetensors", 1)
    put(tmp_path / "pets.safetensors", 2)
    for name in ("big_bird", "cat"):
        place = tmp_path / "data" / "stanford-cars" / "test" / name
        place.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / "1.png")
    (tmp_path / "pets.npz").write_bytes(b"")
    made = propose(tmp_path)
    cars, pets = sorted(made.content["tasks"], key=lambda task: task["name"])
    assert cars["data"] == {"kind": "imagefolder", "path": "data/stanford-cars"}
    assert cars["classes"] == ["big bird", "cat"]
    assert pets["data"] == {"kind": "arrays", "path": "pets.npz"}
    assert len(made.missing) == 1 and made.missing[0].startswith("no head for pets, Stanford_Cars")


def test_a_whole_clip_gives_its_logit_scale(tmp_path: Path) -> None:
    whole = {f"visual.{name}": tensor for name, tensor in random_tower(0).items()}
    put(tmp_path / "openai.safetensors", state={**whole, "logit_scale": torch.tensor(math.log(31.5))})
    put(tmp_path / "cats.safetensors", 1)
    made = propose(tmp_path)
    assert made.content["logit_scale"] == pytest.approx(31.5, abs=1e-3)
    assert "no images for cats: no accuracy for these" in made.missing


def test_a_suite_yaml_is_replaced_only_by_force_and_never_by_half(
    own_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (own_suite / "suite.yaml").read_bytes()
    with pytest.raises(SuiteError, match=r"suite\.yaml is there already; nothing was changed; --force"):
        init_suite(own_suite)
    assert (own_suite / "suite.yaml").read_bytes() == before

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", fail)
        with pytest.raises(CheckpointError, match="No space left on device"):
            init_suite(own_suite, force=True)
    assert (own_suite / "suite.yaml").read_bytes() == before
    init_suite(own_suite, force=True)
    assert (own_suite / "suite.yaml").read_bytes() != before
    assert not [path for path in own_suite.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "name", ["a: b\n- c", "x\u2028y # z", "'\"", "{}", "*alias", "null", "1", " end ", 79 * "x" + " y"]
)
def test_no_file_name_breaks_the_yaml(tmp_path: Path, name: str) -> None:
    put(tmp_path / "base.safetensors")
    put(tmp_path / f"{name}.safetensors", 1)
    (tmp_path / f"{name}.pt").write_bytes(b"broken, so that its name comes into a comment")
    init_suite(tmp_path)
    assert load_suite(tmp_path).mergeable() == (re.sub(r"[\n\u2028]", " ", name)[:80].strip(),)


def test_a_file_whose_name_no_yaml_may_hold_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "base.safetensors")
    put(tmp_path / "cats.safetensors", 1)
    put(tmp_path / "bell\a.safetensors", 1)
    init_suite(tmp_path)
    assert load_suite(tmp_path).mergeable() == ("cats",)
    left = (tmp_path / "suite.yaml").read_text()
    assert "# left out: bell\\x07.safetensors: a control character in its name" in left


def test_the_embedded_suite_is_seen_as_it_is(tmp_path: Path) -> None:
    shipped = load_suite("mini")
    folder = tmp_path / "mini"
    shutil.copytree(shipped.folder, folder, ignore=shutil.ignore_patterns("*.py", "suite.yaml", "__pycache__"))
    made = init_suite(folder, answers=Answers("gelu", heads=3))
    suite = load_suite(folder)
    assert set(suite.task_names) == set(shipped.task_names) and made.left_out == {}
    for task in shipped.tasks:
        found = suite.task(task.name)
        assert (found.checkpoint, found.head, found.data) == (task.checkpoint, task.head, task.data)
    assert isinstance(suite.architecture, dict) and isinstance(shipped.architecture, dict)
    assert suite.architecture["vision_cfg"] == shipped.architecture["vision_cfg"]
    assert [sentence for sentence in made.missing if "text.safetensors" in sentence]


def test_published_towers_are_named_and_quickgelu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of ViT-B/32 without its weights: all zeros, which a file system stores for nothing."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-32")
    with torch.device("meta"):
        tower = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], {"width": 8, "heads": 1, "layers": 1}).visual
    zeros = {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in tower.state_dict().items()}
    put(tmp_path / "base.safetensors", state=zeros)
    (tmp_path / "cats.safetensors").symlink_to(tmp_path / "base.safetensors")
    asked = propose(tmp_path)
    assert "architecture" not in asked.content and [*asked.unsaid] == ["activation"]
    made = propose(tmp_path, answers=Answers("gelu"))
    assert made.content["architecture"] == "ViT-B-32" and made.content["activation"] == "gelu"
    assert "GELU (--activation), 12 attention heads (all published towers" in made.notes["architecture"]
    (tmp_path / "base.safetensors").rename(tmp_path / "openai.safetensors")
    (tmp_path / "cats.safetensors").unlink()
    (tmp_path / "cats.safetensors").symlink_to(tmp_path / "openai.safetensors")
    assert propose(tmp_path).content["architecture"] == "ViT-B-32-quickgelu"
    save_file({"token_embedding.weight": torch.zeros(3, 2)}, tmp_path / "words.safetensors")
    assert propose(tmp_path).content["text_tower"] == "words.safetensors"
    save_file({"token_embedding.weight": torch.zeros(3, 2)}, tmp_path / "more.safetensors")
    several = propose(tmp_path)
    assert "text_tower" not in several.content
    assert any("several" in sentence and "words.safetensors" in sentence for sentence in several.missing)


def test_labels_come_from_file_or_folder() -> None:
    for path, expected in (
        ("SUN397/finetuned.pt", "SUN397"),
        ("finetuned.pt", "finetuned"),
        ("a/cats.pt", "cats"),
        ("v1.5_x/model.bin", "v1.5_x"),
        ("x/open_clip_pytorch_model.bin", "x"),
        ("data/images", "data"),
        ("ViT.2", "ViT.2"),
    ):
        assert label(Path(path)) == expected


def test_loaded_weights_are_those_of_the_files(own_suite: Path) -> None:
    init_suite(own_suite, force=True)
    roads = load_suite(own_suite).checkpoint("roads")
    expected = load_file(own_suite / "roads.safetensors")
    assert all(torch.equal(roads[name], expected[name]) for name in expected)


def test_repositories_in_the_hubs_own_layout_borrow_the_bases_projection(tmp_path: Path) -> None:
    """Task models there are a ``CLIPVisionModel`` without projection; their base is a whole CLIP."""
    for number, end in enumerate(["", "_dtd"]):
        tower = random_tower(number)
        stored = {}
        for name, origin in huggingface_names(list(tower)).items():
            parts = tower[name].T.contiguous() if origin.transposed else tower[name]
            pieces = [piece.contiguous() for piece in parts.chunk(len(origin.stored))]
            stored |= dict(zip(origin.stored, pieces, strict=True))
        if end:
            del stored["visual_projection.weight"]
        write_config(put(tmp_path / f"clip-vit-base-patch32{end}" / "model.safetensors", state=stored).parent)
    made = init_suite(tmp_path)
    assert made.left_out == {} and made.content["base"] == "clip-vit-base-patch32/model.safetensors"
    suite = load_suite(tmp_path)
    assert suite.mergeable() == ("dtd",) and check_suite(suite).problems == 0
    assert all(torch.equal(suite.base_checkpoint[name], tensor) for name, tensor in random_tower(0).items())


# --- data sets that are known ----------------------------------------------------------------------------------------


def known_folder(folder: Path, *tasks: str) -> Path:
    put(folder / "base.safetensors")
    for number, task in enumerate(tasks):
        put(folder / f"{task}.safetensors", number + 1)
    return folder


def test_tasks_called_like_known_data_sets_get_classes_templates_and_images(tmp_path: Path) -> None:
    names = ("sun397", "Cars", "stanford-cars", "RESISC45", "EuroSat", "svhn", "GTSRB", "MNIST", "dtd", "pets")
    made = init_suite(known_folder(tmp_path, *names))
    suite, published = load_suite(tmp_path), load_suite("fusion_bench-ViT-B-32")
    own = {"sun397": "SUN397", "stanford-cars": "Cars", "EuroSat": "EuroSAT", "svhn": "SVHN", "dtd": "DTD"}
    for task in suite.tasks:
        if task.name == "pets":
            assert (task.dataset, task.classes, task.data, task.licence) == (None, (), None, "")
            continue
        known = published.task(own.get(task.name, task.name))
        assert task.checkpoint == f"{task.name}.safetensors" and task.dataset == known.name
        for field in ("classes", "templates", "data", "source", "licence", "title"):
            assert getattr(task, field) == getattr(known, field) != ""
    assert "no images for pets: no accuracy for these" in made.missing
    assert "sun397 (SUN397)" in made.notes["tasks"] and "the other task's images" in made.notes["tasks"]
    assert check_suite(suite).problems == 0


def test_what_is_in_the_folder_comes_before_what_is_known(tmp_path: Path) -> None:
    known_folder(tmp_path, "mnist", "svhn")
    for name in map(str, range(10)):
        (tmp_path / "data" / "mnist" / "test" / f"digit {name}").mkdir(parents=True)
    put(tmp_path / "heads" / "svhn.safetensors", state={"weight": torch.randn(10, 16)})
    init_suite(tmp_path)
    mnist, svhn = load_suite(tmp_path).tasks
    assert mnist.dataset == "MNIST" and mnist.classes[3] == "digit 3" and mnist.data.kind == "imagefolder"  # type: ignore[union-attr]
    assert mnist.templates == ('a photo of the number: "{}".',)
    assert svhn.dataset == "SVHN" and svhn.head == "heads/svhn.safetensors"


def test_a_namesake_with_other_classes_is_another_data_set(tmp_path: Path) -> None:
    known_folder(tmp_path, "cars", "dtd")
    for name in ("fast", "slow"):
        (tmp_path / "data" / "cars" / "test" / name).mkdir(parents=True)
    put(tmp_path / "heads" / "dtd.safetensors", state={"weight": torch.randn(3, 16)})
    made = init_suite(tmp_path)
    assert all(task.dataset is None for task in load_suite(tmp_path).tasks)
    assert "cars is not on the known data set Cars with 196 classes: it has 2 by its images" in made.notes["tasks"]
    assert "dtd is not on the known data set DTD with 47 classes: it has 3 by its head" in made.notes["tasks"]
    with pytest.raises(SuiteError, match="cars is not on the known data set Cars with 196 classes: it has 2"):
        init_suite(tmp_path, force=True, datasets={"cars": "Cars"})


def test_data_sets_are_given_or_turned_off(tmp_path: Path) -> None:
    known_folder(tmp_path, "cars", "scenes")

    def found(*options: str) -> dict[str, str | None]:
        result = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--force", "--json", *options])
        assert result.exit_code == 0, result.stderr
        return {task["name"]: task.get("dataset") for task in json.loads(result.stdout)["suite"]["tasks"]}

    assert found() == {"cars": "Cars", "scenes": None}
    assert found("--no-datasets") == {"cars": None, "scenes": None}
    assert found("--no-datasets", "--dataset", "scenes=SUN397") == {"cars": None, "scenes": "SUN397"}
    assert found("--dataset", "cars=none") == {"cars": None, "scenes": None}
    printed = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--force"]).stdout
    assert "task cars: cars.safetensors, data set Cars" in printed.splitlines()
    before = (tmp_path / "suite.yaml").read_bytes()
    for option, reason in (
        ("cars", "expected TASK=NAME"),
        ("dogs=Cars", "given for dogs; the tasks are cars, scenes"),
        ("cars=SUN39", "unknown data set 'SUN39' (did you mean 'SUN397'?)"),
    ):
        refused = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--force", "--dataset", option])
        assert refused.exit_code == 1 and reason in refused.stderr
    assert (tmp_path / "suite.yaml").read_bytes() == before
