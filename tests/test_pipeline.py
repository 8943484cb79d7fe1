"""Whole merges: properties that every pair of methods must have, and pinned numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merging import registry
from merging.context import Context
from merging.errors import Cancelled, NonFiniteWeights, SpecError
from merging.geometry import measure
from merging.pipeline import MergeSpec, Plan, plan, replay
from merging.suites import Suite
from merging.vectors import TaskVectors
from tests.random_models import SHAPES, random_state, write_models

EDITS: dict[str, tuple[str, dict[str, object]]] = {
    "none": ("none", {}),
    "awd model": ("awd", {"steps": 40}),
    "awd exact": ("awd", {"steps": 40, "solver": "exact"}),
    "awd layer": ("awd", {"steps": 40, "scope": "layer"}),
    "awd row": ("awd", {"steps": 40, "scope": "row"}),
    "awd adam": ("awd", {"steps": 10, "solver": "adam", "beta": 1e-3}),
    "ties": ("ties", {"keep": 0.4}),
    "ties mean": ("ties", {"keep": 0.4, "combine": "mean"}),
}
DATA_FREE: dict[str, tuple[str, dict[str, object]]] = {
    "average": ("average", {}),
    "task arithmetic": ("task_arithmetic", {"scaling": 0.3}),
}
LINEAR = ("none", "awd model", "awd exact", "awd layer")

every_edit = pytest.mark.parametrize("edit", EDITS)
every_merge = pytest.mark.parametrize("merge", DATA_FREE)


def spec_of(tasks: tuple[str, ...], edit: str = "none", merge: str = "task arithmetic", **changes: object) -> MergeSpec:
    (edit_name, edit_params), (merge_name, merge_params) = EDITS[edit], DATA_FREE[merge]
    values = {"edit": edit_name, "edit_params": edit_params, "merge": merge_name, "merge_params": merge_params}
    return MergeSpec.build(suite="none", tasks=tasks, **(values | changes))


def merged(vectors: TaskVectors, spec: MergeSpec, context: Context | None = None) -> dict[str, torch.Tensor]:
    context = context or Context()
    return dict(plan(vectors, spec, context).tensors(context))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert list(found) == sorted(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)


def test_every_registered_method_is_tried_here() -> None:
    """A method that is added must be added to these properties too."""
    assert {name for name, _ in EDITS.values()} == set(registry.edits())
    assert {name for name, _ in DATA_FREE.values()} | {"adamerging"} == set(registry.merges())


@every_edit
@pytest.mark.parametrize("merge", DATA_FREE)
def test_one_task_with_scaling_one_gives_its_model_back(
    make_vectors: Callable[..., TaskVectors], edit: str, merge: str
) -> None:
    vectors = make_vectors(tasks=1)
    edit_params = {**EDITS[edit][1], **({"keep": 1.0} if edit.startswith("ties") else {})}
    merge_params = {"scaling": 1.0} if merge == "task arithmetic" else {}
    spec = spec_of(vectors.tasks, edit, merge, edit_params=edit_params, merge_params=merge_params)
    assert_same(merged(vectors, spec), dict(vectors.checkpoints[0]))


def test_one_task_with_scaling_one_is_exact_when_linear(make_vectors: Callable[..., TaskVectors]) -> None:
    vectors = make_vectors(tasks=1)
    for name, tensor in merged(vectors, spec_of(vectors.tasks, merge_params={"scaling": 1.0})).items():
        assert torch.equal(tensor, vectors.checkpoints[0][name])


@every_edit
@every_merge
def test_the_order_of_tasks_does_not_matter(make_vectors: Callable[..., TaskVectors], edit: str, merge: str) -> None:
    vectors = make_vectors(tasks=4)
    order = (2, 0, 3, 1)
    turned = TaskVectors(
        vectors.base, tuple(vectors.checkpoints[i] for i in order), tuple(vectors.tasks[i] for i in order)
    )
    found = merged(turned, spec_of(turned.tasks, edit, merge))
    assert_same(found, merged(vectors, spec_of(vectors.tasks, edit, merge)), 1e-4 if "awd" in edit else 1e-6)


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_the_order_of_tasks_does_not_matter_to_adamerging(suite: Suite, context: Context, granularity: str) -> None:
    params = {"steps": 3, "batch_size": 4, "granularity": granularity}
    states = []
    for tasks in (suite.task_names, suite.task_names[::-1]):
        spec = spec_of(tasks, merge="task arithmetic")
        spec = MergeSpec.build(**{**spec.model_dump(), "merge": "adamerging", "merge_params": params})
        states.append(merged(suite.vectors(tasks), spec, context))
    assert_same(states[0], states[1], 1e-3)


@every_edit
def test_merging_equal_models_gives_that_model(tmp_path: Path, edit: str) -> None:
    base, model = random_state(0), random_state(1)
    vectors = write_models(tmp_path, base, [model, model, model])
    edit_params = {**EDITS[edit][1], **({"keep": 1.0} if edit.startswith("ties") else {})}
    if edit == "awd exact":
        edit_params["alpha"] = 10.0  # a light penalty makes it best to call all of three equal vectors redundant
    combined = merged(vectors, spec_of(vectors.tasks, edit, "average", edit_params=edit_params))
    shrunk = {"ties mean": 1 / 3}.get(edit, 1.0)
    # Plain descent and Adam never settle closer to a kink of the objective than a step is long.
    tolerance = 1e-3 if edit in ("awd model", "awd adam") else 1e-5
    assert_same(combined, {name: base[name] + shrunk * (model[name] - base[name]) for name in base}, tolerance)


@every_edit
def test_models_equal_to_the_base_give_the_base(tmp_path: Path, edit: str) -> None:
    base = random_state(0)
    assert_same(merged(write_models(tmp_path, base, [base, base]), spec_of(("task0", "task1"), edit)), base)


@every_edit
def test_the_result_is_linear_in_the_scaling(vectors: TaskVectors, edit: str) -> None:
    once, twice = (
        merged(vectors, spec_of(vectors.tasks, edit, merge_params={"scaling": scaling})) for scaling in (0.2, 0.4)
    )
    for name, base in vectors.base.items():
        torch.testing.assert_close(twice[name] - base, 2 * (once[name] - base), rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize("edit", ["none", "awd layer", "awd row", "ties", "ties mean"])
def test_longer_task_vectors_give_a_longer_result(tmp_path: Path, edit: str, factor: float) -> None:
    """Except for scope model, whose α and β suit one norm only, edits do not depend on the unit of the weights."""
    base = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    models = [random_state(task) for task in range(3)]
    longer = [{name: factor * tensor for name, tensor in model.items()} for model in models]
    plain = merged(write_models(tmp_path / "plain", base, models), spec_of(("task0", "task1", "task2"), edit))
    grown = merged(write_models(tmp_path / "grown", base, longer), spec_of(("task0", "task1", "task2"), edit))
    for name, tensor in plain.items():
        torch.testing.assert_close(grown[name] / factor, tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("edit", EDITS)
def test_exactly_the_linear_edits_give_a_table(vectors: TaskVectors, edit: str) -> None:
    table = plan(vectors, spec_of(vectors.tasks, edit), Context()).table
    assert (table is not None) == (edit in LINEAR)
    if table is not None:
        assert table.shape == (len(vectors.names), len(vectors.tasks))


@every_merge
@pytest.mark.parametrize("edit", LINEAR)
def test_a_linear_run_replayed_from_its_table_is_bit_identical(vectors: TaskVectors, edit: str, merge: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit, merge), Context())
    assert planned.table is not None
    stored = np.array(planned.table.T.tolist()).T  # as it comes back from JSON
    again = dict(replay(vectors, stored))
    for name, tensor in planned.tensors():
        assert torch.equal(tensor, again[name])


@every_merge
@pytest.mark.parametrize("edit", LINEAR)
def test_the_table_is_the_edit_followed_by_the_merge(vectors: TaskVectors, edit: str, merge: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit, merge), Context())
    step_by_step = Plan(vectors, planned.edit, planned.merge, table=None)
    assert_same(dict(planned.tensors()), dict(step_by_step.tensors()), 1e-5)


def test_a_table_of_another_shape_is_refused(vectors: TaskVectors) -> None:
    with pytest.raises(SpecError, match=r"shape \(2, 3\); these checkpoints need \(5, 3\)"):
        list(replay(vectors, np.zeros((2, 3))))


@every_edit
def test_geometry_after_a_run_is_that_of_the_edited_vectors(vectors: TaskVectors, edit: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit), Context())
    if edit not in LINEAR:
        assert planned.edited_geometry(measure(vectors)) is None  # not before the tensors were streamed
    list(planned.tensors())
    geometry = planned.edited_geometry(measure(vectors))
    assert geometry is not None
    expected = measure(vectors.edited(planned.edit))
    np.testing.assert_allclose(geometry.grams, expected.grams, rtol=1e-4, atol=1e-6)


def test_output_has_the_dtypes_and_integer_buffers_of_the_base(tmp_path: Path) -> None:
    base = {"a": torch.ones(3).half(), "b": torch.ones(3).bfloat16(), "c": torch.ones(3).double(), "n": torch.arange(4)}
    models = [{n: (t + 1).float() if n != "n" else t + task for n, t in base.items()} for task in range(2)]
    vectors = write_models(tmp_path, base, models)
    assert vectors.names == ("a", "b", "c")
    for edit in ("none", "ties"):
        found = merged(vectors, spec_of(vectors.tasks, edit))
        assert list(found) == ["a", "b", "c", "n"]
        assert {n: t.dtype for n, t in found.items()} == {n: t.dtype for n, t in base.items()}
        assert torch.equal(found["n"], base["n"])


@every_edit
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_weights_are_refused_by_file_and_tensor(tmp_path: Path, edit: str, bad: float) -> None:
    models = [random_state(1), random_state(2)]
    models[1]["proj"][0, 0] = bad
    vectors = write_models(tmp_path, random_state(0), models)
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'proj' holds NaN or infinity"):
        merged(vectors, spec_of(vectors.tasks, edit))


@pytest.mark.parametrize("edit", ["none", "ties"])
def test_overflow_is_an_error_and_not_infinity(tmp_path: Path, edit: str) -> None:
    base = {"w": torch.full((4,), 30000.0).half()}
    vectors = write_models(tmp_path, base, [{"w": torch.full((4,), 60000.0).half()}] * 2)
    with pytest.raises(NonFiniteWeights, match="overflow float16"):
        merged(vectors, spec_of(vectors.tasks, edit, merge_params={"scaling": 5.0}))


@pytest.mark.parametrize("edit", EDITS)
def test_tensors_larger_than_a_piece_have_no_seam(tmp_path: Path, edit: str) -> None:
    """Long tensors are worked on in pieces; cut by hand into rows they must give the same."""
    shapes = {"w": (701, 401)}
    base, models = random_state(0, shapes), [random_state(t, shapes) for t in (1, 2, 3)]
    spec = spec_of(("task0", "task1", "task2"), edit)
    whole = write_models(tmp_path / "whole", base, models)
    planned = plan(whole, spec, Context())
    (_, found), *_ = planned.tensors()
    base_tensor, stack = whole.stack("w")
    expected = base_tensor + 0.3 * planned.edit("w", base_tensor, stack).sum(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    after = planned.edited_geometry(measure(whole))
    flat = planned.edit("w", base_tensor, stack).flatten(1).double()
    assert after is not None
    np.testing.assert_allclose(after.gram, (flat @ flat.T).numpy(), rtol=1e-4, atol=1e-1)


def test_progress_is_reported_and_cancelling_stops_it(vectors: TaskVectors) -> None:
    seen: list[tuple[int, int, str]] = []
    context = Context(on_progress=lambda *step: seen.append(step))
    merged(vectors, spec_of(vectors.tasks), context)
    assert [done for done, _, message in seen if message == "merging"] == list(range(5))
    planned = plan(vectors, spec_of(vectors.tasks), Context())
    with pytest.raises(Cancelled):
        list(planned.tensors(replace(context, cancelled=lambda: True)))


# Norm of every merged tensor, in sorted order.
GOLDEN: dict[tuple[str, str], tuple[float, ...]] = {
    ("none", "average"): (8.713474, 2.209008, 4.996166, 6.927148, 6.802177),
    ("none", "task arithmetic"): (8.702644, 2.198794, 4.989241, 6.930465, 6.779561),
    ("awd model", "average"): (8.696558, 2.192812, 4.985551, 6.932943, 6.765911),
    ("awd model", "task arithmetic"): (8.688137, 2.184307, 4.980255, 6.936489, 6.74793),
    ("awd exact", "average"): (8.676684, 2.175868, 4.96768, 6.932228, 6.740991),
    ("awd exact", "task arithmetic"): (8.67082, 2.169177, 4.964717, 6.936516, 6.726319),
    ("awd layer", "average"): (8.699664, 2.21637, 4.987288, 6.932062, 6.777855),
    ("awd layer", "task arithmetic"): (8.690807, 2.205376, 4.981744, 6.935559, 6.758376),
    ("awd row", "average"): (8.694949, 2.21637, 4.997171, 6.938014, 6.788154),
    ("awd row", "task arithmetic"): (8.686243, 2.205376, 4.990143, 6.940347, 6.767256),
    ("awd adam", "average"): (8.701618, 2.19358, 4.99331, 6.922003, 6.787837),
    ("awd adam", "task arithmetic"): (8.692407, 2.184973, 4.986976, 6.926282, 6.767098),
    ("ties", "average"): (8.669774, 2.237287, 4.954463, 6.889889, 6.779233),
    ("ties", "task arithmetic"): (8.663691, 2.224209, 4.952086, 6.896953, 6.759114),
    ("ties mean", "average"): (8.672666, 2.230559, 4.952663, 6.957724, 6.683589),
    ("ties mean", "task arithmetic"): (8.667423, 2.218295, 4.951311, 6.959757, 6.675247),
}


@every_edit
@every_merge
def test_golden_values(vectors: TaskVectors, edit: str, merge: str) -> None:
    """Pinned results: what changes them changes what saved runs mean; raise the pipeline's version then."""
    found = merged(vectors, spec_of(vectors.tasks, edit, merge))
    summary = [float(tensor.double().norm()) for tensor in found.values()]
    assert summary == pytest.approx(GOLDEN[edit, merge], rel=2e-5)


@pytest.mark.parametrize("edit", EDITS)
def test_devices_agree(vectors: TaskVectors, device: torch.device, edit: str) -> None:
    spec = spec_of(vectors.tasks, edit)
    found = {name: tensor.cpu() for name, tensor in merged(vectors, spec, Context(device=device)).items()}
    assert_same(found, merged(vectors, spec), 1e-4)
