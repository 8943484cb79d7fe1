"""Evaluation images from arrays and folders, and what is said about broken ones."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from merging.core.errors import MissingPart, SuiteError
from merging.suites import Suite, load_suite
from merging.suites.images.suite_images import ImageSet, load_images
from tests.random_models import CLASSES, write_yaml

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def suite_with(folder: Path, kind: str, classes: int = 3) -> Suite:
    names = ["cat", "dog", "big bird"][:classes]
    data = {"kind": kind, "path": "images.npz" if kind == "arrays" else "images"}
    return load_suite(write_yaml(folder, tasks=[{"name": "pets", "classes": names, "data": data}]))


def arrays(folder: Path, **changes: object) -> ImageSet:
    """Load an archive that is right but for the changes."""
    stored = {"test_images": PIXELS, "test_labels": LABELS, "val_images": PIXELS[:2], "val_labels": LABELS[:2]}
    stored = {name: value for name, value in (stored | changes).items() if value is not None}
    np.savez(folder / "images.npz", **stored)
    return load_images(suite_with(folder, "arrays"), "pets", "test", 8)


def test_arrays_of_the_right_size_are_taken_as_they_are(tmp_path: Path) -> None:
    found = arrays(tmp_path, test_labels=LABELS.astype(np.uint8))
    assert np.array_equal(found.pixels, PIXELS)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.labels.dtype == np.int64
    assert len(found) == 6
    assert len(load_images(suite_with(tmp_path, "arrays"), "pets", "val", 8)) == 2


def test_other_sizes_are_resized_and_the_centre_is_taken(tmp_path: Path) -> None:
    wide = np.zeros((1, 10, 30, 3), dtype=np.uint8)
    wide[:, :, 10:20] = 200  # the central square
    np.savez(tmp_path / "images.npz", test_images=wide, test_labels=[0])
    found = load_images(suite_with(tmp_path, "arrays"), "pets", "test", 20)
    assert found.pixels.shape == (1, 20, 20, 3)
    assert found.pixels[0, 5:15, 3:17].min() > 190


def test_the_fingerprint_follows_content_and_size(tmp_path: Path) -> None:
    one = arrays(tmp_path)
    other = arrays(tmp_path, test_images=255 - PIXELS)
    relabelled = arrays(tmp_path, test_labels=LABELS[::-1])
    larger = load_images(suite_with(tmp_path, "arrays"), "pets", "test", 16)
    assert len({one.fingerprint, other.fingerprint, relabelled.fingerprint, larger.fingerprint}) == 4
    assert arrays(tmp_path).fingerprint == one.fingerprint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test_images": PIXELS.astype(np.float32)}, r"images are float32 \[6, 8, 8, 3\]; expected uint8"),
        ({"test_images": PIXELS[..., 0]}, r"images are uint8 \[6, 8, 8\]; expected uint8 \[N, H, W, 3\]"),
        ({"test_images": np.moveaxis(PIXELS, 3, 1)}, r"images are uint8 \[6, 3, 8, 8\]"),
        ({"test_labels": LABELS[:4]}, r"labels are int64 \[4\]; expected integers \[6\]"),
        ({"test_labels": LABELS / 2}, "labels are float64"),
        ({"test_labels": np.eye(6)}, r"labels are float64 \[6, 6\]"),
        ({"test_labels": LABELS + 1}, "labels run from 1 to 3; task 'pets' has 3 classes, so expected 0 to 2"),
        ({"test_labels": LABELS - 1}, "labels run from -1 to 1"),
        ({"test_images": PIXELS[:0], "test_labels": LABELS[:0]}, "holds no images"),
        ({"test_images": np.array([{"a": 1}], dtype=object)}, "not a readable .npz file"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(SuiteError, match=rf"^images\.npz: {reason}") as caught:
        arrays(tmp_path, **changes)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("missing", ["test_images", "test_labels"])
def test_a_missing_split_is_a_missing_part(tmp_path: Path, missing: str) -> None:
    with pytest.raises(MissingPart, match="no test_images and test_labels"):
        arrays(tmp_path, **{missing: None})


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = (
            np.lib.format.magic(1, 0)
            + b"\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999, 8, 8, 3), }"
        )
        archive.writestr("test_images.npy", header.ljust(128) + b"\0" * 1000)
        archive.writestr("test_labels.npy", header.ljust(128))


def truncated(path: Path) -> None:
    np.savez(path, test_images=PIXELS, test_labels=LABELS)
    path.write_bytes(path.read_bytes()[:-300])


def flipped(path: Path) -> None:
    np.savez_compressed(path, test_images=PIXELS, test_labels=LABELS)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(255 - byte for byte in content[200:400])
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [bomb, truncated, flipped, Path.touch, lambda path: path.write_text("hello")])
def test_damaged_archives_are_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(tmp_path / "images.npz")
    with pytest.raises(SuiteError, match=r"^images\.npz: not a readable") as caught:
        load_images(suite_with(tmp_path, "arrays"), "pets", "test", 8)
    assert str(tmp_path) not in str(caught.value)


def test_missing_files_and_tasks_without_images(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"images images\.npz are missing"):
        load_images(suite_with(tmp_path, "arrays"), "pets", "test", 8)
    bare = load_suite(write_yaml(tmp_path, tasks=[{"name": "pets"}]))
    with pytest.raises(MissingPart, match="task 'pets' has no images"):
        load_images(bare, "pets", "test", 8)


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``images/test/class/number.png`` with one colour a class, and files that are no images."""
    for label, name in enumerate(["big_bird", "cat", "dog"]):
        place = tmp_path / "images" / "test" / name
        place.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (12, 10), (80 * label, 0, 0)).save(place / f"{number}.png")
        (place / "notes.txt").write_text("no image")
    return tmp_path


def test_class_folders_are_matched_by_name(folder: Path) -> None:
    found = load_images(suite_with(folder, "imagefolder"), "pets", "test", 8)
    assert found.pixels.shape == (6, 8, 8, 3)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.pixels[:, 0, 0, 0].tolist() == [80, 80, 160, 160, 0, 0]  # cat, dog, big bird


def test_another_number_of_class_folders_is_refused(folder: Path) -> None:
    (folder / "images" / "test" / "fish").mkdir()
    (folder / "images" / "test" / "cat").rename(folder / "images" / "test" / "tiger")
    with pytest.raises(SuiteError, match=r"task 'pets': 4 class folders in images/test, 3 classes in suite\.yaml"):
        load_images(suite_with(folder, "imagefolder"), "pets", "test", 8)


def test_class_folders_that_match_in_part_are_refused(folder: Path) -> None:
    (folder / "images" / "test" / "dog").rename(folder / "images" / "test" / "hound")
    with pytest.raises(SuiteError, match=r"folders without a class: 'hound'; classes without a folder: 'dog';"):
        load_images(suite_with(folder, "imagefolder"), "pets", "test", 8)


def test_missing_splits_and_empty_folders(folder: Path) -> None:
    with pytest.raises(MissingPart, match="no folder images/val"):
        load_images(suite_with(folder, "imagefolder"), "pets", "val", 8)
    (folder / "images" / "val").mkdir()
    with pytest.raises(SuiteError):
        load_images(suite_with(folder, "imagefolder"), "pets", "val", 8)


def test_images_beside_the_suite_are_called_by_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder / "images").iterdir():
        path.rename(folder / path.name)
    data = {"kind": "imagefolder", "path": "."}
    write_yaml(folder, tasks=[{"name": "pets", "classes": ["cat", "dog", "big bird"], "data": data}])
    monkeypatch.chdir(folder)
    suite = load_suite("suite.yaml")
    assert len(load_images(suite, "pets", "test", 8)) == 6
    with pytest.raises(MissingPart, match="no folder val; expected val/class/image"):
        load_images(suite, "pets", "val", 8)
    for name in ("cat", "dog", "big_bird"):
        (folder / "val" / name).mkdir(parents=True)
    with pytest.raises(SuiteError, match=f"no images under {folder.name}/val"):
        load_images(suite, "pets", "val", 8)


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("kind", ["empty", "text", "png header", "truncated", "flipped", "bomb"])
def test_a_broken_image_is_named(folder: Path, kind: str) -> None:
    path = folder / "images" / "test" / "cat" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    huge = PNG + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 4
    path.write_bytes(
        {
            "empty": b"",
            "text": b"no image",
            "png header": PNG,
            "truncated": content[:800],
            "flipped": content[:100] + bytes(255 - byte for byte in content[100:2000]) + content[2000:],
            "bomb": huge,
        }[kind]
    )
    with pytest.raises(SuiteError, match=r"^cat/1\.png: not a readable image") as caught:
        load_images(suite_with(folder, "imagefolder"), "pets", "test", 8)
    assert str(folder) not in str(caught.value)


def test_prepared_images_are_kept_and_mended(folder: Path, tmp_path: Path) -> None:
    suite, cache = suite_with(folder, "imagefolder"), tmp_path / "cache"
    plain = load_images(suite, "pets", "test", 8)
    first = load_images(suite, "pets", "test", 8, cache)
    (stored,) = (cache / "images").iterdir()
    changed = stored.stat().st_mtime_ns
    again = load_images(suite, "pets", "test", 8, cache)
    assert stored.stat().st_mtime_ns == changed
    assert np.array_equal(first.pixels, plain.pixels)
    assert np.array_equal(again.pixels, plain.pixels)
    for content in (b"", b"garbage", stored.read_bytes()[:-10]):
        stored.write_bytes(content)
        assert np.array_equal(load_images(suite, "pets", "test", 8, cache).pixels, plain.pixels)


def test_the_tiny_suite_has_what_the_other_tests_rely_on(suite: Suite) -> None:
    for task in suite.task_names:
        assert load_images(suite, task, "test", 32).labels.max() < CLASSES
