"""The ``config.json`` with which transformers loads weights that are written in Hugging Face's layout."""

import json
from pathlib import Path

from pydantic import ValidationError

from merging.core.errors import CheckpointError
from merging.evaluation import clip
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.suites.inline import VisionConfig
from merging.suites.suite import Suite
from merging.weights.files.layouts import PROJECTION
from merging.weights.files.writing import Form, WrittenDtype

CONFIG = "config.json"
_MAX_BYTES = 2**20
# What transformers' CLIP vision model can be told; every other property of a tower must be the usual one.
_TOLD = {"layers", "width", "head_width", "patch_size", "image_size", "mlp_ratio", "patch_dropout", "output_tokens"}


def config_text(suite: Suite, dtype: WrittenDtype = "as-base") -> str:
    """A ``CLIPVisionConfig`` for towers of a suite's architecture, as JSON.

    Raises:
        CheckpointError: transformers' CLIP has no such tower.
    """
    architecture = clip.config(suite)
    try:
        vision = VisionConfig.model_validate(architecture["vision_cfg"])
    except ValidationError:
        raise _refusal(suite, "its architecture is none of CLIP's") from None
    norm = vision.norm_kwargs or {}
    told = _TOLD | ({"norm_kwargs"} if norm.keys() <= {"eps"} else set())
    odd = [name for name, field in VisionConfig.model_fields.items() if name not in told
           and getattr(vision, name) != field.default]  # fmt: skip
    if odd:
        raise _refusal(suite, f"vision_cfg.{odd[0]} = {getattr(vision, odd[0])!r} has no counterpart there")
    layers, size = vision.layers, vision.image_size
    if not isinstance(layers, int) or not isinstance(size, int):
        raise _refusal(suite, "it is no vision transformer on square images")
    base = suite.base_checkpoint
    stored = sorted({str(info.dtype).removeprefix("torch.") for info in base.infos.values() if info.floating})
    content = {
        "architectures": ["CLIPVisionModelWithProjection" if PROJECTION in base.infos else "CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "hidden_size": vision.width,
        "intermediate_size": int(vision.width * vision.mlp_ratio),
        "num_hidden_layers": layers,
        "num_attention_heads": vision.width // vision.head_width,
        "num_channels": 3,
        "image_size": size,
        "patch_size": vision.patch_size,
        "hidden_act": "quick_gelu" if architecture.get("quick_gelu") else "gelu",
        "layer_norm_eps": norm.get("eps", 1e-5),
        "projection_dim": architecture["embed_dim"],
        "torch_dtype": dtype if dtype != "as-base" else stored[0] if len(stored) == 1 else "float32",
    }
    return json.dumps(content, indent=2) + "\n"


def _refusal(suite: Suite, why: str) -> CheckpointError:
    return CheckpointError(
        f"suite {suite.name!r}: this tower can't be written in Hugging Face's layout: {why}; write it in open_clip's"
    )


def config_beside(output: Path, suite: Suite, form: Form) -> tuple[Path, str] | None:
    """Where to write which ``config.json`` with a file of weights; None where transformers would not look for it.

    Raises:
        CheckpointError: another one lies there.
    """
    if form.layout != "huggingface" or output.name != KEPT_WEIGHTS:
        return None
    place, text = output.with_name(CONFIG), config_text(suite, form.dtype)
    try:
        same = not place.exists() or (place.stat().st_size <= _MAX_BYTES and place.read_text(encoding="utf-8") == text)
    except (OSError, ValueError):
        same = False
    if not same:
        raise CheckpointError(
            f"{CONFIG}: another one lies beside {output.name} and would be lost; choose another folder, or remove it"
        )
    return place, text
