"""Published layouts: every file gives open_clip's visual tower, and towers are written so that others load them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import merging
from merging.cli import main
from merging.core.errors import CheckpointError, MergingError, MismatchedCheckpoint
from merging.evaluation.evaluator import Evaluator
from merging.runs.jobs.check import check_suite
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite
from merging.weights.files import open_checkpoint, save_tensors
from merging.weights.files.layouts import huggingface_names, recognise
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors
from tests.lightly import open_clip, transformers
from tests.random_models import ARCHITECTURE, HUGGINGFACE_VISION, State, random_tower, write_suite

TOWER, OTHER = random_tower(7), random_tower(8)
VISION = {**HUGGINGFACE_VISION, "projection_dim": 16, "hidden_act": "gelu"}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def huggingface(tower: State) -> State:
    """A tower under Hugging Face's names, from the description of that format, tensor by tensor."""
    state = {
        "embeddings.class_embedding": tower["class_embedding"],
        "embeddings.patch_embedding.weight": tower["conv1.weight"],
        "embeddings.position_embedding.weight": tower["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        state[f"pre_layrnorm.{kind}"] = tower[f"ln_pre.{kind}"]
        state[f"post_layernorm.{kind}"] = tower[f"ln_post.{kind}"]
        for layer in (0, 1):
            ours, theirs = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            joined = tower[f"{ours}.attn.in_proj_{kind}"]
            state[f"{theirs}.self_attn.q_proj.{kind}"] = joined[:32].clone()
            state[f"{theirs}.self_attn.k_proj.{kind}"] = joined[32:64].clone()
            state[f"{theirs}.self_attn.v_proj.{kind}"] = joined[64:].clone()
            state[f"{theirs}.self_attn.out_proj.{kind}"] = tower[f"{ours}.attn.out_proj.{kind}"]
            state[f"{theirs}.layer_norm1.{kind}"] = tower[f"{ours}.ln_1.{kind}"]
            state[f"{theirs}.layer_norm2.{kind}"] = tower[f"{ours}.ln_2.{kind}"]
            state[f"{theirs}.mlp.fc1.{kind}"] = tower[f"{ours}.mlp.c_fc.{kind}"]
            state[f"{theirs}.mlp.fc2.{kind}"] = tower[f"{ours}.mlp.c_proj.{kind}"]
    return state


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def projection(tower: State) -> State:
    return {"visual_projection.weight": tower["proj"].T.contiguous()}


BUFFER = {"embeddings.position_ids": torch.arange(17)[None]}
TEXTS = {"text_model.embeddings.token_embedding.weight": torch.ones(3, 2), "logit_scale": torch.tensor(4.6)}
LEFTOVERS = {
    "positional_embedding": torch.ones(2, 2),
    "text_projection": torch.ones(2, 2),
    "logit_scale": torch.tensor(4.6),
    "token_embedding.weight": torch.ones(2, 2),
    "ln_final.weight": torch.ones(2),
    "ln_final.bias": torch.ones(2),
}
OLD, NEW = under("vision_model.", huggingface(TOWER)), huggingface(TOWER)
VISUAL = under("visual.", TOWER)
# state, whether it holds the projection, title, number of tensors left out
LAYOUTS: dict[str, tuple[State, bool, str, int]] = {
    "CLIPVisionModel, transformers 4": (OLD, False, "Hugging Face CLIPVisionModel under 'vision_model.'", 0),
    "CLIPVisionModel, transformers 5": (NEW, False, "Hugging Face CLIPVisionModel", 0),
    "with position_ids": (
        OLD | under("vision_model.", BUFFER),
        False,
        "Hugging Face CLIPVisionModel under 'vision_model.'",
        1,
    ),
    "with position_ids, 5": (NEW | BUFFER, False, "Hugging Face CLIPVisionModel", 1),
    "with projection": (
        OLD | projection(TOWER),
        True,
        "Hugging Face CLIPVisionModelWithProjection under 'vision_model.'",
        0,
    ),
    "with projection, no prefix": (NEW | projection(TOWER), True, "Hugging Face CLIPVisionModelWithProjection", 0),
    "CLIPModel": (OLD | projection(TOWER) | TEXTS, True, "Hugging Face CLIPModel under 'vision_model.'", 2),
    "wrapped CLIPModel": (
        under("module.model.", OLD | projection(TOWER) | TEXTS),
        True,
        "Hugging Face CLIPModel under 'module.model.vision_model.'",
        2,
    ),
    "wrapped, no prefix": (under("module.", NEW), False, "Hugging Face CLIPVisionModel under 'module.'", 0),
    "open_clip": (VISUAL | {"text_projection": torch.ones(2)}, True, "open_clip CLIP under 'visual.'", 1),
    "ImageEncoder": (under("model.", VISUAL | LEFTOVERS), True, "open_clip CLIP under 'model.visual.'", 6),
    "distributed": (under("module.", VISUAL), True, "open_clip CLIP under 'module.visual.'", 0),
    "ImageClassifier": (
        under("image_encoder.model.", VISUAL) | {"classification_head.weight": torch.ones(2, 2)},
        True,
        "open_clip CLIP under 'image_encoder.model.visual.'",
        1,
    ),
    "bare": (TOWER, True, "visual tower", 0),
    "bare, distributed": (under("module.", TOWER), True, "visual tower under 'module.'", 0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_layout_gives_the_tower_under_open_clips_names(
    tmp_path: Path, kind: str, suffix: str, dtype: torch.dtype
) -> None:
    stored, projected, title, dropped = LAYOUTS[kind]
    stored = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    path = tmp_path / f"model{suffix}"
    save_file(stored, path) if suffix == ".safetensors" else torch.save(stored, path)
    checkpoint = open_checkpoint(path)
    expected = {name: tensor.to(dtype) for name, tensor in TOWER.items() if projected or name != "proj"}
    assert list(checkpoint) == sorted(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint[name], tensor)
        assert checkpoint[name].is_contiguous()
        assert checkpoint.infos[name].shape == tuple(tensor.shape)
        assert checkpoint.infos[name].dtype == dtype
    assert checkpoint.layout.title == title
    assert len(checkpoint.layout.dropped) == dropped
    assert checkpoint.lacks_projection == (not projected)
    assert (f"left out {dropped} " in checkpoint.summary) == (dropped > 0)


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    save_file(under("model.", VISUAL | LEFTOVERS), tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path / "model.safetensors").layout.dropped_in_words == (
        "left out 6 tensors "
        "(ln_final.… × 2, logit_scale, positional_embedding, text_projection, token_embedding.weight)"
    )


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


KEY = "vision_model.encoder.layers.1.self_attn.k_proj.weight"
NEARLY: dict[str, tuple[State, str]] = {
    "no keys in one layer": (without(OLD, KEY), r"has 1 tensor missing \('.*layers\.1\.self_attn\.k_proj\S*'\); only"),
    "no layer norm": (without(NEW, "pre_layrnorm.bias"), r"has 1 tensor missing \('pre_layrnorm\.bias'\); only"),
    "SigLIP": (
        OLD | {"vision_model.head.probe": torch.ones(2)},
        "is SigLIP's vision transformer; only CLIP's own architecture is read",
    ),
    "keys of another shape": (OLD | {KEY: torch.ones(4, 32)}, r"same shape and dtype.*\[4, 32\]"),
    "keys of another dtype": (OLD | {KEY: OLD[KEY].half()}, "same shape and dtype"),
    "scalars": (
        OLD | {KEY.replace("k_proj", part): torch.tensor(1.0) for part in ("q_proj", "k_proj", "v_proj")},
        "same shape and dtype",
    ),
    "projection is no matrix": (OLD | {"visual_projection.weight": torch.ones(3)}, "expected a matrix"),
    "two towers": (under("a.", VISUAL) | under("b.visual.", OTHER), "several visual towers"),
    "two towers of Hugging Face": (under("a.", OLD) | under("b.", huggingface(OTHER)), "several visual towers"),
    "a layer of many digits": (
        OLD | {f"vision_model.encoder.layers.{'9' * 5000}.x": torch.ones(1)},
        "1 tensor unexpected",
    ),
}


@pytest.mark.parametrize("kind", NEARLY)
def test_what_is_nearly_a_layout_is_refused(tmp_path: Path, kind: str) -> None:
    state, reason = NEARLY[kind]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_checkpoint(tmp_path / "model.pt")
    assert str(caught.value).startswith("model.pt: ")


def test_names_alone_decide() -> None:
    assert recognise(["a", "b"]).family == "unknown"
    assert recognise([*TOWER]).family == "open_clip"
    assert recognise([*NEW]).family == "huggingface"


# --- suites whose files differ in layout ----------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A suite of a CLIPModel as base, two CLIPVisionModels and an ImageEncoder; and the same with plain towers."""
    write_suite(tmp_path / "plain", ("a", "b", "c"))
    write_suite(tmp_path / "mixed", ("a", "b", "c"))
    towers = {name: load_file(tmp_path / f"plain/{name}.safetensors") for name in ("base", "a", "b", "c")}
    for name in ("a", "b"):  # fine-tuning leaves the projection alone
        towers[name]["proj"] = towers["base"]["proj"]
        save_file(towers[name], tmp_path / f"plain/{name}.safetensors")
    base = under("vision_model.", huggingface(towers["base"])) | projection(towers["base"]) | TEXTS
    save_file(base, tmp_path / "mixed/base.safetensors")
    save_file(under("vision_model.", huggingface(towers["a"])), tmp_path / "mixed/a.safetensors")
    save_file(huggingface(towers["b"]), tmp_path / "mixed/b.safetensors")
    save_file(under("model.visual.", towers["c"]), tmp_path / "mixed/c.safetensors")
    return tmp_path / "mixed" / "suite.yaml"


def test_models_without_a_projection_have_that_of_the_base(mixed: Path) -> None:
    suite = load_suite(mixed)
    for name in suite.task_names:
        model = load_file(mixed.parents[1] / f"plain/{name}.safetensors")
        checkpoint = suite.checkpoint(name)
        assert list(checkpoint) == sorted(model)
        assert all(torch.equal(checkpoint[key], tensor) for key, tensor in model.items())
        with pytest.raises(KeyError):
            checkpoint["no such tensor"]
    rows = {row.file: row for row in check_suite(suite).files}
    assert all(row.ok for row in rows.values())
    assert "Hugging Face CLIPModel" in rows["base.safetensors"].detail
    assert (
        "left out 2 tensors (logit_scale, text_model.embeddings.token_embedding.weight)"
        in rows["base.safetensors"].detail
    )
    assert "proj is that of base.safetensors" in rows["a.safetensors"].detail
    assert "proj" not in rows["c.safetensors"].detail


def test_the_layout_changes_no_number(mixed: Path, workspace: Workspace) -> None:
    plain, other = load_suite(mixed.parents[1] / "plain"), load_suite(mixed)
    assert (measure(plain.vectors()).grams == measure(other.vectors()).grams).all()
    accuracies = [workspace.individual_accuracy(Evaluator(suite), suite.task_names) for suite in (plain, other)]
    assert accuracies[0].per_task == accuracies[1].per_task


def test_accuracy_is_not_mistaken_for_that_with_another_projection(mixed: Path, workspace: Workspace) -> None:
    first = load_suite(mixed)
    before = workspace.individual_accuracy(Evaluator(first), ["a"])
    base = load_file(mixed.parent / "base.safetensors")
    base["visual_projection.weight"] = -base["visual_projection.weight"]
    save_file(base, mixed.parent / "base.safetensors")
    second = load_suite(mixed)
    fresh = Evaluator(second).accuracy(second.checkpoint("a"), ["a"], "test")
    assert workspace.individual_accuracy(Evaluator(second), ["a"]).per_task == fresh.per_task != before.per_task


def test_no_projection_anywhere_can_be_merged(tmp_path: Path) -> None:
    for name in ("base", "task"):
        save_file(huggingface(random_tower(len(name))), tmp_path / f"{name}.safetensors")
    base, task = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "task"))
    assert TaskVectors(base, (task.completed(base),), ("task",)).size == sum(
        tensor.numel() for name, tensor in TOWER.items() if name != "proj"
    )


def test_an_open_clip_tower_without_projection_is_not_completed(tmp_path: Path) -> None:
    save_file(TOWER, tmp_path / "base.safetensors")
    save_file(without(TOWER, "proj"), tmp_path / "task.safetensors")
    base, task = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "task"))
    with pytest.raises(MismatchedCheckpoint, match="proj"):
        TaskVectors(base, (task.completed(base),), ("task",))


# --- writing, and loading where others load -------------------------------------------------------------------------


def write(path: Path, tower: State, layout: Any) -> None:
    save_file(tower, path.with_name("plain.safetensors"))
    plain = open_checkpoint(path.with_name("plain.safetensors"))
    save_tensors(path, plain.infos, plain.items(), layout=layout)


def test_written_files_hold_exactly_hugging_faces_tensors(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", TOWER, "huggingface")
    written = load_file(tmp_path / "model.safetensors")
    expected = OLD | projection(TOWER)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    write(tmp_path / "model.safetensors", without(TOWER, "proj"), "huggingface")
    assert load_file(tmp_path / "model.safetensors").keys() == OLD.keys()


@torch.inference_mode()
def outputs(tower: State, images: torch.Tensor) -> torch.Tensor:
    """Embeddings by open_clip's own tower."""
    model = open_clip.CLIP(**ARCHITECTURE, text_cfg={"width": 8, "heads": 1, "layers": 1})
    model.visual.load_state_dict(tower)
    embedded: torch.Tensor = model.visual.eval()(images)
    return embedded


@torch.inference_mode()
def test_a_merged_model_loads_into_transformers_and_gives_the_same_embeddings(mixed: Path, tmp_path: Path) -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    merged = merged_files(mixed, tmp_path)
    expected = outputs(load_file(merged["open_clip"]), images)
    folder = merged["huggingface"].parent
    projected, report = transformers.CLIPVisionModelWithProjection.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert torch.allclose(projected.eval()(images).image_embeds, expected, atol=1e-5)
    plain, report = transformers.CLIPVisionModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and set(report["unexpected_keys"]) <= {"visual_projection.weight"}
    pooled = plain.eval()(images).pooler_output
    assert torch.allclose(pooled @ load_file(merged["open_clip"])["proj"], expected, atol=1e-5)


def merged_files(suite: Path, folder: Path, *more: str) -> dict[str, Path]:
    """The same merge written in both layouts by the command line, the one by its former name."""
    files = {}
    for layout in ("huggingface", "open_clip"):
        files[layout] = folder / f"merged-{layout}" / "model.safetensors"
        files[layout].parent.mkdir()
        arguments = ["merge", str(suite), "--layout", layout, "--output", str(files[layout]), "--device", "cpu", *more]
        result = CliRunner().invoke(main, [*arguments, "--home", str(folder / f"home-{layout}")])
        assert result.exit_code == 0, result.output
    return files


@pytest.mark.parametrize("method", [["--merge", "task_arithmetic"], ["--edit", "ties"], ["--merge", "iso_c"]])
def test_both_layouts_of_a_merge_hold_the_same_model(mixed: Path, tmp_path: Path, method: list[str]) -> None:
    files = merged_files(mixed, tmp_path, *method)
    ours, theirs = open_checkpoint(files["open_clip"]), open_checkpoint(files["huggingface"])
    assert theirs.layout.family == "huggingface"
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = ["merge", str(mixed), "--layout", "open_clip", "--output", str(tmp_path / "again.safetensors"), *method]
    home = ["--home", str(tmp_path / "home-huggingface"), "--device", "cpu"]
    assert CliRunner().invoke(main, [*again, *home]).exit_code == 0  # the run is known there; only its file is new
    assert (tmp_path / "again.safetensors").read_bytes() == files["open_clip"].read_bytes()


def test_models_that_transformers_writes_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**VISION)
    for model in (
        transformers.CLIPVisionModel(config),
        transformers.CLIPVisionModelWithProjection(config),
        transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)),
    ):
        model.save_pretrained(tmp_path)
        checkpoint = open_checkpoint(tmp_path / "model.safetensors")
        assert type(model).__name__ in checkpoint.layout.title
        expected = set(TOWER) if hasattr(model, "visual_projection") else set(TOWER) - {"proj"}
        assert set(checkpoint) == expected
        assert all(checkpoint.infos[name].shape == tuple(TOWER[name].shape) for name in expected)


@pytest.mark.parametrize(
    "tower",
    [
        without(TOWER, "ln_pre.bias"),
        TOWER | {"attn_pool.query": torch.ones(2)},
        {"trunk.patch_embed.proj.weight": torch.ones(2)},
    ],
)
def test_towers_that_hugging_face_has_no_class_for_are_not_written(tmp_path: Path, tower: State) -> None:
    with pytest.raises(CheckpointError, match="can't be written in Hugging Face's layout"):
        huggingface_names([*tower])
    with pytest.raises(MergingError):
        write(tmp_path / "model.safetensors", tower, "huggingface")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_layout_without_a_file_is_wrong_usage(suite_file: Path) -> None:
    assert CliRunner().invoke(main, ["merge", str(suite_file), "--layout", "hugging-face"]).exit_code == 2


def test_localised_models_have_no_other_layout(suite_file: Path, tmp_path: Path) -> None:
    arguments = ["merge", str(suite_file), "--merge", "tall_masks", "--layout", "hugging-face", "--home", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path / "model.safetensors")])
    assert result.exit_code == 1
    assert "leave out --layout" in result.stderr


def test_the_package_needs_no_transformers() -> None:
    """Its layout is a table of names; only tests load what was written."""
    for path in Path(merging.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) transformers", path.read_text(), re.MULTILINE)
