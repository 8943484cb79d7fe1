"""Predictions of finished runs, and runs side by side: the same numbers as the runs' own accuracies, or an error."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from merging.core.errors import DeviceError, MergingError, RunError
from merging.evaluation.evaluator import Evaluator, evaluation_key
from merging.runs.comparison.compare import RunComparison, compare_runs, comparison_row
from merging.runs.comparison.report import comparison_report
from merging.runs.deleted import erase
from merging.runs.jobs import MergeSpec, parse_job
from merging.runs.jobs.predictions import PredictionsJob, evaluator_of, known_predictions, predictions_of
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.weights.localised import task_weights
from tests.carrying import execute
from tests.random_models import TASKS

LINEAR = {"merge_params": {"scaling": 0.4}}
OTHER = {"edit": "ties", "merge_params": {"scaling": 0.7}}
LOCALISED = {"merge": "tall_masks", "merge_params": {"threshold": 0.4}}


def run_of(suite_file: Path, workspace: Workspace, **choices: object) -> Run:
    """A run as the worker leaves it: other weights than linear ones are kept."""
    run = workspace.submit(MergeSpec.build(**{"suite": str(suite_file), "tasks": TASKS, "device": "cpu", **choices}))
    if workspace.store.claim(run.id):
        keep = workspace.store.folder(run.id) / "model.safetensors"
        keep.parent.mkdir(parents=True, exist_ok=True)
        workspace.store.finish(run.id, execute(run.spec, workspace, keep=keep))
    return workspace.store.get(run.id)


def forget_predictions(workspace: Workspace) -> None:
    with workspace.store.connect() as connection:
        connection.execute("delete from predictions")


@pytest.mark.parametrize("choices", [LINEAR, OTHER, LOCALISED])
@pytest.mark.parametrize("split", ["test", "val"])
def test_predictions_are_those_that_the_accuracy_was_counted_from(
    choices: dict[str, object], split: str, suite_file: Path, workspace: Workspace
) -> None:
    run = run_of(suite_file, workspace, split=split, **choices)
    evaluator = evaluator_of(run, workspace)
    found = predictions_of(run, workspace, evaluator)
    assert run.result is not None
    labels = {task: evaluator.image_set(task, run.spec.split).labels for task in TASKS}
    assert {task: (found[task] == labels[task]).mean() for task in TASKS} == run.result.accuracy


def test_predictions_of_localised_models_come_from_each_tasks_own(suite_file: Path, workspace: Workspace) -> None:
    run = run_of(suite_file, workspace, **LOCALISED)
    evaluator = evaluator_of(run, workspace)
    found = predictions_of(run, workspace, evaluator)
    base = evaluator.suite.base_checkpoint
    for task in TASKS:
        evaluator.load(task_weights(base, workspace.store.folder(run.id) / "model.safetensors", task))
        assert np.array_equal(found[task], evaluator.predictions(task, "test"))


def test_predictions_are_measured_once(suite_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(suite_file, workspace, **LINEAR)
    first = predictions_of(run, workspace, evaluator_of(run, workspace))
    monkeypatch.setattr(Evaluator, "predictions", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("merging.runs.jobs.predictions.rebuilt", lambda *_: pytest.fail("rebuilt again"))
    again = predictions_of(run, workspace, evaluator_of(run, workspace))
    assert all(np.array_equal(first[task], again[task]) for task in TASKS)
    assert all(values.dtype == np.int64 for values in again.values())


def test_a_run_of_a_device_that_is_not_here_is_compared_by_what_is_known_of_it(
    suite_file: Path, workspace: Workspace
) -> None:
    run, other = (run_of(suite_file, workspace, **choices) for choices in (LINEAR, OTHER))
    answers = predictions_of(run, workspace, evaluator_of(run, workspace))
    elsewhere = replace(run, id="feedbeeffeed", job=run.spec.model_copy(update={"device": "cuda:63"}))
    with pytest.raises(DeviceError):
        predictions_of(elsewhere, workspace, evaluator_of(elsewhere, workspace))
    evaluator = evaluator_of(elsewhere, workspace)
    for task, found in answers.items():  # as an imported run brings them
        key = evaluation_key([elsewhere.id], evaluator, task, "test", "cuda")
        workspace.store.remember_predictions(key, elsewhere.id, found.astype("<i4").tobytes())
    compared = compare_runs([other, elsewhere], workspace)
    assert all(np.array_equal(compared.predictions[1][task], answers[task]) for task in TASKS)


def test_other_images_are_looked_at_again(own_suite: Path, workspace: Workspace) -> None:
    run = run_of(own_suite / "suite.yaml", workspace, **LINEAR)
    predictions_of(run, workspace, evaluator_of(run, workspace))
    shutil.copyfile(own_suite / "roads.npz", own_suite / "digits.npz")
    assert set(known_predictions(run, workspace, evaluator_of(run, workspace))) == set(TASKS) - {"digits"}


def test_predictions_go_with_their_run(suite_file: Path, workspace: Workspace) -> None:
    run, other = (run_of(suite_file, workspace, **choices) for choices in (LINEAR, OTHER))
    for one in (run, other):
        predictions_of(one, workspace, evaluator_of(one, workspace))
    erase(workspace.store, run.id)
    assert known_predictions(run, workspace, evaluator_of(run, workspace)) == {}
    assert len(known_predictions(other, workspace, evaluator_of(other, workspace))) == len(TASKS)


def test_changed_checkpoints_are_refused(own_suite: Path, workspace: Workspace) -> None:
    run = run_of(own_suite / "suite.yaml", workspace, **LINEAR)
    weights = load_file(own_suite / "roads.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, own_suite / "roads.safetensors")
    with pytest.raises(MergingError, match="checkpoints changed"):
        predictions_of(run, workspace, evaluator_of(run, workspace))


def test_weights_that_are_gone_are_named(suite_file: Path, workspace: Workspace) -> None:
    run = run_of(suite_file, workspace, **OTHER)
    shutil.rmtree(workspace.store.folder(run.id))
    with pytest.raises(RunError, match=run.id):
        predictions_of(run, workspace, evaluator_of(run, workspace))


def test_the_job_measures_the_run_of_its_specification(suite_file: Path, workspace: Workspace) -> None:
    run_of(suite_file, workspace, **OTHER)
    run = run_of(suite_file, workspace, **LINEAR)
    job = PredictionsJob.like(run.spec)
    assert workspace.submit(job).id != run.id
    assert parse_job(json.loads(job.model_dump_json())) == job
    result = execute(job, workspace)
    assert run.result is not None
    assert (result.run, result.accuracy) == (run.id, run.result.accuracy)
    assert set(known_predictions(run, workspace, evaluator_of(run, workspace))) == set(TASKS)
    assert workspace.store.all()[0].id == run.id  # the job itself is no run to look at


def test_the_job_of_a_deleted_run_says_so(suite_file: Path, workspace: Workspace) -> None:
    run = run_of(suite_file, workspace, **LINEAR)
    workspace.store.delete(run.id)
    with pytest.raises(RunError, match="no finished run of Task Arithmetic"):
        execute(PredictionsJob.like(run.spec), workspace)


def test_a_job_with_awd_measures_no_geometry(
    suite_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(suite_file, workspace, edit="awd", **LINEAR)
    monkeypatch.setattr(Workspace, "geometry", lambda *_: pytest.fail("measured the task vectors"))
    assert execute(PredictionsJob.like(run.spec), workspace).run == run.id


def side_by_side(suite_file: Path, workspace: Workspace) -> RunComparison:
    return compare_runs([run_of(suite_file, workspace, **c) for c in (LINEAR, OTHER, LOCALISED)], workspace)


def test_runs_are_compared_with_the_first(suite_file: Path, suite: Suite, workspace: Workspace) -> None:
    found = side_by_side(suite_file, workspace)
    accuracies = [run.result.accuracy for run in found.runs if run.result]
    assert (len(found.pairs), found.tasks, found.images) == (2, TASKS, 96)
    for number, pair in enumerate(found.pairs, start=1):
        assert found.average(number) == pytest.approx(sum(accuracies[number].values()) / 4)
        for task in TASKS:
            one = pair.tasks[task]
            assert (one.images, one.reference, one.accuracy) == (24, accuracies[0][task], accuracies[number][task])
            only, missed = found.only_right(number, 0, task), found.only_right(0, number, task)
            assert (one.better, one.worse) == (len(only), len(missed))
            truth, mine, reference = found.labels[task], found.predictions[number][task], found.predictions[0][task]
            for index in range(24):
                assert (index in only) == (mine[index] == truth[index] != reference[index])
                assert (index in missed) == (reference[index] == truth[index] != mine[index])
            table = found.confusion(number, task)
            assert table.sum() == 24 and np.trace(table) == round(24 * one.accuracy)
            assert table.sum(axis=1).tolist() == np.bincount(truth, minlength=5).tolist()


def test_what_a_run_is_to_forget_is_in_no_average(suite_file: Path, workspace: Workspace) -> None:
    first, *others = TASKS
    runs = [
        run_of(suite_file, workspace, merge_params={"scaling": 0.4}),
        run_of(suite_file, workspace, merge_params={"scaling": 0.4, "weights": [-1.0, *[1.0] * len(others)]}),
    ]
    found = compare_runs(runs, workspace)
    for number, run in enumerate(runs):
        assert run.result is not None
        assert found.average(number) == pytest.approx(sum(run.result.accuracy[t] for t in others) / len(others))
    row = comparison_row(found)
    assert row["forgotten"] == [first] and first in row["runs"][0]["tasks"]
    assert row["runs"][0]["difference"] == pytest.approx(found.average(1) - found.average(0))


def test_runs_that_forget_everything_have_no_average(suite_file: Path, workspace: Workspace) -> None:
    runs = [run_of(suite_file, workspace, merge_params={"scaling": s, "weights": -1}) for s in (0.2, 0.4)]
    found = compare_runs(runs, workspace)
    assert comparison_row(found)["runs"][0]["difference"] is None
    page = comparison_report(found, found.names, {t: t for t in TASKS}, evaluator_of(runs[0], workspace), "Two")
    assert "nan" not in re.sub('base64,[^"]*', "", page) and f"{TASKS[0]} (forget)" in page


def test_two_runs_of_equal_weights_do_not_differ(suite_file: Path, workspace: Workspace) -> None:
    runs = [run_of(suite_file, workspace, seed=seed, **LINEAR) for seed in (0, 1)]
    (pair,) = compare_runs(runs, workspace).pairs
    found = {(one.difference, one.low, one.high, one.p, one.adjusted) for one in pair.tasks.values()}
    assert found == {(0, 0, 0, 1, 1)}


def test_only_common_tasks_are_compared(suite_file: Path, workspace: Workspace) -> None:
    runs = [run_of(suite_file, workspace, tasks=tasks) for tasks in (TASKS[:3], TASKS[2:0:-1])]
    assert compare_runs(runs, workspace).tasks == TASKS[1:3]


def test_what_cannot_be_compared_is_said(suite_file: Path, own_suite: Path, workspace: Workspace) -> None:
    run, other = (run_of(suite_file, workspace, **choices) for choices in (LINEAR, OTHER))
    waiting = workspace.submit(MergeSpec.build(suite=str(suite_file), tasks=TASKS, seed=9))
    apart = [run_of(suite_file, workspace, tasks=TASKS[:1]), run_of(suite_file, workspace, tasks=TASKS[1:2])]
    validation = run_of(suite_file, workspace, split="val", **LINEAR)
    shutil.copyfile(own_suite / "roads.npz", own_suite / "digits.npz")
    elsewhere = run_of(own_suite / "suite.yaml", workspace, **OTHER)
    for runs, reason in (
        ([run], "two to 4 different runs"),
        ([run, run], "different runs"),
        ([run] * 5, "got 5"),
        ([run, waiting], "is queued"),
        ([run, validation], "different splits"),
        (apart, "no task in common"),
        ([run, elsewhere], "other images or classes for task 'digits'"),
    ):
        with pytest.raises(RunError, match=reason):
            compare_runs(runs, workspace)
    assert compare_runs([run, other], workspace).runs == (run, other)
