"""Published methods by name, and the list of everything."""

import json
import re

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import SpecError
from merging.methods import registry
from merging.methods.catalogue import catalogue
from merging.methods.params import DataUse
from merging.methods.presets import PRESETS, find_preset
from merging.runs.jobs import MergeSpec


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_pair_with_a_paper(name: str) -> None:
    one = PRESETS[name]
    spec = MergeSpec.build(suite="any", tasks=("a", "b"), **one.spec_fields())
    assert spec.data == one.data
    assert one.paper.startswith("https://arxiv.org/abs/") != one.ours and one.name == name


def test_every_method_is_in_a_preset() -> None:
    lacking = "a method that is built in says where it was published: published= in its decorator"
    assert {one.pair.edit.name for one in PRESETS.values()} == set(registry.edits()), lacking
    assert {one.pair.merge.name for one in PRESETS.values()} == set(registry.merges()), lacking


def test_what_presets_look_at() -> None:
    assert not find_preset("tsv_m").data.images and not find_preset("doge_ta").data.images
    assert find_preset("adamerging_pp").data == DataUse("unlabeled")
    assert find_preset("tatr").data == DataUse("labelled", ("merge.scaling",))
    assert find_preset("iso_c").data == DataUse("none", ("merge.scaling",)) and find_preset("iso_c").data.images
    with pytest.raises(SpecError, match="unknown preset 'magic'; there are: average"):
        find_preset("magic")


def test_a_senseless_pair_is_refused_with_the_reason() -> None:
    with pytest.raises(SpecError, match="TIES and Fisher merging make no sense together: Fisher merging takes no edit"):
        MergeSpec.build(suite="any", tasks=("a",), edit="ties", merge="fisher")


def test_the_catalogue_is_complete_and_says_types_defaults_and_bounds() -> None:
    found = catalogue()
    assert {row["name"] for row in found["edits"]} == set(registry.edits())
    assert {row["name"] for row in found["merges"]} == set(registry.merges())
    assert [row["name"] for row in found["presets"]] == list(PRESETS)
    parameters = {
        p["name"]: p for row in found["merges"] if row["name"] == "task_arithmetic" for p in row["parameters"]
    }
    assert parameters["scaling"]["type"] == "number | list of number | auto"
    assert (parameters["scaling"]["default"], parameters["scaling"]["minimum"], parameters["scaling"]["maximum"]) == (
        0.3,
        -10,
        10,
    )
    for row in [*found["edits"], *found["merges"]]:
        method = registry.find("edit" if row in found["edits"] else "merge", row["name"])
        assert method.parse({p["name"]: p["default"] for p in row["parameters"]}) == method.parse({})


def test_the_command_says_what_data_is_needed() -> None:
    printed = CliRunner().invoke(main, ["methods"]).stdout
    methods, presets = printed.split("presets (merge SUITE --preset NAME):")

    def after(text: str, name: str) -> str:
        """The paragraph of a method, on one line."""
        return " ".join(re.split(r"\n  (?=\w)", text.split(f"\n  {name} ")[1])[0].split())

    assert "data needed: unlabeled, https" in after(methods, "regmean")
    found = after(presets, "consensus_ta")
    assert "data needed: none, edit.threshold and merge.scaling chosen on labelled validation images, https" in found
    assert "data needed: none, https" in after(presets, "wudi")
    assert "data needed: none, this project's own" in after(presets, "overlap")
    assert "data needed: unlabeled, https" in after(presets, "regmean")


def test_the_command_prints_the_catalogue() -> None:
    assert json.loads(CliRunner().invoke(main, ["methods", "--json"]).stdout) == catalogue()
    text = CliRunner().invoke(main, ["methods"]).stdout
    for name in (*registry.edits(), *registry.merges(), *PRESETS):
        assert f"  {name} " in text
