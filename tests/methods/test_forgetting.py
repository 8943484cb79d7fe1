"""Forgetting by negation: which tasks are looked at, how λ is chosen, what is reported."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import MissingPart, SpecError
from merging.evaluation.accuracy import Accuracy
from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.forgetting import ForgettingSearch, Group, bystanders, weights_in_words
from merging.methods.params import GRID
from merging.methods.planned import LinearMerge
from merging.methods.registry import find
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import Forgetting
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.carrying import execute
from tests.random_models import TASKS, write_arrays

SHARES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), min_size=1, max_size=21)


def spec_of(suite_file: Path, tasks: tuple[str, ...] = TASKS, **values: object) -> MergeSpec:
    return MergeSpec.build(**{"suite": str(suite_file), "tasks": tasks, "device": "cpu", **values})


def planned(suite: Suite, tasks: list[str], context: Context, **params: object) -> LinearMerge:
    method = find("merge", "task_arithmetic")
    plan: LinearMerge = method.plan(suite.vectors(tasks), method.parse(params), context)
    return plan


# --- which tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "forgotten"),
    [
        ({}, ()),
        ({"scaling": -0.5}, TASKS),
        ({"weights": -1.0}, TASKS),
        ({"scaling": -0.5, "weights": -1.0}, ()),
        ({"scaling": (0.3, -0.2, 0.0, 1.0)}, TASKS[1:2]),
        ({"scaling": "auto", "weights": (1, 1, -1, -0.5)}, TASKS[2:]),
        ({"scaling": (-0.3, -0.2)}, ()),  # refused when planned
        ({"scaling": (0.3, -0.2, 0.0, -1.0), "weights": (-1, -1, -1, 1)}, (TASKS[0], TASKS[3])),
    ],
)
def test_forgotten_are_the_tasks_with_a_negative_coefficient(
    suite_file: Path, params: dict[str, object], forgotten: tuple[str, ...]
) -> None:
    assert spec_of(suite_file, merge_params=params).forgotten == forgotten


def test_other_merges_forget_nothing(suite_file: Path) -> None:
    assert spec_of(suite_file, merge="average").forgotten == ()


def test_bystanders_are_all_others_whose_files_are_there(own_suite: Path) -> None:
    assert bystanders(load_suite(own_suite), ["digits", "roads"], ["digits"]) == ("circles", "leaves")
    assert bystanders(load_suite(own_suite), ["digits", "roads"], []) == ()
    (own_suite / "leaves.npz").unlink()
    (own_suite / "roads.head.safetensors").unlink()
    (own_suite / "circles.safetensors").unlink()  # a bystander needs no model of its own
    assert bystanders(load_suite(own_suite), ["digits"], ["digits"]) == ("circles",)
    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del described["tasks"][0]["data"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    assert bystanders(load_suite(own_suite), ["digits"], ["digits"]) == ()


# --- choosing λ ------------------------------------------------------------------------------------------------------


@given(SHARES, st.sampled_from(["kept", "added"]))
def test_the_largest_forgetting_that_leaves_the_others_enough(found: list[tuple[int, int]], watched: Group) -> None:
    scalings = tuple(round(0.05 * step, 2) for step in range(len(found)))
    forgotten, kept = (tuple(row[column] / 100 for row in found) for column in (0, 1))
    search = ForgettingSearch(scalings, {"forgotten": forgotten, watched: kept}, 1)
    assert search.watched == watched
    allowed = [index for index in range(len(found)) if 100 * found[index][1] >= 95 * found[0][1]]  # 0.76 is 95 % of 0.8
    lowest = min(forgotten[index] for index in allowed)
    assert search.chosen == next(scalings[index] for index in allowed if forgotten[index] == lowest)


def test_with_bystanders_those_added_may_lose() -> None:
    search = ForgettingSearch((0.0, 0.5), {"forgotten": (0.5, 0.1), "added": (0.9, 0.0), "kept": (0.4, 0.4)}, 1)
    assert (search.watched, search.chosen, search.report()["scaling"]) == ("kept", 0.5, 0.5)


def test_the_search_measures_forgotten_added_and_kept_tasks(suite: Suite, context: Context) -> None:
    plan = planned(suite, ["digits", "roads", "leaves"], context, scaling="auto", weights=(-1.0, 0.5, 0.0))
    search = plan.report["forgetting_search"]
    tried = search["scalings"]
    assert tried[: len(GRID)] == list(GRID)
    assert (search["split"], search["images"], search["watched"]) == ("val", 4 * 24, "kept")
    evaluator = Evaluator(suite)
    for index in (0, 7, 20, len(tried) - 1):
        state = {
            name: base + tried[index] * (0.5 * stack[1] - stack[0])
            for name, base, stack in suite.vectors(["digits", "roads", "leaves"]).iterate()
        }
        found = evaluator.accuracy(state, TASKS, "val").per_task
        assert search["forgotten"][index] == pytest.approx(found["digits"], abs=0.05)
        assert search["added"][index] == pytest.approx(found["roads"], abs=0.05)
        assert search["kept"][index] == pytest.approx((found["circles"] + found["leaves"]) / 2, abs=0.05)
    assert plan.report["scaling"] in tried
    for row in plan.coefficients.values():
        np.testing.assert_allclose(row, [-plan.report["scaling"], 0.5 * plan.report["scaling"], 0])
    assert list(plan.report["weights"].values()) == [-plan.report["scaling"], 0.5 * plan.report["scaling"], 0]


def test_without_bystanders_those_added_are_watched(suite: Suite, context: Context) -> None:
    search = planned(suite, list(TASKS), context, scaling="auto", weights=(-1.0, 1.0, 1.0, 1.0)).report[
        "forgetting_search"
    ]
    assert search["watched"] == "added" and "kept" not in search
    best = search["scalings"].index(
        ForgettingSearch(search["scalings"], {g: search[g] for g in ("forgotten", "added")}, 1).chosen
    )
    assert search["added"][best] >= 0.95 * search["added"][0]


def test_positive_weights_are_searched_as_ever(suite: Suite, context: Context) -> None:
    plain, doubled = (
        planned(suite, ["digits", "roads"], context, scaling="auto", weights=w) for w in (1.0, (1.0, 1.0))
    )
    assert plain.report == doubled.report and "scaling_search" in plain.report and "weights" not in plain.report


def test_choosing_needs_images_and_something_to_keep(suite: Suite, own_suite: Path, context: Context) -> None:
    with pytest.raises(MissingPart, match="choosing how far to forget"):
        planned(suite, ["digits"], Context(), scaling="auto", weights=-1.0)
    with pytest.raises(SpecError, match="needs a task to be kept or added"):
        planned(suite, list(TASKS), context, scaling="auto", weights=-1.0)


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_report_has_every_number_on_its_side() -> None:
    before = Accuracy({"a": 0.5, "b": 0.4, "c": 0.2}, {"a": 10, "b": 20, "c": 30}, "test")
    after = Accuracy({"b": 0.1, "a": 0.6, "c": 0.4}, {"b": 20, "a": 10, "c": 30}, "test")
    report = Forgetting.of(before, after, {"a": 1.0, "b": -1.0}).model_dump()
    assert report["forgotten"] == {"b": {"before": 0.4, "after": 0.1, "images": 20}}
    assert report["added"] == {"a": {"before": 0.5, "after": 0.6, "images": 10}}
    assert report["kept"] == {"c": {"before": 0.2, "after": 0.4, "images": 30}}
    assert report["means"] == {
        "forgotten": {"before": 0.4, "after": 0.1},
        "added": {"before": 0.5, "after": 0.6},
        "kept": {"before": 0.2, "after": 0.4},
    }
    assert (report["split"], report["weights"]) == ("test", {"a": 1.0, "b": -1.0})
    left_out = Forgetting.of(before, after, {"a": 0.0, "b": -1.0}).model_dump()
    assert left_out["added"] == {} and left_out["means"]["added"] is None
    assert left_out["means"]["kept"] == {"before": pytest.approx(0.35), "after": pytest.approx(0.5)}
    assert report["remaining"] == {"tasks": 2, "before": pytest.approx(0.35), "after": pytest.approx(0.5)}
    nothing = Forgetting.of(before, after, dict.fromkeys("abc", -1.0)).model_dump()
    assert nothing["remaining"] is None
    assert nothing["kept"] == {} and nothing["means"]["kept"] is None


def test_small_and_zero_weights_in_words() -> None:
    assert weights_in_words({"a": -0.0, "b-c": -1e-5}) == "a left out (0), b-c subtracted (−1e−05)"


@pytest.mark.parametrize("edit", ["none", "ties"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_run_measures_the_whole_suite_before_and_after(
    suite_file: Path, suite: Suite, workspace: Workspace, edit: str, split: str
) -> None:
    tasks = ("digits", "roads")
    params = {"scaling": 0.8, "weights": (-1.0, 0.5)}
    spec = spec_of(suite_file, tasks, edit=edit, merge_params=params, split=split)
    result = execute(spec, workspace)
    report = result.forgetting.model_dump()
    assert list(report["forgotten"]) == ["digits"] and list(report["added"]) == ["roads"]
    assert sorted(report["kept"]) == ["circles", "leaves"]
    assert report["weights"] == {"digits": -0.8, "roads": 0.4}
    vectors = suite.vectors(tasks)
    if edit == "ties":
        method = find("edit", "ties")
        vectors = vectors.edited(method.plan(vectors, method.parse({}), Context()))
    state = {name: base - 0.8 * stack[0] + 0.4 * stack[1] for name, base, stack in vectors.iterate()}
    evaluator = workspace.evaluator(suite)
    before = evaluator.accuracy(suite.base_checkpoint, TASKS, split).per_task  # type: ignore[arg-type]
    after = evaluator.accuracy(state, TASKS, split).per_task  # type: ignore[arg-type]
    for task, values in {**report["forgotten"], **report["added"], **report["kept"]}.items():
        assert values["before"] == before[task]
        assert values["after"] == pytest.approx(after[task], abs=0.05)  # rounding may turn an image
    assert result.accuracy == {
        "digits": report["forgotten"]["digits"]["after"],
        "roads": report["added"]["roads"]["after"],
    }
    assert report["split"] == split


def test_without_negative_weights_or_accuracy_there_is_no_report(suite_file: Path, workspace: Workspace) -> None:
    assert execute(spec_of(suite_file), workspace).forgetting is None
    assert execute(spec_of(suite_file, merge_params={"weights": -1}, evaluate=False), workspace).forgetting is None


def test_images_of_bystanders_belong_to_the_identity_of_such_a_run_only(own_suite: Path, workspace: Workspace) -> None:
    added, subtracted = (spec_of(own_suite, ("digits",), merge_params={"scaling": scaling}) for scaling in (0.5, -0.5))
    before = [spec.fingerprint(workspace) for spec in (added, subtracted)]
    write_arrays(own_suite / "roads.npz", np.random.default_rng(77), images=25)
    after = [spec.fingerprint(workspace) for spec in (added, subtracted)]
    assert before[0] == after[0] and before[1] != after[1]


def test_broken_images_of_a_bystander_are_found_before_the_merge(own_suite: Path, workspace: Workspace) -> None:
    (own_suite / "roads.npz").write_bytes(b"no archive")
    seen: list[str] = []
    with pytest.raises(Exception, match="not a readable"):
        execute(
            spec_of(own_suite, ("digits",), merge_params={"scaling": -0.5}),
            workspace,
            on_progress=lambda done, total, message: seen.append(message),
        )
    assert seen == []


def test_subtracting_undoes_adding(suite: Suite, context: Context) -> None:
    plus, minus = (planned(suite, ["digits"], context, scaling=0.5, weights=weight) for weight in (1.0, -1.0))
    for name, base, stack in suite.vectors(["digits"]).iterate():
        torch.testing.assert_close(plus(name, base, stack) + minus(name, base, stack), 2 * base)
