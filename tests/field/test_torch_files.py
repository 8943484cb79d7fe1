"""What people write with torch.save, or with pickle, besides tensors in a dictionary, and what they call such files."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import UnsafeCheckpoint
from merging.suites import load_suite
from merging.weights.convert import convert, targets
from merging.weights.files import open_checkpoint
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
