"""Heads from text are built once for what goes into them, and again when any of it changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from merging.core.errors import MissingPart
from merging.evaluation import clip
from merging.evaluation.heads import load_head
from merging.runs.jobs.check import check_suite
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, CLASSES, random_tower, write_arrays, write_yaml

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
Make = Callable[..., Suite]


def write_text_tower(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    state = open_clip.CLIP(**ARCHITECTURE, text_cfg=TEXT).state_dict()
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("visual.")}, path)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A suite with a text tower and a task without a head, with changes."""
    write_text_tower(tmp_path / "text.safetensors", 0)

    def suite(*, task: dict[str, Any] | None = None, **changes: Any) -> Suite:
        entry = {"name": "pets", "classes": ["cat", "dog"], **(task or {})}
        fields = {"architecture": {**ARCHITECTURE, "text_cfg": TEXT}, "text_tower": "text.safetensors", **changes}
        return load_suite(write_yaml(tmp_path, tasks=[entry], **fields))

    return suite


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks whose heads were built, in order."""
    real, built = clip.build_head, []

    def build(suite: Suite, task: str, device: torch.device | None = None) -> torch.Tensor:
        built.append(task)
        return real(suite, task, device)

    monkeypatch.setattr(clip, "build_head", build)
    return built


def test_a_head_is_built_once_and_read_back_exactly(make: Make, builds: list[str], tmp_path: Path) -> None:
    plain = load_head(make(), "pets")
    first = Workspace(tmp_path / "home").evaluator(make()).head("pets")
    again = Workspace(tmp_path / "home").evaluator(make(logit_scale=3.0, name="renamed")).head("pets")
    assert len(builds) == 2  # once without a cache, once with it
    assert torch.equal(plain, first) and torch.equal(first, again)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"classes": ["dog", "cat"]}},
        {"task": {"templates": ["a {}."]}},
        {"templates": ["a {}."]},
        {"architecture": {**ARCHITECTURE, "text_cfg": {**TEXT, "heads": 4}}},
    ],
)
def test_anything_that_goes_into_it_makes_another(
    make: Make, builds: list[str], tmp_path: Path, changes: dict[str, Any]
) -> None:
    before = load_head(make(), "pets", tmp_path / "cache")
    after = load_head(make(**changes), "pets", tmp_path / "cache")
    assert len(builds) == 2 and not torch.equal(before, after)
    assert torch.equal(after, load_head(make(**changes), "pets"))
    assert torch.equal(before, load_head(make(), "pets", tmp_path / "cache")) and len(builds) == 3


def test_another_text_tower_makes_another(make: Make, builds: list[str], tmp_path: Path) -> None:
    before = load_head(make(), "pets", tmp_path / "cache")
    write_text_tower(tmp_path / "text.safetensors", 1)
    assert not torch.equal(before, load_head(make(), "pets", tmp_path / "cache")) and len(builds) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_entry_is_built_again(make: Make, builds: list[str], tmp_path: Path, content: bytes) -> None:
    before = load_head(make(), "pets", tmp_path / "cache")
    (entry,) = (tmp_path / "cache" / "heads").iterdir()
    entry.write_bytes(content)
    assert torch.equal(before, load_head(make(), "pets", tmp_path / "cache")) and len(builds) == 2
    assert torch.equal(before, load_head(make(), "pets", tmp_path / "cache")) and len(builds) == 2


def test_nothing_is_kept_of_what_cannot_be_built(make: Make, tmp_path: Path) -> None:
    for suite in (make(task={"classes": []}), make(text_tower=None)):
        with pytest.raises(MissingPart, match="no head"):
            load_head(suite, "pets", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_check_builds_no_head_for_images_that_are_not_there(make: Make, builds: list[str], tmp_path: Path) -> None:
    save_file(random_tower(0), tmp_path / "base.safetensors")
    data = {"kind": "huggingface", "dataset": "zoo/pets"}
    report = check_suite(make(task={"data": data}))
    assert (
        builds == []
        and report.problems == 0
        and [row.file for row in report.files][-2:]
        == [
            "zoo/pets (val)",
            "zoo/pets (test)",
        ]
    )
    write_arrays(tmp_path / "pets.npz", np.random.default_rng(0))
    classes = [f"class {index}" for index in range(CLASSES)]
    report = check_suite(make(task={"classes": classes, "data": {"kind": "arrays", "path": "pets.npz"}}))
    assert builds == ["pets"] and "head from text" in [row.file for row in report.files]
