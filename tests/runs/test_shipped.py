"""Results that come with a suite: found below what was run here, and true of the embedded suite."""

from pathlib import Path

import numpy as np
import pytest
import torch

from merging.core.errors import RunError
from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.annotations import annotate
from merging.runs.beyond import generalisation_job, robustness_job, robustness_of, shifts_of
from merging.runs.export.weights import kept_weights, rebuilt
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.baselines import BaselinesJob, BaselinesResult
from merging.runs.jobs.generalisation import GeneralisationResult
from merging.runs.jobs.predictions import evaluator_of, known_predictions
from merging.runs.jobs.robustness import RobustnessJob, RobustnessResult
from merging.runs.leaderboard import spec_of
from merging.runs.listing import listing
from merging.runs.parts import known
from merging.runs.positions import Bench, Need, Position
from merging.runs.shipped import FILE, Shipped, shipped_files, write
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from studies.beyond import GENERALISE, ROBUSTNESS, stored
from studies.beyond import PRESETS as STUDIED
from studies.shipped_beyond import jobs_beyond
from tests.carrying import execute

TASKS = ("digits", "leaves")


def done(workspace: Workspace, job: MergeSpec) -> Run:
    run = workspace.submit(job)
    workspace.store.claim(run.id)
    workspace.store.finish(run.id, execute(job, workspace))
    return workspace.store.get(run.id)


@pytest.fixture
def measured(workspace: Workspace, suite_file: Path, tmp_path: Path) -> tuple[Run, Workspace]:
    """A run, and another workspace in which it comes with the suite."""
    run = done(workspace, MergeSpec.build(suite=str(suite_file), tasks=TASKS, device="cpu"))
    file = tmp_path / FILE
    written = Need(Position("awd", (("digits", 0.3), ("leaves", -0.5)), "test", (("alpha", 0.1),)), "leaves", None)
    write(file, [run], {"key": [3, 1, 2]}, {"print": [(written.written(), 0.25)]})
    return run, Workspace(tmp_path / "elsewhere", shipped=(file,))


def test_what_came_with_a_suite_is_found_by_the_fingerprint_of_the_same_run(measured: tuple[Run, Workspace]) -> None:
    run, elsewhere = measured
    (found,) = elsewhere.store.to_show([run.fingerprint])
    assert found is not None and found.shipped and found.state == "done"
    assert (found.job, found.result) == (run.job, run.result)
    assert elsewhere.store.get(found.id) == found and [one.id for one in listing(elsewhere.store)] == [found.id]
    assert elsewhere.store.to_show(["another"]) == [None]


def test_it_is_nobodys_run(measured: tuple[Run, Workspace]) -> None:
    run, elsewhere = measured
    assert elsewhere.store.all() == [] and elsewhere.find(run.job) is None
    (found,) = elsewhere.store.to_show([run.fingerprint])
    assert found is not None
    with pytest.raises(RunError, match="can't be deleted"):
        elsewhere.store.delete(found.id)
    with pytest.raises(RunError, match="nobody's own"):
        annotate(elsewhere.store, found.id, star=True)
    with pytest.raises(RunError, match="run it again"):
        kept_weights(found, elsewhere.store)


@pytest.mark.parametrize(
    ("state", "shows_own"),
    [("queued", True), ("running", True), ("failed", True), ("done", True), ("cancelled", False)],
)
def test_who_runs_it_again_has_a_run_of_their_own(measured: tuple[Run, Workspace], state: str, shows_own: bool) -> None:
    run, elsewhere = measured
    store = elsewhere.store
    own = elsewhere.submit(run.job)
    assert not own.shipped and own.state == "queued"
    if state == "cancelled":
        store.cancel(own.id)
    elif state != "queued":
        store.claim(own.id)
    if state == "failed":
        store.stop(own.id, "failed", "no")
    elif state == "done" and run.result:
        store.finish(own.id, run.result)
    (found,) = store.to_show([run.fingerprint])
    assert found is not None and (found.id == own.id) == shows_own
    listed = [one.id for one in listing(store)]
    assert own.id in listed and (len(listed) == 1) == (state == "done")


def test_predictions_and_accuracies_come_back_as_they_were(measured: tuple[Run, Workspace]) -> None:
    _, elsewhere = measured
    shipped = elsewhere.store.shipped
    answers = elsewhere.store.known_predictions("key", "any")
    assert answers is not None and np.frombuffer(answers, "<i4").tolist() == [3, 1, 2]
    ((written, value),) = shipped.accuracies("print")
    need = Need.read(written)
    assert (need.position.edit, need.position.values, need.task, need.images, value) == (
        "awd",
        (0.3, -0.5),
        "leaves",
        None,
        0.25,
    )
    assert shipped.accuracies("another") == []


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08damaged"])
def test_a_damaged_file_counts_as_empty(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_bytes(content)
    assert Shipped((file,)).merges() == [] and Shipped((file, tmp_path / "none")).find("print") is None


@pytest.fixture(scope="module")
def mini() -> Suite:
    return load_suite("mini")


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    """As the dashboard opens it on a machine that never ran anything."""
    return Workspace(tmp_path / "home", shipped=shipped_files())


def shown(workspace: Workspace, name: str, tasks: tuple[str, ...]) -> Run:
    (run,) = workspace.store.to_show([spec_of(PRESETS[name], "mini", tasks, "cpu").fingerprint(workspace)])
    assert run is not None and run.shipped
    return run


@pytest.mark.parametrize("name", ["mini", "mini-related"])
def test_embedded_suites_come_with_the_leaderboard(name: str, fresh: Workspace) -> None:
    suite = load_suite(name)
    assert (suite.folder / FILE).stat().st_size <= 3e6
    specs = [spec_of(preset, name, suite.task_names, "cpu") for preset in PRESETS.values()]
    found = fresh.store.to_show([spec.fingerprint(fresh) for spec in specs])
    assert sum(run is not None for run in found) > 0.9 * len(specs)  # a method that is new may lack
    assert not any(run.outdated for run in found if run is not None)


def test_it_comes_with_what_the_study_beyond_the_benchmark_measured_on_a_cpu(mini: Suite, fresh: Workspace) -> None:
    robust, unseen = stored(ROBUSTNESS), stored(GENERALISE)
    left_out = [split["unseen"] for split in unseen["splits"]]
    for name in STUDIED:
        preset = PRESETS[name]
        jobs = (
            robustness_job(preset, "mini", mini.task_names, shifts_of(severities=robust["severities"]), "cpu"),
            generalisation_job(preset, "mini", mini.task_names, left_out, "cpu"),
        )
        corrupted, split = (known(job, fresh, shipped=True) for job in jobs)
        if preset.pair.adapts_on_test:  # it adapted on a GPU
            assert not corrupted.done and not split.done
            continue
        assert corrupted.left is None and split.left is None
        (row,) = robustness_of(preset, corrupted.result(RobustnessResult))
        for corruption, levels in robust["accuracy"][name].items():
            assert row.accuracy[f"{corruption}:3"] == levels["3"]
        assert row.clean == shown(fresh, name, mini.task_names).merged.accuracy
        assert [one.accuracy for one in split.result(GeneralisationResult).splits] == unseen["accuracy"][name]
        assert not known(jobs[1], fresh).done  # nobody's work is taken for done because of it
    timed = [spec for spec, _ in fresh.store.shipped.seconds if spec["suite"] == "mini"]
    assert not any(spec["job"] in ("robustness", "generalisation") for spec in timed)


def test_another_suite_comes_with_what_was_measured_of_it_beyond_the_benchmark(fresh: Workspace) -> None:
    related = load_suite("mini-related")
    jobs = jobs_beyond("mini-related", related)
    assert {job.kind for job in jobs} == {"robustness", "generalisation"} and jobs_beyond(
        "mini", load_suite("mini")
    ) == []
    found = [known(job, fresh, shipped=True) for job in jobs]
    assert all(one.left is None for one in found)
    base = BaselinesJob.build(suite="mini-related", tasks=related.task_names, split="test", device="cpu")
    (run,) = fresh.store.to_show([base.fingerprint(fresh)])
    kept = run.result_as(BaselinesResult) if run else None
    assert kept is not None
    corrupted = [one.result(RobustnessResult) for one in found if isinstance(one.job, RobustnessJob)]
    assert corrupted and all(one is not None and one.zero_shot["clean"] == kept.zero_shot for one in corrupted)


@pytest.mark.parametrize(("name", "tasks"), [("mini", ("digits", "textures")), ("mini-related", ("numerals",))])
def test_their_baselines_are_what_is_measured_today(name: str, tasks: tuple[str, ...], fresh: Workspace) -> None:
    suite = load_suite(name)
    job = BaselinesJob.build(suite=name, tasks=suite.task_names, split="test", device="cpu")
    (run,) = fresh.store.to_show([job.fingerprint(fresh)])
    kept = run.result_as(BaselinesResult) if run else None
    assert kept is not None
    again = fresh.base_accuracy(fresh.evaluator(suite), tasks, "test")
    assert {task: kept.zero_shot[task] for task in again.per_task} == pytest.approx(again.per_task, abs=0.006)


@pytest.mark.parametrize("name", ["task_arithmetic", "adamerging", "tsv_m"])
def test_its_runs_say_what_their_models_do_today(name: str, mini: Suite, fresh: Workspace) -> None:
    run, task = shown(fresh, name, mini.task_names), "digits"
    evaluator = evaluator_of(run, fresh)
    answers = known_predictions(run, fresh, evaluator)[task]
    right = answers == evaluator.image_set(task, "test").labels
    assert run.merged is not None and run.merged.accuracy is not None
    assert run.merged.accuracy[task] == pytest.approx(float(right.mean()))
    if run.merged.coefficients is not None:
        evaluator.load(dict(rebuilt(run.merged, run.spec, fresh.vectors(mini))))
        assert float((evaluator.predictions(task, "test") == answers).mean()) > 0.98  # other machines round otherwise


def test_its_positions_are_what_the_lesson_would_measure(mini: Suite, fresh: Workspace) -> None:
    job = BaselinesJob.build(suite="mini", tasks=mini.task_names, split="val", device="cpu")
    kept = {Need.read(written): value for written, value in fresh.store.shipped.accuracies(job.fingerprint(fresh))}
    bench = Bench(fresh, mini, torch.device("cpu"))
    together = [need for need in kept if len(need.position.tasks) == len(mini.task_names) and need.task == "digits"]
    assert len(together) > 4
    assert bench.measure(together[:4])
    assert bench.known == {need: pytest.approx(kept[need], abs=0.011) for need in together[:4]}
