"""Files as people have them whose architecture no tensor shows: activation, heads, image size, mean and deviation.

What is read is compared with the libraries that wrote the files: features of transformers' own model and of open_clip's
with those of the tower that a suite builds.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from merging.cli import main
from merging.core.errors import CheckpointError, MergingError, SuiteError
from merging.evaluation.assumptions import assumptions
from merging.evaluation.clip import build_tower, input_of
from merging.evaluation.evaluator import Evaluator
from merging.runs.export.huggingface import config_text
from merging.runs.jobs.check import check_suite
from merging.suites import load_suite
from merging.suites.architecture import NAMED
from merging.suites.declared import by_name
from merging.suites.initialise import Answers, init_suite
from merging.weights.convert import convert
from merging.weights.files import open_checkpoint
from tests.lightly import open_clip, transformers
from tests.random_models import ARCHITECTURE, random_tower, write_config, write_suite, write_yaml

CPU = torch.device("cpu")
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 12, "patch_size": 4}
TEXT = {
    "bos_token_id": 0,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 9,
    "eos_token_id": 1,
}
IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def huggingface(folder: Path, kind: str = "CLIPModel", **vision: Any) -> Any:
    """A folder with a base and a task model, both as transformers writes them; gives the base."""
    settings = {**VISION, **vision}
    models = []
    for name in ("base", "cats"):
        torch.manual_seed(len(models))
        if kind == "CLIPModel":
            model = transformers.CLIPModel(
                transformers.CLIPConfig(vision_config=settings, text_config=TEXT, projection_dim=16)
            )
        else:
            model = transformers.CLIPVisionModelWithProjection(
                transformers.CLIPVisionConfig(**settings, projection_dim=16)
            )
        with torch.no_grad():
            for parameter in model.vision_model.parameters():
                parameter.mul_(8).add_(torch.randn_like(parameter), alpha=0.02)  # so that activations are not linear
        model.eval().save_pretrained(folder / name)
        models.append(model)
    return models[0]


def features(model: Any, images: torch.Tensor = IMAGES) -> torch.Tensor:
    """Image features of transformers' own model."""
    with torch.no_grad():
        if isinstance(model, transformers.CLIPModel):
            return model.visual_projection(model.vision_model(images).pooler_output)
        return model(images).image_embeds


@pytest.mark.parametrize("kind", ["CLIPModel", "CLIPVisionModelWithProjection"])
@pytest.mark.parametrize(
    "said",
    [
        {"hidden_act": "gelu", "num_attention_heads": 3},
        {"hidden_act": "quick_gelu", "num_attention_heads": 12},  # the defaults, which are not written
        {"hidden_act": "gelu", "num_attention_heads": 16, "layer_norm_eps": 1e-3},
    ],
)
def test_a_checkpoint_of_transformers_has_the_features_it_has_there(
    tmp_path: Path, kind: str, said: dict[str, Any]
) -> None:
    """Before: 48 / 64 gave 3 heads of 16, GELU was assumed, and the layer norms had open_clip's epsilon."""
    model = huggingface(tmp_path, kind, **said)
    made = init_suite(tmp_path)
    suite = load_suite(tmp_path)
    with torch.no_grad():
        assert torch.allclose(build_tower(suite, CPU)(IMAGES), features(model), atol=1e-4, rtol=1e-4)
    vision = made.content["architecture"]["vision_cfg"]
    assert 48 // vision["head_width"] == said["num_attention_heads"]
    assert (
        f"{said['num_attention_heads']} attention heads (config.json beside base/model.saf"
        in made.notes["architecture"]
    )
    epsilon = said.get("layer_norm_eps", 1e-05)
    assert f"layer norms with epsilon {epsilon} (config.json beside base" in made.notes["architecture"]
    assert f"layer norms with epsilon {epsilon} (" in assumptions(suite).text
    assert json.loads(config_text(suite))["layer_norm_eps"] == epsilon
    assert check_suite(suite).problems == 0


def folder_of_models(folder: Path, config: dict[str, Any] | str | None = None) -> Path:
    """A base and a task model of the tiny tower with open_clip's names, and perhaps a config.json beside them."""
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(("base", "cats")):
        save_file(random_tower(seed), folder / f"{name}.safetensors")
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_what_nothing_says_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    """Before: GELU and one head of 32 were written, with a comment that they may be wrong."""
    folder = folder_of_models(tmp_path / "models", {"lr": 1e-5, "epochs": 3})  # of somebody's training
    refused = CliRunner().invoke(main, ["init-suite", str(folder)])
    assert refused.exit_code == 1 and not (folder / "suite.yaml").exists()
    assert refused.stderr == (
        "Error: models: nothing says whether base.safetensors was trained with QuickGELU or GELU; no tensor shows it, "
        "and the wrong one lowers every accuracy: say --activation quick_gelu (models of OpenAI, MetaCLIP, DFN) or "
        "--activation gelu (LAION, DataComp), or put the model's config.json or open_clip_config.json beside it; "
        "nothing says how many attention heads base.safetensors has; no published tower has 2 layers 32 wide: say "
        "--heads with the number that it was trained with; nothing was written\n"
    )
    made = CliRunner().invoke(main, ["init-suite", str(folder), "--activation", "quick_gelu", "--heads", "4"])
    assert made.exit_code == 0 and "QuickGELU (--activation), 4 attention heads (--heads)" in made.stdout
    assert "QuickGELU (suite.yaml: architecture.quick_gelu), 4 attention heads (suite.yaml: arch" in made.stdout
    suite = load_suite(folder)
    assert suite.quick_gelu and suite.architecture["vision_cfg"]["head_width"] == 8  # type: ignore[index]
    with pytest.raises(SuiteError, match="--heads: 5 attention heads; expected a divisor of 32"):
        init_suite(folder, force=True, answers=Answers("gelu", 5))


OURS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": [32, 32],
    "patch_size": 8,
    "hidden_act": "gelu",
    "transformers_version": "5",
}
VISION_MODEL = {**OURS, "model_type": "clip_vision_model"}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            lambda: transformers.SiglipVisionConfig().to_dict(),
            r"config\.json beside base\.safetensors: model_type is 'siglip_vision_model', a SigLIP; expec",
        ),
        ({**VISION_MODEL, "model_type": ["x"]}, "model_type is \"\\['x'\\]\"; expected 'clip' or 'clip_vision_model'"),
        ({**VISION_MODEL, "hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; expected 'quick_gelu' or 'gelu'"),
        ({**VISION_MODEL, "num_attention_heads": 5}, "hidden_size 32 is no multiple of 5 attention heads"),
        ({**VISION_MODEL, "num_attention_heads": "4"}, "num_attention_heads is '4'; expected a whole number above 0"),
        ({**VISION_MODEL, "image_size": [32, 16]}, r"image_size is \[32, 16\]; expected .*, the same both ways"),
        ({**VISION_MODEL, "num_channels": 1}, "num_channels is 1; images here have three"),
        ({**VISION_MODEL, "layer_norm_eps": "small"}, "layer_norm_eps is 'small'; expected a small number"),
        (
            {**VISION_MODEL, "num_hidden_layers": 12},
            "the number of layers is 2 by the tensors of base.safetensors and 12 by config.json beside base.safetensors"
            "; correct the one that is wrong, or take its file away",
        ),
        ({**VISION_MODEL, "image_size": 64}, "the size of images is 32 by the tensors .* and 64 by config.json"),
        ("{" * 100_000, "not valid JSON: .*; mend it or take it away"),
        ("[1]", "holds no names with values; mend it"),
        ({"embed_dim": 16, "vision_cfg": {"layers": [3, 4, 6, 3]}}, "the visual tower is a ResNet; only the vision tr"),
        ({"embed_dim": 16, "vision_cfg": {"timm_model_name": "x"}}, "the visual tower is timm's x; only the vision tr"),
        ({"embed_dim": 16, "vision_cfg": {"depth": 3}}, r"vision_cfg\.depth: unknown name"),
        ({**ARCHITECTURE, "mean": [0.5]}, r"the mean of images is \[0\.5\]; expected three numbers"),
        ({**ARCHITECTURE, "std": [0.5, 0, 1]}, r"the std of images is 0\.5, 0, 1; expected numbers above 0"),
    ],
)
def test_settings_that_are_of_no_such_tower_are_refused_by_name(tmp_path: Path, config: Any, reason: str) -> None:
    folder = folder_of_models(tmp_path / "models", config() if callable(config) else config)
    with pytest.raises(SuiteError, match=reason):
        init_suite(folder)
    assert not (folder / "suite.yaml").exists()


BOTTLENECK = {"layer1.0.conv1.weight": torch.ones(4, 4, 1, 1), "conv1.weight": torch.ones(4, 3, 3, 3)}
OTHER_KINDS = {
    "a ResNet of CLIP's": {**BOTTLENECK, "attnpool.positional_embedding": torch.ones(5, 8)},
    "a ResNet": {**BOTTLENECK, "layer2.0.conv1.weight": torch.ones(8, 4, 1, 1)},
    "a model of timm's that pools by attention": {"trunk.attn_pool.latent": torch.ones(1, 1, 8)},
    "a ConvNeXt of timm's": {"trunk.stages.0.blocks.0.conv_dw.weight": torch.ones(4, 1, 7, 7)},
    "a model of timm's": {"trunk.network.0.weight": torch.ones(4, 4)},
    "EVA's vision transformer": {
        "patch_embed.proj.weight": torch.ones(8, 3, 4, 4),
        "blocks.0.attn.inner_attn_ln.weight": torch.ones(8),
    },
    "a Swin transformer": {
        "patch_embed.proj.weight": torch.ones(8, 3, 4, 4),
        "layers.0.blocks.0.attn.relative_position_bias_table": torch.ones(9, 2),
    },
    "a vision transformer in timm's layout": {
        "patch_embed.proj.weight": torch.ones(8, 3, 4, 4),
        "blocks.0.attn.qkv.weight": torch.ones(24, 8),
    },
    "a vision transformer of transformers' other than CLIP's": {"embeddings.cls_token": torch.ones(1, 1, 8)},
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_models_that_are_no_vision_transformer_of_clip_are_named_by_their_tensors(tmp_path: Path, kind: str) -> None:
    """Before: a list of what they lack; `convert` wrote those of timm, and `check` had nothing to say of any."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("base", "cats"):
        save_file(
            {f"visual.{tensor}": values for tensor, values in OTHER_KINDS[kind].items()}, folder / f"{name}.safetensors"
        )
    with pytest.raises(
        MergingError, match=rf"^base\.safetensors: {kind}.*; only the vision transformers of CLIP are m"
    ):
        init_suite(folder)
    found = convert(folder / "base.safetensors", tmp_path / "out.safetensors")
    assert found.output is None and f"base.safetensors: {kind}" in found.detail
    write_yaml(folder, tasks=[{"name": "cats", "checkpoint": "cats.safetensors"}])
    (row,) = [row for row in check_suite(load_suite(folder)).files if row.file == "architecture"]
    assert row.warnings[0].startswith(f"base.safetensors is {kind}")


def test_siglip_is_named_by_its_tensors_too(tmp_path: Path) -> None:
    settings = {**VISION, "num_attention_heads": 2}
    transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**settings)).save_pretrained(tmp_path / "model")
    found = convert(tmp_path / "model", tmp_path / "out.safetensors")
    assert found.output is None and "SigLIP's vision transformer; only the vision transformers of CLIP" in found.detail


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Blip", "is BLIP's vision transformer (BLIP, BLIP-2, InstructBLIP); only CLIP's own architecture is read"),
        ("OwlViT", "is OWL-ViT's vision transformer; only"),
        ("MLCD", "is an MLCD; only"),
        ("IJepa", "a vision transformer of transformers' other than CLIP's (I-JEPA and the like); only"),
        ("Aimv2", "an AIMv2; only"),
    ],
)
def test_models_of_transformers_without_a_configuration_are_named(tmp_path: Path, kind: str, said: str) -> None:
    """Before: what they lack and have beside a CLIP, twenty tensors of either, or the names of four."""
    settings = {**VISION, "num_attention_heads": 2}
    name = kind if kind == "IJepa" else f"{kind}Vision"
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert f"model.pt: {said}" in convert(tmp_path / "model.pt", tmp_path / "out.safetensors").detail


def test_a_tower_of_clips_beside_another_text_tower_is_read_and_said(tmp_path: Path) -> None:
    """AltCLIP's visual tower is CLIP's; heads from its text tower were refused by what that lacks."""
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.AltCLIPConfig(
        vision_config={**VISION, "num_attention_heads": 2},
        text_config={**text, "vocab_size": 60, "project_dim": 32},
        projection_dim=16,
    )
    torch.save(transformers.AltCLIPModel(config).state_dict(), tmp_path / "model.pt")
    assert "beside another text tower (AltCLIP's, an XLM-RoBERTa)" in open_checkpoint(tmp_path / "model.pt").summary
    with pytest.raises(CheckpointError, match=r"its text tower is AltCLIP's, an XLM-RoBERTa, which is not built"):
        open_checkpoint(tmp_path / "model.pt", part="text")


def test_heads_that_files_and_suite_yaml_say_differently_are_refused_with_both(own_suite: Path) -> None:
    """Before: config.json was not looked at, and the accuracies of suite.yaml's heads were printed."""
    (own_suite / "open_clip_config.json").unlink()
    suite = load_suite(own_suite)
    before = Evaluator(suite).accuracy(suite.base_checkpoint, ["digits"]).average
    (own_suite / "config.json").write_text(json.dumps({**VISION_MODEL, "num_attention_heads": 2}))
    suite = load_suite(own_suite)
    assert Evaluator(suite).accuracy(suite.base_checkpoint, ["digits"]).average == before
    (own_suite / "config.json").write_text(json.dumps(VISION_MODEL))
    said = (
        "the number of attention heads is 2 by suite.yaml and 4 by config.json beside base.safetensors; correct the "
        "one that is wrong, or take its file away"
    )
    with pytest.raises(SuiteError) as caught:
        Evaluator(suite).accuracy(suite.base_checkpoint, ["digits"])
    assert str(caught.value) == said
    report = check_suite(suite)
    assert report.problems == 1 and [row.detail for row in report.files if not row.ok] == [said]
    with pytest.raises(SuiteError, match=r"heads is 2 by --heads and 4 by config\.json beside base"):
        init_suite(own_suite, force=True, answers=Answers(heads=2))


def test_a_task_and_its_base_that_contradict_each_other_are_refused_with_both(tmp_path: Path) -> None:
    huggingface(tmp_path, hidden_act="gelu", num_attention_heads=3)
    config = json.loads((tmp_path / "cats" / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "quick_gelu"
    (tmp_path / "cats" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        SuiteError, match=r"GELU by config\.json beside base/model.saf.* and QuickGELU by .* cats/model"
    ):
        init_suite(tmp_path)
    del config["vision_config"]["hidden_act"]  # transformers' default, which is QuickGELU and is named
    (tmp_path / "cats" / "config.json").write_text(json.dumps(config))
    with pytest.raises(SuiteError, match=r"QuickGELU by .* \(transformers' default, as hidden_act is not written"):
        init_suite(tmp_path)


def test_an_old_config_says_what_transformers_reads_in_it(tmp_path: Path) -> None:
    """``vision_config_dict`` prevails there, with defaults for what it leaves out."""
    old = {
        "vision_config": {**VISION, "hidden_act": "gelu"},
        "vision_config_dict": {**VISION, "num_attention_heads": 6},
    }
    theirs = transformers.CLIPConfig(**old, text_config=TEXT, projection_dim=16)
    huggingface(tmp_path)
    for name in ("base", "cats"):
        content = {"model_type": "clip", "projection_dim": 16, "architectures": ["CLIPModel"], **old}
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    found = init_suite(tmp_path).content["architecture"]
    assert theirs.vision_config.hidden_act == "quick_gelu" and found["quick_gelu"] is True
    assert 48 // found["vision_cfg"]["head_width"] == theirs.vision_config.num_attention_heads == 6


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_checkpoint_of_open_clip_has_the_features_it_has_there(tmp_path: Path, quick_gelu: bool) -> None:
    vision = {**ARCHITECTURE["vision_cfg"], "head_width": 8, "no_ln_pre": True, "pool_type": "avg"}  # as CLIPA has it
    text = {"context_length": 5, "vocab_size": 9, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu}
    torch.manual_seed(0)
    model = open_clip.CLIP(16, vision, text, quick_gelu).eval()
    save_file(model.state_dict(), tmp_path / "base.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in model.state_dict().items()}, tmp_path / "cats.safetensors")
    with pytest.raises(
        SuiteError, match=r"lacks 'ln_pre\.weight'; a tower without it, such as CLIPA's, needs its open_cl"
    ):
        init_suite(tmp_path, answers=Answers("gelu", 4))
    images = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": images}))
    made = init_suite(tmp_path)
    suite, pixels = load_suite(tmp_path), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(build_tower(suite, CPU)(pixels), model.encode_image(pixels), atol=1e-5)
    assert suite.text_tower == "base.safetensors" and suite.architecture["text_cfg"] == text  # type: ignore[index]
    assert input_of(suite).mean == (0.1, 0.2, 0.3) and input_of(suite).std == (0.5, 0.5, 0.5)
    assert "interpolation is bilinear, images are prepared here with bicubic" in made.notes["architecture"]
    (row,) = (row for row in check_suite(suite).files if row.file == "architecture")
    assert row.ok and "interpolation is bilinear" in row.warnings[0]


def test_the_mean_and_deviation_that_a_processor_wants_are_read_or_contradicted(tmp_path: Path) -> None:
    """Before: OpenAI's were taken, also of the model of LAION's that was trained with ½."""
    huggingface(tmp_path)
    processor = transformers.CLIPImageProcessor  # loaded here, as it takes seconds
    processor(image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(tmp_path / "base")
    init_suite(tmp_path)
    assert input_of(load_suite(tmp_path)).mean == input_of(load_suite(tmp_path)).std == (0.5, 0.5, 0.5)
    content = yaml.safe_load((tmp_path / "suite.yaml").read_text())
    del content["preprocess"]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SuiteError, match=r"the image channels is 0\.4815, .* by suite\.yaml and 0\.5, 0\.5, 0\.5 by"):
        assumptions(load_suite(tmp_path))
    content["preprocess"] = {"mean": [0.4] * 3, "std": [0.5] * 3}  # as these were fine-tuned: suite.yaml's own word
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    assert "images with mean 0.4, 0.4, 0.4" in assumptions(load_suite(tmp_path)).text


# --- names -----------------------------------------------------------------------------------------------------------

UNKNOWN = {("ViT-H-14", "metaclip_altogether")}  # asked for


@pytest.mark.parametrize(("name", "tag"), [pair for pair in open_clip.list_pretrained() if pair[0] in NAMED])
def test_names_of_published_models_say_what_open_clip_says_of_them(name: str, tag: str) -> None:
    config = open_clip.get_pretrained_cfg(name, tag)
    for path in (config["hf_hub"].rstrip("/"), f"{name}-{tag}/model.safetensors", f"models/{name}/{tag}.pt"):
        found = by_name(path, NAMED[name])
        if found is None:
            assert (name, tag) in UNKNOWN
            continue
        assert found.facts["activation"] == ("quick_gelu" if config.get("quick_gelu") else "gelu")
        assert found.facts.get("mean", tuple(config["mean"])) == tuple(config["mean"])
        assert ("mean" in found.facts) == (config["mean"][0] == 0.5)


@pytest.mark.parametrize(
    ("path", "tower", "expected"),
    [
        ("openai/clip-vit-large-patch14-336", "ViT-L-14-336", "quick_gelu"),
        ("clip-vit-base-patch32_sun397", "ViT-B-32", "quick_gelu"),
        ("openai/clip-vit-base-patch32", "ViT-L-14", None),  # of another size than its name says
        ("openai.pt", "ViT-H-14", None),  # OpenAI published none
        ("openai/or/laion2b.pt", "ViT-B-32", None),  # two trainers
        ("ViT-L-14-CLIPA-datacomp1b", "ViT-L-14", None),
        ("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "ViT-bigG-14", "gelu"),
        ("laion/CLIP-ViT-g-14-laion2B-s34B-b88K", "ViT-g-14", "gelu"),
        ("base.safetensors", "ViT-B-32", None),
    ],
)
def test_a_name_speaks_only_for_the_towers_that_it_names(path: str, tower: str, expected: str | None) -> None:
    found = by_name(path, NAMED[tower])
    assert (found.facts["activation"] if found else None) == expected


# --- suite.yaml ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"architecture": "ViT-B-32-quickgelu", "activation": "gelu"},
            "activation is 'gelu', architecture is 'ViT-B-32-q",
        ),
        (
            {"architecture": {**ARCHITECTURE, "quick_gelu": False}, "activation": "quick_gelu"},
            "activation is 'quick_gelu', architecture.quick_gelu is False: they contradict each other; leave one out",
        ),
        (
            {"heads": 4},
            r"heads is 4, architecture.vision_cfg.head_width gives 2: they contradict each other; leave one out",
        ),
        (
            {"architecture": {"embed_dim": 4, "vision_cfg": {"width": 32}}, "heads": 5},
            "heads is 5; expected a divisor of",
        ),
        ({"activation": "relu"}, "activation = 'relu': must be 'quick_gelu' or 'gelu'"),
    ],
)
def test_what_suite_yaml_says_twice_it_says_once(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(SuiteError, match=reason):
        load_suite(write_yaml(tmp_path, **fields))


def test_activation_and_heads_of_suite_yaml_are_those_of_the_tower(own_suite: Path) -> None:
    (own_suite / "open_clip_config.json").unlink()
    vision = {name: value for name, value in ARCHITECTURE["vision_cfg"].items() if name != "head_width"}
    bare = {"embed_dim": 16, "vision_cfg": vision}
    write_yaml(own_suite, architecture=bare, activation="quick_gelu", heads=8)
    said = build_tower(load_suite(own_suite), CPU)
    inline = {"embed_dim": 16, "vision_cfg": {**vision, "head_width": 4}, "quick_gelu": True}
    write_yaml(own_suite, architecture=inline)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(said(pixels), build_tower(load_suite(own_suite), CPU)(pixels))
    write_yaml(own_suite, architecture="ViT-H-14", heads=20)
    with pytest.raises(SuiteError, match=r"suite\.yaml says heads: 20, open_clip's ViT-H-14 has 16; leave one out"):
        assumptions(load_suite(own_suite))


def zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A weight file full of zeros, which a file system stores for nothing."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize(
    ("base", "changes", "doubt"),
    [
        (
            "base.safetensors",
            {"head_width": 128},
            "8 attention heads; all published towers of this width and depth have 16: if these come from one, write "
            "heads: 16 in suite.yaml",
        ),
        (
            "openai.safetensors",
            {},
            "GELU; openai.safetensors is named like a known model with QuickGELU: if it comes from that one, write "
            "activation: quick_gelu in suite.yaml; `check --deep` tries both",
        ),
        ("laion2b.safetensors", {}, None),
    ],
)
def test_an_older_suite_yaml_that_published_models_contradict_is_doubted(
    tmp_path: Path, base: str, changes: dict[str, Any], doubt: str | None
) -> None:
    """As earlier versions wrote it, for a tower of the sizes of ViT-L-14."""
    block = "transformer.resblocks.{}.mlp.c_fc.weight"
    shapes = {"conv1.weight": (1024, 3, 14, 14), "positional_embedding": (257, 1024), "proj": (1024, 768)}
    zeros(tmp_path / base, {**shapes, **{block.format(number): (4096, 1024) for number in range(24)}})
    vision = {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14, "head_width": 64, **changes}
    write_yaml(tmp_path, base=base, architecture={"embed_dim": 768, "vision_cfg": vision})
    assert assumptions(load_suite(tmp_path)).warnings == ((doubt,) if doubt else ())


def test_the_embedded_suite_is_what_it_was() -> None:
    found = assumptions(load_suite("mini"))
    assert found.guessed and found.warnings == ()  # it is GELU, and its suite.yaml has never said so
    assert found.text.startswith(
        "GELU (assumed, as neither suite.yaml nor a file says), 3 attention heads (suite.yaml: "
    )


# --- check --deep ----------------------------------------------------------------------------------------------------


def test_a_wrong_activation_shows_in_what_the_tasks_own_model_gets_right(tmp_path: Path) -> None:
    write_suite(tmp_path, ["digits"], images=100)
    stored = dict(np.load(tmp_path / "digits.npz"))
    stored["val_images"] = stored["val_images"] // 128 + 120  # so much alike that the activation decides
    np.savez(tmp_path / "digits.npz", **stored)
    (tmp_path / "open_clip_config.json").unlink()
    content = yaml.safe_load((tmp_path / "suite.yaml").read_text())

    def loaded() -> Evaluator:
        evaluator = Evaluator(load_suite(tmp_path))
        evaluator.load(dict(evaluator.suite.checkpoint("digits")))
        return evaluator

    with torch.no_grad():
        features = loaded().features(loaded().images("digits", "val", slice(None)))
    middle = torch.nn.functional.normalize(features.mean(dim=0), dim=0)
    head = features[:5] - features[:5] @ middle[:, None] * middle  # which tells them apart
    save_file({"weight": torch.nn.functional.normalize(head)}, tmp_path / "digits.head.safetensors")
    np.savez(tmp_path / "digits.npz", **{**stored, "val_labels": loaded().predictions("digits", "val")})  # with GELU
    rows = {row.file: row for row in check_suite(load_suite(tmp_path), deep=True).files}
    assert not rows["activation of digits.safetensors"].warning
    seen = rows["activation of digits.safetensors"].detail
    assert seen.startswith("100.0 % with GELU, ") and seen.endswith(" with QuickGELU, on 100 validation images")
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({**content, "activation": "quick_gelu"}))
    rows = {row.file: row for row in check_suite(load_suite(tmp_path), deep=True).files}
    (said,) = rows["activation of digits.safetensors"].warnings
    assert said.startswith("its own model does better with GELU (+") and "probably wrong; correct it in suite.y" in said
    home = str(tmp_path / "home")
    printed = CliRunner().invoke(main, ["check", str(tmp_path), "--deep", "--device", "cpu", "--home", home])
    assert printed.exit_code == 0 and "does better with GELU" in printed.stdout


# --- images of another size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("pixels", [16, 48])
def test_position_embeddings_are_interpolated_as_open_clip_does(
    own_suite: Path, pixels: int, dtype: torch.dtype
) -> None:
    (own_suite / "open_clip_config.json").unlink()
    stored = {name: tensor.to(dtype) for name, tensor in load_file(own_suite / "base.safetensors").items()}
    save_file(stored, own_suite / "base.safetensors")
    plain = load_suite(own_suite).base_checkpoint
    write_yaml(own_suite, image_size=pixels)
    suite = load_suite(own_suite)
    vision = {**ARCHITECTURE["vision_cfg"], "image_size": pixels}
    theirs = open_clip.CLIP(
        16, vision, {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    ).eval()
    state = {f"visual.{name}": tensor.float() for name, tensor in stored.items()}
    open_clip.model.resize_pos_embed(state, theirs)
    theirs.load_state_dict(state, strict=False)
    positions = suite.base_checkpoint["positional_embedding"]
    assert positions.dtype == dtype and torch.equal(positions, state["visual.positional_embedding"].to(dtype))
    if dtype == torch.float32:
        images = torch.randn(2, 3, pixels, pixels)
        with torch.no_grad():
            assert torch.equal(build_tower(suite, CPU)(images), theirs.visual(images))
    assert suite.base_checkpoint.fingerprint != plain.fingerprint == load_suite(own_suite).open(suite.base).fingerprint
    said = f"position embeddings interpolated to {pixels // 8} × {pixels // 8} patches"
    assert said in suite.base_checkpoint.summary
    assert f"interpolated to images of {pixels} × {pixels} pixels (suite.yaml: image_size)" in assumptions(suite).text


def test_a_task_for_larger_images_is_refused_unless_interpolation_is_asked_for(tmp_path: Path) -> None:
    write_config(folder_of_models(tmp_path))
    cats = random_tower(1)
    positions = torch.randn(6 * 6 + 1, 32)
    save_file({**cats, "positional_embedding": positions}, tmp_path / "cats.safetensors")
    with pytest.raises(
        SuiteError, match=r"cats\.safetensors: .*; where images are of another size, image_size: PIXELS in"
    ):
        init_suite(tmp_path)
    made = CliRunner().invoke(main, ["init-suite", str(tmp_path), "--image-size", "48"])
    assert made.exit_code == 0 and "position embeddings of other sizes interpolated to images of 48 × 48" in made.stdout
    suite = load_suite(tmp_path)
    assert torch.equal(suite.checkpoint("cats")["positional_embedding"], positions)
    assert suite.vectors().info("positional_embedding").shape == (37, 32)
    with pytest.raises(
        MergingError, match=r"base\.safetensors: image_size 50 is no multiple of the 8 pixels of a patch"
    ):
        init_suite(tmp_path, force=True, answers=Answers(image_size=50))


def test_a_resized_suite_is_measured_merged_and_written_at_its_size(own_suite: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**content, "image_size": 16}))
    home, out = str(tmp_path / "home"), tmp_path / "merged.safetensors"

    def accuracy(*command: str) -> dict[str, float]:
        done = CliRunner().invoke(main, [*command, "--home", home, "--device", "cpu", "--json"])
        assert done.exit_code == 0, done.stderr
        found: dict[str, float] = json.loads(done.stdout)["accuracy"]
        return found

    merge = ("merge", str(own_suite), "--merge", "average", "--evaluate", "--output", str(out))
    merged = accuracy(*merge)
    assert load_file(out)["positional_embedding"].shape == (5, 32)
    assert accuracy("evaluate", str(own_suite), "--checkpoint", str(out)) == merged
