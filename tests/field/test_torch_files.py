"""What people write with torch.save, or with pickle, besides tensors in a dictionary, and what they call such files."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save, save_file

from merging.cli import main
from merging.core.errors import CheckpointError, UnsafeCheckpoint
from merging.suites import load_suite
from merging.weights.convert import convert, targets
from merging.weights.files import open_checkpoint
from merging.weights.files.layouts import Origin, huggingface_names
from tests.random_models import random_tower

TOWER = random_tower(0)
ARRAYS = {name: tensor.numpy() for name, tensor in TOWER.items()}
BY_TORCH = "state = torch.load('model.pt', weights_only=False)"
BY_PICKLE = "state = pickle.load(open('model.pt', 'rb'))"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the line of Python, which closes no file
@pytest.mark.parametrize(
    ("write", "seen", "advice"),
    [
        (lambda path: torch.save(ARRAYS, path), "arrays of numpy, not tensors of torch", BY_TORCH),
        (lambda path: torch.save({"state_dict": ARRAYS, "epoch": 3}, path), "arrays of numpy", BY_TORCH),
        (
            lambda path: torch.save(ARRAYS, path, _use_new_zipfile_serialization=False),
            "arrays of numpy",
            BY_TORCH,
        ),
        (lambda path: torch.save({**ARRAYS, "large": np.zeros(2**23 + 1, np.float32)}, path), "arrays of", BY_TORCH),
        (lambda path: path.write_bytes(pickle.dumps(ARRAYS)), "arrays of numpy", BY_PICKLE),
        (lambda path: path.write_bytes(pickle.dumps(ARRAYS, protocol=5)), "arrays of numpy", BY_PICKLE),
        (lambda path: path.write_bytes(pickle.dumps(TOWER)), "tensors in a pickle that torch.save did not", BY_PICKLE),
    ],
    ids=["zip", "within", "old format", "beyond the limit", "pickle", "pickle 5", "tensors"],
)
def test_numbers_in_the_pickle_itself_are_refused_with_what_to_do(
    tmp_path: Path, write: Callable[[Path], Any], seen: str, advice: str
) -> None:
    """Before: `evaluate` said to use `convert`, and `convert` said "holds no tensors"."""
    write(path := tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpoint) as caught:
        open_checkpoint(path)
    said = str(caught.value)
    assert said.startswith(f"model.pt: {seen}") and advice in said
    assert convert(path, tmp_path / "out.safetensors").detail == said
    space: dict[str, Any] = {"torch": torch, "pickle": pickle}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(said.partition("in Python: ")[2].partition("; torch.save")[0], space)  # as somebody would who trusts it
        space["state"] = space["state"].get("state_dict", space["state"])
        exec("torch.save" + said.partition("; torch.save")[2].partition("; where")[0], space)
    found = open_checkpoint(tmp_path / "tensors.pt")
    assert all(torch.equal(found[name], TOWER[name]) for name in TOWER)


def test_arrays_beside_a_models_tensors_keep_nobody_from_converting_it(tmp_path: Path) -> None:
    torch.save({"model": TOWER, "random": np.zeros(4), "accuracy": np.float64(0.5)}, tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpoint, match="`merging convert` takes the tensors out"):
        open_checkpoint(tmp_path / "model.pt")
    assert convert(tmp_path / "model.pt", tmp_path / "out.safetensors").kind == "model"


def saved() -> bytes:
    file = io.BytesIO()
    torch.save(TOWER, file)
    return file.getvalue()


def packed(how: str) -> bytes:
    """A weight file in an archive of some kind."""
    file = io.BytesIO()
    if how == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(entry := tarfile.TarInfo("vit.pt"), io.BytesIO(b"0" * entry.size))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("weights/vit.pt", saved())
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.pt", lambda: save(TOWER), "a file of safetensors; rename it to .safetensors"),
        ("model.safetensors", saved, "a file of torch.save, not of safetensors; rename it to .pt"),
        ("model.pth.tar", lambda: packed("tar"), "a tar archive; unpack it, and name the weight file in it"),
        ("model.pt", lambda: gzip.compress(saved()), "packed with gzip; unpack it"),
        ("model.pt", lambda: packed("zip"), "a zip archive with weights/vit.pt in it; unpack it"),
        ("model.bin", lambda: b"\x89HDF\r\n\x1a\n" + bytes(90), "a file of HDF5, as Keras writes them, no weights of"),
    ],
    ids=["safetensors", "torch", "tar", "gzip", "zip", "hdf5"],
)
def test_files_that_are_something_else_than_their_names_say(
    tmp_path: Path, name: str, content: Callable[[], bytes], said: str
) -> None:
    """Before: "torch can't read it; it is truncated, damaged or no weight file", and "the header declares …"."""
    (tmp_path / name).write_bytes(content())
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path / name)
    assert str(caught.value).startswith(f"{name}: {said}")
    assert convert(tmp_path / name, tmp_path / "out.safetensors").detail == str(caught.value)


def test_a_header_whose_length_looks_like_a_pickle_is_one(tmp_path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(0x280)
    (tmp_path / "head.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert (tmp_path / "head.safetensors").read_bytes().startswith(b"\x80\x02")
    assert open_checkpoint(tmp_path / "head.safetensors", part="all")["weight"].tolist() == [0]


def test_a_model_with_a_classifier_of_its_own_says_so_with_every_number(own_suite: Path, tmp_path: Path) -> None:
    """transformers' CLIPForImageClassification reads the mean of the patches, which no head of a suite does."""
    tower = load_file(own_suite / "circles.safetensors")
    names = huggingface_names(tuple(tower))
    stored = {part: value for name, origin in names.items() for part, value in parts_of(tower[name], origin)}
    save_file({**stored, "classifier.weight": torch.ones(3, 32)}, own_suite / "circles.safetensors")
    said = "circles.safetensors was trained with a classifier of its own ('classifier.weight') on the mean of all"
    home = ("--home", str(tmp_path / "home"), "--device", "cpu")
    for command in (
        ("merge", str(own_suite), "--tasks", "circles,roads"),
        ("evaluate", str(own_suite), "--individual"),
    ):
        assert f"warning: task 'circles': {said}" in CliRunner().invoke(main, [*command, *home]).stderr
    assert open_checkpoint(own_suite / "roads.safetensors").notes == ()


def parts_of(tensor: torch.Tensor, origin: Origin) -> list[tuple[str, torch.Tensor]]:
    """A tensor of a tower as Hugging Face's layout stores it."""
    if len(origin.stored) > 1:
        return [*zip(origin.stored, (part.clone() for part in tensor.chunk(len(origin.stored))), strict=True)]
    return [(origin.stored[0], (tensor.T if origin.transposed else tensor).contiguous())]


def test_files_of_trainings_that_are_called_tar(tmp_path: Path) -> None:
    """CoOp's ``model.pth.tar-50`` and timm's ``model_best.pth.tar`` are files of torch.save and no archives of tar."""
    for name in ("base.pth.tar", "cars/model.pth.tar-50", "cars/model.pth.tar-10", "dtd_finetuned.pth.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"state_dict": {name: value + len(name) for name, value in TOWER.items()}}, tmp_path / name)
    made = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--activation", "gelu"])
    assert "model.pth.tar-10, model.pth.tar-50, and nothing says which is meant" in made.stderr
    chosen = ("--checkpoint", "cars=model.pth.tar-50")
    made = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--activation", "gelu", "--heads", "2", *chosen])
    assert made.exit_code == 0, made.output
    suite = load_suite(tmp_path)
    assert [(task.name, task.checkpoint) for task in suite.tasks] == [
        ("cars", "cars/model.pth.tar-50"),
        ("dtd", "dtd_finetuned.pth.tar"),
    ]
    (target,) = targets([tmp_path / "cars/model.pth.tar-50"], tmp_path / "out").values()
    assert target.name == "model.safetensors" and convert(tmp_path / "base.pth.tar", target).kind == "model"


def test_arrays_among_tensors_are_named_where_tensors_are_missing(tmp_path: Path) -> None:
    mixed = {name: tensor.numpy() if name.startswith("ln_") else tensor for name, tensor in TOWER.items()}
    torch.save(mixed, tmp_path / "model.pt")
    told = convert(tmp_path / "model.pt", tmp_path / "out.safetensors")
    assert told.output is None and "2 tensors missing ('ln_post.bias'" in told.detail
    assert "holds arrays of numpy besides, which are not read" in told.detail
