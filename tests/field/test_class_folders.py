"""Which folder is which class, in the ways that people's folders are called, and what is said where nobody can tell."""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from merging.__main__ import main
from merging.core.errors import SuiteError
from merging.evaluation.sanity import Sanity, floor, reordered
from merging.runs.jobs.merge import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.suites.images.class_folders import compare_names, match_folders, normalised
from merging.suites.images.suite_images import class_counts, load_images, sample_images
from merging.suites.initialise import propose
from tests.random_models import CLASSES, write_yaml

SIZE = 8


def matched(folders: Sequence[str], classes: Sequence[str], **given: Any) -> dict[str, str]:
    """Folder → name of its class."""
    found = match_folders(folders, classes, given, "pets", "images/test")
    return {folder: classes[label] for folder, label in found.labels.items()}


@pytest.mark.parametrize(
    ("folders", "classes", "how"),
    [
        (["cat", "dog"], ["dog", "cat"], "named exactly as the classes"),
        (["A", "a"], ["a", "A"], "named exactly as the classes"),
        ([unicodedata.normalize("NFD", "café"), "thé"], ["thé", "café"], "named as the classes but for spelling"),
        (["polka-dotted", "striped"], ["striped", "polka dotted"], "named as the classes but for spelling"),
        (["polka_dotted", "big_bird"], ["big bird", "polka/dotted"], "named as the classes but for spelling"),
        (["AnnualCrop", "SeaLake"], ["sea lake", "annual crop"], "named as the classes but for spelling"),
        (["cat ", "DOG"], ["dog", "cat"], "named as the classes but for spelling"),
    ],
)
def test_folders_are_found_by_their_names(folders: list[str], classes: list[str], how: str) -> None:
    found = match_folders(folders, classes, {}, "pets", "images/test")
    assert found.how == how and not found.assumed
    for folder, label in found.labels.items():
        assert normalised(folder) == normalised(classes[label])
    assert len(found.labels) == len(classes)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("form", ["{}", "{:05d}"])
def test_numbers_are_taken_in_numeric_order_which_is_said(first: int, form: str) -> None:
    """As text 10 comes before 2."""
    classes = [f"sort {letter}" for letter in "abcdefghijklmnopq"]
    folders = [form.format(number) for number in range(first, first + len(classes))]
    found = match_folders(sorted(folders), classes, {}, "pets", "images/test")
    assert [folder for folder, _ in sorted(found.labels.items(), key=lambda item: item[1])] == folders
    assert "numeric order" in found.how


def test_numbers_are_those_of_classes_that_are_numbers() -> None:
    assert matched(["01", "02", "10"], ["10", "1", "2"]) == {"01": "1", "02": "2", "10": "10"}


def test_what_suite_yaml_says_wins(tmp_path: Path) -> None:
    assert matched(["cat", "dog"], ["cat", "dog"], cat="dog", dog="cat") == {"cat": "dog", "dog": "cat"}
    assert matched(["n01", "Dog", "junk"], ["cat", "dog"], n01="cat", junk=None) == {"n01": "cat", "Dog": "dog"}
    assert matched(["a", "b", "c"], ["crane", "crane"], a=0, b=1, c=1) == {"a": "crane", "b": "crane", "c": "crane"}
    decomposed = unicodedata.normalize("NFD", "é")
    assert matched([decomposed, "b"], ["x", "b"], **{"é": "x"}) == {decomposed: "x", "b": "b"}


@pytest.mark.parametrize(
    ("folders", "classes", "told", "said"),
    [
        (["Cat", "cat", "dog"], ["cat", "dog"], {}, "each of the folders 'Cat' and 'cat' in images/test could be the"),
        (["big bird", "big_bird", "x"], ["Big Bird", "x"], {}, "'big bird' and 'big_bird' in images/test could be the"),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9"], {}, r"folders 'cafe\u0301' and 'caf\xe9' in images/test could be"),
        (["kitten", "cat"], ["cat"], {"kitten": "cat"}, "the folders 'cat' and 'kitten' in images/test could be the"),
        (["aigle", "bateau"], ["boat", "eagle"], {}, "folders without a class: 'aigle', 'bateau'; classes without a"),
        (["cat", "hound"], ["cat", "dog"], {}, "folders without a class: 'hound'; classes without a folder: 'dog'; wr"),
        (
            ["cat"],
            ["cat", "dog"],
            {},
            "1 class folders in images/test, 2 classes in suite.yaml, and nothing says which",
        ),
        (["n01440764", "n01443537"], ["tench", "goldfish"], {}, "WordNet ids are no names of classes"),
        (
            ["cat", "crane", "dog"],
            ["cat", "crane", "crane", "dog"],
            {},
            "suite.yaml lists 'crane' as class 1 and 'crane' as class 2, counted from 0, which no folder's name tells",
        ),
        (["polka-dot", "x"], ["polka dot", "polka_dot"], {}, "lists 'polka dot' as class 0 and 'polka_dot' as class 1"),
        (["1", "2"], ["0", "1"], {}, "their numbers disagree"),
        (["0", "1"], ["digit 1", "digit 0"], {}, "their numbers disagree"),
        (
            [*map(str, range(1, 12)), "x"],
            ["y"],
            {},
            "class: '1', '2', '3', '4', '5', '6', '7', '8' and 4 more;",
        ),
        (["1", "01"], ["a", "b"], {}, "folders without a class: '01', '1'; classes without a folder: 'a', 'b'"),
        (["0", "1", "2"], ["a", "b"], {}, "3 class folders in images/test, 2 classes in suite.yaml"),
        (
            ["10", "9"],
            [],
            {},
            "names no classes, and the 2 folders in images/test can be sorted as text ('10', '9') or",
        ),
        (["a", "b"], ["cat", "dog"], {"a": "cta", "b": "dog"}, "'cta' is no class of the task (did you mean 'cat'?)"),
        (["a", "b"], ["x", "x"], {"a": "x", "b": 1}, "'x' is the name of 2 classes; give an index: 0 and 1"),
        (["a", "b"], ["1", "2"], {"a": 1, "b": 2}, "1 can be a class's index or its name; quote the name: '1'"),
        (["a"], ["x"], {"a": 3}, "3 is no class; expected an index from 0 to 0, or a name"),
    ],
)
def test_what_cannot_be_told_is_refused(
    folders: list[str], classes: list[str], told: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        match_folders(folders, classes, told, "pets", "images/test")
    assert said in str(caught.value) and str(caught.value).startswith("task 'pets': ")


def test_a_terminal_gets_both_lists_in_full(tmp_path: Path, own_suite: Path) -> None:
    """Before: the first eight names of each, in one line, from which no mapping can be written."""
    with pytest.raises(SuiteError) as caught:
        match_folders([f"n{number}" for number in range(300)], [f"sort {n}" for n in range(10)], {}, "pets", "test")
    lines = caught.value.lines
    assert lines[0] == "folders without a class  classes without a folder"
    assert lines[10].split("  ", 1) == ["'n9'", " " * 19 + "'sort 9'"] and lines[11] == "'n10'"
    assert len(lines) == 202 and lines[-1] == "and 100 more"
    with pytest.raises(SuiteError) as caught:
        match_folders(["a", "b"], ["x", "y"], {}, "pets", "test")
    assert caught.value.lines == ()  # the sentence has them
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    colours(tmp_path, [f"n{number}" for number in range(10)])
    (tmp_path / "images").rename(own_suite / "images")
    task = {**described["tasks"][0], "classes": list("abcdefghij"), "data": {"kind": "imagefolder", "path": "images"}}
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**described, "tasks": [task]}))
    for command in (("evaluate", "--base"), ("check",)):
        said = CliRunner().invoke(main, [command[0], str(own_suite), *command[1:], "--home", str(tmp_path / "home")])
        assert said.exit_code == 1
        assert [line.split() for line in said.output.splitlines()].count(["'n9'", "'j'"]) == 1


@given(st.lists(st.text(st.sampled_from("aB1_ -é0"), min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
def test_no_folder_is_ever_matched_by_its_place_alone(names: list[str]) -> None:
    """Whatever the names: what is matched agrees by name or number, one to one, or it is refused."""
    classes = names[::-1]
    assert matched(sorted(names), classes) == {name: name for name in names}
    other = [f"{name}x" for name in classes]
    numbers = all(set(name) <= set("01") for name in names)
    if not numbers:
        with pytest.raises(SuiteError):
            match_folders(names, other, {}, "pets", "images/test")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"folders": {10: "cat"}}, "10 is no text in YAML; write folder names in quotes: '10'"),
        ({"folders": {"a": True}}, "True is no class; expected a name"),
        ({"folders": {"a": "cat"}, "classes": []}, "folders need classes"),
        ({"data": {"kind": "imagefolder", "path": "i", "folders": {"a": "cat"}}}, "write it beside `classes`"),
        ({"on_error": "skip"}, "`on_error` is about the images: write it into `data`"),
        ({"data": {"kind": "imagefolder", "path": "i", "range": [1, 0]}}, "expected two values that rise"),
    ],
)
def test_what_suite_yaml_says_of_folders_is_checked(tmp_path: Path, task: dict[str, Any], said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(write_yaml(tmp_path, tasks=[{"name": "pets", "classes": ["cat"], **task}]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"Cat": "dog", "Dog": "cat"},
            r"folders: Cat: there is no folder of that name.*did you mean 'cat'",
        ),
        ({"cat": "cat", "dgo": "dog"}, r"folders: dgo: .*did you mean 'dog'"),
    ],
)
def test_a_mapping_of_folders_that_are_not_there_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        matched(["cat", "dog"], ["cat", "dog"], **given)
    assert matched(["cat", "dog"], ["cat", "dog"], Katze="cat", Hund="dog") == {"cat": "cat", "dog": "dog"}
    assert matched(["cat", "dog"], ["cat", "dog"], cow=None)


@pytest.mark.parametrize(
    ("stated", "classes", "said"),
    [
        (["AnnualCrop", "Sea-Lake"], ["annual crop", "sea lake"], "classes named as in the file"),
        (["a", "b", "c"], ["a", "b", "x"], "1 of 3 classes have another name in the file, such as 'c' for 'x'; taken"),
        ([unicodedata.normalize("NFD", "café")], ["café"], "classes named as in the file"),
        ([], ["a"], ""),
    ],
)
def test_names_that_a_file_states_are_spelt_as_people_spell(stated: list[str], classes: list[str], said: str) -> None:
    assert compare_names("test.parquet", stated, classes, "pets").startswith(said)


def test_one_class_of_a_file_at_another_place_is_enough_to_refuse() -> None:
    with pytest.raises(SuiteError, match=r"'dog' is class 1 there and 2 in suite\.yaml \('cat', 'dog', 'cow' against"):
        compare_names("test.parquet", ["cat", "dog", "cow"], ["cat", "bull", "dog"], "pets")


# --- from folders to images ------------------------------------------------------------------------------------------


def colours(folder: Path, names: Sequence[str], split: str = "test") -> None:
    """An image for each folder, of one grey each, in their order."""
    for shade, name in enumerate(names):
        place = folder / "images" / split / name
        place.mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE), (10 * shade,) * 3).save(place / "1.png")


def pets(folder: Path, classes: Sequence[str], **task: Any) -> Any:
    data = {"kind": "imagefolder", "path": "images"}
    return load_suite(write_yaml(folder, tasks=[{"name": "pets", "classes": list(classes), "data": data, **task}]))


def test_images_and_samples_carry_the_class_that_their_folder_is(tmp_path: Path) -> None:
    classes = [f"sort {letter}" for letter in "abcdefghijkl"]
    colours(tmp_path, [str(number) for number in range(12)])
    suite = pets(tmp_path, classes)
    found = load_images(suite, "pets", "test", SIZE)
    assert found.pixels[:, 0, 0, 0].tolist() == [10 * label for label in found.labels] == list(range(0, 120, 10))
    assert [name for name, _ in sample_images(suite, "pets", SIZE, limit=12)] == classes
    origin, rows = class_counts(suite, "pets", "test")
    assert [(one.folder, one.name, one.images) for one in rows][10] == ("10", "sort k", 1) and not origin.odd


def test_a_number_is_one_class_in_both_splits(tmp_path: Path) -> None:
    colours(tmp_path, [str(number) for number in range(1, 4)])
    suite = pets(tmp_path, ["sort a", "sort b", "sort c"])
    for number in range(3):
        (tmp_path / "images" / "val" / str(number)).mkdir(parents=True)
    with pytest.raises(
        SuiteError, match=r"0 … 2 in images/val and 1 … 3 in another split, so that a number may be two"
    ):
        load_images(suite, "pets", "test", SIZE)


def test_what_is_no_image_of_a_class_is_left_out_by_name_and_number(tmp_path: Path) -> None:
    colours(tmp_path, ["cat", "dog", "fish", ".ipynb_checkpoints", "__MACOSX", "cat/more", "dog/.cache"])
    test = tmp_path / "images" / "test"
    for name in ("loose.png", "cat/._1.png", "cat/a.HEIC", "dog/notes.txt"):
        (test / name).write_bytes(b"x")
    (test / "cow").mkdir()
    found = load_images(pets(tmp_path, ["cat", "dog", "cow"]), "pets", "test", SIZE)
    assert found.labels.tolist() == [0, 1]
    assert found.origin.said == (
        "left out: .ipynb_checkpoints (1 image), __MACOSX (1 image), which no one made for a class",
        "left out: 1 image whose names begin with a dot",
    )
    assert found.origin.odd == (
        "left out: 2 other files (.heic × 1, .txt × 1); convert them to PNG or JPEG to count them",
        "left out: 2 images in folders below the class folders (cat/more 1, dog/.cache 1); move them up to count them",
        "left out: folders that are no class of suite.yaml, with their images: fish (1 image)",
        "left out: 1 image in no class folder",
        "no image of 1 class, whose folder is cow",
    )
    dropped = load_images(pets(tmp_path, ["cat", "dog", "cow"], folders={"fish": None}), "pets", "test", SIZE)
    assert "left out, as suite.yaml says: fish (1 image)" in dropped.origin.said


def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path) -> None:
    """Before: a pipe was another file "without a file", and a link to nowhere said in passing."""
    colours(tmp_path, ["cat", "dog"])
    os.mkfifo(tmp_path / "images" / "test" / "cat" / "2.png")
    for number in (2, 10):
        (tmp_path / "images" / "test" / "dog" / f"{number}.png").symlink_to("gone.png")
    found = load_images(pets(tmp_path, ["cat", "dog"]), "pets", "test", SIZE)
    assert found.origin.said == ("left out: 1 other file (a pipe × 1)",)
    assert found.origin.odd == ("left out: 2 links to files that are not there (dog/2.png, dog/10.png)",)


def test_folders_in_suite_yaml_that_are_not_there_are_named_beside_those_that_are(tmp_path: Path) -> None:
    """Before: such a mapping passed without a word where the others map by name."""
    colours(tmp_path, ["cat", "dog"])
    found = load_images(pets(tmp_path, ["cat", "dog"], folders={"Katze": "cat", "cow": None}), "pets", "test", SIZE)
    assert found.labels.tolist() == [0, 1]
    assert found.origin.odd == (
        "folders in suite.yaml names 'Katze', which images/test lacks; it has 'cat', 'dog', taken named exactly as the "
        "classes; write them as the folders are called, or take them out",
    )


def test_images_that_are_all_too_deep_are_said_to_be_so(tmp_path: Path) -> None:
    colours(tmp_path, ["cat/a", "dog/b"])
    with pytest.raises(SuiteError, match="no images under images/test; 2 are in folders below the class folders"):
        load_images(pets(tmp_path, ["cat", "dog"]), "pets", "test", SIZE)


def test_images_of_a_kind_that_is_not_read_are_said_to_be_so(tmp_path: Path) -> None:
    """Before: "no images under images/test", though there were as many as in a phone."""
    colours(tmp_path, ["cat", "dog"])
    for path in (tmp_path / "images").rglob("*.png"):
        path.rename(path.with_suffix(".HEIC"))
    with pytest.raises(SuiteError, match=r"no images under images/test; other files: \.heic × 2; convert them to PNG"):
        load_images(pets(tmp_path, ["cat", "dog"]), "pets", "test", SIZE)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([0, 1, 3], "from 0 to 3 without 2, and are taken in numeric order, so that 3 is class 2, 'sort c'"),
        ([7, 5], "from 5 to 7 without 6, and "),
        ([0, 40], "from 0 to 40 without 1, 2, 3, 4, 5 and 34 more, and "),
        ([3, 4, 5], ""),
    ],
)
def test_numbers_that_leave_some_out_are_doubted(tmp_path: Path, folders: list[int], said: str) -> None:
    colours(tmp_path, [str(number) for number in folders])
    classes = [f"sort {letter}" for letter in "abc"[: len(folders)]]
    odd = load_images(pets(tmp_path, classes), "pets", "test", SIZE).origin.odd
    assert [said in one for one in odd] == [True] * bool(said)


def test_a_class_that_is_an_endless_number_is_no_number() -> None:
    found = match_folders(["1", "2"], ["9" * 5000, "8" * 5000], {}, "pets", "images/test")
    assert found.labels == {"1": 0, "2": 1}


def test_prepared_images_follow_the_mapping(tmp_path: Path) -> None:
    colours(tmp_path, ["cat", "dog"])
    first = load_images(pets(tmp_path, ["cat", "dog"]), "pets", "test", SIZE, tmp_path / "cache")
    swapped = {"cat": "dog", "dog": "cat"}
    again = load_images(pets(tmp_path, ["cat", "dog"], folders=swapped), "pets", "test", SIZE, tmp_path / "cache")
    assert first.pixels[:, 0, 0, 0].tolist() == [0, 10] and again.pixels[:, 0, 0, 0].tolist() == [10, 0]
    assert first.fingerprint != again.fingerprint


def test_without_classes_one_order_is_assumed_and_said(tmp_path: Path) -> None:
    colours(tmp_path, ["a", "b"])
    found = load_images(pets(tmp_path, []), "pets", "test", SIZE)
    assert found.labels.tolist() == [0, 1] and "is assumed; list `classes`" in found.origin.odd[0]


def test_folders_of_eurosat_are_known(tmp_path: Path) -> None:
    colours(
        tmp_path, ["Residential", "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture"]
    )
    colours(tmp_path, ["PermanentCrop", "River", "SeaLake"])
    task = {"dataset": "EuroSAT", "data": {"kind": "imagefolder", "path": "images"}}
    suite = load_suite(write_yaml(tmp_path, tasks=[task]))
    named = {one.folder: one.name for one in class_counts(suite, "EuroSAT", "test")[1]}
    assert named["SeaLake"] == "lake or sea" and named["HerbaceousVegetation"] == "brushland or shrubland"
    task = {**task, "classes": sorted(named)}  # of its own, which comes first
    assert len(load_images(load_suite(write_yaml(tmp_path, tasks=[task])), "EuroSAT", "test", SIZE)) == 10


def test_numbered_folders_of_a_new_suite_are_classes_in_numeric_order(own_suite: Path) -> None:
    (own_suite / "roads.npz").unlink()
    for number in range(12):
        (own_suite / "data" / "roads" / "test" / str(number)).mkdir(parents=True)
    (own_suite / "data" / "roads" / "test" / ".ipynb_checkpoints").mkdir()
    made = propose(own_suite)
    roads = next(task for task in made.content["tasks"] if task["name"] == "roads")
    assert roads["classes"] == [str(number) for number in range(12)]
    assert "classes of roads: the names of the image folders, numbers in numeric order" in made.notes["tasks"]


# --- the figure that needs no label ----------------------------------------------------------------------------------


def in_folders(suite: Path, task: str, names: Sequence[str], shift: int = 0) -> None:
    """Let a task's images lie in folders, each in that of what the task's own model takes it for, or ``shift`` on."""
    loaded = load_suite(suite)
    evaluator = Workspace(suite / "home").evaluator(loaded)
    evaluator.load(dict(loaded.checkpoint(task)))
    for split in ("val", "test"):
        pixels = evaluator.image_set(task, split).pixels
        for row, label in enumerate(evaluator.predictions(task, split)):
            place = suite / "images" / split / names[(label + shift) % len(names)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[row]).save(place / f"{row}.png")
        for name in names:
            (suite / "images" / split / name).mkdir(exist_ok=True)
    described = yaml.safe_load((suite / "suite.yaml").read_text())
    kept = [entry for entry in described["tasks"] if entry["name"] == task]
    kept[0]["data"] = {"kind": "imagefolder", "path": "images"}
    (suite / "suite.yaml").write_text(yaml.safe_dump({**described, "tasks": kept}))


@pytest.mark.parametrize("shift", [0, 1])
def test_a_check_prints_the_mapping_and_how_often_the_tasks_own_model_is_right(own_suite: Path, shift: int) -> None:
    in_folders(own_suite, "roads", [f"Class_{number}" for number in range(CLASSES)], shift)
    said = CliRunner().invoke(main, ["check", str(own_suite), "--home", str(own_suite / "none")])
    assert said.exit_code == 0, said.output
    assert "images: class folders  5 folders, named as the classes but for spelling" in said.stdout
    assert "       Class_3 → class 3  val " in said.stdout
    share = "0.0" if shift else "100.0"
    line = f"the task's own model is right on {share} % of 24 test images; chance is 20 %"
    assert line in said.stdout and ("warn " in said.stdout and "likely causes: classes in the" in said.stdout) == bool(
        shift
    )
    found = json.loads(CliRunner().invoke(main, ["check", str(own_suite), "--json"]).stdout)
    assert found["folders"][3]["folder"] == "Class_3" and found["folders"][3]["name"] == "class 3"


def test_the_floor_is_three_times_chance_or_half_of_the_way_to_all() -> None:
    assert [floor(classes) for classes in (2, 3, 4, 5, 10, 1000)] == [0.75, 0.666666666667, 0.625, 0.6, 0.3, 0.003]
    assert not Sanity(0.31, 96, 10).warning and "wrong activation" in Sanity(0.29, 96, 10).warning


def test_classes_in_another_order_are_told_from_noise() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 96)
    wrong = random.permutation(10)[labels]
    found = reordered(wrong, labels, 10)
    assert found is not None and found > 0.8
    assert "in another one it would be right on" in Sanity(float((wrong == labels).mean()), 96, 10, found).warning
    assert reordered(random.integers(0, 10, 96), labels, 10) is None  # noise
    assert reordered(wrong[:20], labels[:20], 10) is None  # too few
    assert reordered(np.zeros(96, int), np.zeros(96, int), 10) == 1.0 and reordered(labels, labels * 0 + 3, 10) == 1.0


def test_a_run_on_folders_is_known_by_what_they_are_taken_for(own_suite: Path, workspace: Workspace) -> None:
    """A run that took folders for other classes once is not found again."""
    in_folders(own_suite, "roads", [f"Class_{number}" for number in range(CLASSES)])

    def identity() -> str:
        fields = {"edit": "none", "merge": "task_arithmetic"}
        return MergeSpec.build(suite=str(own_suite), tasks=("roads",), **fields).fingerprint(workspace)

    before = identity()
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["tasks"][0]["folders"] = {"Class_0": "class 0"}
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    assert identity() != before
