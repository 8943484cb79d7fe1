"""Whole merges: properties that every pair of methods must have, and pinned numbers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merging.core.errors import Cancelled, NonFiniteWeights, SpecError
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.plan import Plan, plan, rebuilt_from
from merging.methods.refusals import refusal
from merging.runs.jobs import MergeSpec
from merging.suites import Suite
from merging.weights.geometry import measure
from merging.weights.vectors import TaskVectors
from tests.random_models import SHAPES, random_state, write_models

EDITS: dict[str, tuple[str, dict[str, object]]] = {
    "none": ("none", {}),
    "awd model": ("awd", {"steps": 40}),
    "awd exact": ("awd", {"steps": 40, "solver": "exact"}),
    "awd layer": ("awd", {"steps": 40, "scope": "layer"}),
    "awd row": ("awd", {"steps": 40, "scope": "row"}),
    "awd adam": ("awd", {"steps": 10, "solver": "adam", "beta": 1e-3, "units": "published"}),
    "ties": ("ties", {"keep": 0.4}),
    "ties mean": ("ties", {"keep": 0.4, "combine": "mean"}),
    "dare": ("dare", {"drop": 0.3}),
    "consensus": ("consensus", {"threshold": 0.3}),
    "trust region": ("trust_region", {"drop": 0.1}),
    "doge": ("doge", {"steps": 20, "strength": 5.0, "units": "published"}),
}
DATA_FREE: dict[str, tuple[str, dict[str, object]]] = {
    "average": ("average", {}),
    "task arithmetic": ("task_arithmetic", {"scaling": 0.3}),
    "iso-c": ("iso_c", {}),
    "iso-cts": ("iso_cts", {}),
    "tsv-m": ("tsv_m", {}),
    "wudi": ("wudi", {"steps": 20, "learning_rate": 1e-3, "units": "published"}),
    "wudi closed": ("wudi", {"solver": "closed_form"}),
}
PINNED = (*EDITS, *DATA_FREE)  # in golden_merges.json
DATA_FREE |= {"ace": ("ace", {"units": "relative"}), "svc": ("svc", {"before": 1.0})}
# A stage that is added has these properties tried with its defaults; merges that look at images, and those that give
# one model a task, have tests of their own.
EDITS |= {name: (name, {}) for name in registry.edits() if name not in {known for known, _ in EDITS.values()}}
DATA_FREE |= {
    name: (name, {})
    for name, stage in registry.merges().items()
    if name not in {known for known, _ in DATA_FREE.values()} and stage.needs == "none" and not stage.localised
}
LINEAR_MERGES = ("average", "task arithmetic")
# Edits with which one task, or equal models, come out as they went in.
FAITHFUL = ("none", "awd model", "awd exact", "awd layer", "awd row", "awd adam", "ties", "consensus", "trust region")
LINEAR = ("none", "awd model", "awd exact", "awd layer", "larv")

every_edit = pytest.mark.parametrize("edit", EDITS)
every_merge = pytest.mark.parametrize("merge", DATA_FREE)
# Stages that came later are tried with a plain partner here; that every pair runs is tried in test_pairs.py.
PAIRS = [
    (edit, merge)
    for edit in EDITS
    for merge in DATA_FREE
    if not refusal(*EDITS[edit], DATA_FREE[merge][0])
    and ({edit, merge} <= set(PINNED) or edit == "none" or merge == "task arithmetic")
]
every_pair = pytest.mark.parametrize(("edit", "merge"), PAIRS)
PLAIN = [(edit, merge) for edit, merge in PAIRS if edit == "none" or merge == "task arithmetic"]
every_plain_pair = pytest.mark.parametrize(("edit", "merge"), PLAIN)  # in which every stage stands beside a plain one


def spec_of(tasks: tuple[str, ...], edit: str = "none", merge: str = "task arithmetic", **changes: object) -> MergeSpec:
    (edit_name, edit_params), (merge_name, merge_params) = EDITS[edit], DATA_FREE[merge]
    values = {"edit": edit_name, "edit_params": edit_params, "merge": merge_name, "merge_params": merge_params}
    return MergeSpec.build(suite="none", tasks=tasks, **(values | changes))


def merged(vectors: TaskVectors, spec: MergeSpec, context: Context | None = None) -> dict[str, torch.Tensor]:
    context = context or Context()
    return dict(plan(vectors, spec.pair, context).tensors(context))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert list(found) == sorted(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance)


def test_what_is_tried_here_does_not_depend_on_what_stages_say_of_themselves() -> None:
    assert {name for name, _ in EDITS.values()} == set(registry.edits())
    own_tests = {"adamerging", "fisher", "regmean", "regmean_plus_plus", "tall_masks", "emr"}
    assert set(registry.merges()) - {name for name, _ in DATA_FREE.values()} == own_tests


@pytest.mark.parametrize(
    ("edit", "merge"),
    [
        (edit, merge)
        for edit, merge in PAIRS
        if edit in (*FAITHFUL, "ties mean") and merge in (*LINEAR_MERGES, "tsv-m", "wudi", "wudi closed", "overlap")
    ],
)
def test_one_task_with_scaling_one_gives_its_model_back(
    make_vectors: Callable[..., TaskVectors], edit: str, merge: str
) -> None:
    vectors = make_vectors(tasks=1)
    edit_params = {**EDITS[edit][1], **({"keep": 1.0} if edit.startswith("ties") else {})}
    edit_params |= {"drop": 0.0} if edit == "trust region" else {}
    merge_params = {**DATA_FREE[merge][1], **({} if merge == "average" else {"scaling": 1.0})}
    spec = spec_of(vectors.tasks, edit, merge, edit_params=edit_params, merge_params=merge_params)
    assert_same(merged(vectors, spec), dict(vectors.checkpoints[0]), 1e-6 if merge in LINEAR_MERGES else 1e-4)


def test_one_task_with_scaling_one_is_exact_when_linear(make_vectors: Callable[..., TaskVectors]) -> None:
    vectors = make_vectors(tasks=1)
    for name, tensor in merged(vectors, spec_of(vectors.tasks, merge_params={"scaling": 1.0})).items():
        assert torch.equal(tensor, vectors.checkpoints[0][name])


@every_plain_pair
def test_the_order_of_tasks_does_not_matter(make_vectors: Callable[..., TaskVectors], edit: str, merge: str) -> None:
    vectors = make_vectors(tasks=4)
    order = (2, 0, 3, 1)
    turned = TaskVectors(
        vectors.base, tuple(vectors.checkpoints[i] for i in order), tuple(vectors.tasks[i] for i in order)
    )
    found = merged(turned, spec_of(turned.tasks, edit, merge))
    tolerance = 1e-6 if "awd" not in edit and merge in LINEAR_MERGES else 2e-3 if edit == "doge" else 1e-4
    assert_same(found, merged(vectors, spec_of(vectors.tasks, edit, merge)), tolerance)


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_the_order_of_tasks_does_not_matter_to_adamerging(suite: Suite, context: Context, granularity: str) -> None:
    params = {"steps": 3, "batch_size": 4, "granularity": granularity}
    states = []
    for tasks in (suite.task_names, suite.task_names[::-1]):
        spec = spec_of(tasks, merge="task arithmetic")
        spec = MergeSpec.build(**{**spec.model_dump(), "merge": "adamerging", "merge_params": params})
        states.append(merged(suite.vectors(tasks), spec, context))
    assert_same(states[0], states[1], 1e-3)


@pytest.mark.kernels
@pytest.mark.parametrize("edit", [*FAITHFUL, "ties mean"])
def test_merging_equal_models_gives_that_model(tmp_path: Path, edit: str) -> None:
    base, model = random_state(0), random_state(1)
    vectors = write_models(tmp_path, base, [model, model, model])
    edit_params = {**EDITS[edit][1], **({"keep": 1.0} if edit.startswith("ties") else {})}
    edit_params |= {"drop": 0.0} if edit == "trust region" else {}
    if edit == "awd exact":
        edit_params["alpha"] = 10.0  # a light penalty makes it best to call all of three equal vectors redundant
    fields = {"edit_params": edit_params, **({"merge_params": {"scaling": 1.0}} if edit == "ties mean" else {})}
    merge = "task arithmetic" if edit == "ties mean" else "average"  # which would divide by the tasks twice
    combined = merged(vectors, spec_of(vectors.tasks, edit, merge, **fields))
    assert_same(combined, model, 1e-5)


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
@pytest.mark.parametrize(
    "edit", ["none", "awd layer", "awd row", "ties", "ties mean", "dare", "consensus", "trust region"]
)
def test_longer_task_vectors_give_a_longer_result(tmp_path: Path, edit: str, factor: float) -> None:
    """Except for scope model, whose α and β suit one norm only, edits do not depend on the unit of the weights."""
    base = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    models = [random_state(task) for task in range(3)]
    longer = [{name: factor * tensor for name, tensor in model.items()} for model in models]
    plain = merged(write_models(tmp_path / "plain", base, models), spec_of(("task0", "task1", "task2"), edit))
    grown = merged(write_models(tmp_path / "grown", base, longer), spec_of(("task0", "task1", "task2"), edit))
    for name, tensor in plain.items():
        torch.testing.assert_close(grown[name] / factor, tensor, rtol=1e-3, atol=1e-4)


@every_pair
def test_exactly_the_linear_pairs_give_a_table(vectors: TaskVectors, edit: str, merge: str) -> None:
    table = plan(vectors, spec_of(vectors.tasks, edit, merge).pair, Context()).table
    assert (table is not None) == (edit in LINEAR and merge in LINEAR_MERGES)
    if table is not None:
        assert table.shape == (len(vectors.names), len(vectors.tasks))


@pytest.mark.kernels
@pytest.mark.parametrize("merge", LINEAR_MERGES)
@pytest.mark.parametrize("edit", LINEAR)
def test_a_linear_run_replayed_from_its_table_is_bit_identical(vectors: TaskVectors, edit: str, merge: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit, merge).pair, Context())
    assert planned.table is not None
    stored = np.array(planned.table.T.tolist()).T  # as it comes back from JSON
    again = dict(rebuilt_from(vectors, stored))
    for name, tensor in planned.tensors():
        assert torch.equal(tensor, again[name])


@pytest.mark.parametrize("merge", LINEAR_MERGES)
@pytest.mark.parametrize("edit", LINEAR)
def test_the_table_is_the_edit_followed_by_the_merge(vectors: TaskVectors, edit: str, merge: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit, merge).pair, Context())
    step_by_step = Plan(vectors, planned.edit, planned.merge, table=None)
    assert_same(dict(planned.tensors()), dict(step_by_step.tensors()), 1e-5)


def test_a_table_of_another_shape_is_refused(vectors: TaskVectors) -> None:
    with pytest.raises(SpecError, match=r"shape \(2, 3\); these checkpoints need \(5, 3\)"):
        list(rebuilt_from(vectors, np.zeros((2, 3))))


@every_edit
def test_geometry_after_a_run_is_that_of_the_edited_vectors(vectors: TaskVectors, edit: str) -> None:
    planned = plan(vectors, spec_of(vectors.tasks, edit).pair, Context())
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


@every_merge
def test_nonfinite_weights_are_refused_by_every_merge(tmp_path: Path, merge: str) -> None:
    models = [random_state(1), random_state(2)]
    models[1]["proj"][0, 0] = float("nan")
    vectors = write_models(tmp_path, random_state(0), models)
    with pytest.raises(NonFiniteWeights, match=r"task1\.safetensors: tensor 'proj' holds NaN or infinity"):
        merged(vectors, spec_of(vectors.tasks, merge=merge))


@pytest.mark.parametrize("tasks", [2, 8])
@every_plain_pair  # what is read and written is every pair's, what is done in between each stage's own
def test_half_precision_files_are_merged_in_float32(tmp_path: Path, edit: str, merge: str, tasks: int) -> None:
    base = random_state(0, dtype=torch.float16)
    models = [random_state(1 + task, dtype=torch.float16) for task in range(tasks)]
    vectors = write_models(tmp_path / "half", base, models)
    wide = write_models(
        tmp_path / "wide",
        {n: t.float() for n, t in base.items()},
        [{n: t.float() for n, t in model.items()} for model in models],
    )
    spec = spec_of(vectors.tasks, edit, merge)
    exact = merged(wide, spec)
    for name, tensor in merged(vectors, spec).items():
        assert tensor.dtype == torch.float16
        torch.testing.assert_close(tensor, exact[name].half(), rtol=2e-3, atol=2e-3)


@every_plain_pair
def test_models_of_different_precisions_are_merged_as_the_numbers_that_they_hold(
    tmp_path: Path, edit: str, merge: str
) -> None:
    """Half of a suite in float16 or bfloat16 gives what the same numbers in float32 give."""
    precisions = (torch.float16, torch.float32, torch.bfloat16)
    base = random_state(0)
    models = [random_state(1 + task, dtype=dtype) for task, dtype in enumerate(precisions)]
    mixed = write_models(tmp_path / "mixed", base, models)
    wide = write_models(tmp_path / "wide", base, [{n: t.float() for n, t in model.items()} for model in models])
    spec = spec_of(mixed.tasks, edit, merge)
    expected, found = merged(wide, spec), merged(mixed, spec)
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("edit", ["none", "ties"])
def test_overflow_is_an_error_and_not_infinity(tmp_path: Path, edit: str) -> None:
    base = {"w": torch.full((4,), 30000.0).half()}
    vectors = write_models(tmp_path, base, [{"w": torch.full((4,), 60000.0).half()}] * 2)
    with pytest.raises(NonFiniteWeights, match="overflow float16"):
        merged(vectors, spec_of(vectors.tasks, edit, merge_params={"scaling": 5.0}))


@pytest.mark.parametrize("edit", EDITS)
def test_tensors_larger_than_a_piece_have_no_seam(tmp_path: Path, edit: str) -> None:
    """Long tensors are worked on in pieces; cut by hand into rows they must give the same."""
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    shapes = {name: (701, 401)}
    base, models = random_state(0, shapes), [random_state(t, shapes) for t in (1, 2, 3)]
    spec = spec_of(("task0", "task1", "task2"), edit)
    whole = write_models(tmp_path / "whole", base, models)
    planned = plan(whole, spec.pair, Context())
    (_, found), *_ = planned.tensors()
    base_tensor, stack = whole.stack(name)
    expected = base_tensor + 0.3 * planned.edit(name, base_tensor, stack).sum(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    after = planned.edited_geometry(measure(whole))
    flat = planned.edit(name, base_tensor, stack).flatten(1).double()
    assert after is not None
    np.testing.assert_allclose(after.gram, (flat @ flat.T).numpy(), rtol=1e-4, atol=1e-1)


def test_progress_is_reported_and_cancelling_stops_it(vectors: TaskVectors) -> None:
    seen: list[tuple[int, int, str]] = []
    context = Context(on_progress=lambda *step: seen.append(step))
    merged(vectors, spec_of(vectors.tasks), context)
    assert [done for done, _, message in seen if message == "merging"] == list(range(5))
    planned = plan(vectors, spec_of(vectors.tasks).pair, Context())
    with pytest.raises(Cancelled):
        list(planned.tensors(replace(context, cancelled=lambda: True)))


# "edit + merge" → norm of every merged tensor, in sorted order.
GOLDEN: dict[str, list[float]] = json.loads((Path(__file__).parents[1] / "golden_merges.json").read_text())


@pytest.mark.kernels
@pytest.mark.parametrize(("edit", "merge"), [pair for pair in PAIRS if set(pair) <= set(PINNED)])
def test_golden_values(vectors: TaskVectors, edit: str, merge: str) -> None:
    """Pinned results: what changes them changes what saved runs mean; raise the pipeline's or the merge's version."""
    found = merged(vectors, spec_of(vectors.tasks, edit, merge))
    summary = [float(tensor.double().norm()) for tensor in found.values()]
    assert summary == pytest.approx(GOLDEN[f"{edit} + {merge}"], rel=2e-5)


@pytest.mark.kernels
@pytest.mark.parametrize("merge", ["task arithmetic", "wudi closed"])
def test_what_doge_did_at_first_can_be_had(vectors: TaskVectors, merge: str) -> None:
    """Recipes of that time are replayed so."""
    spec = spec_of(vectors.tasks, "doge", merge)
    found = merged(vectors, MergeSpec.build(**{**spec.model_dump(), **spec.pair.as_of(None).fields}))
    summary = [float(tensor.double().norm()) for tensor in found.values()]
    assert summary == pytest.approx(GOLDEN[f"doge at first + {merge}"], rel=2e-5)


@pytest.mark.parametrize("edit", EDITS)
def test_devices_agree(vectors: TaskVectors, device: torch.device, edit: str) -> None:
    spec = spec_of(vectors.tasks, edit)
    found = {name: tensor.cpu() for name, tensor in merged(vectors, spec, Context(device=device)).items()}
    assert_same(found, merged(vectors, spec), 1e-4)
