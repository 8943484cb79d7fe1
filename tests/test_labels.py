"""What runs are called: published methods by their titles, other pairs by what makes them different."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.labels import label_of
from merging.leaderboard import spec_of
from merging.pipeline import MergeSpec
from merging.presets import PRESETS, Preset

# A few values of every kind: published ones, defaults and others.
VALUES: dict[tuple[str, str], dict[str, list[Any]]] = {
    ("edit", "none"): {},
    ("edit", "ties"): {"keep": [0.2, 0.1], "combine": ["sum", "mean"]},
    ("edit", "consensus"): {"threshold": ["auto", 0.4, 0.5], "total": ["sum", "ties"]},
    ("edit", "trust_region"): {"sensitivity": ["gradient", "zero_shot"]},
    ("edit", "doge"): {"scaled": [True, False]},
    ("merge", "task_arithmetic"): {"scaling": ["auto", 0.3, 0.5], "weights": [1.0, -1.0]},
    ("merge", "adamerging"): {"granularity": ["task", "layer"], "steps": [500, 20]},
    ("merge", "tall_masks"): {"threshold": ["auto", 0.4]},
    ("merge", "wudi"): {"solver": ["adam", "closed_form"], "scaling": ["auto", 1.0, 0.4]},
}


def stages(kind: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    def of(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        options = {key: st.sampled_from(values) for key, values in VALUES[kind, name].items()}
        return st.tuples(st.just(name), st.fixed_dictionaries({}, optional=options))

    return st.sampled_from([name for one, name in VALUES if one == kind]).flatmap(of)


def built(edit: tuple[str, dict[str, Any]], merge: tuple[str, dict[str, Any]]) -> MergeSpec:
    if merge[0] == "tall_masks":
        edit = ("none", {})
    return MergeSpec.build(
        suite="any", tasks=("a",), edit=edit[0], edit_params=edit[1], merge=merge[0], merge_params=merge[1]
    )


def without_scaling(spec: MergeSpec) -> Any:
    merge = {name: value for name, value in spec.merge_params.items() if name != "scaling"}
    return spec.edit, spec.edit_params, spec.merge, merge


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_published_method_has_its_title_whatever_its_scaling(preset: Preset) -> None:
    spec = MergeSpec.build(suite="any", tasks=("a", "b"), **preset.spec_fields())
    assert spec.label == preset.title == spec_of(preset, "any", ("a", "b"), "cpu").label
    if "scaling" in spec.merge_params:
        changed = spec.model_copy(update={"merge_params": {**spec.merge_params, "scaling": 0.45}})
        assert MergeSpec.build(**changed.model_dump()).label == preset.title


@given(stages("edit"), stages("merge"), stages("edit"), stages("merge"))
def test_labels_are_the_same_exactly_where_all_but_scaling_is(
    edit: tuple[str, dict[str, Any]], merge: tuple[str, dict[str, Any]],
    other_edit: tuple[str, dict[str, Any]], other_merge: tuple[str, dict[str, Any]],
) -> None:  # fmt: skip
    one, other = built(edit, merge), built(other_edit, other_merge)
    assert (one.label == other.label) == (without_scaling(one) == without_scaling(other))


@pytest.mark.parametrize(
    ("edit", "edit_params", "merge", "merge_params", "label"),
    [
        ("none", {}, "adamerging", {"granularity": "task"}, "AdaMerging, task-wise"),
        ("none", {}, "adamerging", {"steps": 20}, "AdaMerging · steps 20"),
        ("none", {}, "tall_masks", {}, "TALL masks (localised) · threshold 0.4"),
        ("consensus", {"threshold": "auto", "total": "ties"}, "task_arithmetic", {}, "Consensus TIES"),
        ("consensus", {"total": "ties"}, "task_arithmetic", {}, "Consensus + Task Arithmetic · total ties"),
        ("awd", {"scope": "row"}, "tsv_m", {"scaling": "auto"}, "AWD + TSV-M · scope row"),
        ("none", {}, "task_arithmetic", {"weights": [1, -1]}, "Task Arithmetic · weights [1, -1]"),
    ],
)
def test_what_makes_a_method_different_is_said(
    edit: str, edit_params: dict[str, Any], merge: str, merge_params: dict[str, Any], label: str
) -> None:
    assert label_of(edit, edit_params, merge, merge_params) == label
