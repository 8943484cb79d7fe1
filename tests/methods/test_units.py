"""Settings made for the size of CLIP's task vectors: what is done about other sizes, and what old runs mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.methods import registry
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import Plan, plan
from merging.methods.presets import PRESETS
from merging.methods.spec import Spec
from merging.methods.units import CLIP_SPREAD
from merging.weights import spectra
from merging.weights.vectors import TaskVectors
from tests.random_models import SHAPES, random_state, write_models

# All of a stage's parameters, as specifications of versions without `by_size` hold them.
COMPLETE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "wudi": ("merge", "wudi", {"solver": "adam", "steps": 3, "learning_rate": 1e-5, "ridge": 0.01, "scaling": 1.0}),
    "doge": (
        "edit",
        "doge",
        {"steps": 3, "learning_rate": 1e-4, "shared": 0.3, "keep": 0.3, "strength": 0.07, "scaled": True},
    ),
    "awd": (
        "edit",
        "awd",
        {"scope": "layer", "solver": "adam", "alpha": 0.1, "beta": 1e-5, "steps": 3, "tensors": "all"},
    ),
}
each = pytest.mark.parametrize("method", COMPLETE)


def pair_of(method: str, **changes: Any) -> Pair:
    kind, name, values = COMPLETE[method]
    return Pair.of(**{kind: name, f"{kind}_params": {**values, **changes}})


@pytest.fixture
def sized(tmp_path: Path) -> Callable[[float], TaskVectors]:
    """Models whose task vectors are so many times as large as CLIP's, entry by entry."""

    def make(times: float) -> TaskVectors:
        base = random_state(0)
        taus = [random_state(1 + task, SHAPES, times * CLIP_SPREAD) for task in range(3)]
        models = [{name: base[name] + tau[name] for name in base} for tau in taus]
        return write_models(tmp_path / f"{times}", base, models)

    return make


def told(planned: Plan, method: str) -> dict[str, Any]:
    return planned.merge.report if COMPLETE[method][0] == "merge" else planned.edit.report


@each
@pytest.mark.parametrize(
    ("times", "comes_to"),
    [(1.0, "published"), (3.0, "published"), (6.0, "relative"), (0.3, "published"), (0.2, "relative")],
)
def test_size_decides_and_the_run_says_so(
    sized: Callable[[float], TaskVectors], method: str, times: float, comes_to: str
) -> None:
    vectors = sized(times)
    planned = plan(vectors, pair_of(method, units="by_size"), Context())
    same = plan(vectors, pair_of(method, units=comes_to), Context())
    report = told(planned, method)
    assert report["units"] == comes_to and report["units_asked"] == "by_size"
    assert report["size"] == pytest.approx(times, rel=0.1)
    assert ("carried over" in report["units_because"]) == (comes_to == "relative")
    assert report["units_because"].endswith("(units=by_size)")
    for (name, one), (_, other) in zip(planned.tensors(), same.tensors(), strict=True):
        assert torch.equal(one, other), name


def test_an_edit_before_the_merge_does_not_change_the_size(sized: Callable[[float], TaskVectors]) -> None:
    pair = Pair.of("ties", {"keep": 0.02}, "wudi", {**COMPLETE["wudi"][2], "units": "by_size"})
    assert plan(sized(1.0), pair, Context()).merge.report["size"] == pytest.approx(1.0, rel=0.1)


@each
def test_specifications_of_earlier_versions_mean_the_published_settings(method: str) -> None:
    kind, name, values = COMPLETE[method]
    stage = registry.find(kind, name)  # type: ignore[arg-type]
    assert stage.parse(values).model_dump() == values  # and are stored, and known, as they were
    assert stage.parse(values).units == "published"  # type: ignore[attr-defined]
    some = {one: value for one, value in values.items() if one != "steps"}
    assert stage.parse(some).units == "by_size"  # type: ignore[attr-defined]
    for units in ("published", "by_size", "relative"):
        pair = pair_of(method, units=units)
        spec = Spec.build(suite="any", tasks=("a",), **pair.fields)
        again = Spec.model_validate_json(spec.model_dump_json())
        assert Pair.read(pair.text) == again.pair == spec.pair == pair
        assert ("units" in spec.model_dump()[f"{kind}_params"]) == (units != "published")
        assert f"units={units}" in pair.text or units == "by_size"


@pytest.mark.parametrize(
    "settings", ["merge=wudi merge.solver=closed_form", "edit=awd", "edit=awd edit.scope=row edit.solver=exact"]
)
def test_where_nothing_has_a_unit_it_makes_no_other_method(settings: str) -> None:
    stage = "edit" if "edit=" in settings else "merge"
    one = Pair.read(settings)
    assert one == Pair.read(f"{settings} {stage}.units=by_size") == Pair.read(f"{settings} {stage}.units=published")
    assert "units" not in one.text and "units" not in one.label


def test_presets_keep_published_settings_and_labels_tell_them_from_others() -> None:
    for preset in PRESETS.values():
        for part in preset.pair.parts:
            assert getattr(part.params, "units", "published") == "published", preset.name
    labels = [pair_of("wudi", steps=300, units=units).label for units in ("published", "by_size", "relative")]
    assert labels == ["WUDI", "WUDI · units by_size", "WUDI · units relative"]
    other = [Pair.of("doge", {"units": units}, "tsv_m").label for units in ("published", "by_size")]
    assert other == ["DOGE + TSV-M", "DOGE + TSV-M · units by_size"]


@pytest.mark.parametrize("method", ["wudi", "doge"])
def test_what_a_gpu_takes_together_is_carried_over_as_well(
    sized: Callable[[float], TaskVectors], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    vectors = sized(40.0)
    alone = plan(vectors, pair_of(method, units="relative"), Context())
    found = dict(alone.tensors())
    monkeypatch.setattr(spectra, "multiplies", lambda device: True)
    monkeypatch.setattr("merging.methods.merges.wudi.multiplies", lambda device: True)
    together = plan(vectors, pair_of(method, units="relative"), Context())
    assert told(together, method)["times_clip"] and told(together, method)["times_clip"] == pytest.approx(
        told(alone, method)["times_clip"]
    )
    for name, tensor in together.tensors():
        scale = float((found[name] - vectors.base[name]).abs().max()) + 1e-9
        torch.testing.assert_close(tensor, found[name], rtol=0, atol=2e-3 * scale)
