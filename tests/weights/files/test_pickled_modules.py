"""Whole pickled models of classes that are gone: tensors come out, as weight and head files of a suite."""

import contextlib
import io
import json
import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import CheckpointError, UnsafeCheckpoint
from merging.runs.jobs.check import check_suite
from merging.suites.suite import load_suite
from merging.weights.convert import targets
from merging.weights.files import inert_pickle, open_checkpoint
from merging.weights.files.pickled_modules import open_pickled_module
from tests.lightly import open_clip, transformers
from tests.random_models import ARCHITECTURE, CLASSES, random_tower, write_suite

TOWER = random_tower(3)
CODE = """
import torch

class ImageEncoder(torch.nn.Module):
    def __init__(self, model, preprocess):
        super().__init__()
        self.model, self.val_preprocess, self.cache_dir = model, preprocess, "/data/cache"

class ClassificationHead(torch.nn.Linear):
    def __init__(self, weight, bias):
        super().__init__(weight.shape[1], weight.shape[0], bias=bias is not None)
        self.normalize = True
        self.weight = torch.nn.Parameter(weight)
        if bias is not None:
            self.bias = torch.nn.Parameter(bias)

class ImageClassifier(torch.nn.Module):
    def __init__(self, image_encoder, classification_head):
        super().__init__()
        self.image_encoder, self.classification_head = image_encoder, classification_head

class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.arange(12.0).view(3, 4).T)
        self.tied = self.a
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_buffer("nothing", None)
        self.inner = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1).half())
        self.conv1 = torch.nn.Conv2d(3, 2, 1)
        self.conv1.weight.data = torch.arange(100.0)[10:76:11].view(2, 3, 1, 1)

class Recipe:
    def __init__(self):
        self.lr, self.names = 0.1, ["a", {"b": (1, None)}]
"""


class Gone:
    """Notes every attempt to import the throw-away module or torchvision's transforms."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "src":
            self.asked.append(name)


@pytest.fixture
def modeling() -> Iterator[Any]:
    """The module ``src.modeling``, while files are made."""
    package, module = types.ModuleType("src"), types.ModuleType("src.modeling")
    exec(CODE, module.__dict__)
    sys.modules |= {"src": package, "src.modeling": module}
    yield module
    forget()


def forget() -> None:
    """From here on there is no such module."""
    for name in ("src", "src.modeling"):
        sys.modules.pop(name, None)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Gone:
    finder = Gone()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    return finder


def clip(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A whole CLIP around the tower, as open_clip builds it."""
    model = open_clip.CLIP(**ARCHITECTURE, text_cfg={"width": 8, "heads": 1, "layers": 1})
    model.visual.load_state_dict(TOWER)
    converted: torch.nn.Module = model.to(dtype)
    return converted


def encoder(modeling: Any, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """What the original Task Arithmetic code saves: text blocks removed, the other text tensors left over."""
    model = clip(dtype)
    del model.transformer
    preprocess = torchvision.transforms.Compose([torchvision.transforms.Resize(32), torchvision.transforms.ToTensor()])
    built: torch.nn.Module = modeling.ImageEncoder(model, preprocess)
    return built


def save(module: object, path: Path, zipped: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the source code of the throw-away module
        torch.save(module, path, _use_new_zipfile_serialization=zipped)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_image_encoder_gives_its_tower(
    modeling: Any, gone: Gone, tmp_path: Path, dtype: torch.dtype, zipped: bool
) -> None:
    path = save(encoder(modeling, dtype), tmp_path / "finetuned.pt", zipped)
    forget()
    with pytest.raises(UnsafeCheckpoint, match="merging convert"):
        open_checkpoint(path)
    module = open_pickled_module(path)
    assert module.kind == "src.modeling.ImageEncoder"
    assert {"src.modeling.ImageEncoder", "open_clip.model.CLIP"} <= set(module.classes)
    assert module.tensors.layout.title == "open_clip CLIP under 'model.visual.'"
    assert {name.split(".")[1] for name in module.tensors.layout.dropped} == {
        "positional_embedding",
        "text_projection",
        "logit_scale",
        "token_embedding",
        "ln_final",
    }
    assert list(module.tensors) == sorted(TOWER)
    assert all(torch.equal(module.tensors[name], tensor.to(dtype)) for name, tensor in TOWER.items())
    assert all(module.tensors.infos[name].dtype == dtype for name in TOWER)
    assert gone.asked == [] and "src" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_tensors_are_those_of_the_state_dict(modeling: Any, tmp_path: Path, zipped: bool) -> None:
    """Buffers that aren't saved, integer ones, half precision, strides, slices of storages; tied weights once each."""
    module = modeling.Odd()
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    path = save(module, tmp_path / "model.pt", zipped)
    forget()
    found = open_pickled_module(path).tensors
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        assert found[name].is_contiguous()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("under", ["state_dict", "model_state_dict", "model"])
def test_training_checkpoints_with_objects_in_them(modeling: Any, tmp_path: Path, under: str, zipped: bool) -> None:
    state = {f"module.visual.{name}": tensor for name, tensor in TOWER.items()}
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}
    path = tmp_path / "epoch_3.pt"
    save({"epoch": 3, "args": modeling.Recipe(), under: state, "optimizer": optimizer}, path, zipped)
    forget()
    module = open_pickled_module(path)
    assert module.kind == "dict" and module.classes == ("src.modeling.Recipe",)
    assert all(torch.equal(module.tensors[name], tensor) for name, tensor in TOWER.items())


@pytest.mark.parametrize("wrap", ["plain", "in a dict", "classifier", "data parallel"])
def test_models_inside_of_others(modeling: Any, tmp_path: Path, wrap: str) -> None:
    inner = encoder(modeling)
    head = modeling.ClassificationHead(torch.ones(3, 16), None)
    whole = {
        "plain": inner,
        "in a dict": {"model": inner, "epoch": 2},
        "classifier": modeling.ImageClassifier(inner, head),
        "data parallel": torch.nn.DataParallel(inner),
    }[wrap]
    path = save(whole, tmp_path / "model.pt")
    forget()
    found = open_pickled_module(path).tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in TOWER.items()) and len(found) == len(TOWER)


def test_files_of_a_published_family_become_a_suite(
    modeling: Any, gone: Gone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders of the original checkpoints, converted by one command, are files that a suite can name."""
    folder, out = tmp_path / "ViT-tiny", tmp_path / "out"
    rows = torch.nn.functional.normalize(torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    save(encoder(modeling), folder / "zeroshot.pt")
    for name, bias in (("SUN397", None), ("Cars", torch.zeros(CLASSES))):
        save(encoder(modeling), folder / name / "finetuned.pt")
        save(modeling.ClassificationHead(100 * rows, bias), folder / f"head_{name}.pt")
    forget()
    monkeypatch.chdir(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in folder.rglob("*.pt"))
    result = CliRunner().invoke(main, ["convert", *files, "--output", "out", "--json"])
    assert result.exit_code == 0, result.output
    found = {row["output"]: row for row in json.loads(result.stdout)["files"]}
    assert sorted(found) == [
        "out/Cars/finetuned.safetensors",
        "out/SUN397/finetuned.safetensors",
        "out/head_Cars.safetensors",
        "out/head_SUN397.safetensors",
        "out/zeroshot.safetensors",
    ]
    tower = load_file(out / "zeroshot.safetensors")
    assert tower.keys() == TOWER.keys() and all(torch.equal(tower[name], TOWER[name]) for name in TOWER)
    for name in ("SUN397", "Cars"):
        row = found[f"out/head_{name}.safetensors"]
        assert row["kind"] == "head" and row["scale"] == pytest.approx(100)
        assert row["held"] == "src.modeling.ClassificationHead"
        head = load_file(out / f"head_{name}.safetensors")
        assert head.keys() == {"weight"}
        assert torch.allclose(head["weight"], rows, atol=1e-6)
        assert torch.allclose(head["weight"].norm(dim=1), torch.ones(CLASSES), atol=1e-6)
    suite = write_suite(tmp_path / "suite", ("circles",))
    (out / "zeroshot.safetensors").replace(suite.parent / "base.safetensors")
    (out / "head_Cars.safetensors").replace(suite.parent / "circles.head.safetensors")
    assert check_suite(load_suite(suite)).problems == 0
    assert gone.asked == []


def test_what_each_file_held_is_printed(modeling: Any, tmp_path: Path) -> None:
    path = save(encoder(modeling), tmp_path / "in" / "finetuned.pt")
    head = save(modeling.ClassificationHead(torch.eye(4, 16) * 50, None), tmp_path / "in" / "head_MNIST.pt")
    forget()
    result = call(path, head, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert f"model  {path} → {tmp_path / 'out' / 'finetuned.safetensors'}" in result.stdout
    assert "src.modeling.ImageEncoder: 32 tensors" in result.stdout
    assert "left out 6 tensors (ln_final.… × 2, logit_scale, positional_embedding, " in result.stdout
    assert "named in it, not imported: " in result.stdout and "open_clip.model.CLIP" in result.stdout
    assert "4 classes × 16, rows divided by their norm 50 = exp(logit_scale)" in result.stdout


def test_one_bad_file_does_not_stop_the_others(modeling: Any, tmp_path: Path) -> None:
    good = save(encoder(modeling), tmp_path / "good.pt")
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"<!DOCTYPE html>")
    forget()
    result = call(bad, good, tmp_path / "none.pt", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stdout.count("ERROR") == 2 and "none.pt: no such weight file" in result.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.safetensors"]


def test_files_in_other_layouts_are_converted_too(tmp_path: Path) -> None:
    save_file({f"visual.{name}": tensor for name, tensor in TOWER.items()}, tmp_path / "clip.safetensors")
    torch.save({f"model.visual.{name}": tensor for name, tensor in TOWER.items()}, tmp_path / "state.pt")
    torch.save({"weight": torch.eye(3) * 20}, tmp_path / "head.pt")
    files = [tmp_path / name for name in ("clip.safetensors", "state.pt", "head.pt")]
    assert call(*files, "--output", tmp_path / "out").exit_code == 0
    for name in ("clip", "state"):
        found = load_file(tmp_path / "out" / f"{name}.safetensors")
        assert all(torch.equal(found[key], tensor) for key, tensor in TOWER.items())
    assert torch.equal(load_file(tmp_path / "out" / "head.safetensors")["weight"], torch.eye(3))


def test_pickled_models_of_hugging_face_stay_usable_in_a_suite(tmp_path: Path) -> None:
    """A CLIPVisionModel has no projection; written under open_clip's names it would look incomplete."""
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    model = transformers.CLIPVisionModel(config)
    path = save(model, tmp_path / "task.pt")
    result = call(path, "--output", tmp_path / "out")
    assert result.exit_code == 0 and "layout kept, as it holds no projection" in result.stdout
    save_file(TOWER, tmp_path / "base.safetensors")
    base = open_checkpoint(tmp_path / "base.safetensors")
    task = open_checkpoint(tmp_path / "out" / "task.safetensors")
    assert task.lacks_projection
    found = task.completed(base)
    assert list(found) == list(base)
    assert torch.equal(found["class_embedding"], model.state_dict()["embeddings.class_embedding"])


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ((torch.eye(3), torch.ones(3)), "a bias that is not zero"),
        ((torch.diag(torch.tensor([1.0, 2.0, 3.0])), None), "norms from 1 to 3"),
        ((torch.zeros(3, 3), None), "norms from 0 to 0"),
        ((torch.full((3, 3), torch.nan), None), "tensor 'weight' holds NaN or infinity; export it again"),
    ],
)
def test_heads_that_are_no_zero_shot_heads_are_refused(
    modeling: Any, tmp_path: Path, head: tuple[torch.Tensor, torch.Tensor | None], reason: str
) -> None:
    path = save(modeling.ClassificationHead(*head), tmp_path / "head.pt")
    forget()
    result = call(path, "--output", tmp_path / "out")
    assert result.exit_code == 1 and reason in result.stdout
    assert not list((tmp_path / "out").glob("*"))


def test_models_that_are_no_clip_are_refused(tmp_path: Path) -> None:
    save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    save(torch.nn.ReLU(), tmp_path / "nothing.pt")
    result = call(tmp_path / "net.pt", tmp_path / "nothing.pt", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "no CLIP visual transformer and no head; it holds '0.bias', '0.weight'" in result.stdout
    assert "nothing.pt: the file holds no tensors" in result.stdout


def test_no_target_is_overwritten_twice_or_was_an_input(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another file would be written"):
        targets([tmp_path / "a.pt", tmp_path / "a.bin"], tmp_path / "out")
    with pytest.raises(CheckpointError, match="one of the files to convert"):
        targets([tmp_path / "a.safetensors"], tmp_path)
    save_file(TOWER, tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").hardlink_to(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="one of the files to convert"):
        targets([tmp_path / "model.safetensors"], tmp_path / "out")


def plain(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Values made of nothing but containers and leaves."""
    return st.recursive(
        leaf | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    )


@given(case=st.tuples(plain(st.text()), st.integers(0, 5)) | st.tuples(plain(st.binary()), st.integers(3, 5)))
def test_plain_values_come_out_as_python_reads_them(case: tuple[object, int]) -> None:
    """Before protocol 3, bytes are the result of a call, and calls are not made."""
    value, protocol = case
    assert inert_pickle.load(io.BytesIO(pickle.dumps(value, protocol))) == value


@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(CheckpointError):
        inert_pickle.load(io.BytesIO(data))


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02}q\x00"], ids=["text", "no end"])
def test_what_is_no_whole_pickle_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    """Before: "the pickle in it is damaged, or none" alone."""
    (tmp_path / "cut.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cut\.pt: .*; download or export it again"):
        open_pickled_module(tmp_path / "cut.pt")
