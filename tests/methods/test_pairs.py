"""Every edit with every merge: it runs, or it is refused with the reason."""

import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.core.errors import MergingError
from merging.methods import registry
from merging.methods.pair import Pair
from merging.methods.presets import PRESETS
from merging.methods.refusals import refusal
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.weights.files import open_checkpoint
from tests.carrying import execute

QUICK: dict[str, dict[str, Any]] = {
    "awd": {"steps": 10},
    "adamerging": {"steps": 2, "batch_size": 4},
    "doge": {"steps": 3},
    "wudi": {"steps": 3},
    "fisher": {"images": 2},
    "regmean": {"images": 2},
    "regmean_plus_plus": {"images": 2},
}
EDITS: list[tuple[str, dict[str, Any]]] = [
    *((name, QUICK.get(name, {})) for name in registry.edits()),
    ("ties", {"combine": "mean"}),
    ("doge", {"steps": 3, "scaled": False}),
    ("consensus", {"total": "ties"}),
]
REFUSED = {
    *((edit, "", "fisher") for edit in registry.edits() if edit != "none"),
    ("ties", "mean", "fisher"),
    ("ties", "mean", "regmean"),
    ("ties", "mean", "regmean_plus_plus"),
    ("ties", "mean", "average"),
    ("doge", "", "tall_masks"),
    ("parts", "", "average"),
    ("parts", "", "fisher"),
    ("parts", "", "regmean"),
    ("parts", "", "regmean_plus_plus"),
    ("doge", "", "average"),
    ("doge", "", "regmean"),
    ("doge", "", "regmean_plus_plus"),
    ("doge", "", "emr"),
    ("doge", "bare", "emr"),
    ("doge", "bare", "fisher"),
    ("doge", "bare", "tall_masks"),
    ("consensus", "", "tall_masks"),
    ("consensus", "ties", "fisher"),
    ("consensus", "ties", "tall_masks"),
}


def variant(values: dict[str, Any]) -> str:
    return "bare" if values.get("scaled") is False else str(values.get("combine", values.get("total", "")))


@pytest.mark.parametrize(("edit", "merge"), list(itertools.product(EDITS, registry.merges())), ids=str)
def test_every_pair_is_refused_with_the_reason_or_its_variants_run_to_finite_weights(
    suite_file: Path, workspace: Workspace, tmp_path: Path, edit: tuple[str, dict[str, Any]], merge: str
) -> None:
    name, values = edit
    fields = {"edit": name, "edit_params": values, "merge": merge, "merge_params": QUICK.get(merge, {})}
    choices = {"suite": str(suite_file), "tasks": ("digits", "leaves", "roads"), "device": "cpu", "evaluate": False}
    if (name, variant(values), merge) in REFUSED:
        titles = [registry.find("edit", name).title, registry.find("merge", merge).title]
        with pytest.raises(MergingError) as caught:
            MergeSpec.build(**choices, **fields)
        said = str(caught.value)
        assert all(title in said for title in titles) and len(said.split(": ", 1)[1]) > 60
        assert refusal(name, values, merge) in said
        return
    assert refusal(name, values, merge) == ""
    if not variant(values):
        return  # tests/runs/jobs/test_merge.py has all pairs of methods as they are
    output = tmp_path / "merged.safetensors"
    execute(MergeSpec.build(**choices, **fields), workspace, output=output)
    written = open_checkpoint(output, part="all")
    assert list(written)
    assert all(bool(torch.isfinite(written[one]).all()) for one in written if written[one].is_floating_point())


def test_no_published_method_is_refused() -> None:
    for one in PRESETS.values():
        edit, merge = one.pair.parts
        assert refusal(edit.name, edit.values, merge.name) == "", one.name


@pytest.mark.parametrize("text", ["merge=tsv_m", "edit=awd edit.alpha=0.2 merge=task_arithmetic", "merge=adamerging"])
def test_the_full_text_names_every_parameter_and_reads_as_the_same_pair(text: str) -> None:
    pair = Pair.read(text)
    assert Pair.read(pair.full_text) == pair
    named = {word.partition("=")[0] for word in shlex.split(pair.full_text)}
    silent = {f"merge.{name}" for name in pair.merge.stage.params.changing_nothing}
    assert (
        named - {"edit", "merge"}
        == {f"{part.stage.kind}.{name}" for part in pair.parts for name in part.values} - silent
    )
