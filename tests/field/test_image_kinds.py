"""Images of every kind that people have: what becomes of their values, what is counted, what is refused or skipped."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image, features

from merging.__main__ import main
from merging.core.errors import SuiteError
from merging.core.progress import no_progress
from merging.runs.foreground import run_here
from merging.runs.jobs.baselines import BaselinesJob, BaselinesResult
from merging.runs.jobs.job import Site
from merging.runs.jobs.merge import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.suites.images.decoding import Treatment, open_image
from merging.suites.images.suite_images import load_images
from tests.random_models import write_yaml
from ui.runs.text import provenance

SIZE = 4
RAMP = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
GREY = np.rint(255 * RAMP)
CLEAR = "1 of 7 images: transparency, which is left out; colours count as they are stored"


def stored(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def deep(bits: int = 16) -> Image.Image:
    return Image.fromarray(np.rint(RAMP * (2**bits - 1)).astype(np.uint16))


def wide_pgm() -> bytes:
    """Ten bits, as a camera has them."""
    values = np.rint(RAMP * 1023).astype(">u2").tobytes()
    return f"P5 {SIZE} {SIZE} 1023\n".encode() + values


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (stored(deep(), "PNG"), "16 bits, scaled from 0 … 65535 to 8 bits"),
        (stored(deep(), "TIFF"), "16 bits, scaled from 0 … 65535 to 8 bits"),
        (wide_pgm(), "16 bits, scaled from 0 … 65535 to 8 bits"),
        (stored(Image.fromarray(RAMP), "TIFF"), "floating point, scaled from 0 … 1 to 8 bits"),
        (stored(Image.fromarray(GREY.astype(np.uint8)), "PNG"), ""),
        (stored(Image.fromarray(GREY.astype(np.uint8)), "TIFF"), ""),
    ],
)
def test_values_become_the_grey_that_they_mean(content: bytes, said: str) -> None:
    """White and black were what was seen of them before."""
    found = open_image(content, "a.png", SIZE)
    assert found.pixels is not None and found.said == said
    np.testing.assert_allclose(found.pixels[..., 0], GREY, atol=1)
    assert found.pixels.min() == 0 and found.pixels.max() == 255


@pytest.mark.parametrize(
    ("bits", "data", "said"),
    [
        (12, {}, "no image of 16 bits is brighter than 4095 of 65535; if they are of 12 bits, write range: [0, 4095]"),
        (10, {}, "no image of 16 bits is brighter than 1023 of 65535; if they are of 10 bits, write range: [0, 1023]"),
        (12, {"range": [0, 4095]}, ""),
        (16, {}, ""),
    ],
)
def test_values_that_fill_little_of_16_bits_are_said_to(tmp_path: Path, bits: int, data: Any, said: str) -> None:
    """Before: nearly black images, of which the accuracy alone showed something."""
    place = tmp_path / "images" / "test" / "cat"
    place.mkdir(parents=True)
    for number in range(3):
        (place / f"{number}.png").write_bytes(stored(Image.fromarray(np.asarray(deep(bits)) >> number), "PNG"))
    task = {"name": "pets", "classes": ["cat"], "data": {"kind": "imagefolder", "path": "images", **data}}
    suite = load_suite(write_yaml(tmp_path, tasks=[task]))
    for _ in ("decoded", "kept"):
        odd = load_images(suite, "pets", "test", SIZE, tmp_path / "cache").origin.odd
        assert [one.startswith(said) for one in odd] == [True] * bool(said)


def test_a_range_is_taken_for_images_of_more_than_8_bits_alone() -> None:
    twelve = Treatment(range=(0, 4095))
    for image in (deep(12), Image.fromarray(RAMP * 4095), Image.fromarray((RAMP * 4095).astype(np.int32))):
        pixels = open_image(stored(image, "TIFF"), "a.tif", SIZE, twelve).pixels
        assert pixels is not None
        np.testing.assert_allclose(pixels[..., 0], GREY, atol=1)
    plain = open_image(stored(Image.fromarray(GREY.astype(np.uint8)), "PNG"), "a.png", SIZE, twelve)
    assert plain.pixels is not None and np.array_equal(plain.pixels[..., 0], GREY)
    assert plain.said == "8 bits, to which range does not apply"


def test_what_is_odd_of_8_bits_goes_with_the_numbers(tmp_path: Path) -> None:
    """A range that does nothing, and floats of 0 … 1 that were made uint8 as they are."""
    place = tmp_path / "images" / "test" / "cat"
    place.mkdir(parents=True)
    (place / "0.png").write_bytes(stored(Image.fromarray(GREY.astype(np.uint8)), "PNG"))
    np.savez(
        tmp_path / "dogs.npz", test_images=np.eye(8, dtype=np.uint8)[None, ..., None].repeat(3, 3), test_labels=[0]
    )
    ranged = {"kind": "imagefolder", "path": "images", "range": [0, 127]}
    tasks = [
        {"name": "pets", "classes": ["cat"], "data": ranged},
        {"name": "dogs", "classes": ["dog"], "data": {"kind": "arrays", "path": "dogs.npz"}},
    ]
    suite = load_suite(write_yaml(tmp_path, tasks=tasks))
    for task, said in (("pets", "1 of 1 images: 8 bits, to which range does not apply"), ("dogs", "no value of the")):
        (odd,) = load_images(suite, task, "test", 8).origin.warnings
        assert odd.startswith(said)


def colours_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of grey values uint16 in three channels, which Pillow does not write."""
    rows = np.repeat(values.astype(">u2")[..., None], 3, axis=2)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def test_of_16_bits_a_colour_the_upper_8_are_taken_which_is_said() -> None:
    upper = "16 bits a colour, of which the upper 8 are taken"
    full = open_image(colours_of_16_bits(RAMP * 65535), "a.png", SIZE, Treatment())
    assert full.pixels is not None and full.said == upper
    np.testing.assert_allclose(full.pixels[..., 1], GREY, atol=1)
    dark = colours_of_16_bits(RAMP * 4095)
    assert open_image(dark, "a.png", SIZE, Treatment()).said.startswith(f"{upper}; these hardly fill 14 bits")
    with pytest.raises(SuiteError, match=r"^a.png: 16 bits a colour.* range can't be applied; convert such"):
        open_image(dark, "a.png", SIZE, Treatment(range=(0, 4095)))


@pytest.mark.parametrize(
    ("image", "treatment", "said"),
    [
        (
            Image.fromarray(RAMP * 255),
            Treatment(),
            "floating point, values from 0 to 255; expected 0 to 1; write",
        ),
        (
            Image.fromarray(RAMP - 0.5),
            Treatment(on_error="skip"),
            "values from -0.5 to 0.5; expected 0 to 1; write",
        ),
        (Image.fromarray(RAMP * np.float32("nan")), Treatment(), "values from nan to nan; expected 0 to 1"),
        (deep(), Treatment(range=(0, 4095)), "16 bits, values from 0 to 65535; expected 0 to 4095; write range"),
        (
            Image.fromarray((RAMP * 9).astype(np.int32)),
            Treatment(),
            "32 bits, values from 0 to 9; no type says what",
        ),
    ],
)
def test_values_that_no_range_fits_are_refused(image: Image.Image, treatment: Treatment, said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        open_image(stored(image, "TIFF"), "cat/a.tif", SIZE, treatment)
    assert str(caught.value).startswith("cat/a.tif: ") and said in str(caught.value)


def test_a_very_large_image_is_said_to_be_one() -> None:
    for side in (10_000, 60_000):
        header = f"P5 {side} {side} 255\n".encode()
        with pytest.raises(SuiteError) as caught:
            open_image(header, "cat/a.pgm", SIZE)
        megapixels = side * side // 10**6
        assert f"cat/a.pgm: not a readable image: {megapixels} megapixels, more than the 89 that" in str(caught.value)


# --- in folders ------------------------------------------------------------------------------------------------------


def pets(folder: Path, **data: Any) -> Suite:
    data = {"kind": "imagefolder", "path": "images", **data}
    return load_suite(write_yaml(folder, tasks=[{"name": "pets", "classes": ["cat", "dog"], "data": data}]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("val", "test"):
        for shade, name in enumerate(("cat", "dog")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (SIZE, SIZE), (60 * shade + 9 * number,) * 3).save(
                    tmp_path / "images" / split / name / f"{number}.png"
                )
    return tmp_path


KINDS = {
    "pgm": "PPM", "ppm": "PPM", "GIF": "GIF", "tif": "TIFF", "TIFF": "TIFF", "bmp": "BMP",
    "JPG": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "jp2": "JPEG2000", "avif": "AVIF", "PNG": "PNG",
}  # fmt: skip


def test_every_kind_of_image_counts_whatever_the_case_of_its_ending(folder: Path) -> None:
    available = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
    cat, count = folder / "images" / "test" / "cat", 3
    for ending, format in KINDS.items():
        if features.check(available.get(format, "jpg")):
            Image.new("L" if ending == "pgm" else "RGB", (16, 16), 200 if ending == "pgm" else (200,) * 3).save(
                cat / f"x{count}.{ending}", format
            )
            count += 1
    found = load_images(pets(folder), "pets", "test", SIZE)
    assert found.labels.tolist() == [0] * count + [1] * 3 and found.origin.odd == ()
    np.testing.assert_allclose(found.pixels[3:count], 200, atol=6)


def test_of_several_frames_the_first_is_taken_which_is_said(folder: Path) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), (shade,) * 3) for shade in (50, 200)]
    frames[0].save(folder / "images" / "test" / "cat" / "9.gif", save_all=True, append_images=frames[1:])
    found = load_images(pets(folder), "pets", "test", SIZE)
    assert found.pixels[3, 0, 0, 0] == 50
    assert found.origin.said == ("1 of 7 images: several frames, of which the first is taken",)


@pytest.mark.parametrize(("alpha", "said"), [(255, ()), (9, (CLEAR,))])
def test_transparency_is_left_out_which_is_said(alpha: int, said: tuple[str, ...], folder: Path) -> None:
    image = Image.new("RGBA", (SIZE, SIZE), (70, 80, 90, alpha))
    image.save(folder / "images" / "test" / "cat" / "9.png")
    found = load_images(pets(folder), "pets", "test", SIZE)
    assert found.pixels[3, 0, 0].tolist() == [70, 80, 90]
    assert found.origin.said == said


def test_images_of_16_bits_are_another_set_than_what_was_seen_of_them_before(folder: Path) -> None:
    plain = load_images(pets(folder), "pets", "test", SIZE)
    (folder / "images" / "test" / "cat" / "0.png").write_bytes(stored(deep(), "PNG"))
    for _ in range(2):  # decoded, and from the cache
        found = load_images(pets(folder), "pets", "test", SIZE, folder / "cache")
        np.testing.assert_allclose(found.pixels[0, ..., 0], GREY, atol=1)
        assert found.origin.said == ("1 of 6 images: 16 bits, scaled from 0 … 65535 to 8 bits",)
    ranged = load_images(pets(folder, range=[0, 70000]), "pets", "test", SIZE, folder / "cache")
    assert ranged.pixels[0].max() == 239 and len({plain.fingerprint, found.fingerprint, ranged.fingerprint}) == 3


def test_a_broken_image_is_refused_unless_it_is_to_be_skipped(folder: Path) -> None:
    (folder / "images" / "test" / "cat" / "1.png").write_bytes(b"no image")
    said = r"^cat/1\.png: not a readable image \(nothing in it is known as an image\); .* on_error: skip into `data`"
    with pytest.raises(SuiteError, match=said):
        load_images(pets(folder), "pets", "test", SIZE, folder / "cache")
    for cache in (None, folder / "cache", folder / "cache"):
        found = load_images(pets(folder, on_error="skip"), "pets", "test", SIZE, cache)
        assert found.labels.tolist() == [0, 0, 1, 1, 1] and found.skipped == 1
        assert found.pixels[:, 0, 0, 0].tolist() == [0, 18, 60, 69, 78]
        assert found.origin.unread.startswith("1 of 6 images can't be read and are left out: cat/1.png: not a")
    with pytest.raises(SuiteError, match=r"^cat/1\.png"):  # whatever is in the cache
        load_images(pets(folder), "pets", "test", SIZE, folder / "cache")
    for path in (folder / "images" / "test").glob("*/*"):
        path.write_bytes(b"no image")
    with pytest.raises(SuiteError, match=r"^images/test: none of 6 images can be read: cat/0\.png"):
        load_images(pets(folder, on_error="skip"), "pets", "test", SIZE)


# --- in every result -------------------------------------------------------------------------------------------------


@pytest.fixture
def gapped(own_suite: Path, folder: Path) -> Path:
    """A suite with one task on folders, two test images and one validation image of which can't be read."""
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    task = described["tasks"][3]
    task["data"] = {"kind": "imagefolder", "path": "images", "on_error": "skip"}
    for split in ("val", "test"):
        for number in range(5):
            (own_suite / "images" / split / f"class {number}").mkdir(parents=True)
        (folder / "images" / split / "cat").rename(own_suite / "images" / split / "class 0" / "more")
        for path in (own_suite / "images" / split / "class 0" / "more").iterdir():
            path.rename(path.parents[1] / path.name)
        (own_suite / "images" / split / "class 0" / "more").rmdir()
    for broken in ("val/class 0/0.png", "test/class 0/1.png", "test/class 0/2.png"):
        (own_suite / "images" / broken).write_bytes(b"no image")
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**described, "tasks": [task]}))
    return own_suite


def test_images_that_are_skipped_are_counted_in_every_result(gapped: Path, tmp_path: Path) -> None:
    def call(*arguments: object) -> str:
        said = CliRunner().invoke(main, [*map(str, arguments), "--home", str(tmp_path / "home")])
        assert said.exit_code == 0, said.output
        return said.stdout

    both = "Left out, as they can't be read: 2 test images of roads, 1 val image of roads."
    test = "Left out, as they can't be read: 2 test images of roads."
    merge = ("merge", gapped, "--evaluate", "--set", "merge.scaling=auto")
    said = json.loads(call(*merge, "--json"))
    assert said["skipped"] == {"test": {"roads": 2}, "val": {"roads": 1}} and said["images"] == 1
    assert both in call(*merge).splitlines() and both in call("runs", "show", said["run"]).splitlines()
    assert test in call("evaluate", gapped, "--base").splitlines()
    assert json.loads(call("evaluate", gapped, "--individual", "--json"))["skipped"] == {"roads": 2}
    call("runs", "export", said["run"], tmp_path / "out")
    assert both in (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    assert f"\n{test} " in call("leaderboard", gapped, "--presets", "average")
    assert "2 of 3 images can't be read and are left out: class 0/1.png: not" in call("check", gapped)


def test_the_dashboard_says_what_a_run_left_out(gapped: Path, workspace: Workspace) -> None:
    spec = MergeSpec.build(suite=str(gapped), tasks=("roads",), edit="none", merge="task_arithmetic")
    run = run_here(spec, workspace, None, no_progress)
    assert "Left out, as they can't be read: 2 test images of roads" in provenance([run]).replace("\\", "")


@pytest.fixture
def dim(own_suite: Path) -> Path:
    """A suite with one task, whose images have 12 bits in files of 16, in folders that are numbers with a gap."""
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    task = {**described["tasks"][3], "data": {"kind": "imagefolder", "path": "images"}}
    for split, folders in {"val": (0, 1, 2, 3, 5), "test": (0, 1, 2, 3, 5)}.items():
        for number in folders:
            (own_suite / "images" / split / str(number)).mkdir(parents=True)
            (own_suite / "images" / split / str(number) / "a.png").write_bytes(stored(deep(12), "PNG"))
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**described, "tasks": [task]}))
    return own_suite


def test_what_is_odd_about_images_goes_with_every_number_made_of_them(dim: Path, workspace: Workspace) -> None:
    """Before: only `check` said it; merges, their pages and `evaluate` printed the number and nothing else."""
    gap = "test images of roads: class folders are numbers from 0 to 5 without 4, and are taken in numeric order"
    dark = "test images of roads: no image of 16 bits is brighter than 4095 of 65535; if they are of 12 bits"

    def warned(warnings: Sequence[str]) -> list[bool]:
        return [any(one.startswith(said) for one in warnings) for said in (gap, dark)]

    def call(*arguments: object) -> Any:
        said = CliRunner().invoke(main, [*map(str, arguments), "--home", str(workspace.home)])
        assert said.exit_code == 0, said.output
        return said

    for _ in ("decoded", "kept"):
        assert warned(json.loads(call("evaluate", dim, "--base", "--json").stdout)["warnings"]) == [True, True]
    assert f"warning: {gap}" in call("evaluate", dim, "--individual").stderr
    made = json.loads(call("merge", dim, "--evaluate", "--json").stdout)
    assert warned(made["warnings"]) == [True, True]
    assert f"warning: {dark}" in call("merge", dim, "--evaluate").stderr  # the same run again
    run = workspace.store.get(made["run"])
    assert warned(run.warnings) == [True, True]
    assert dark.capitalize()[:40] in provenance([run]).replace("\\", "")
    assert dark.capitalize()[:40] in call("leaderboard", dim, "--presets", "average").stdout
    again = json.loads(call("merge", dim, "--evaluate", "--json", "--set", "merge.scaling=0.1").stdout)["run"]
    assert dark.capitalize()[:40] in call("runs", "compare", made["run"], again).stdout
    beyond = ("robustness", dim, "--presets", "average", "--corruptions", "contrast", "--severities", "1")
    assert dark.capitalize()[:40] in call(*beyond).stdout
    assert warned(json.loads(call(*beyond, "--json").stdout)["warnings"]) == [True, True]
    merged = json.loads(call("merge", dim, "--preset", "average", "--json").stdout)
    assert merged["warnings"] == []  # no image was looked at
    baselines = BaselinesJob.build(suite=str(dim), tasks=("roads",)).run(Site(workspace))
    assert isinstance(baselines, BaselinesResult) and dark.capitalize()[:40] in baselines.about_images


def test_an_order_of_numbers_goes_with_every_number(dim: Path, workspace: Workspace) -> None:
    for split in ("val", "test"):
        (dim / "images" / split / "5").rename(dim / "images" / split / "4")
        for path in (dim / "images" / split).glob("*/a.png"):
            path.write_bytes(colours_of_16_bits(RAMP * 4095))
    evaluator = workspace.evaluator(load_suite(dim))
    evaluator.require(("roads",), "test")
    evaluator.require(("roads",), "val")
    numbers, dark = evaluator.data_warnings()
    assert numbers == (
        "test and val images of roads: class folders are numbers, taken in numeric order as the classes in the order "
        "of suite.yaml"
    )
    assert dark.startswith("test and val images of roads: 5 of 5 images: 16 bits a colour")
    assert evaluator.data_warnings(["digits"]) == []


@pytest.mark.parametrize(("bits", "peak", "odd"), [(12, 4095, 2), (8, "null", 1)])
def test_prepared_images_of_before_serve_unless_a_warning_would_be_lost(
    bits: int, peak: object, odd: int, dim: Path, tmp_path: Path
) -> None:
    """Entries of earlier versions do not note the largest value; one is told by its pixels here."""
    for path in (dim / "images").glob("*/*/a.png"):
        path.write_bytes(stored(deep(12) if bits > 8 else Image.fromarray(GREY.astype(np.uint8)), "PNG"))
    right = load_images(load_suite(dim), "roads", "test", SIZE, tmp_path).pixels.copy()
    (entry,) = (tmp_path / "images").glob("*.npy")
    content = entry.read_bytes().replace(f', "peak": {peak}'.encode(), b"")
    entry.write_bytes(content.replace(right.tobytes(), bytes(right.nbytes)))
    again = load_images(load_suite(dim), "roads", "test", SIZE, tmp_path)
    assert len(again.origin.odd) == odd and (again.pixels.max() == 0) == (bits == 8)
