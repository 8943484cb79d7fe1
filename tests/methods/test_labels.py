"""What runs are called: published methods by their titles, other pairs by what makes them different."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.methods.pair import Pair
from merging.methods.presets import PRESETS, Preset
from merging.runs.jobs import MergeSpec
from merging.runs.leaderboard import spec_of

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
    edit: tuple[str, dict[str, Any]],
    merge: tuple[str, dict[str, Any]],
    other_edit: tuple[str, dict[str, Any]],
    other_merge: tuple[str, dict[str, Any]],
) -> None:
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
        ("none", {}, "task_arithmetic", {"weights": [1, -1]}, "Task Arithmetic · weights [1, −1]"),
    ],
)
def test_what_makes_a_method_different_is_said(
    edit: str, edit_params: dict[str, Any], merge: str, merge_params: dict[str, Any], label: str
) -> None:
    assert Pair.of(edit, edit_params, merge, merge_params).label == label


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
@pytest.mark.parametrize("changes", [{}, {"learning_rate": 0.5}, {"steps": 7}, {"keep": 0.35}, {"alpha": 0.9}])
def test_a_changed_setting_leaves_the_method_what_it_is(preset: Preset, changes: dict[str, Any]) -> None:
    fields = preset.spec_fields()
    for part in preset.pair.parts:
        known = part.stage.params.model_fields
        fields[f"{part.stage.kind}_params"] |= {key: value for key, value in changes.items() if key in known}
    assert MergeSpec.build(suite="any", tasks=("a", "b"), **fields).method == preset.title


@pytest.mark.parametrize(
    ("edit", "edit_params", "merge", "merge_params", "method"),
    [
        ("ties", {"keep": 0.1}, "task_arithmetic", {"scaling": 0.4}, "TIES"),
        ("none", {}, "task_arithmetic", {"weights": [1, -1]}, "Task Arithmetic"),
        ("none", {}, "adamerging", {"granularity": "task", "steps": 3}, "AdaMerging, task-wise"),
        ("consensus", {"total": "ties", "agree": 1}, "task_arithmetic", {}, "Consensus TIES"),
        ("awd", {"scope": "row"}, "tsv_m", {}, "AWD + TSV-M"),
    ],
)
def test_variants_belong_to_the_nearest_method(
    edit: str, edit_params: dict[str, Any], merge: str, merge_params: dict[str, Any], method: str
) -> None:
    spec = MergeSpec.build(
        suite="any", tasks=("a", "b"), edit=edit, edit_params=edit_params, merge=merge, merge_params=merge_params
    )
    assert spec.method == method


def test_where_vectors_are_held_is_in_no_name() -> None:
    """It changes no number, as the order of the sums is the same; how they are rounded does, and is in the name."""
    assert Pair.of("none", {}, "adamerging", {"held": "host"}).label == "AdaMerging"
    assert Pair.of("awd", {}, "adamerging", {"held": "host"}).label == "AWD + AdaMerging"
    assert "bfloat16" in Pair.of("none", {}, "adamerging", {"task_vectors": "bfloat16"}).label
