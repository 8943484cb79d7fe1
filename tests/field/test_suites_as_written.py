"""Slips in suites that people write: each is refused with what was seen and what to do, none is worked around."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import MergingError
from merging.evaluation.evaluator import Evaluator
from merging.suites import load_suite
from merging.suites.initialise import propose
from tests.random_models import CLASSES, random_tower, write_config

Described = dict[str, Any]
NAMES = [f"class {number}" for number in range(CLASSES)]


def arrays(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path, Described], None]:
    def spoil(folder: Path, described: Described) -> None:
        stored = dict(np.load(folder / "circles.npz"))
        np.savez(folder / "circles.npz", **{**stored, **change(stored)})

    return spoil


def folders(*images: str) -> Callable[[Path, Described], None]:
    def spoil(folder: Path, described: Described) -> None:
        for image in images:
            (folder / "im" / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(folder / "im" / image)
        described["tasks"][0]["data"] = {"kind": "imagefolder", "path": "im"}

    return spoil


def said_in(**fields: Any) -> Callable[[Path, Described], None]:
    return lambda folder, described: described.update(fields)


def of_the_task(**fields: Any) -> Callable[[Path, Described], None]:
    return lambda folder, described: described["tasks"][0].update(fields)


def head(folder: Path, described: Described) -> None:
    path = folder / "circles.head.safetensors"
    save_file({"weight": load_file(path)["weight"].T.contiguous()}, path)


SLIPS: dict[str, tuple[Callable[[Path, Described], None], str]] = {
    "pixels of 255": (
        said_in(preprocess={"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}),
        "look like those of pixels in 0 … 255; expected those of pixels in 0 … 1: divide by 255",
    ),
    "channels first": (
        arrays(lambda a: {"test_images": a["test_images"].transpose(0, 3, 1, 2)}),
        "expected uint8 [N, H, W, 3]; put the channels last, .transpose(0, 2, 3, 1)",
    ),
    "grey floats": (
        arrays(lambda a: {"test_images": (a["test_images"] / 255).astype(np.float32)[..., 0]}),
        "; repeat grey values in three channels and bring black to 0 and white to 255, and round to uint8",
    ),
    "labels as text": (
        arrays(lambda a: {"test_labels": a["test_labels"].astype(str)}),
        "expected integers [24], indices of the task's classes",
    ),
    "another split": (
        folders(*(f"Testing/{name}/1.png" for name in NAMES)),
        "no folder im/test; expected im/test/class/image; im holds the folders 'Testing'; rename Testing to test",
    ),
    "no split": (
        folders(*(f"{name}/1.png" for name in NAMES)),
        "im holds the folders 'class 0', 'class 1', 'class 2', 'class 3', 'class 4'; put class folders into test",
    ),
    "no class folders": (
        folders("test/class_0_1.png", "test/class_1_1.png"),
        "2 images in im/test and no folders; expected im/test/class/image: put those of each class into a folder",
    ),
    "no images at all": (folders(), "expected im/test/class/image; im is not there"),
    "a head on its side": (head, "'weight' is [16, 5], expected [classes, embed_dim]; it looks transposed"),
    "an address": (
        of_the_task(checkpoint="https://huggingface.co/a/b/resolve/main/m.safetensors"),
        "m.safetensors: an address, and nothing is fetched by one; download the file and name that",
    ),
    "an id of the hub": (
        of_the_task(checkpoint="openai/clip-vit-base-patch32"),
        "no file 'openai/clip-vit-base-patch32' beside its suite.yaml; if it is a model on the Hugging Face hub, write "
        "{hub: openai/clip-vit-base-patch32}",
    ),
    "a number for a file": (of_the_task(checkpoint=3), "tasks.0.checkpoint (task 'circles') = 3: must be text or"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refused_with_what_to_do(slip: str, own_suite: Path) -> None:
    spoil, sentence = SLIPS[slip]
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    spoil(own_suite, described)
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(MergingError) as caught:
        used(own_suite)
    assert sentence in str(caught.value)


def used(folder: Path) -> None:
    """What a merge that is measured begins with."""
    suite = load_suite(folder)
    suite.vectors(["circles"])
    Evaluator(suite).require(["circles"], "test")


def test_checkpoints_of_one_training_beside_each_other_are_one_task(tmp_path: Path) -> None:
    """Before: cars_epoch9 and cars_epoch10 were two tasks, so that a merge of all counted cars twice."""
    write_config(tmp_path)
    for number, name in enumerate(("base", "cars_epoch9", "cars_epoch10", "dtd-step=500", "mnist", "mnist_epoch3")):
        save_file(random_tower(number), tmp_path / f"{name}.safetensors")
    with pytest.raises(
        MergingError, match=r"task cars: 2 checkpoints of one training, cars_epoch9\.safetensors, cars_ep"
    ):
        propose(tmp_path)
    made = propose(tmp_path, checkpoints={"cars": "cars_epoch10"})
    assert [(task["name"], task["checkpoint"]) for task in made.content["tasks"]] == [
        ("cars", "cars_epoch10.safetensors"),
        ("dtd", "dtd-step=500.safetensors"),
        ("mnist", "mnist.safetensors"),
    ]
    assert made.left_out["cars_epoch9.safetensors"].startswith("another checkpoint of this training")


@pytest.mark.parametrize(
    ("files", "tasks"),
    [
        (("cars/lightning_logs/version_0/checkpoints/epoch=9-step=100.ckpt",), ["cars"]),
        (("checkpoints/ViT-B-32/Cars/finetuned.pt", "checkpoints/ViT-B-32/DTD/finetuned.pt"), ["Cars", "DTD"]),
        (("cars/model_best.pth.tar", "dtd/checkpoints/epoch_latest.pt"), ["cars", "dtd"]),
        (("cars.PT", "dtd.Safetensors"), ["cars", "dtd"]),
    ],
    ids=["Lightning", "Task Arithmetic", "timm and open_clip", "capitals"],
)
def test_models_are_found_where_trainings_put_them(files: tuple[str, ...], tasks: list[str], tmp_path: Path) -> None:
    """Before: "no fine-tuned model beside the base", or a file with capitals left out without a word."""
    write_config(tmp_path)
    save_file(random_tower(0), tmp_path / "base.safetensors")
    for number, name in enumerate(files, 1):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write = save_file if name.casefold().endswith("safetensors") else torch.save
        write(random_tower(number), tmp_path / name)
    made = propose(tmp_path)
    assert [task["name"] for task in made.content["tasks"]] == tasks and not made.left_out
    if files[0].startswith("cars"):
        save_file(random_tower(5), (tmp_path / files[0]).with_name("last.safetensors"))
        with pytest.raises(MergingError, match="2 checkpoints of one training") if "/" in files[0] else nullcontext():
            propose(tmp_path)


def test_a_file_where_a_folder_belongs_is_said_to_be_one(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pt")
    said = CliRunner().invoke(main, ["init-suite", str(tmp_path / "model.pt")])
    assert said.exit_code == 2 and "'model.pt' is a file; expected a folder" in said.stderr
