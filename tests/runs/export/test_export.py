"""Exported folders: complete, usable on their own, and rebuilt bit for bit from their recipe."""

import csv
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
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
from merging.core.errors import CheckpointError, MergingError, SpecError
from merging.core.progress import no_progress
from merging.evaluation.evaluator import Evaluator
from merging.methods.presets import PRESETS
from merging.runs.export.export import export_run
from merging.runs.export.recipe import read_recipe, replay, weights_sha256
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import Coefficients
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.weights.files.writing import Form
from tests.random_models import TASKS

# Presets that learn get few steps, those that look at images few images.
QUICK = {
    "adamerging": {"steps": 3},
    "awd": {"steps": 20},
    "wudi": {"steps": 5},
    "doge": {"steps": 5},
    "fisher": {"images": 4},
    "regmean": {"images": 4},
    "regmean_plus_plus": {"images": 4},
    "trust_region": {"images": 4},
}


def run_of(suite_file: Path, workspace: Workspace, **choices: object) -> Run:
    spec = MergeSpec.build(suite=str(suite_file), tasks=choices.pop("tasks", TASKS), **choices)
    return run_here(spec, workspace, None, no_progress)


def exported(suite_file: Path, workspace: Workspace, folder: Path, **choices: object) -> Run:
    run = run_of(suite_file, workspace, **choices)
    export_run(run, workspace, folder)
    return run


@pytest.mark.usefixtures("few_scalings")
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_rebuilt_bit_for_bit(
    name: str, suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    fields = PRESETS[name].spec_fields()
    fields["merge_params"] |= QUICK.get(fields["merge"], {})
    fields["edit_params"] |= QUICK.get(fields["edit"], {})
    fields |= {"tasks": TASKS[:3], "evaluate": False}  # λ is chosen all the same
    run = exported(suite_file, workspace, tmp_path / "out", **fields)
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    found = replay(recipe, suite, Workspace(tmp_path / "elsewhere"), tmp_path / "again.safetensors")
    assert found.identical, run.spec.label
    again, first = load_file(tmp_path / "again.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert again.keys() == first.keys()
    assert all(torch.equal(again[key], first[key]) for key in first)


@pytest.mark.parametrize("choices", [{}, {"edit": "ties", "merge_params": {"scaling": "auto"}}])
def test_other_layouts_are_rebuilt_too(
    choices: dict[str, object], suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    run = run_of(suite_file, workspace, **choices)
    files = export_run(run, workspace, tmp_path / "out", Form("huggingface"))
    assert "classify.py" not in [file.name for file in files]
    assert "CLIPVisionModelWithProjection" in (tmp_path / "out" / "README.md").read_text()
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert replay(recipe, suite, workspace, tmp_path / "again.safetensors").identical
    assert any(name.startswith("vision_model.") for name in load_file(tmp_path / "again.safetensors"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")] == []


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # a snippet of few lines leaves that to the end
def test_the_snippet_classifies_as_the_evaluator_does(
    suite_file: Path,
    suite: Suite,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exported(suite_file, workspace, tmp_path / "out")
    assert len((tmp_path / "out" / "classify.py").read_text().splitlines()) == 18
    assert (tmp_path / "out" / "classify.py").read_text() in (tmp_path / "out" / "README.md").read_text()
    evaluator = Evaluator(suite)
    evaluator.load(load_file(tmp_path / "out" / "model.safetensors"))
    predicted = evaluator.predictions("roads", "test")
    pixels = np.load(suite.path("roads.npz"))["test_images"]
    classes = suite.task("roads").classes
    for index, alone in ((0, True), (7, False), (11, False)):
        Image.fromarray(pixels[index]).save(tmp_path / "image.png")
        arguments = ["classify.py", "roads", str(tmp_path / "image.png")]
        if alone:
            command = [sys.executable, *arguments]
            said = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True).stdout
        else:
            monkeypatch.chdir(tmp_path / "out")
            monkeypatch.setattr(sys, "argv", arguments)
            runpy.run_path("classify.py")
            said = capsys.readouterr().out
        assert said.rsplit(" ", 1)[0] == classes[predicted[index]]
    for wrong in ([], ["roads"], ["railways", "image.png"]):
        monkeypatch.setattr(sys, "argv", ["classify.py", *wrong])
        with pytest.raises(SystemExit, match=r"expected: classify\.py TASK IMAGE, with a TASK of .*roads"):
            runpy.run_path("classify.py")


def test_the_coefficients_are_a_table_of_their_own(suite_file: Path, workspace: Workspace, tmp_path: Path) -> None:
    run = exported(suite_file, workspace, tmp_path / "out", edit="awd", edit_params={"scope": "layer"})
    assert run.result is not None
    header, *rows = list(csv.reader((tmp_path / "out" / "coefficients.csv").read_text().splitlines()))
    assert header == ["tensor", *TASKS]
    assert [row[0] for row in rows] == run.result.coefficients.tensors
    assert [[float(cell) for cell in row[1:]] for row in rows] == np.array(run.result.coefficients.table).T.tolist()


def test_the_card_says_what_was_done_and_measured(own_suite: Path, workspace: Workspace, tmp_path: Path) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    content["licence"] = "MIT"
    content["tasks"][0]["licence"] = "CC BY 4.0"
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    file = own_suite / "suite.yaml"
    run = exported(file, workspace, tmp_path / "out", edit="ties", merge_params={"scaling": "auto"})
    assert run.result is not None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Licence of what it was made from: MIT; circles: CC BY 4.0" in card
    assert "- 2 attention heads \\(suite.yaml: architecture.vision\\_cfg.head\\_width\\)" in card
    assert "- GELU \\(open\\_clip\\_config.json beside base.safetensors\\)" in card
    assert f"| **average** | 96 | **{100 * run.result.average:.1f} %** |" in card
    assert f'"scaling": {run.result.merge.scaling}' in card
    assert all(value in card for value in run.result.fingerprints.values())
    assert "https://arxiv.org/abs/2306.01708" in card
    assert weights_sha256(tmp_path / "out" / "model.safetensors") in card
    assert str(tmp_path) not in card + (tmp_path / "out" / "recipe.yaml").read_text()


def test_what_was_chosen_by_an_edit_is_in_the_recipe_too(
    suite_file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    run = exported(suite_file, workspace, tmp_path / "out", edit="consensus", edit_params={"threshold": "auto"})
    assert run.result is not None
    assert read_recipe(tmp_path / "out" / "recipe.yaml").chosen["thresholds"] == run.result.edit.thresholds


def test_a_recipe_of_an_earlier_version_of_a_method_gives_what_that_gave(
    suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    first = {"edit": "doge", "edit_params": {"steps": 2, "layers": "everything"}}
    exported(suite_file, workspace, tmp_path / "first", **first)
    exported(suite_file, workspace, tmp_path / "today", edit="doge", edit_params={"steps": 2})
    recipe, today = (read_recipe(tmp_path / name / "recipe.yaml") for name in ("first", "today"))
    assert today.revisions == recipe.revisions == {"edit": 1} and today.weights.sha256 != recipe.weights.sha256
    del recipe.spec["edit_params"]["layers"]  # as it was written when there was no such parameter
    recipe = recipe.model_copy(update={"revisions": None})
    assert replay(recipe, suite, workspace, tmp_path / "again.safetensors").identical
    assert replay(today, suite, workspace, tmp_path / "as-today.safetensors").identical


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table["table"].pop(), "coefficients are 3 rows of .* expected one row for each of 4 tasks"),
        (lambda table: table["table"][1].pop(), "coefficients are 4 rows of "),
        (lambda table: table["tasks"].reverse(), "coefficients are of other tasks: "),
        (lambda table: table["tensors"].pop(), "coefficients are of other tensors: "),
        (lambda table: table["table"][0].__setitem__(0, math.nan), "hold NaN or infinity"),
    ],
)
def test_a_table_of_coefficients_that_was_changed_is_refused(
    change: Callable[[Any], Any], said: str, suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    exported(suite_file, workspace, tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert recipe.coefficients is not None
    table = recipe.coefficients.model_dump()
    change(table)
    changed = recipe.model_copy(update={"coefficients": Coefficients(**table)})
    with pytest.raises(SpecError, match=said):
        replay(changed, suite, workspace, tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_other_checkpoints_are_refused_by_name(own_suite: Path, workspace: Workspace, tmp_path: Path) -> None:
    exported(own_suite / "suite.yaml", workspace, tmp_path / "out")
    state = load_file(own_suite / "roads.safetensors")
    save_file({name: 2 * tensor for name, tensor in state.items()}, own_suite / "roads.safetensors")
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    with pytest.raises(MergingError, match=r"other checkpoints than the recipe's: roads;"):
        replay(recipe, load_suite(own_suite / "suite.yaml"), workspace, tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_weights_that_differ_are_noticed(suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path) -> None:
    exported(suite_file, workspace, tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert recipe.coefficients is not None
    same = recipe.model_copy(deep=True)
    recipe.coefficients.table[1][3] += 1e-3
    found = replay(recipe, suite, workspace, tmp_path / "again.safetensors")
    assert not found.identical and found.verdict(recipe).startswith("not identical")
    assert "; the recipe was changed since it was exported, and these weights are what it" in found.verdict(recipe)
    assert found.verdict(same).endswith("; other versions of torch or another processor can round differently")
    assert "made on cuda:0" in found.verdict(same.model_copy(update={"device": "cuda:0"}))
    assert "or the recipe was changed, which one as" in found.verdict(recipe.model_copy(update={"contents": None}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"merge_params": {"scaling": 0.5}}, r"merge\.scaling=0\.5\) .* is 0\.5, in its table 0\.3; one of the"),
        (
            {"merge": "average", "merge_params": {}},
            r"merge=average\) the coefficient of task 'circles' .* is 0\.25, in",
        ),
        ({"edit": "ties"}, "has a table of coefficients, and specifies TIES"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(
    changes: dict[str, Any], said: str, suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    """Before: the coefficients were taken, whatever the λ that stands above them, without a word."""
    exported(suite_file, workspace, tmp_path / "out")
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    changed = recipe.model_copy(update={"spec": {**recipe.spec, **changes}})
    with pytest.raises(SpecError, match=said):
        replay(changed, suite, workspace, tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


_SOUND = "label: x\nrun: y\nspec: {}\nfingerprints: {}\nweights: {sha256: z}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("just text", "expected the mapping"),
        ("label: x", "run: is missing"),
        (f"{_SOUND}lable: x", r"lable: unknown name \(did you mean 'label'\?\)"),
        (_SOUND + "revisions: {merg: 1}", r"merg: unknown name \(did you mean 'merge'\?\); expected edit or merge"),
        (
            _SOUND + "chosen: {scalng: 0.3}",
            r"scalng: unknown name \(did you mean 'scaling'\?\); expected sca",
        ),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        (None, "can't be read"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        read_recipe(tmp_path / "recipe.yaml")


def test_an_export_that_fails_changes_nothing(
    suite_file: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = exported(suite_file, workspace, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*args: object, **choices: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        export_run(run, workspace, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_command_says_whether_the_weights_are_identical(
    suite_file: Path, workspace: Workspace, tmp_path: Path
) -> None:
    exported(suite_file, workspace, tmp_path / "out")
    recipe, home = tmp_path / "out" / "recipe.yaml", str(workspace.home)
    command = ["replay", str(recipe), "--output", str(tmp_path / "again.safetensors"), "--home", home]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1 and "--suite PATH" in refused.output
    made = CliRunner().invoke(main, [*command, "--suite", str(suite_file)])
    assert made.exit_code == 0 and "identical to the exported weights, bit for bit" in made.output
    content = yaml.safe_load(recipe.read_text())
    content["weights"]["sha256"] = "0" * 64
    recipe.write_text(yaml.safe_dump(content))
    other = CliRunner().invoke(main, [*command, "--suite", str(suite_file), "--json"])
    assert other.exit_code == 1 and '"identical": false' in other.output
