"""Architectures seen from shapes, against the towers that open_clip builds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import MismatchedCheckpoint
from merging.suites.architecture import ACTIVATIONS, NAMED, tower_of
from tests.lightly import open_clip
from tests.random_models import SHAPES

TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(config: dict) -> Shapes:
    """Names and shapes of the tower that open_clip builds, without drawing its weights."""
    chosen = {key: config[key] for key in ("embed_dim", "vision_cfg")}
    with torch.device("meta"):
        tower = open_clip.CLIP(**chosen, text_cfg=TEXT).visual
    return {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}


@pytest.mark.parametrize("name", NAMED)
def test_published_architectures_are_known_by_name(name: str) -> None:
    config = open_clip.get_model_config(name)
    shapes, vision = shapes_of(config), config["vision_cfg"]
    tower = tower_of(shapes)
    assert tower == NAMED[name] and tower.label.startswith(name)
    heads = vision["width"] // vision.get("head_width", 64)  # 64 is open_clip's default
    assert tower.usual_heads == heads
    for activation in ACTIVATIONS:
        fields = tower.fields(heads, activation, {})
        known = open_clip.get_model_config(fields["architecture"])
        assert {key: known[key] for key in ("embed_dim", "vision_cfg")} == {
            key: config[key] for key in ("embed_dim", "vision_cfg")
        }
        assert fields.get("activation", "quick_gelu" if known.get("quick_gelu") else "gelu") == activation
    assert tower.fields(heads, "gelu", {"norm_kwargs": {"eps": 1e-6}})["architecture"]["vision_cfg"]["norm_kwargs"]
    assert isinstance(tower.fields(1, "gelu", {})["architecture"], dict)  # such heads are not those of the name
    del shapes["proj"]
    assert tower_of(shapes).fields(heads, "gelu", {})["architecture"] == name


@pytest.mark.parametrize("name", ["ViT-L-14-280", "ViT-S-16", "ViT-B-32-plus-256", "ViT-H-16"])
def test_neighbours_of_the_published_ones_are_not_taken_for_them(name: str) -> None:
    config = open_clip.get_model_config(name)
    tower, vision = tower_of(shapes_of(config)), config["vision_cfg"]
    assert tower.name is None and tower.usual_heads == vision["width"] // vision.get("head_width", 64)


@given(
    st.integers(1, 3),
    st.sampled_from([16, 24, 32, 64, 96, 128]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([1.0, 2.0, 4.0, 4.362]),
    st.integers(1, 9),
)
def test_what_is_written_builds_a_tower_of_the_same_shapes(
    layers: int, width: int, patch: int, grid: int, ratio: float, embed_dim: int
) -> None:
    vision = {
        "image_size": patch * grid,
        "layers": layers,
        "width": width,
        "head_width": 8,
        "patch_size": patch,
        "mlp_ratio": ratio,
    }
    shapes = shapes_of({"embed_dim": embed_dim, "vision_cfg": vision})
    found = tower_of(shapes).fields(width // 8, "quick_gelu", {})["architecture"]
    assert isinstance(found, dict) and found["quick_gelu"] and found["vision_cfg"]["head_width"] == 8
    assert shapes_of(found) == shapes
    assert found["vision_cfg"]["image_size"] == patch * grid


def test_what_is_no_vision_transformer_is_refused() -> None:
    tower = shapes_of({"embed_dim": 4, "vision_cfg": {"image_size": 8, "layers": 1, "width": 64, "patch_size": 4}})
    for shapes, reason in (
        (SHAPES, r"lacks \['positional_embedding'\]"),
        ({}, "lacks"),
        ({**tower, "positional_embedding": (4, 64)}, "3 of them"),
        ({**tower, "positional_embedding": (1, 64)}, "0 of them"),
        ({**tower, "conv1.weight": (64, 3, 4, 8)}, "expected squares"),
    ):
        with pytest.raises(MismatchedCheckpoint, match=reason):
            tower_of(shapes)
    del tower["proj"]
    with pytest.raises(MismatchedCheckpoint, match="embed_dim is unknown"):
        tower_of(tower).fields(1, "gelu", {})
