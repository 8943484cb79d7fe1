"""How weights are written: for transformers, rounded, in several files, whole or not at all."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import CheckpointError, MergingError
from merging.core.progress import no_progress
from merging.runs.export.export import export_run
from merging.runs.export.huggingface import config_text
from merging.runs.export.recipe import read_recipe, replay, weights_sha256
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.writing import Form, written_files
from tests.lightly import open_clip, transformers
from tests.random_models import ARCHITECTURE, TASKS, random_tower, write_yaml

SHARDED = Form(shard_bytes=20_000)


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def run(suite_file: Path, workspace: Workspace) -> Run:
    """A finished merge."""
    return run_here(MergeSpec.build(suite=str(suite_file), tasks=TASKS), workspace, None, no_progress)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in written_files(path) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("dtype", ["as-base", "bfloat16"])
@pytest.mark.parametrize("shard_bytes", [None, 20_000])
@torch.inference_mode()
def test_transformers_loads_what_was_exported_for_it(
    run: Run, workspace: Workspace, tmp_path: Path, shard_bytes: int | None, dtype: Any
) -> None:
    files = export_run(run, workspace, tmp_path / "hf", Form("huggingface", dtype, shard_bytes))
    assert ("model.safetensors" in [file.name for file in files]) == (shard_bytes is None)
    model, report = transformers.CLIPVisionModelWithProjection.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == (torch.float32 if dtype == "as-base" else torch.bfloat16)
    export_run(run, workspace, tmp_path / "oc", Form("open_clip", dtype))
    tower = open_clip.CLIP(**ARCHITECTURE, text_cfg={"width": 8, "heads": 1, "layers": 1}).visual.eval()
    tower.load_state_dict(load_file(tmp_path / "oc" / "model.safetensors"))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.float().eval()(images).image_embeds, tower(images), atol=1e-5)


def test_the_command_line_writes_every_form(suite_file: Path, tmp_path: Path) -> None:
    common = ["merge", suite_file, "--device", "cpu", "--home", tmp_path / "home"]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    plain = tmp_path / "a" / "model.safetensors"
    assert cli(*common, "--output", plain).exit_code == 0
    parted = tmp_path / "b" / "model.safetensors"
    form = ["--layout", "hugging-face", "--dtype", "float16", "--shard-size", "20KB"]
    result = cli(*common, *form, "--output", parted)
    assert result.exit_code == 0, result.output
    files = written_files(parted)
    assert len(files) == 3 and all(f"written: {file}" in result.output for file in files)
    assert sorted(path.name for path in parted.parent.iterdir()) == sorted(
        ["config.json", "model.safetensors.index.json", *(file.name for file in files)]
    )
    index = json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())
    merged = tensors_of(parted)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in merged.values())
    assert index["weight_map"].keys() == merged.keys()
    expected = load_file(plain)
    rows = [merged[f"vision_model.encoder.layers.0.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(torch.cat(rows), expected["transformer.resblocks.0.attn.in_proj_weight"].half())
    assert torch.equal(merged["visual_projection.weight"], expected["proj"].T.half())


def test_a_rounded_export_is_replayed_and_says_what_it_is(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    export_run(run, workspace, tmp_path / "out", Form("huggingface", "bfloat16", 20_000))
    recipe = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert (recipe.weights.layout, recipe.weights.dtype) == ("huggingface", "bfloat16")
    assert recipe.weights.sha256 == weights_sha256(tmp_path / "out" / "model.safetensors")
    assert replay(recipe, load_suite(run.spec.suite), workspace, tmp_path / "again.safetensors").identical
    assert "rounded to bfloat16 after its accuracy was measured" in (tmp_path / "out" / "README.md").read_text()


def test_a_base_that_is_widened_is_said_to_be(suite_file: Path, tmp_path: Path) -> None:
    """Before: "rounded to float32", of a base with 16 bits, and on the command line nothing."""
    base = load_file(suite_file.parent / "base.safetensors")
    half = {name: value if name.startswith("ln_") else value.half() for name, value in base.items()}
    shutil.copytree(suite_file.parent, tmp_path / "suite")
    save_file(half, tmp_path / "suite" / "base.safetensors")
    common = ["merge", tmp_path / "suite", "--device", "cpu", "--home", tmp_path / "home", "--json"]
    made = json.loads(cli(*common).stdout)["run"]
    widened = "widened from float16 to float32, which makes no number more precise"
    for dtype, said in (("float32", widened), ("bfloat16", "rounded to bfloat16"), ("as-base", "")):
        export = ("runs", "export", made, tmp_path / dtype, "--dtype", dtype, "--home", tmp_path / "home")
        assert (f"weights: {said}" in cli(*export).output) == bool(said)
        card = (tmp_path / dtype / "README.md").read_text()
        assert f"`model.visual`{f', {said}' if said else ''}{' after its' if dtype == 'bfloat16' else '.'}" in card
    merge = [*common[:-1], "--output", tmp_path / "merged.safetensors", "--dtype", "float32"]
    assert f"weights: {widened}" in cli(*merge).output


@pytest.mark.parametrize("edit", ["none", "ties"])
def test_weights_that_were_kept_are_rounded_like_those_that_are_rebuilt(
    suite_file: Path, workspace: Workspace, tmp_path: Path, edit: str
) -> None:
    run = run_here(MergeSpec.build(suite=str(suite_file), tasks=TASKS, edit=edit), workspace, None, no_progress)
    for name, form in (("plain", Form()), ("rounded", Form(dtype="float16", shard_bytes=30_000))):
        export_run(run, workspace, tmp_path / name, form)
    plain, rounded = (tensors_of(tmp_path / name / "model.safetensors") for name in ("plain", "rounded"))
    assert plain.keys() == rounded.keys()
    assert all(torch.equal(rounded[name], plain[name].half()) for name in plain)


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_snippet_loads_weights_in_several_files(
    run: Run, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: what another Python would do is tried where one file is."""
    export_run(run, workspace, tmp_path / "one"), export_run(run, workspace, tmp_path / "parts", SHARDED)
    Image.new("RGB", (40, 40), (200, 30, 90)).save(tmp_path / "image.png")
    monkeypatch.setattr("sys.argv", ["classify.py", "roads", str(tmp_path / "image.png")])
    for folder in ("one", "parts"):
        monkeypatch.chdir(tmp_path / folder)
        exec(Path("classify.py").read_text(), {})
        assert Path("classify.py").read_text() in Path("README.md").read_text()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_a_value_that_float16_can_not_hold_is_refused(tmp_path: Path) -> None:
    tower = random_tower(0)
    tower["conv1.weight"][0, 0, 0, 0] = 70000.0
    save_file(tower, tmp_path / "plain.safetensors")
    stored = open_checkpoint(tmp_path / "plain.safetensors")
    (tmp_path / "out").mkdir()
    with pytest.raises(
        CheckpointError, match=r"conv1\.weight' holds values up to 70000, more than float16 can hold .65504"
    ):
        save_tensors(tmp_path / "out/model.safetensors", stored.infos, stored.items(), form=Form(dtype="float16"))
    assert list((tmp_path / "out").iterdir()) == []
    save_tensors(tmp_path / "out/model.safetensors", stored.infos, stored.items(), form=Form(dtype="bfloat16"))
    assert math.isfinite(float(load_file(tmp_path / "out/model.safetensors")["conv1.weight"].sum()))


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    tower = random_tower(0)
    save_file(tower, tmp_path / "plain.safetensors")
    stored = open_checkpoint(tmp_path / "plain.safetensors")
    (tmp_path / "out").mkdir()

    def breaks_off() -> Any:
        yield from list(stored.items())[:-1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_tensors(tmp_path / "out/model.safetensors", stored.infos, breaks_off(), form=SHARDED)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second"), [(Form(), SHARDED), (SHARDED, Form()), (Form(shard_bytes=9_000), SHARDED)], ids=["1", "n", "m"]
)
def test_one_model_in_two_shapes_never_lies_in_one_folder(
    run: Run, workspace: Workspace, tmp_path: Path, first: Form, second: Form
) -> None:
    export_run(run, workspace, tmp_path / "out", first)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(CheckpointError, match="of an earlier export lies there"):
        export_run(run, workspace, tmp_path / "out", second)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    if first.shard_bytes and second.shard_bytes:
        return
    stored = tensors_of(tmp_path / "out" / "model.safetensors")
    infos = open_checkpoint(load_suite(run.spec.suite).path("base.safetensors")).infos
    with pytest.raises(CheckpointError, match="lies there already"):
        save_tensors(tmp_path / "out" / "model.safetensors", infos, sorted(stored.items()), form=second)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layout", "hugging-face"], "give that too"),
        (["--dtype", "bfloat16"], "precision of forward passes is --precision"),
        (["--shard-size", "none", "--output", "x.safetensors"], "is no size; expected a number of bytes such as 500MB"),
        (["--shard-size", "0", "--output", "x.safetensors"], "is no size"),
        (["--merge", "tall_masks", "--dtype", "float16", "--output", "x.safetensors"], "leave out --layout, --dtype"),
    ],
)
def test_forms_that_make_no_sense(suite_file: Path, tmp_path: Path, options: list[str], said: str) -> None:
    result = cli("merge", suite_file, *options, "--home", tmp_path, "--device", "cpu")
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split())


def test_a_config_of_something_else_is_not_replaced(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    output = ["--layout", "hugging-face", "--output", tmp_path / "model.safetensors"]
    result = cli("merge", suite_file, *output, "--home", tmp_path / "home", "--device", "cpu")
    assert "another one lies beside model.safetensors" in result.stderr
    assert not (tmp_path / "model.safetensors").exists()


def test_parts_do_not_replace_those_of_a_model_of_the_suite(own_suite: Path, tmp_path: Path) -> None:
    part = own_suite / "roads-00001-of-00003.safetensors"
    (own_suite / "roads.safetensors").rename(part)
    file = own_suite / "suite.yaml"
    file.write_text(file.read_text().replace("checkpoint: roads.safetensors", f"checkpoint: {part.name}"))
    output = ["--shard-size", "50KB", "--output", own_suite / "roads.safetensors"]
    result = cli("merge", file, *output, "--home", tmp_path / "home", "--device", "cpu")
    assert "is a model of suite" in result.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"pool_type": "avg"}, "pool_type = 'avg'"), ({"image_size": [32, 16]}, "square images")],
)
def test_towers_that_transformers_can_not_be_told_of(
    suite: Suite, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    architecture = ARCHITECTURE | {"vision_cfg": ARCHITECTURE["vision_cfg"] | changes}
    (tmp_path / "base.safetensors").write_bytes(suite.path("base.safetensors").read_bytes())
    with pytest.raises(MergingError, match=said):
        config_text(load_suite(write_yaml(tmp_path, architecture=architecture)))


def test_an_activation_and_heads_are_those_of_the_suite(suite: Suite, tmp_path: Path) -> None:
    vision = ARCHITECTURE["vision_cfg"] | {"head_width": 8}
    (tmp_path / "base.safetensors").write_bytes(suite.path("base.safetensors").read_bytes())
    changed = write_yaml(tmp_path, architecture=ARCHITECTURE | {"vision_cfg": vision, "quick_gelu": True})
    said = json.loads(config_text(load_suite(changed), "float16"))
    assert (said["hidden_act"], said["num_attention_heads"], said["torch_dtype"]) == ("quick_gelu", 4, "float16")
