"""Text towers: Hugging Face's CLIPModel gives open_clip's, which computes the same features."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merging.core.errors import CheckpointError
from merging.evaluation.heads import load_head
from merging.suites import load_suite
from merging.weights.files import open_checkpoint
from tests.lightly import open_clip, transformers
from tests.random_models import ARCHITECTURE, HUGGINGFACE_VISION, random_tower, write_yaml

WORDS = 49408  # of CLIP's tokenizer
CLASSES = ["tabby cat", "dog", "a very long name of a bird that takes many tokens"]
TEMPLATES = ["a photo of a {}.", "{}"]


@pytest.fixture(params=["quick_gelu", "gelu"])
def theirs(request: pytest.FixtureRequest) -> Any:
    """A random CLIPModel of the size of :data:`ARCHITECTURE`, with either activation."""
    torch.manual_seed(3)
    text = {
        "hidden_size": 24,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "vocab_size": WORDS,
        "max_position_embeddings": 77,
        "hidden_act": request.param,
        "bos_token_id": WORDS - 2,
        "eos_token_id": WORDS - 1,
    }
    vision = {**HUGGINGFACE_VISION, "hidden_act": request.param}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    ).eval()
    for parameter in model.parameters():  # biases and norms begin as 0 and 1, which would hide a mix-up
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def text_architecture(model: Any) -> dict[str, object]:
    text = {"context_length": 77, "vocab_size": WORDS, "width": 24, "heads": 3, "layers": 2}
    quick = model.config.text_config.hidden_act == "quick_gelu"
    return {**ARCHITECTURE, "text_cfg": text, "quick_gelu": quick}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_heads_from_hugging_faces_text_tower_are_those_of_transformers(
    tmp_path: Path, theirs: Any, prefix: str
) -> None:
    state = {prefix + name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "clip.safetensors")
    task = {"name": "pets", "classes": CLASSES, "templates": TEMPLATES}
    suite = load_suite(
        write_yaml(
            tmp_path,
            architecture=text_architecture(theirs),
            base="clip.safetensors",
            text_tower="clip.safetensors",
            tasks=[task],
        )
    )
    expected = []
    for name in CLASSES:
        tokens = open_clip.SimpleTokenizer()([template.format(name) for template in TEMPLATES])
        with torch.no_grad():
            pooled = theirs.text_model(input_ids=tokens).pooler_output
            features = torch.nn.functional.normalize(theirs.text_projection(pooled), dim=1)
        expected.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
    assert torch.allclose(load_head(suite, "pets"), torch.stack(expected), atol=1e-5)
    assert suite.text_checkpoint.layout.title == f"Hugging Face CLIPModel text tower under '{prefix}text_model.'"
    dropped = suite.text_checkpoint.layout.dropped
    assert f"{prefix}visual_projection.weight" in dropped and not any("text" in name for name in dropped)


def test_old_files_hold_a_buffer_that_is_ignored(tmp_path: Path, theirs: Any) -> None:
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    buffer = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(state | buffer, tmp_path / "clip.safetensors")
    found = open_checkpoint(tmp_path / "clip.safetensors", part="text")
    assert "text_model.embeddings.position_ids" in found.layout.dropped and "token_embedding.weight" in found
    assert torch.equal(found["text_projection"], state["text_projection.weight"].T)


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_open_clips_own_text_tower_is_read_beside_the_visual_one(tmp_path: Path, prefix: str) -> None:
    text = {"token_embedding.weight": torch.rand(3, 2), "transformer.resblocks.0.ln_1.bias": torch.rand(2)}
    visual = {f"visual.{name}": tensor for name, tensor in random_tower(1).items()}
    save_file({prefix + name: tensor for name, tensor in (text | visual).items()}, tmp_path / "clip.safetensors")
    found = open_checkpoint(tmp_path / "clip.safetensors", part="text")
    assert list(found) == sorted(text) and all(torch.equal(found[name], tensor) for name, tensor in text.items())
    assert len(found.layout.dropped) == len(visual)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_other_text_models_are_refused(tmp_path: Path, theirs: Any, change: str) -> None:
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    if change == "missing":
        del state["text_model.encoder.layers.1.mlp.fc1.bias"]
    else:
        state["text_model.adapter.weight"] = torch.ones(2)
    save_file(state, tmp_path / "clip.safetensors")
    name = "encoder.layers.1.mlp.fc1.bias" if change == "missing" else "adapter.weight"
    said = rf"1 tensor {'missing' if change == 'missing' else 'unexpected'} \('text_model.{name}'\); only"
    with pytest.raises(CheckpointError, match=rf"^clip\.safetensors: begins like .* CLIP text model, but has {said}"):
        open_checkpoint(tmp_path / "clip.safetensors", part="text")
