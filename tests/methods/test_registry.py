"""The table of methods and the messages about their parameters."""

from dataclasses import replace
from typing import Literal

import pytest

from merging.core.errors import SpecError
from merging.methods import registry
from merging.methods.planned import LinearEdit
from merging.methods.registry import find
from merging.runs.jobs import MergeSpec
from merging.weights.vectors import TaskVectors

ALL = [*registry.edits().values(), *registry.merges().values()]


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.kind} {method.name}")
def test_every_method_explains_itself(method: registry.Stage) -> None:
    assert method.title
    assert method.summary.endswith(".")
    assert method.paper == "" or method.paper.startswith("https://arxiv.org/abs/")
    assert method.params.__doc__
    method.parse({})  # defaults are valid
    for values in method.presets.values():
        method.parse(values)


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.kind} {method.name}")
def test_every_parameter_has_help_a_default_and_bounds(method: registry.Stage) -> None:
    for name, field in method.params.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name
    for schema in method.params.model_json_schema().get("properties", {}).values():
        for choice in schema.get("anyOf", [schema]):
            if choice.get("type") in ("number", "integer"):
                assert "maximum" in choice or "exclusiveMaximum" in choice
                assert "minimum" in choice or "exclusiveMinimum" in choice


def test_no_edit_comes_first() -> None:
    assert next(iter(registry.edits())) == "none"


@pytest.mark.parametrize("name", ["nonsense", "", "AWD", 3, None, ["awd"]])
def test_an_unknown_method_lists_the_known_ones(name: object) -> None:
    with pytest.raises(SpecError, match=r"unknown edit .* there are: none, awd, .*ties"):
        registry.find("edit", name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "values", "message"),
    [
        ("edit", "awd", {"alpha": -5}, "edit.alpha = -5: must be at least 0; "),
        ("edit", "awd", {"alpha": 10.5}, "edit.alpha = 10.5: must be at most 10; "),
        ("edit", "awd", {"beta": 0}, "edit.beta = 0: must be above 0; "),
        ("edit", "dare", {"drop": 1}, "edit.drop = 1: must be below 1; "),
        ("edit", "awd", {"alpha": "much"}, "edit.alpha = 'much': must be a number; "),
        ("edit", "awd", {"alpha": float("inf")}, "edit.alpha = inf: must be a finite number; "),
        ("edit", "awd", {"steps": 2.5}, "edit.steps = 2.5: must be a whole number; "),
        ("edit", "awd", {"steps": "many"}, "edit.steps = 'many': must be a whole number; "),
        ("edit", "awd", {"steps": None}, "edit.steps = None: must be a whole number; "),
        ("edit", "awd", {"scope": "head"}, "edit.scope = 'head': must be 'model', 'layer' or 'row'; "),
        ("merge", "adamerging", {"clamp": "perhaps"}, "merge.clamp = 'perhaps': must be true or false; "),
        (
            "merge",
            "task_arithmetic",
            {"scaling": "much"},
            "merge.scaling = 'much': must be a number or a list or 'auto'; ",
        ),
        ("merge", "task_arithmetic", {"scaling": -11}, "merge.scaling = -11: must be at least -10; "),
        ("merge", "task_arithmetic", {"scaling": [1, 99]}, "merge.scaling.1 = 99: must be at most 10; "),
        ("merge", "task_arithmetic", {"weights": [None, 1]}, "merge.weights.0 = None: must be a number; "),
        (
            "edit",
            "awd",
            {"alpha": -1, "steps": -1},
            "edit.alpha = -1: must be at least 0; edit.steps = -1: must be at least 0; ",
        ),
        ("edit", "awd", {"alhpa": 1}, "edit.alhpa: unknown name (did you mean 'alpha'?); parameters of edit 'awd': sc"),
        ("edit", "awd", {"zzz": 1}, "edit.zzz: unknown name; parameters of edit 'awd': scope, solver, alpha, beta, "),
        ("merge", "average", {"scaling": 1}, "merge.scaling: unknown name; parameters of merge 'average': none"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_it_must_be(
    kind: Literal["edit", "merge"], name: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        registry.find(kind, name).parse(values)
    assert str(caught.value).startswith(message), caught.value


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.kind} {method.name}")
def test_no_wording_of_pydantic_shows_through(method: registry.Stage) -> None:
    wrong = [-1e9, 1e9, float("nan"), float("inf"), 0.5, "text", "", None, True, [], [None], {}, (1, "x"), object()]
    for field in (*method.params.model_fields, "unknown"):
        for value in wrong:
            try:
                method.parse({field: value})
            except SpecError as error:
                said = str(error)
                assert said.startswith(f"{method.kind}.{field}")
                for word in ("Input", "should", "valid ", "String", "Extra", "permitted", "unable", "tuple["):
                    assert word not in said, said


def test_nearly_right_names_are_offered() -> None:
    with pytest.raises(SpecError, match=r"unknown edit 'tise' \(did you mean 'ties'\?\); there are: none, "):
        registry.find("edit", "tise")
    with pytest.raises(SpecError, match=r"unknown merge 'avrage' \(did you mean 'average'\?\)"):
        registry.find("merge", "avrage")


def test_parameters_are_frozen_and_finite() -> None:
    params = registry.find("edit", "awd").parse({})
    with pytest.raises(ValueError, match="frozen"):
        params.alpha = 3
    for value in (float("nan"), float("inf")):
        with pytest.raises(SpecError):
            registry.find("merge", "adamerging").parse({"learning_rate": value})


def test_a_linear_edit_leaves_unlisted_tensors_alone(vectors: TaskVectors) -> None:
    base, stack = vectors.stack("proj")
    assert LinearEdit({})("proj", base, stack) is stack


# --- specifications --------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in_and_survive_json() -> None:
    spec = MergeSpec.build(suite="mini", tasks=("a", "b"), edit="awd", edit_params={"alpha": 0.5})
    assert spec.edit_params["alpha"] == 0.5
    assert spec.edit_params["steps"] == 300
    assert spec.merge_params == {"scaling": 0.3}
    assert MergeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.label == "AWD + Task Arithmetic · alpha 0.5"
    assert MergeSpec.build(suite="mini", tasks=("a",), merge="average").label == "Weight averaging"


@pytest.mark.parametrize(
    "values",
    [
        {"tasks": ()},
        {"tasks": "ab"},
        {"seed": -1},
        {"seed": 2**32},
        {"split": "train"},
        {"dtype": "int8"},
        {"edit": "nonsense"},
        {"merge": 7},
        {"edit": ["awd"]},
        {"edit_params": [1, 2]},
        {"edit_params": "alpha"},
        {"merge_params": {"scaling": {}}},
        {"verbose": True},
        {"suite": None},
    ],
)
def test_what_is_wrong_with_a_specification_is_one_error_of_ours(values: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        MergeSpec.build(**({"suite": "mini", "tasks": ("a",)} | values))


def test_the_fingerprint_follows_everything_but_the_name_of_the_suite() -> None:
    spec = MergeSpec.build(suite="mini", tasks=("a", "b"))
    files = ["f1", "f2"]
    assert spec.identity(files) == spec.identity(files)
    assert spec.identity(files) == spec.model_copy(update={"suite": "copy"}).identity(files)
    explicit = MergeSpec.build(suite="mini", tasks=("a", "b"), merge_params={"scaling": 0.3})
    assert spec.identity(files) == explicit.identity(files)
    changes = [
        {"tasks": ("b", "a")},
        {"seed": 1},
        {"split": "val"},
        {"dtype": "bfloat16"},
        {"merge_params": {"scaling": 0.4}},
        {"edit": "ties"},
        {"evaluate": False},
    ]
    others = [
        MergeSpec.build(**({"suite": "mini", "tasks": ("a", "b")} | change)).identity(files) for change in changes
    ]
    assert len({spec.identity(files), spec.identity(["f1", "f3"]), *others}) == len(changes) + 2


def test_a_merge_that_computes_anew_forgets_its_own_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprints() -> list[str]:
        return [MergeSpec(suite="s", tasks=("t",), merge=merge).identity([]) for merge in ("tsv_m", "iso_c")]

    before = fingerprints()
    changed = replace(find("merge", "iso_c"), revisions=(registry.Revision("rounded"),))
    monkeypatch.setitem(registry._MERGES, "iso_c", changed)
    after = fingerprints()
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_an_edit_that_computes_anew_forgets_its_own_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [MergeSpec(suite="s", tasks=("t",), edit=edit, merge="tsv_m") for edit in ("ties", "dare")]
    before = [spec.identity([]) for spec in specs]
    monkeypatch.setitem(registry._EDITS, "ties", replace(find("edit", "ties"), revisions=(registry.Revision("x"),)))
    after = [spec.identity([]) for spec in specs]
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("edit", "merge", "recorded", "earlier"),
    [
        ({"edit": "doge"}, "task_arithmetic", None, "DOGE, which merged all other tensors as well"),
        ({"edit": "doge"}, "task_arithmetic", {}, "DOGE, which merged all other tensors as well"),
        ({"edit": "doge"}, "task_arithmetic", {"edit": 1}, ""),
        ({"edit": "doge", "edit_params": {"layers": "everything"}}, "task_arithmetic", None, ""),
        ({}, "iso_cts", None, ""),  # was changed before runs recorded it
        ({}, "iso_cts", {}, "Iso-CTS, which rounded"),
        ({}, "iso_cts", {"merge": 1}, ""),
        ({"edit": "ties"}, "tsv_m", None, ""),
    ],
)
def test_what_an_earlier_version_did_otherwise_is_said(
    edit: dict[str, object], merge: str, recorded: dict[str, int] | None, earlier: str
) -> None:
    found = MergeSpec(suite="s", tasks=("t",), merge=merge, **edit).pair.outdated(recorded)
    assert found.startswith(f"computed by an earlier version of {earlier}") if earlier else found == ""


@pytest.mark.parametrize(("merge", "name"), [("task_arithmetic", "scaling"), ("adamerging", "steps")])
def test_truth_values_are_no_numbers(merge: str, name: str) -> None:
    with pytest.raises(SpecError, match=f"{name} = True: must be a number or a name"):
        find("merge", merge).parse({name: True})
