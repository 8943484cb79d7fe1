"""What ``check`` says of every file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merging.evaluation.evaluator import Evaluator
from merging.runs.jobs.check import check_suite, gap_warning
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.weights.files import file_fingerprint
from tests.lightly import open_clip
from tests.random_models import TASKS, write_yaml

Row = dict[str, Any]


def rows_of(folder: Path, **choices: Any) -> dict[tuple[str, str | None], Row]:
    """The report's rows by file and task; models that are random are hardly right, which is not asked for here."""
    found = check_suite(load_suite(folder), try_models=False, **choices)
    return {(row.file, row.task): row for row in found.files}


def norm(state: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([tensor.double().flatten() for tensor in state.values()]).norm())


def test_weight_files_are_described_one_by_one(own_suite: Path) -> None:
    base = load_file(own_suite / "base.safetensors")
    half = {name: tensor.half() for name, tensor in load_file(own_suite / "roads.safetensors").items()}
    half |= {"proj": half["proj"].float()}
    wrapped = {f"module.visual.{name}": tensor for name, tensor in half.items()}
    save_file({**wrapped, "module.logit_scale": torch.tensor(1.0)}, own_suite / "roads.safetensors")
    rows = rows_of(own_suite)
    found = rows["roads.safetensors", "roads"].weights
    vector = {name: half[name].float() - base[name] for name in base}
    assert found.dtype == "float16/float32" and "module.visual" in found.layout and found.dropped == 1
    assert found.bytes == sum(tensor.numel() * tensor.itemsize for tensor in half.values())
    assert found.fingerprint == file_fingerprint(own_suite / "roads.safetensors")
    assert found.difference == pytest.approx(norm(vector), rel=1e-6)
    assert found.relative_difference == pytest.approx(norm(vector) / norm(base), rel=1e-6)
    assert found.tensors == found.changed == len(base)
    assert rows["base.safetensors", None].weights.difference is None
    assert all(row.ok and not row.warning for row in rows.values())
    assert f"norm of task vector {norm(vector):.3g}" in rows["roads.safetensors", "roads"].detail


def test_odd_files_are_usable_and_warned_of(own_suite: Path) -> None:
    base = load_file(own_suite / "base.safetensors")
    save_file(base | {"ln_post.bias": base["ln_post.bias"] + 1}, own_suite / "digits.safetensors")
    whole = {f"visual.{name}": tensor for name, tensor in base.items()}
    save_file({**whole, "logit_scale": torch.tensor(1.0)}, own_suite / "circles.safetensors")
    (own_suite / "roads.safetensors").write_bytes((own_suite / "digits.safetensors").read_bytes())
    save_file({name: tensor + 1 for name, tensor in base.items()}, own_suite / "leaves.safetensors")
    report = check_suite(load_suite(own_suite), try_models=False)
    rows = {row.task: row for row in report.files if row.weights}
    assert report.problems == 0 and report.warnings == 3
    assert rows["circles"].warnings == ["equal to the base model: it can differ in its text tower at most"]
    assert rows["digits"].warnings == [] and rows["digits"].weights.changed == 1
    assert rows["roads"].warnings == ["the same file as task 'digits'"]
    (far,) = rows["leaves"].warnings
    assert far.startswith("far from the base") and rows["leaves"].detail.startswith("warning: far from the base")


def test_the_same_weights_in_another_file_are_warned_of(own_suite: Path) -> None:
    model = load_file(own_suite / "circles.safetensors")
    torch.save({f"module.visual.{name}": tensor for name, tensor in model.items()}, own_suite / "roads.pt")
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    content["tasks"][3]["checkpoint"] = "roads.pt"
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    (own_suite / "leaves.safetensors").write_bytes(b"broken")
    rows = rows_of(own_suite)
    assert rows["roads.pt", "roads"].warnings == ["the same weights as task 'circles', in another file"]
    assert not rows["circles.safetensors", "circles"].warning and not rows["digits.safetensors", "digits"].warning


def test_the_base_itself_is_no_fine_tuned_model(own_suite: Path) -> None:
    for task in ("digits", "roads"):
        (own_suite / f"{task}.safetensors").write_bytes((own_suite / "base.safetensors").read_bytes())
    rows = rows_of(own_suite)
    assert rows["digits.safetensors", "digits"].warnings == ["equal to the base model"]
    both = rows["roads.safetensors", "roads"].warnings
    assert both == ["equal to the base model", "the same file as task 'digits'"]


def test_unusable_files_are_problems_that_name_what_they_are(own_suite: Path) -> None:
    vision = {"image_size": 24, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    save_file(open_clip.CLIP(16, vision, text).visual.state_dict(), own_suite / "roads.safetensors")
    broken = load_file(own_suite / "digits.safetensors")
    broken["proj"][0, 0] = float("nan")
    save_file(broken, own_suite / "digits.safetensors")
    save_file({"weight": torch.ones(3)}, own_suite / "leaves.safetensors")
    report = check_suite(load_suite(own_suite), try_models=False)
    rows = {row.task: row for row in report.files if not row.ok}
    assert report.problems == len(rows) == 3
    assert "the file looks like ViT 1 × 64, patch 8, 24 pixels, the base like ViT 2 × 32" in rows["roads"].detail
    assert "tensor 'proj' holds NaN" in rows["digits"].detail
    assert "the file looks like no CLIP vision transformer" in rows["leaves"].detail
    assert rows["roads"].weights is None


def test_a_missing_tensor_is_named_and_the_file_not_called_another_architecture(own_suite: Path) -> None:
    """Those by which a tower is known included."""
    base = load_file(own_suite / "base.safetensors")
    for task, name in zip(TASKS, ("conv1.weight", "proj", "positional_embedding", "ln_post.bias"), strict=True):
        save_file({other: base[other] for other in base if other != name}, own_suite / f"{task}.safetensors")
        detail = rows_of(own_suite)[f"{task}.safetensors", task].detail
        assert f"other tensors than the base base.safetensors: 1 tensor missing ('{name}'); both must be" in detail
        assert "looks like" not in detail and "unexpected" not in detail


def test_a_head_with_rows_of_zeros_is_odd(own_suite: Path) -> None:
    for task, rows in (("digits", slice(None)), ("roads", slice(1, 2))):
        path = own_suite / f"{task}.head.safetensors"
        head = load_file(path)["weight"]
        head[rows] = 0
        save_file({"weight": head}, path)
    found = rows_of(own_suite)
    assert found["digits.head.safetensors", "digits"].warnings == [
        "5 of 5 rows are zero: no image is recognised by them"
    ]
    assert found["roads.head.safetensors", "roads"].warnings == ["1 of 5 rows are zero: no image is recognised by them"]
    assert all(row.ok for row in found.values()) and sum(row.warning for row in found.values()) == 2


def test_a_class_that_stands_there_twice_is_named_with_its_places(own_suite: Path) -> None:
    """Two rows of a head that are equal, as of one name twice: the first of them is always taken."""
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    described["tasks"][1]["classes"] = ["one", "crane", "three", "four", "crane"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    path = own_suite / "digits.head.safetensors"
    head = load_file(path)["weight"]
    head[4] = head[1]
    save_file({"weight": head}, path)
    said = (
        "classes 1 and 4 ('crane' and 'crane'), counted from 0, have the same row, so that no image is ever taken for 4"
    )
    assert rows_of(own_suite)["digits.head.safetensors", "digits"].warnings == [said]
    evaluator = Evaluator(load_suite(own_suite))
    evaluator.require(["digits", "roads"], "test")
    assert evaluator.data_warnings() == [f"head of digits: {said}"]  # which goes along with every number


def test_a_broken_head_is_one_problem(own_suite: Path) -> None:
    """Images are judged without it, where their classes are known and where they are not."""
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del content["tasks"][0]["classes"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    for task in TASKS[:2]:
        (own_suite / f"{task}.head.safetensors").write_bytes(b"no head")
    report = check_suite(load_suite(own_suite), try_models=False)
    assert report.problems == 2 and report.warnings == 0
    rows = rows_of(own_suite)
    for task in TASKS[:2]:
        assert not rows[f"{task}.head.safetensors", task].ok
        assert rows[f"{task}.npz (test)", task].detail == rows[f"{task}.npz (val)", task].detail == "24 images"


def test_missing_parts_are_warnings(tmp_path: Path, own_suite: Path) -> None:
    tasks = [{"name": "roads", "checkpoint": "roads.safetensors"}, {"name": "digits"}]
    rows = rows_of(write_yaml(own_suite, tasks=tasks).parent)
    assert [key for key, row in rows.items() if row.warning] == [
        ("images", "roads"),
        ("checkpoint", "digits"),
        ("images", "digits"),
    ]


# --- accuracy --------------------------------------------------------------------------------------------------------


def easy_test_images(folder: Path, task: str, workspace: Workspace) -> None:
    """Label test images as the fine-tuned model sees them, and validation images as it does not."""
    suite = load_suite(folder)
    evaluator = workspace.evaluator(suite)
    evaluator.load(dict(suite.checkpoint(task)))
    classes = len(suite.task(task).classes)
    stored = dict(np.load(folder / f"{task}.npz"))
    stored["test_labels"] = evaluator.predictions(task, "test")
    stored["val_labels"] = (evaluator.predictions(task, "val") + 1) % classes
    np.savez(folder / f"{task}.npz", **stored)


def test_test_accuracy_far_above_validation_is_warned_of(own_suite: Path, workspace: Workspace) -> None:
    easy_test_images(own_suite, "roads", workspace)
    found = rows_of(own_suite, workspace=workspace, measure=True)
    assert set(TASKS) == {task for file, task in found if file.startswith("accuracy of")}
    row = found["accuracy of roads.safetensors", "roads"]
    assert row.ok and row.warning and "100.0 % against 0.0 %" in row.detail
    assert "fine-tuned model: test 100.0 %, validation 0.0 %" in row.detail
    suite = load_suite(own_suite)
    for task in TASKS:
        measured = workspace.individual_accuracy(workspace.evaluator(suite), [task], "val").average
        detail = found[f"accuracy of {task}.safetensors", task].detail
        assert detail.endswith(f"validation {100 * measured:.1f} %")


def test_accuracies_are_judged_unasked_only_where_they_are_known(own_suite: Path, workspace: Workspace) -> None:
    easy_test_images(own_suite, "roads", workspace)
    assert not [file for file, _ in rows_of(own_suite, workspace=workspace) if file.startswith("accuracy of")]
    suite = load_suite(own_suite)
    for split in ("val", "test"):
        workspace.individual_accuracy(workspace.evaluator(suite), ["roads"], split)
    rows = rows_of(own_suite, workspace=workspace)
    assert [key for key in rows if key[0].startswith("accuracy of")] == [("accuracy of roads.safetensors", "roads")]
    assert rows["accuracy of roads.safetensors", "roads"].warning


def test_one_split_alone_is_compared_with_nothing(own_suite: Path, workspace: Workspace) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    stored = dict(np.load(own_suite / "roads.npz"))
    np.savez(own_suite / "roads.npz", **{name: value for name, value in stored.items() if name.startswith("test")})
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    rows = rows_of(own_suite, workspace=workspace, measure=True)
    assert rows["roads.npz (val)", "roads"].warning and ("accuracy of roads.safetensors", "roads") not in rows


def test_five_points_are_not_more_than_five_points() -> None:
    """In floating point 0.9 − 0.85 is more than 0.05."""
    assert 0.9 - 0.85 > 0.05
    assert not gap_warning(0.85, 10**8, 0.9, 10**8)
    assert gap_warning(0.85, 10**8, 0.9001, 10**8)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_a_gap_within_chance_or_downwards_is_nothing_to_warn_of(n: int, m: int, val: float, test: float) -> None:
    deviation = (val * (1 - val) / n + test * (1 - test) / m) ** 0.5
    warned = bool(gap_warning(val, n, test, m))
    assert warned == (test - val > 0.05 and test - val > 4 * deviation)
