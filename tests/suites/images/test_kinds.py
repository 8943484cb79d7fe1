"""Parquet files as on the Hugging Face hub, torchvision's readers, and validation images taken from training."""

import inspect
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from merging.core.errors import MissingPart, SuiteError
from merging.evaluation.evaluator import Evaluator
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.suites.images.hub import files_wanted, is_whole
from merging.suites.images.shifts import Shift
from merging.suites.images.source import held_out
from merging.suites.images.suite_images import load_images, ready_corruptions, sample_images
from merging.suites.images.torchvision_data import READERS
from merging.suites.initialise import propose
from tests.random_models import CLASSES, write_yaml

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
SIZE = 8
NAMES = [f"class_{index}" for index in range(CLASSES)]


def pictures(count: int, seed: int = 0, side: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_parquet(
    path: Path,
    pixels: np.ndarray,
    labels: Any,
    names: Sequence[str] = ("class_0", "class_1", "class_2"),
    **columns: Any,
) -> None:
    """Rows as `datasets` writes them: a record of bytes and path, and a class index with its names in the header."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(image), "path": None} for image in pixels]
    table = pa.table({"image": cells, "label": pa.array(labels), **columns})
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=5)


def suite_of(folder: Path, classes: int = 3, **data: Any) -> Suite:
    names = [f"class {index}" for index in range(classes)]
    return load_suite(write_yaml(folder, tasks=[{"name": "pets", "classes": names, "data": data}]))


def hub(folder: Path, **fields: Any) -> Suite:
    return suite_of(folder, kind="huggingface", **({"path": "pets"} | fields))


# --- parquet ---------------------------------------------------------------------------------------------------------


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    pixels, labels = pictures(23), np.arange(23) % 3
    for shard, rows in enumerate((slice(0, 9), slice(9, 10), slice(10, 23))):
        name = f"test-{shard:05d}-of-00003.parquet"
        write_parquet(tmp_path / "pets" / "data" / name, pixels[rows], labels[rows])
    found = load_images(hub(tmp_path), "pets", "test", SIZE, tmp_path / "cache")
    assert np.array_equal(found.pixels, pixels) and found.labels.tolist() == labels.tolist()
    larger = load_images(hub(tmp_path), "pets", "test", 12)
    assert larger.pixels.shape == (23, 12, 12, 3) and larger.fingerprint != found.fingerprint
    shard = tmp_path / "pets" / "data" / "test-00001-of-00003.parquet"
    write_parquet(shard, pixels[:2], labels[:2])
    assert load_images(hub(tmp_path), "pets", "test", SIZE).fingerprint != found.fingerprint
    shard.unlink()
    with pytest.raises(MissingPart, match=r"1 of the files of the test split are missing, 2 are there"):
        load_images(hub(tmp_path), "pets", "test", SIZE)


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev"])
def test_a_validation_split_is_taken_under_its_usual_names(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / "pets" / f"{name}-00000-of-00001.parquet", pictures(4), [0, 1, 2, 0])
    write_parquet(tmp_path / "pets" / "train-00000-of-00001.parquet", pictures(4, 1), [0, 1, 2, 0])
    assert np.array_equal(load_images(hub(tmp_path), "pets", "val", SIZE).pixels, pictures(4))


def test_without_validation_a_fixed_tenth_of_training_is_taken(tmp_path: Path) -> None:
    pixels, labels = pictures(40), np.arange(40) % 3
    for shard in range(2):
        rows = slice(20 * shard, 20 * shard + 20)
        write_parquet(tmp_path / "pets" / "train" / f"000{shard}.parquet", pixels[rows], labels[rows])
    chosen = published_split(40)[1]
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = load_images(hub(tmp_path), "pets", "val", SIZE, cache)
        assert np.array_equal(found.pixels, pixels[chosen])
        assert found.labels.tolist() == labels[chosen].tolist()
    with pytest.raises(MissingPart, match="task 'pets': no test split in pets"):
        load_images(hub(tmp_path), "pets", "test", SIZE)


def published_split(count: int) -> tuple[list[int], list[int]]:
    """Indices for training and validation as the code of Task Arithmetic draws them."""
    sizes = [count - count // 10, count // 10]
    train, val = torch.utils.data.random_split(range(count), sizes, generator=torch.Generator().manual_seed(0))
    return train.indices, sorted(val.indices)


def test_images_held_out_are_those_of_the_published_code() -> None:
    for count in (40, 2040, 49_999):
        assert held_out(count).tolist() == published_split(count)[1]
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))
    assert order[0] == 36044  # by which that code recognises its split of MNIST
    assert held_out(60_000).tolist() == sorted(order[55_000:].tolist())


def test_the_share_held_out_is_bounded() -> None:
    assert [len(held_out(count)) for count in (1, 9, 10, 1999, 50_000, 10**6)] == [1, 1, 1, 199, 5000, 5000]
    assert np.array_equal(held_out(500), np.unique(held_out(500))) and held_out(500).max() < 500


def test_another_split_can_serve_as_the_test_split(tmp_path: Path) -> None:
    for split, images in (("train", 5), ("validation", 4)):
        write_parquet(
            tmp_path / "pets" / f"{split}.parquet", pictures(images), [False, True, True, False, True][:images]
        )
    suite = hub(tmp_path, test="validation")
    found = load_images(suite, "pets", "test", SIZE)
    assert np.array_equal(found.pixels, pictures(4)) and found.labels.tolist() == [0, 1, 1, 0]
    assert "5 training images serve" in str(load_images(suite, "pets", "val", SIZE).origin.said)
    assert is_whole(tmp_path / "pets", None, "validation") and not is_whole(tmp_path / "pets", None)
    assert files_wanted(["a/validation.parquet", "a/test.parquet"], None, "validation") == ["a/validation.parquet"]


def test_several_configurations_need_a_name(tmp_path: Path) -> None:
    for number, config in enumerate(("cropped_digits", "full_numbers")):
        write_parquet(tmp_path / "pets" / config / "test-00000-of-00001.parquet", pictures(3, number), [0, 1, 2])
    with pytest.raises(SuiteError, match=r"pets: test split in 2 folders \(cropped_digits, full_numbers\); name one"):
        load_images(hub(tmp_path), "pets", "test", SIZE)
    for number, config in enumerate(("cropped_digits", "full_numbers")):
        found = load_images(hub(tmp_path, config=config), "pets", "test", SIZE)
        assert np.array_equal(found.pixels, pictures(3, number))
    with pytest.raises(MissingPart, match="no test split in pets/other"):
        load_images(hub(tmp_path, config="other"), "pets", "test", SIZE)


def test_other_columns_can_be_named(tmp_path: Path) -> None:
    raw = [png(image) for image in pictures(3)]
    path = tmp_path / "pets" / "test.parquet"
    write_parquet(path, pictures(3), [0, 1, 2], photo=raw, kind=[2, 1, 0])
    found = load_images(hub(tmp_path, image="photo", label="kind"), "pets", "test", SIZE)
    assert np.array_equal(found.pixels, pictures(3)) and found.labels.tolist() == [2, 1, 0]
    with pytest.raises(SuiteError, match=r"no column 'species'; it has image, label, photo, kind"):
        load_images(hub(tmp_path, label="species"), "pets", "test", SIZE)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a", "b", "c"], "expected class indices, integers"),
        ([0.5, 1, 2], "column 'label' is double"),
        ([0, None, 2], "expected class indices"),
        ([0, 1, 3], "labels run from 0 to 3; task 'pets' has 3 classes"),
        ([0, 1, -1], "labels run from -1 to 1"),
    ],
)
def test_labels_that_are_no_class_indices_are_refused(tmp_path: Path, labels: list[Any], reason: str) -> None:
    write_parquet(tmp_path / "pets" / "test.parquet", pictures(3), labels)
    with pytest.raises(SuiteError, match=rf"^test\.parquet: .*{reason}") as caught:
        load_images(hub(tmp_path), "pets", "test", SIZE)
    assert str(tmp_path) not in str(caught.value)


def test_damaged_files_and_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pets" / "test.parquet"
    write_parquet(path, pictures(40), [0] * 40)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:-200], whole[:60] + bytes(len(whole) - 500) + whole[-440:]):
        path.write_bytes(content)
        with pytest.raises(SuiteError, match=r"^test\.parquet"):
            load_images(hub(tmp_path), "pets", "test", SIZE, tmp_path / "cache")
    cells: list[Any] = [{"bytes": png(pictures(1)[0]), "path": None}, {"bytes": b"no image", "path": None}]
    parquet.write_table(pa.table({"image": cells, "label": [0, 1]}), path)
    with pytest.raises(SuiteError, match=r"test\.parquet, row 1: not a readable image"):
        load_images(hub(tmp_path), "pets", "test", SIZE)
    cells = [{"bytes": None, "path": "/etc/passwd"}]
    parquet.write_table(pa.table({"image": pa.array(cells), "label": [0]}), path)
    with pytest.raises(SuiteError, match=r"test\.parquet, row 0: no bytes of an image"):
        load_images(hub(tmp_path), "pets", "test", SIZE)


def test_one_image_of_each_class_is_shown(tmp_path: Path) -> None:
    pixels = pictures(6)
    write_parquet(tmp_path / "pets" / "test.parquet", pixels, [2, 2, 0, 1, 0, 1])
    found = sample_images(hub(tmp_path), "pets", SIZE, limit=2)
    assert [name for name, _ in found] == ["class 0", "class 1"]
    assert np.array_equal(found[0][1], pixels[2]) and np.array_equal(found[1][1], pixels[3])
    assert np.array_equal(sample_images(hub(tmp_path), "pets", SIZE)[2][1], pixels[0])


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "pets" / "test.parquet", pictures(3), [0, 1, 2])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SuiteError, match=r"needs pyarrow: python -m pip install pyarrow"):
        load_images(hub(tmp_path), "pets", "test", SIZE)


# --- the hub's cache -------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client lays it out, with one data set; any way to the network fails the test."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    place = cache / "datasets--zoo--pets"
    write_parquet(place / "blobs" / "0a1b.parquet", pictures(3), [0, 1, 2])
    snapshot = place / "snapshots" / ("0" * 40)
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data" / "test-00000-of-00001.parquet").symlink_to(place / "blobs" / "0a1b.parquet")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    return cache


def test_a_data_set_in_the_cache_is_found(tmp_path: Path, hub_cache: Path) -> None:
    suite = hub(tmp_path, path=None, dataset="zoo/pets")
    assert np.array_equal(load_images(suite, "pets", "test", SIZE).pixels, pictures(3))
    path = suite.images_path("pets")
    assert path is not None and path.is_relative_to(hub_cache)
    converted = hub_cache / "datasets--zoo--pets" / "refs" / "refs" / "convert"  # where the hub's client notes it
    converted.mkdir(parents=True)
    (converted / "parquet").write_text("1" * 40)
    moved = hub(tmp_path, path=None, dataset="zoo/pets", revision="refs/convert/parquet")
    assert moved.images_path("pets") is None
    path.parent.joinpath("1" * 40).symlink_to(path)
    assert np.array_equal(load_images(moved, "pets", "test", SIZE).pixels, pictures(3))


def test_a_data_set_that_is_not_in_the_cache_is_not_downloaded(tmp_path: Path, hub_cache: Path) -> None:
    suite = hub(tmp_path, path=None, dataset="zoo/birds")
    with pytest.raises(MissingPart, match=r"zoo/birds is not in .*hf download zoo/birds --repo-type dataset") as caught:
        load_images(suite, "pets", "test", SIZE)
    assert str(tmp_path) not in str(caught.value)
    assert suite.images_path("pets") is None and not suite.present("pets")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"kind": "huggingface"}, "needs either `path`"),
        ({"kind": "huggingface", "path": "pets", "revision": "v2"}, "`revision` is of a data set of the hub"),
        ({"kind": "huggingface", "dataset": "zoo/pets", "revision": "refs/../../x"}, "revision"),
        ({"kind": "huggingface", "path": "a", "dataset": "b"}, "needs either `path`"),
        ({"kind": "huggingface", "dataset": "../../etc"}, "must be text that fits"),
        ({"kind": "torchvision", "name": "EuroSAT", "root": "data"}, "expected one of MNIST"),
        ({"kind": "torchvision", "name": "MNIST"}, r"root \(task 'pets'\): is missing"),
    ],
)
def test_what_is_no_place_for_images_is_refused(tmp_path: Path, data: dict[str, str], reason: str) -> None:
    with pytest.raises(SuiteError, match=reason):
        suite_of(tmp_path, **data)


# --- torchvision -----------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels if split == "t10k" else 255 - pixels))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))


def test_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    grey, labels = pictures(30)[..., 0], np.arange(30) % 3
    write_mnist(tmp_path / "data", grey, labels)
    suite = suite_of(tmp_path, kind="torchvision", name="MNIST", root="data")
    test = load_images(suite, "pets", "test", SIZE, tmp_path / "cache")
    assert np.array_equal(test.pixels, np.repeat(grey[..., None], 3, axis=3)) and test.labels.tolist() == [*labels]
    val, chosen = load_images(suite, "pets", "val", SIZE), held_out(30)
    assert np.array_equal(val.pixels[..., 1], 255 - grey[chosen]) and val.labels.tolist() == [*labels[chosen]]
    assert len(sample_images(suite, "pets", SIZE)) == 3


def test_a_reader_with_a_validation_split_of_its_own(tmp_path: Path) -> None:
    names = {"train": "a/1.jpg", "val": "b/1.jpg", "test": "a/2.jpg"}
    for number, (split, name) in enumerate(names.items()):
        file = tmp_path / "data" / "dtd" / "dtd" / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), (100 * number,) * 3).save(file)
        place = tmp_path / "data" / "dtd" / "dtd" / "labels" / f"{split}1.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{name}\n")
    suite = suite_of(tmp_path, kind="torchvision", name="DTD", root="data")
    assert load_images(suite, "pets", "val", SIZE).pixels[0, 0, 0].tolist() == [100] * 3
    assert load_images(suite, "pets", "test", SIZE).pixels[0, 0, 0].tolist() == [200] * 3


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_not_there_are_named_and_not_downloaded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    (tmp_path / "data").mkdir()
    suite = suite_of(tmp_path, kind="torchvision", name=name, root="data")
    with pytest.raises(MissingPart, match=rf"torchvision's {name} is not in data, .*download=True") as caught:
        load_images(suite, "pets", "test", SIZE)
    assert str(tmp_path) not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []
    with pytest.raises(SuiteError, match="images elsewhere are missing"):
        load_images(suite_of(tmp_path, kind="torchvision", name=name, root="elsewhere"), "pets", "test", SIZE)


@pytest.mark.parametrize("name", READERS)
def test_readers_are_asked_in_their_own_words(name: str) -> None:
    """What the table says of torchvision's classes is what their code says."""
    source = "".join(inspect.getsource(each) for each in getattr(torchvision.datasets, name).__mro__[:-2])
    assert f"self.{READERS[name].labels}" in source
    accepted = inspect.signature(getattr(torchvision.datasets, name)).parameters
    for arguments in READERS[name].splits.values():
        assert set(arguments) <= set(accepted)
        assert all(f'"{value}"' in source or value in (True, False) for value in arguments.values())


# --- other places ----------------------------------------------------------------------------------------------------


def test_folders_and_arrays_without_validation_take_some_of_training_too(tmp_path: Path) -> None:
    pixels, labels = pictures(20), np.arange(20) % 2
    np.savez(tmp_path / "pets.npz", train_images=pixels, train_labels=labels)
    suite = suite_of(tmp_path, kind="arrays", path="pets.npz")
    for size in (SIZE, 12):
        found = load_images(suite, "pets", "val", size)
        assert found.labels.tolist() == labels[held_out(20)].tolist() and found.pixels.shape[1] == size
    assert np.array_equal(load_images(suite, "pets", "val", SIZE).pixels, pixels[held_out(20)])
    for number in range(10):
        place = tmp_path / "images" / "train" / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(place / f"{number}.png")
    in_order = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    found = load_images(suite_of(tmp_path, 2, kind="imagefolder", path="images"), "pets", "val", SIZE)
    assert np.array_equal(found.pixels, pixels[[in_order[row] for row in held_out(10)]])


def test_resized_arrays_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "pets.npz", test_images=pictures(4), test_labels=[0, 1, 2, 0])
    suite = suite_of(tmp_path, kind="arrays", path="pets.npz")
    first = load_images(suite, "pets", "test", 16, tmp_path / "cache")
    monkeypatch.setattr("merging.suites.images.arrays.fit", lambda *_: pytest.fail("resized again"))
    assert np.array_equal(load_images(suite, "pets", "test", 16, tmp_path / "cache").pixels, first.pixels)


def test_parquet_files_beside_the_models_are_found_with_their_classes(own_suite: Path) -> None:
    (own_suite / "roads.npz").unlink()
    write_parquet(own_suite / "data" / "Roads" / "data" / "test-00000-of-00001.parquet", pictures(3), [0, 1, 2], NAMES)
    task = next(task for task in propose(own_suite).content["tasks"] if task["name"] == "roads")
    assert task["data"] == {"kind": "huggingface", "path": "data/Roads/data"}
    assert task["classes"] == NAMES


def test_the_room_for_images_reaches_the_cache(own_suite: Path, tmp_path: Path) -> None:
    for task in ("roads", "digits"):
        write_parquet(own_suite / task / "test.parquet", np.zeros((6, 32, 32, 3), np.uint8), [0, 1, 2, 0, 1, 2])
    tasks = [
        {"name": t, "head": f"{t}.head.safetensors", "data": {"kind": "huggingface", "path": t}}
        for t in ("roads", "digits")
    ]
    suite = load_suite(write_yaml(own_suite, tasks=tasks))
    for limit, kept in ((10**9, 2), (0, 1)):
        home = tmp_path / f"home{limit}"
        evaluator = Workspace(home, limit).evaluator(suite)
        for task in ("roads", "digits"):
            assert evaluator.count(task, "test") == 6
        assert len(list((home / "cache" / "images").iterdir())) == kept


def test_images_that_come_corrupted_are_those_of_that_split(own_suite: Path) -> None:
    """They have to be the test images, one by one."""
    clean, damaged, labels = pictures(4, side=32), pictures(4, 7, side=32), [0, 1, 2, 0]
    write_parquet(own_suite / "roads" / "test.parquet", clean, labels)
    write_parquet(own_suite / "roads" / "contrast-00000-of-00001.parquet", damaged, labels)
    write_parquet(own_suite / "roads" / "spatter.parquet", damaged, labels[::-1])
    entry = {"name": "roads", "head": "roads.head.safetensors", "data": {"kind": "huggingface", "path": "roads"}}
    evaluator = Evaluator(load_suite(write_yaml(own_suite, tasks=[entry])))
    ready = Shift.read("contrast:ready")
    assert Shift.read(ready.text) == ready and ready.label == "Contrast, as the data set has it"
    assert np.array_equal(evaluator.under(ready).image_set("roads", "test").pixels, damaged)
    assert np.array_equal(evaluator.image_set("roads", "test").pixels, clean)
    made = evaluator.under(Shift.read("contrast:3")).image_set("roads", "test").pixels
    assert not np.array_equal(made, damaged)
    with pytest.raises(MissingPart, match="no gaussian_noise split in roads"):
        evaluator.under(Shift.read("gaussian_noise:ready")).image_set("roads", "test")
    with pytest.raises(SuiteError, match="split spatter has 4 images whose labels are not those of its 4 test images"):
        evaluator.under(Shift.read("spatter:ready")).image_set("roads", "test")
    assert ready_corruptions(evaluator.suite, ["roads"]) == ["spatter", "contrast"]
    assert ready_corruptions(load_suite(write_yaml(own_suite)), ["digits"]) == []  # it has no images
