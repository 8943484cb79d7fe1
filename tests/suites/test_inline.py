"""Architectures written out in suite.yaml: every wrong value is named with its place and what was expected."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from merging.core.errors import SuiteError
from merging.evaluation.assumptions import assumptions
from merging.evaluation.clip import build_tower
from merging.suites import load_suite
from merging.suites.inline import InlineArchitecture, TextConfig, VisionConfig
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, write_yaml

WRONG: list[tuple[str, str, object, str]] = [
    ("vision_cfg", "width", "big", "a whole number"),
    ("vision_cfg", "width", None, "a whole number"),
    ("vision_cfg", "width", -4, "above 0"),
    ("vision_cfg", "width", 1.5, "a whole number"),
    ("vision_cfg", "width", True, "a whole number"),
    ("vision_cfg", "width", [32], "a whole number"),
    ("vision_cfg", "head_width", 0, "above 0"),
    ("vision_cfg", "layers", 1_000_000, "at most 1000"),
    ("vision_cfg", "image_size", "224", "a whole number"),
    ("vision_cfg", "patch_size", {"a": 1}, "a whole number"),
    ("vision_cfg", "mlp_ratio", "four", "a number"),
    ("vision_cfg", "mlp_ratio", float("nan"), "a finite number"),
    ("vision_cfg", "mlp_ratio", 0, "above 0"),
    ("vision_cfg", "patch_dropout", 1, "below 1"),
    ("vision_cfg", "qk_norm", "yes", "true or false"),
    ("vision_cfg", "pool_type", "max", "'tok', 'avg' or 'none'"),
    ("vision_cfg", "pos_embed_type", 3, "'learnable' or 'sin_cos_2d'"),
    ("vision_cfg", "timm_model_name", 3, "text"),
    ("vision_cfg", "norm_kwargs", 3, "names with values"),
    ("text_cfg", "context_length", "long", "a whole number"),
    ("text_cfg", "heads", 0, "above 0"),
    ("text_cfg", "layers", 1001, "at most 1000"),
    ("text_cfg", "pool_type", "whole", "'first', 'last', 'argmax', 'eos' or 'none'"),
]


@pytest.mark.parametrize(("part", "key", "value", "expected"), WRONG)
def test_a_wrong_value_is_named_with_what_was_expected(
    tmp_path: Path, part: str, key: str, value: object, expected: str
) -> None:
    architecture = {**ARCHITECTURE, part: {**ARCHITECTURE.get(part, {}), key: value}}
    with pytest.raises(SuiteError) as caught:
        load_suite(write_yaml(tmp_path, architecture=architecture))
    assert str(caught.value) == f"suite.yaml: architecture.{part}.{key} = {value!r}: must be {expected}"


def test_a_mistyped_name_is_not_ignored(tmp_path: Path) -> None:
    architecture = {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], "depth": 3}}
    with pytest.raises(SuiteError, match=r"architecture\.vision_cfg\.depth: unknown name"):
        load_suite(write_yaml(tmp_path, architecture=architecture))


def test_heads_that_nothing_says_are_asked_for(own_suite: Path) -> None:
    """Before: 96 / 64 gave one head as wide as the tower, and 32 / 64 none."""
    vision = {name: value for name, value in ARCHITECTURE["vision_cfg"].items() if name != "head_width"}
    write_yaml(own_suite, architecture={**ARCHITECTURE, "vision_cfg": vision})
    suite = load_suite(own_suite)
    asked = r"vision_cfg\.width = 32: no multiple of 64, .*; write vision_cfg\.head_width, or heads beside"
    with pytest.raises(SuiteError, match=asked):
        build_tower(suite, torch.device("cpu"))
    assert any(re.search(asked, warning) for warning in assumptions(suite).warnings)
    write_yaml(own_suite, architecture={**ARCHITECTURE, "vision_cfg": vision}, heads=2)
    tower = build_tower(load_suite(own_suite), torch.device("cpu"))
    assert tower.transformer.resblocks[0].attn.num_heads == 2  # type: ignore[union-attr, index]
    assert not assumptions(load_suite(own_suite)).warnings


@pytest.mark.parametrize(
    ("ours", "theirs"), [(VisionConfig, open_clip.CLIPVisionCfg), (TextConfig, open_clip.CLIPTextCfg)]
)
def test_fields_and_defaults_are_open_clips(ours: type[BaseModel], theirs: type[Any]) -> None:
    assert ours().model_dump() == dataclasses.asdict(theirs())


@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_architecture_of_open_clip_may_be_written_out(name: str) -> None:
    found = InlineArchitecture.model_validate(open_clip.get_model_config(name))
    assert not found.contradiction()
