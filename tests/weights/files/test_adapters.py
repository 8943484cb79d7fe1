"""PEFT adapters: folded as PEFT itself merges them, in every kind that it writes for CLIP; all else is refused."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.core.errors import CheckpointError, CorruptCheckpoint
from merging.weights.files import Checkpoint, file_fingerprint, open_checkpoint
from merging.weights.files.adapters import open_on
from tests.lightly import open_clip, peft, transformers
from tests.random_models import ARCHITECTURE, HUGGINGFACE_VISION, State, random_tower

# what peft's own code calls of transformers
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning", "ignore:fan_in_fan_out", "ignore:.*lora_B.bias"
)

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 10}
QV = ["q_proj", "v_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "visual_projection"]
LAYER = "base_model.model.vision_model.encoder.layers.0."

OPEN_CLIP = open_clip.CLIP(
    **ARCHITECTURE, text_cfg={"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1}
).visual
OPEN_CLIP.load_state_dict(random_tower(7))


@cache
def whole() -> Any:
    """A model of transformers', from which adapters are trained."""
    torch.manual_seed(0)
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**HUGGINGFACE_VISION, projection_dim=16)
    )


def trained(model: torch.nn.Module, **config: Any) -> Any:
    """An adapter whose values, all of them, are away from where training starts."""
    adapted = peft.get_peft_model(deepcopy(model), peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **config}))
    for number, (name, values) in enumerate(adapted.named_parameters()):
        if values.requires_grad:
            noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(number))
            values.data = values.data + 0.3 * noise if "magnitude" not in name else values.data * (1 + 0.1 * noise)
    return adapted


def written(adapted: Any, model: torch.nn.Module, folder: Path, **saving: Any) -> tuple[Checkpoint, Path, State]:
    """The base, the adapter's weight file, and the tower that PEFT makes of both."""
    adapted.save_pretrained(folder / "adapter", **saving)
    base, merged = folder / "base.safetensors", folder / "merged.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, base)
    state = adapted.merge_and_unload().state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, merged)
    suffix = "safetensors" if saving.get("safe_serialization", True) else "bin"
    return open_checkpoint(base), folder / "adapter" / f"adapter_model.{suffix}", dict(open_checkpoint(merged))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": QV},
        {"target_modules": ALL},
        {"target_modules": ALL, "use_rslora": True},
        {"target_modules": ALL, "use_dora": True},
        {"target_modules": ["patch_embedding", "q_proj"], "use_dora": True},
        {"target_modules": ["patch_embedding", "position_embedding"]},
        {
            "target_modules": ALL,
            "rank_pattern": {"fc1": 2, r"layers\.1\..*\.v_proj": 3},
            "alpha_pattern": {"fc2": 20, "encoder.layers.0.self_attn.q_proj": 1},
        },
        {"target_modules": QV, "modules_to_save": ["visual_projection", "post_layernorm"]},
        {"target_modules": QV, "modules_to_save": ["embeddings"]},
        {"target_modules": QV, "bias": "all"},
        {"target_modules": QV, "bias": "lora_only"},
        {"target_modules": QV, "bias": "all", "modules_to_save": ["post_layernorm", "layer_norm1"]},
        {"target_modules": QV, "bias": "lora_only", "modules_to_save": ["fc1"], "lora_bias": True},
        {"target_modules": ["k_proj", "fc2"], "lora_bias": True},
        {"target_modules": ALL, "fan_in_fan_out": True},
        {"target_modules": "all-linear"},
        {"target_modules": QV, "layers_to_transform": [1]},
        {"target_modules": r".*layers\.0.*(fc1|k_proj)"},
    ],
    ids=lambda config: "-".join(str(part)[:40] for part in config.values()),
)
def test_an_adapter_is_folded_as_peft_merges_it(tmp_path: Path, config: dict[str, Any]) -> None:
    base, file, expected = written(trained(whole(), **config), whole(), tmp_path)
    folded = open_on(base, file)
    assert folded.infos == base.infos
    changed = [name for name in base if not torch.equal(folded[name], base[name])]
    assert changed == [name for name in base if not torch.equal(expected[name], base[name])]
    for name in base:
        assert torch.allclose(folded[name], expected[name], rtol=1e-5, atol=1e-5), name


def test_an_adapter_of_an_open_clip_tower(tmp_path: Path) -> None:
    adapted = trained(OPEN_CLIP, target_modules=["c_fc", "c_proj", "out_proj"])
    base, file, expected = written(adapted, OPEN_CLIP, tmp_path)
    folded = open_on(base, file)
    assert not torch.equal(folded[name := "transformer.resblocks.1.attn.out_proj.weight"], base[name])
    assert all(torch.allclose(folded[name], expected[name], rtol=1e-5, atol=1e-5) for name in base)


def test_what_peft_does_to_attention_as_a_whole_depends_on_its_version_and_is_refused(tmp_path: Path) -> None:
    base, file, _ = written(trained(OPEN_CLIP, target_modules=["attn"]), OPEN_CLIP, tmp_path)
    with pytest.raises(CheckpointError, match=r"resblocks\.0\.attn.* torch's attention as a whole"):
        open_on(base, file)


def test_the_same_adapter_in_every_form(tmp_path: Path) -> None:
    """Saved as a pickle, from the tower inside the model, in half precision, on a base in open_clip's layout."""
    base, file, _ = written(trained(whole(), target_modules=ALL[:-1]), whole(), tmp_path)
    folded, state = open_on(base, file), load_file(file)
    tower = {f"{name}": tensor.contiguous() for name, tensor in base.items()}
    save_file(tower, tmp_path / "open_clip.safetensors")
    short = {name.replace("vision_model.", ""): tensor for name, tensor in state.items()}
    torch.save(short, (pickled := copied(file.parent, tmp_path / "pickled")).with_suffix(".bin"))
    pickled.unlink()
    again = open_on(open_checkpoint(tmp_path / "open_clip.safetensors"), pickled.with_suffix(".bin"))
    assert all(torch.equal(folded[name], again[name]) for name in base)
    half = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    save_file(half, coarse := copied(file.parent, tmp_path / "coarse"))
    save_file({name: tensor.float() for name, tensor in half.items()}, fine := copied(file.parent, tmp_path / "fine"))
    assert all(torch.equal(open_on(base, coarse)[name], open_on(base, fine)[name]) for name in base)


def test_folding_is_rounded_once(tmp_path: Path) -> None:
    _, file, _ = written(trained(whole(), target_modules=QV), whole(), tmp_path)
    stored = {name: tensor.to(torch.bfloat16) for name, tensor in whole().state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, tmp_path / "half.safetensors")
    folded = open_on(open_checkpoint(tmp_path / "half.safetensors"), file)
    factors = {name: tensor.double() for name, tensor in load_file(file).items()}
    name = "vision_model.encoder.layers.1.self_attn.v_proj"
    a, b = (factors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    exact = stored[f"{name}.weight"].double() + 6 / 4 * b @ a
    found = folded["transformer.resblocks.1.attn.in_proj_weight"][64:]
    assert torch.equal(found, exact.to(torch.bfloat16))


def copied(folder: Path, target: Path) -> Path:
    """Another folder with the same adapter; gives its weight file."""
    shutil.copytree(folder, target)
    return target / "adapter_model.safetensors"


def test_what_a_text_tower_learned_is_left_out_and_said(tmp_path: Path) -> None:
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=TEXT, vision_config=HUGGINGFACE_VISION, projection_dim=16)
    )
    base, file, expected = written(trained(clip, target_modules=QV), clip, tmp_path)
    folded = open_on(base, file)
    assert all(torch.allclose(folded[name], expected[name], rtol=1e-5, atol=1e-5) for name in base)
    assert "left out 8 tensors (text_model" in folded.summary
    assert "changes the text tower too" in folded.notes[0]


def linearised(adapted: Any) -> State:
    """What a folder of linearised adapters holds: trained factors, and initial ones by number."""
    state: State = {}
    for name, module in adapted.named_modules():
        if name.endswith(("q_proj", "v_proj")):
            for number, (parameter, values) in enumerate(module.named_parameters()):
                if "lora_" in parameter:
                    state[f"{name}.model.{parameter}"] = values.detach()
                    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(len(state)))
                    state[f"{name}.params0_values.{number}"] = 0.3 * noise
    return state


@torch.inference_mode()
def test_a_linearised_adapter_is_the_first_order_model_itself(tmp_path: Path) -> None:
    adapted = trained(whole(), target_modules=QV)
    state = linearised(adapted)
    base, file, _ = written(adapted, whole(), tmp_path)
    file.unlink()
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, file := file.with_name("linearized_" + file.name)
    )
    folded = open_on(base, file)
    assert "linearised LoRA adapter of rank 4 on 4 layers" in folded.summary
    for part, layer in enumerate(("q_proj", "k_proj", "v_proj")):
        rows = folded["transformer.resblocks.1.attn.in_proj_weight"][32 * part : 32 * (part + 1)]
        stored = whole().get_submodule(f"vision_model.encoder.layers.1.self_attn.{layer}").weight.double()
        if layer == "k_proj":
            assert torch.equal(rows, stored.float())
            continue
        prefix = f"base_model.model.vision_model.encoder.layers.1.self_attn.{layer}"
        trained_at = tuple(state[f"{prefix}.model.lora_{factor}.default.weight"].double() for factor in "AB")
        start = tuple(state[f"{prefix}.params0_values.{number}"].double() for number in (2, 3))

        def weight(a: torch.Tensor, b: torch.Tensor, stored: torch.Tensor = stored) -> torch.Tensor:
            return stored + 6 / 4 * b @ a

        moves = tuple(end - begin for end, begin in zip(trained_at, start, strict=True))
        ahead, behind = (weight(*(at + step * move for at, move in zip(start, moves, strict=True))) for step in (1, -1))
        slope = (ahead - behind) / 2  # the weight is of second degree in the factors: this is its derivative
        assert torch.allclose(rows.double(), weight(*start) + slope, rtol=0, atol=1e-6)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """A base and the folder of a sound adapter on it."""
    base, file, _ = written(trained(whole(), target_modules=QV), whole(), tmp_path_factory.mktemp("sound"))
    return base, file.parent


@pytest.fixture
def change(adapter: tuple[Checkpoint, Path], tmp_path: Path) -> Callable[..., Checkpoint]:
    """Opens a copy of the adapter in which something was changed."""
    base, folder = adapter

    def opened(
        config: dict[str, Any] | None = None, tensors: Callable[[State], Any] = lambda state: None
    ) -> Checkpoint:
        file = copied(folder, tmp_path / "changed")
        said = json.loads(file.with_name("adapter_config.json").read_text())
        file.with_name("adapter_config.json").write_text(json.dumps(said | (config or {})))
        state = load_file(file)
        tensors(state)
        save_file(state, file)
        return open_on(base, file)

    return opened


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "LOHA"}, "type 'LOHA'"),
        ({"peft_type": "LOKR"}, "type 'LOKR'"),
        ({"peft_type": "IA3"}, "type 'IA3'"),
        ({"peft_type": "LN_TUNING"}, r"only LORA .* folded here; merge it with PEFT, model.merge_and_unload\(\)"),
        ({"peft_type": "PROMPT_TUNING"}, "adds to the model what its weights can't hold"),
        ({"init_lora_weights": "pissa_niter_16"}, "'pissa_niter_16', which changes the base's weights"),
        ({"layer_replication": [[0, 1]]}, "sets 'layer_replication'"),
        ({"use_something_new": {"a": 1}}, "sets 'use_something_new'"),
        ({"r": 8}, r"factors \[\[4, 32\], \[32, 4\]\]; by the base and rank 8"),
        ({"rank_pattern": {"q_proj": 2}}, "rank 2"),
        ({"rank_pattern": {"(a+)+": 2}}, "longer or more nested"),
        ({"alpha_pattern": {"(": 2}}, "no regular expression"),
        ({"r": "many"}, "whole number"),
        ({"use_dora": True}, "lacks a magnitude vector"),
        ({"lora_bias": True}, "lacks a bias"),
        ({"bias": "lora_only"}, "more was trained than the file holds: 4 tensors missing"),
        ({"target_modules": [*QV, "fc1"]}, "2 tensors missing .*fc1"),
        ({"modules_to_save": ["post_layernorm"]}, "post_layernorm.bias"),
        ({"auto_mapping": {"base_model_class": "CLIPTextModel"}}, "CLIPTextModel, a text tower"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_configurations_that_are_refused(change: Callable[..., Checkpoint], config: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        change(config)


def renamed(start: str, to: str) -> Callable[[State], None]:
    def rename(state: State) -> None:
        for name in [name for name in state if name.startswith(start)]:
            state[to + name.removeprefix(start)] = state.pop(name)

    return rename


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (lambda state: state.pop(f"{LAYER}self_attn.q_proj.lora_B.weight"), "q_proj' has lora_A only"),
        (lambda state: state.pop(f"{LAYER}self_attn.q_proj.lora_A.weight"), "q_proj' has lora_B only"),
        (renamed(LAYER, LAYER.replace("0", "7")), "belongs to a layer that the base lacks"),
        (renamed("base_model.model.vision_model.", "base_model.model.text_model."), "only the text tower is adapted"),
        (renamed(f"{LAYER}self_attn.q_proj", f"{LAYER}mlp.fc2"), r"layer .*fc2' of shape \[32, 64\] has factors"),
        (lambda state: state.update({f"{LAYER}mlp.fc1.hada_w1_a": torch.ones(2)}), "no LoRA adapter that can be"),
        (
            lambda state: state.update({"base_model.model.classifier.weight": torch.ones(2, 2)}),
            "a classifier of its own",
        ),
        (lambda state: state.update({f"{LAYER}layer_norm1.bias": torch.ones(3)}), r"is \[3\], in the base \[32\]"),
        (
            lambda state: state.update({f"{LAYER}mlp.fc1.lora_A.other.weight": torch.ones(4, 32)}),
            "several adapters .default, other.",
        ),
        (
            lambda state: state.update(
                {f"{LAYER}layer_norm1.{part}bias": torch.full([32], len(part)) for part in ("", "modules_to_save.")}
            ),
            "the same tensor with different numbers; expected one adapter; save it again",
        ),
    ],
    ids=range(10),
)
def test_tensors_that_are_refused(change: Callable[..., Checkpoint], tensors: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        change(tensors=tensors)
    assert "changed/adapter_model.safetensors" in str(caught.value)


def test_files_that_are_no_adapter_with_its_configuration(adapter: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    base, folder = adapter
    file = copied(folder, tmp_path / "a")
    for content, said in (
        ("[1]", "names with values"),
        ("{", "adapter_config.json: not valid JSON"),
        (None, "an adapter without its adapter_config"),
    ):
        config = file.with_name("adapter_config.json")
        config.write_text(content) if content else config.unlink()
        with pytest.raises(CheckpointError, match=said):
            open_on(base, file)
    renamed = file.rename(file.with_name("digits.safetensors"))
    with pytest.raises(CheckpointError, match="factors of a LoRA adapter, no whole model"):
        open_on(base, renamed)


@pytest.mark.parametrize("place", ["models--openai--clip-vit-base-patch32/snapshots/main", "beside"])
def test_an_adapter_of_another_base_is_refused(tmp_path: Path, place: str) -> None:
    (folder := tmp_path / place).mkdir(parents=True)
    base, file, _ = written(trained(whole(), target_modules=QV), whole(), folder)
    (folder / "config.json").write_text('{"_name_or_path": "openai/clip-vit-base-patch32"}')
    config = file.with_name("adapter_config.json")
    said = json.loads(config.read_text())
    for name, right in (("OpenAI/CLIP-ViT-base-patch32", True), ("laion/CLIP-B-32", False), ("/models/clip", True)):
        config.write_text(json.dumps(said | {"base_model_name_or_path": name}))
        if right:
            open_on(base, file)
            continue
        with pytest.raises(CheckpointError, match=r"trained on laion/CLIP-B-32 .* base here is openai/clip"):
            open_on(base, file)
    (folder / "config.json").unlink()
    (folder / "suite.yaml").write_text("")  # a repository of many models is called after none of them
    assert open_on(base, file).notes == (
        "the adapter adapter was trained on 'models/clip', by its adapter_config.json, and nothing shows whether that "
        f"is the base here, {folder.name}/base.safetensors: taken to be the same weights",
    )


def test_a_base_that_lies_beside_the_adapter_is_compared(adapter: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    """Named by a path, as PEFT writes it of a model that was not loaded from the hub."""
    _, folder = adapter
    suite = tmp_path / "suite"
    file = copied(folder, suite / "a")
    states = {"own": whole().state_dict(), "copy": whole().state_dict(), "other": {}}
    states["other"] = {name: tensor + 1 for name, tensor in whole().state_dict().items()}
    for place in (suite, tmp_path):  # what lies elsewhere is not opened
        for name, state in states.items():
            (place / name).mkdir(exist_ok=True)
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, place / name / "model.safetensors")
    base, config = open_checkpoint(suite / "own"), file.with_name("adapter_config.json")
    said = json.loads(config.read_text())

    def notes(named: object) -> tuple[str, ...]:
        config.write_text(json.dumps(said | {"base_model_name_or_path": str(named)}))
        return open_on(base, file).notes

    assert [notes(named) for named in ("../own", "./own", suite / "own", "copy", suite / "copy", "")] == [()] * 6
    assert [len(notes(named)) for named in (tmp_path / "other", "../../other", "gone", "a\0b")] == [1] * 4
    for named in ("other", suite / "other"):
        with pytest.raises(CheckpointError, match="which is here and holds other weights than the base, own/model"):
            notes(named)


def test_a_fingerprint_is_of_adapter_configuration_and_base(adapter: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    base, folder = adapter
    file = copied(folder, tmp_path / "a")
    found = [open_on(base, file).fingerprint, open_on(base, folder / file.name).fingerprint]
    assert found[0] == found[1] != base.fingerprint
    config = file.with_name("adapter_config.json")
    config.write_text(config.read_text().replace('"lora_alpha": 6', '"lora_alpha": 7'))
    found.append(open_on(base, file).fingerprint)
    shifted = {name: tensor + 1 for name, tensor in whole().state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in shifted.items()}, tmp_path / "other.safetensors")
    found.append(open_on(open_checkpoint(tmp_path / "other.safetensors"), file).fingerprint)
    assert len(set(found)) == 3
    assert open_on(base, file, promised=file_fingerprint(file)).fingerprint == found[2]
    with pytest.raises(CorruptCheckpoint, match="expected 000000"):
        _ = open_on(base, file, promised="0" * 64).fingerprint
