"""``suite.yaml``: what is read from it, and every way in which it can be wrong."""

import os
from pathlib import Path

import pytest
import yaml

from merging.core.errors import CheckpointError, MissingPart, SuiteError
from merging.core.limits import MAX_SUITE_BYTES
from merging.suites import Suite, builtin_suites, load_suite
from tests.random_models import TASKS, write_suite, write_yaml


def text(folder: Path, content: str | bytes) -> Path:
    path = folder / "suite.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_complete_suite(suite: Suite, suite_file: Path) -> None:
    assert suite.task_names == TASKS
    assert suite.mergeable() == TASKS
    assert all(suite.measurable(task) for task in TASKS)
    assert suite.logit_scale == 20
    assert suite.label == "tiny"
    assert suite.architecture_label == "ViT 2 × 32, patch 8"
    assert load_suite(suite_file.parent).task_names == TASKS
    assert suite.vectors(["roads", "digits"]).tasks == ("roads", "digits")
    assert suite.checkpoint("roads") is suite.checkpoint("roads")


def test_missing_parts_are_allowed_until_they_are_needed(tmp_path: Path) -> None:
    suite = load_suite(write_yaml(tmp_path, tasks=[{"name": "a", "checkpoint": "a.safetensors"}, {"name": "b"}]))
    assert suite.mergeable() == ()
    assert not suite.measurable("a")
    with pytest.raises(MissingPart, match="no checkpoint file was found"):
        suite.vectors()
    with pytest.raises(MissingPart, match="task 'b' has no checkpoint"):
        suite.checkpoint("b")
    with pytest.raises(CheckpointError, match="no such weight file"):
        suite.checkpoint("a")
    with pytest.raises(CheckpointError, match=r"base\.safetensors: no such weight file"):
        _ = suite.base_checkpoint
    with pytest.raises(SuiteError, match="has no task 'c'; it has a, b"):
        suite.task("c")


def test_no_suite_of_that_name(tmp_path: Path) -> None:
    for reference in ("nonsense", str(tmp_path / "gone" / "suite.yaml"), str(tmp_path), "", "a\0b"):
        with pytest.raises(SuiteError, match="no suite") as caught:
            load_suite(reference)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", builtin_suites())
def test_built_in_suites_are_found_by_name(name: str) -> None:
    assert load_suite(name).name == name


@pytest.mark.parametrize(
    "content",
    [
        "name: [unclosed",
        "\tname: x",
        "a: b: c",
        b"\xff\xfe\x00\x01 not text",
        "name: !!python/object/apply:os.system ['touch marker']",
        "name: !!python/name:os.system",
        "!!python/object/new:os.system [touch marker]",
        "!custom {name: x}",
        "name: 2021-99-99",
        "name: !!int x",
        "name: !!float x",
        "name: !!bool x",
        "name: !!timestamp x",
        "name: *nowhere",
        "{[1]: 2}",
        "[" * 5000,
    ],
)
def test_what_is_not_plain_yaml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match=r"^suite\.yaml: not (valid YAML|UTF-8 text)") as caught:
        load_suite(text(tmp_path, content))
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", ["", "just text", "- a\n- b", "42", "null"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SuiteError, match="expected name, architecture, base, tasks"):
        load_suite(text(tmp_path, content))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f"{MAX_SUITE_BYTES + 1} bytes; at most"):
        load_suite(text(tmp_path, b"#" * (MAX_SUITE_BYTES + 1)))


BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        BOMB + "\ntasks: *a29",
        "architecture: &loop {vision_cfg: *loop, embed_dim: 1}\nname: x\nbase: b\ntasks: [{name: a}]",
        "tasks: &loop [*loop]",
    ],
    ids=["bomb", "bomb in tasks", "recursive mapping", "recursive list"],
)
def test_aliases_that_unfold_without_end_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SuiteError, match=r"(unfolds to more than \d+ values|holds itself); remove aliases"):
        load_suite(text(tmp_path, content))


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    content = yaml.safe_load(write_yaml(tmp_path).read_text())
    shared = ["a photo of a {}.", "a {}."]
    content["tasks"] = [{"name": name, "templates": shared} for name in ("a", "b")]
    path = text(tmp_path, yaml.dump(content))
    assert "*id001" in path.read_text()
    assert load_suite(path).task("b").templates == tuple(shared)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra": 1}, "extra: unknown name"),
        ({"folder": "/tmp"}, "unknown field 'folder'"),
        ({"name": None}, "name: is missing"),
        ({"name": ""}, "name = '': must be at least 1 char"),
        ({"name": 3}, "name = 3: must be text"),
        ({"base": None}, "base: is missing"),
        ({"architecture": 3}, "architecture"),
        ({"tasks": []}, r"tasks = \[\]: must be a list of at least 1"),
        ({"tasks": {}}, r"tasks = \{\}: must be a list"),
        ({"tasks": [{"checkpoint": "a.pt"}]}, r"tasks\.0\.name: is missing"),
        ({"tasks": [{"name": " "}]}, r"tasks\.0\.name.* = ' ': expected text on one line, without blanks around it"),
        ({"tasks": [{"name": "digits"}, {"name": "digits "}]}, r"tasks\.1\.name.* = 'digits ': expected text on one"),
        ({"tasks": [{"name": "two\nlines"}]}, r"tasks\.0\.name.* = 'two\\nlines': expected text on one line"),
        ({"tasks": [{"name": "a\u2028b"}]}, r"tasks\.0\.name.* = 'a\\u2028b': expected text on one line"),
        ({"tasks": [{"name": "a", "weights": "a.pt"}]}, r"tasks\.0\.weights \(task 'a'\): unknown name"),
        ({"tasks": [{"weights": "a.pt"}, 3]}, r"tasks\.0\.name: is missing; tasks\.0\.weights: unknown name"),
        ({"tasks": [{"name": "a"}, {"name": "a"}]}, "task names must differ, and 'a' is there twice: a, a; rename one"),
        (
            {"tasks": [{"name": "a", "data": {"kind": "csv", "path": "x"}}]},
            r"tasks\.0\.data \(task 'a'\) = .*: must be of one of the kinds 'arrays', ",
        ),
        (
            {"tasks": [{"name": "a", "data": {"kind": "imagefolders", "path": "x"}}]},
            r"'torchvision' \(did you mean 'imagefolder'\?\)",
        ),
        ({"tasks": [{"name": "a", "dataset": "SUN379"}]}, r"dataset 'SUN379' \(did you mean 'SUN397'\?\): expected"),
        ({"checkpoints": "fusionbench"}, r"did you mean 'fusion_bench' or"),
        ({"tasks": [{"name": "a", "data": {"kind": "arrays"}}]}, r"data\.arrays\.path \(task 'a'\): is missing"),
        ({"tasks": [{"name": "a", "templates": ["no place"]}]}, r"template 'no place' must hold \{\} exactly once"),
        ({"templates": ["{} and {}"]}, "exactly once"),
        ({"logit_scale": -1}, "logit_scale"),
        ({"logit_scale": True}, "logit_scale"),
        ({"preprocess": {"mean": [True, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}, "mean"),
        ({"logit_scale": float("nan")}, "logit_scale"),
        ({"preprocess": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, r"preprocess\.std\.1"),
        ({"preprocess": {"mean": [0.5]}}, "preprocess"),
        ({"preprocess": {"mean": [float("nan"), 0, 0], "std": [1, 1, 1]}}, r"preprocess\.mean\.0"),
        ({"preprocess": {"mean": [0, 0, 0], "std": [1, float("inf"), 1]}}, r"preprocess\.std\.1"),
        ({"architecture": {"embed_dim": 64, "vision_cfg": 3}}, "architecture.*mapping vision_cfg"),
        ({"architecture": {"embed_dim": 64}}, r"architecture.*lacks \['vision_cfg'\]"),
        (
            {"architecture": {"embed_dim": "x", "vision_cfg": {}}},
            r"architecture\.embed_dim = 'x': must be a whole number$",
        ),
        (
            {"architecture": {"embed_dim": 8, "vision_cfg": {}, "quickgelu": True}},
            "architecture.quickgelu: unknown name",
        ),
        ({"architecture": "hf-hub:laion/CLIP-ViT-B-32"}, "architecture.*nothing is downloaded"),
        ({"architecture": "local-dir:/tmp"}, "architecture.*nothing is downloaded"),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(SuiteError, match=rf"^suite\.yaml: .*{reason}") as caught:
        load_suite(write_yaml(tmp_path, **changes))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("path", ["../base.safetensors", "/etc/passwd", "a/../../b", "link/../../b"])
def test_paths_may_not_leave_the_folder(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "base.safetensors").write_bytes(b"secret")
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "link").symlink_to(outside, target_is_directory=True)
    suite = load_suite(write_yaml(folder, base=path, tasks=[{"name": "a", "checkpoint": path}]))
    for reach in (lambda: suite.base_checkpoint, lambda: suite.checkpoint("a"), suite.mergeable):
        with pytest.raises(SuiteError, match="leads out of the suite's folder") as caught:
            reach()
        assert str(tmp_path) not in str(caught.value)


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    """Download caches keep files elsewhere and link to them."""
    complete, folder = write_suite(tmp_path / "blobs").parent, tmp_path / "suite"
    folder.mkdir()
    for file in complete.iterdir():
        (folder / file.name).symlink_to(file)
    suite = load_suite(folder)
    assert suite.vectors().tasks == TASKS


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "loop/base.safetensors"])
def test_what_cannot_be_a_path_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises((SuiteError, CheckpointError), match=r"can't be a path|no such weight file|control character"):
        _ = load_suite(write_yaml(tmp_path, base=path)).base_checkpoint


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_yaml(tmp_path)
    path.chmod(0)
    with pytest.raises(SuiteError, match="can't be read"):
        load_suite(path)


def test_a_suite_may_name_its_published_family(tmp_path: Path) -> None:
    assert load_suite(write_yaml(tmp_path)).checkpoints is None
    assert load_suite(write_yaml(tmp_path, checkpoints="fusion_bench")).checkpoints == "fusion_bench"
    for other in ("mine", 3, ["fusion_bench"]):
        with pytest.raises(SuiteError, match=r"checkpoints = .*: must be 'task_arithmetic', 'fusion_bench'"):
            load_suite(write_yaml(tmp_path, checkpoints=other))
