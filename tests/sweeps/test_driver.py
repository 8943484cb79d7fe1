"""Sweeps carried out by the worker: what is run, what is chosen by what, restarts, failures, cancelling."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.cli.text import print_sweep
from merging.core.errors import MergingError, RunError, SpecError
from merging.core.progress import no_progress
from merging.runs.carrying import Queue
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.worker.serve import Worker, is_working
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from merging.sweeps import SweepDefinition, SweepStore, Trial, driver
from merging.sweeps.driver import Driver, SweepDrivers, best_of
from merging.sweeps.progress import Snapshot, best_so_far, look
from tests.copied import Copied, command_alone
from tests.sweeps.by_hand import ByHand, made_up, peak, to_the_end
from tests.waiting import until

SCALINGS = [0.2, 0.4, 0.6]
PLAIN = {"edit": "none", "merge": "task_arithmetic", "merges.task_arithmetic.scaling": 0.2}


def defined(suite_file: Path, **changes: Any) -> SweepDefinition:
    fields = {
        "suite": str(suite_file),
        "tasks": [["digits", "leaves"]],
        "device": "cpu",
        "merges": {"task_arithmetic": {"scaling": SCALINGS}},
        **changes,
    }
    return SweepDefinition.model_validate(fields)


def searched(suite_file: Path, **changes: Any) -> SweepDefinition:
    space = {"task_arithmetic": {"scaling": {"low": 0, "high": 1}}}
    return defined(suite_file, **{"merges": space, "search": "tpe", "trials": 13, **changes})


def carried_out(definition: SweepDefinition, workspace: Workspace) -> Snapshot:
    sweep = driver.start(definition, workspace)
    Worker(workspace, SweepDrivers(workspace)).serve(once=True)
    return look(sweep.id, SweepStore(workspace.store))


def made_up_sweep(definition: SweepDefinition, workspace: Workspace) -> str:
    """The id of a sweep that is done, with accuracies that are made up."""
    sweep = driver.start(definition, workspace)
    to_the_end(sweep, workspace, ByHand(workspace, peak))
    SweepStore(workspace.store).end(sweep.id, "done")
    return sweep.id


def test_a_grid_is_run_and_the_best_is_measured_on_test(workspace: Workspace, suite_file: Path) -> None:
    found = carried_out(defined(suite_file, tasks=[["digits", "leaves"], ["digits"]]), workspace)
    assert found.sweep.state == "done" and found.finished == found.sweep.definition.total == 6
    assert [trial.settings["merges.task_arithmetic.scaling"] for trial in found.trials] == SCALINGS * 2
    for trial in found.trials:
        run = workspace.store.get(str(trial.run))
        assert run.result is not None and run.spec.split == "val"
        assert trial.value == pytest.approx(sum(run.result.accuracy.values()) / len(run.spec.tasks))
    for subset, tasks in enumerate((("digits", "leaves"), ("digits",))):
        best, test = found.best(subset), found.test(subset)
        assert best is not None and test is not None
        assert best.value == max(trial.value or 0 for trial in found.of_subset(subset))
        run = workspace.store.get(str(test.run))
        assert run.result is not None and (run.spec.split, run.spec.tasks) == ("test", tasks)
        assert test.value == pytest.approx(run.result.average) and test.settings == best.settings
    on_test = [run for run in workspace.store.all() if run.spec.split == "test"]
    assert len(on_test) == 2 and len(workspace.store.all()) == 8


@pytest.mark.parametrize("objective", ["average", "normalised"])
def test_what_is_to_be_forgotten_is_not_maximised(objective: str, workspace: Workspace, suite_file: Path) -> None:
    """Of two trials that subtract a task vector, the one that leaves the others better off wins."""
    weights = {"task_arithmetic": {"weights": [[-1, 1]], "scaling": [0.1, 2.0]}}
    found = carried_out(defined(suite_file, merges=weights, objective=objective), workspace)
    assert found.sweep.state == "done"
    own = workspace.individual_accuracy(workspace.evaluator(load_suite(suite_file)), ["leaves"], "val").per_task
    for trial in found.trials:
        result = workspace.store.get(str(trial.run)).result
        assert result is not None and trial.value is not None
        report = result.forgetting
        others = [row.after for group in ("added", "kept") for row in report.rows(group).values()]
        assert len(others) == len(load_suite(suite_file).task_names) - 1
        expected = sum(others) / len(others)
        if objective == "normalised":  # of tasks that are merged only: others have no model in the sweep
            expected = result.accuracy["leaves"] / own["leaves"]
        assert trial.value == pytest.approx(expected)


def test_a_sweep_that_forgets_everything_has_nothing_to_maximise(workspace: Workspace, suite_file: Path) -> None:
    tasks = list(load_suite(suite_file).task_names)
    weights = {"task_arithmetic": {"weights": -1, "scaling": 0.1}}
    found = carried_out(defined(suite_file, tasks=[tasks], merges=weights), workspace)
    assert found.sweep.state == "failed"
    assert "all its tasks are to be forgotten" in str(found.trials[0].error)


def test_the_best_is_never_chosen_by_test(workspace: Workspace, suite_file: Path) -> None:
    """What is worst on test, and best on validation, wins; and only that was ever measured on test."""
    carrier = ByHand(workspace, peak)
    sweep = driver.start(defined(suite_file), workspace)
    trials = to_the_end(sweep, workspace, carrier)
    assert [spec.split for spec in carrier.specs] == ["val"] * 3 + ["test"]
    assert carrier.specs[-1].merge_params["scaling"] == 0.4
    test = next(trial for trial in trials if trial.role == "test")
    assert test.value == pytest.approx(0.03)
    tempting = Trial("test", 0, 0, {}, trials[0].spec, "f", "done", "r", 1.0)
    best = best_of([*trials, tempting], 0)
    assert best is not None and best.role == "trial" and best.settings["merges.task_arithmetic.scaling"] == 0.4


def test_of_equal_trials_the_first_is_best(workspace: Workspace, suite_file: Path) -> None:
    sweep = driver.start(defined(suite_file), workspace)
    trials = to_the_end(sweep, workspace, ByHand(workspace, lambda spec: 0.5))
    best = best_of(trials, 0)
    assert best is not None and best.number == 0


def test_normalised_accuracy_is_divided_by_that_of_the_task_models(workspace: Workspace, suite_file: Path) -> None:
    found = carried_out(defined(suite_file, objective="normalised"), workspace)
    assert found.sweep.state == "done", found.sweep.error
    evaluator = workspace.evaluator(load_suite(suite_file))
    for trial in (*found.trials, *found.tests):
        run = workspace.store.get(str(trial.run))
        assert run.result is not None
        own = workspace.individual_accuracy(evaluator, run.spec.tasks, run.spec.split).per_task
        expected = [run.result.accuracy[task] / own[task] for task in run.spec.tasks]
        assert trial.value == pytest.approx(sum(expected) / len(expected))


def test_what_was_run_before_is_not_run_again(workspace: Workspace, suite_file: Path) -> None:
    definition = defined(suite_file)
    known = definition.spec(
        ("digits", "leaves"), {"edit": "none", "merge": "task_arithmetic", "merges.task_arithmetic.scaling": 0.4}
    )
    before = workspace.submit(known)
    workspace.store.claim(before.id)
    workspace.store.finish(before.id, made_up(known, 0.9))
    carrier = ByHand(workspace, peak)
    trials = to_the_end(driver.start(definition, workspace), workspace, carrier)
    assert [spec.merge_params["scaling"] for spec in carrier.specs] == [0.2, 0.6, 0.4]
    assert carrier.specs[-1].split == "test" and trials[1].role == "trial"
    assert next(trial for trial in trials if trial.role == "trial" and trial.number == 1).run == before.id


def test_the_same_definition_is_the_same_sweep_until_files_change(workspace: Workspace, own_suite: Path) -> None:
    first = driver.start(defined(own_suite / "suite.yaml"), workspace)
    assert driver.start(defined(own_suite / "suite.yaml"), workspace).id == first.id
    assert driver.start(defined(own_suite / "suite.yaml", seed=1), workspace).id != first.id
    (own_suite / "leaves.safetensors").write_bytes((own_suite / "roads.safetensors").read_bytes())
    with pytest.raises(MergingError, match="have changed since this sweep"):
        to_the_end(first, workspace, ByHand(workspace, peak))
    assert driver.start(defined(own_suite / "suite.yaml"), workspace).id != first.id


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_search_goes_on_after_restarts_with_the_same_proposals(
    tmp_path: Path, suite_file: Path, parallel: int
) -> None:
    """A driver that forgets everything after every step proposes what one that never stops does."""
    definition = searched(suite_file, parallel=parallel)
    whole, halting = Workspace(tmp_path / "whole"), Workspace(tmp_path / "halting")
    at_once = to_the_end(driver.start(definition, whole), whole, ByHand(whole, peak))
    sweep = driver.start(definition, halting)
    sweeps = SweepStore(halting.store)
    for _ in range(200):
        if not Driver(sweep, sweeps, halting, ByHand(halting, peak)).advance():
            break
    assert [trial.settings for trial in at_once] == [trial.settings for trial in sweeps.trials(sweep.id)]
    assert len(at_once) == 14 and all(trial.state == "done" for trial in at_once)


def test_only_as_many_trials_as_wanted_are_under_way(workspace: Workspace, suite_file: Path) -> None:
    sweep = driver.start(defined(suite_file, parallel=2), workspace)
    carrier = ByHand(workspace, peak, state="running")
    to_the_end(sweep, workspace, carrier, steps=5)
    assert len(carrier.specs) == 2
    first = workspace.store.active()[0]
    workspace.store.finish(first.id, made_up(first.spec, 0.5))
    to_the_end(sweep, workspace, carrier, steps=5)
    assert len(carrier.specs) == 3


def test_a_lost_run_is_tried_again_and_then_given_up(workspace: Workspace, suite_file: Path) -> None:
    sweep = driver.start(defined(suite_file), workspace)
    carrier = ByHand(workspace, peak, state="lost")
    with pytest.raises(MergingError, match="no trial succeeded; the first failed: its run lost: as the test wants"):
        to_the_end(sweep, workspace, carrier)
    assert [spec.merge_params["scaling"] for spec in carrier.specs] == [s for s in SCALINGS for _ in range(3)]


def test_a_failed_trial_is_no_end_and_is_tried_again_when_asked(workspace: Workspace, suite_file: Path) -> None:
    class Picky(ByHand):
        def submit(self, spec: MergeSpec, fingerprint: str) -> None:
            self.state = "failed" if spec.merge_params["scaling"] == 0.2 else "done"
            super().submit(spec, fingerprint)

    sweep = driver.start(defined(suite_file), workspace)
    sweeps = SweepStore(workspace.store)
    trials = to_the_end(sweep, workspace, Picky(workspace, peak))
    assert [trial.state for trial in trials if trial.role == "trial"] == ["failed", "done", "done"]
    assert "as the test wants it" in str(sweeps.trials(sweep.id, "trial")[0].error)
    sweeps.end(sweep.id, "cancelled")
    again = driver.start(defined(suite_file), workspace)
    assert again.id == sweep.id and again.state == "running"
    assert [trial.state for trial in sweeps.trials(sweep.id, "trial")] == ["open", "done", "done"]
    assert all(trial.state == "done" for trial in to_the_end(again, workspace, ByHand(workspace, peak)))


class NoTest(ByHand):
    """Fails what is measured on test."""

    def submit(self, spec: MergeSpec, fingerprint: str) -> None:
        self.state = "done" if spec.split == "val" else "failed"
        super().submit(spec, fingerprint)


def test_a_best_trial_that_fails_on_test_is_said(
    workspace: Workspace, suite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = driver.start(defined(suite_file), workspace)
    to_the_end(sweep, workspace, NoTest(workspace, peak))
    print_sweep(look(sweep.id, SweepStore(workspace.store)))
    assert "trial 1, 97.0 %; on test not measured: its run failed: as the test wants it" in capsys.readouterr().out


def test_accuracies_of_the_task_models_that_were_deleted_are_measured_again(
    workspace: Workspace, suite_file: Path
) -> None:
    definition = defined(suite_file, objective="normalised")
    sweep = driver.start(definition, workspace)
    sweeps = SweepStore(workspace.store)
    to_the_end(sweep, workspace, Queue(workspace.store), steps=2)
    for trial in sweeps.trials(sweep.id, "individual"):
        sweeps.conclude(sweep.id, trial, None, 0.0, None)
        run = workspace.store.find(trial.fingerprint)
        assert run is not None
        workspace.store.delete(run.id)
    failed = carried_out(definition, workspace)
    assert failed.sweep.state == "failed" and "is gone; start the sweep again" in str(failed.sweep.error)
    assert carried_out(definition, workspace).sweep.state == "done"


def test_weights_of_trials_are_not_kept_but_those_of_the_best(workspace: Workspace, suite_file: Path) -> None:
    edits = {"ties": {"keep": [0.2, 0.4]}}
    mine = workspace.submit(
        defined(suite_file, edits=edits).spec(
            ("digits", "leaves"), {"edit": "ties", "merge": "average", "edits.ties.keep": 0.2}
        )
    )
    Worker(workspace, SweepDrivers(workspace)).serve(once=True)
    found = carried_out(defined(suite_file, edits=edits, merges={"average": {}}), workspace)
    kept = {run.id for run in workspace.store.all() if (workspace.store.folder(run.id) / KEPT_WEIGHTS).exists()}
    assert kept == {mine.id, *(str(trial.run) for trial in found.tests)}


def test_cancelling_stops_the_sweep_and_its_run(workspace: Workspace, suite_file: Path) -> None:
    definition = defined(suite_file, merges={"adamerging": {"steps": [20_000, 19_000], "batch_size": [2]}})
    sweep = driver.start(definition, workspace)
    sweeps = SweepStore(workspace.store)

    def over() -> bool:
        if any(run.done > 1 for run in workspace.store.active()):
            driver.cancel(sweep.id, workspace)
        return sweeps.get(sweep.id).state != "running"

    Worker(workspace, SweepDrivers(workspace)).serve(until=over)
    assert sweeps.get(sweep.id).state == "cancelled"
    assert [run.state for run in workspace.store.all()] == ["cancelled"]
    again = driver.start(definition, workspace)
    assert (again.id, again.state) == (sweep.id, "running")
    assert [trial.state for trial in sweeps.trials(sweep.id)] == ["open"]


def test_runs_that_somebody_else_asked_for_are_not_cancelled(workspace: Workspace, suite_file: Path) -> None:
    definition = defined(suite_file, parallel=2)
    settings = {"edit": "none", "merge": "task_arithmetic", "merges.task_arithmetic.scaling": 0.2}
    mine = workspace.submit(definition.spec(("digits", "leaves"), settings))
    sweep = driver.start(definition, workspace)
    to_the_end(sweep, workspace, Queue(workspace.store), steps=2)
    driver.cancel(sweep.id, workspace)
    states = {run.id: run.state for run in workspace.store.all()}
    assert states.pop(mine.id) == "queued" and list(states.values()) == ["cancelled"]


def test_a_killed_worker_is_followed_by_another_that_goes_on(
    workspace: Workspace, suite_file: Path, tmp_path: Path
) -> None:
    definition = searched(suite_file, trials=4)
    sweep = driver.start(definition, workspace)
    sweeps = SweepStore(workspace.store)
    first = Copied(command_alone("worker", "--home", workspace.home))
    until(
        lambda: sum(trial.state == "done" for trial in sweeps.trials(sweep.id)) >= 2,
        going_on=lambda: first.poll() is None,
    )
    first.kill()
    first.wait()
    until(lambda: not is_working(workspace.home))  # its children notice that they are alone
    Worker(workspace, SweepDrivers(workspace)).serve(once=True)
    assert sweeps.get(sweep.id).state == "done"
    undisturbed = carried_out(definition, Workspace(tmp_path / "undisturbed"))
    assert [(t.settings, t.value) for t in sweeps.trials(sweep.id, "trial")] == [
        (t.settings, t.value) for t in undisturbed.trials
    ]
    done = [run.fingerprint for run in workspace.store.all() if run.state == "done"]
    assert len(done) == len(set(done)) == 5


def test_a_driver_that_dies_fails_the_sweep(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "drive", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    found = carried_out(defined(suite_file), workspace)
    assert found.sweep.state == "failed" and "signal 9" in str(found.sweep.error)


def test_a_sweep_that_can_not_go_on_says_why(workspace: Workspace, own_suite: Path) -> None:
    sweep = driver.start(defined(own_suite / "suite.yaml"), workspace)
    (own_suite / "leaves.safetensors").unlink()
    driver.drive(sweep.id, workspace)
    failed = SweepStore(workspace.store).get(sweep.id)
    assert failed.state == "failed" and "leaves.safetensors" in str(failed.error)
    assert str(own_suite) not in str(failed.error)


def test_the_device_of_a_cluster_must_be_named(workspace: Workspace, suite_file: Path) -> None:
    with pytest.raises(SpecError, match=r"'auto': the machines of a cluster.*cpu or cuda"):
        driver.start(defined(suite_file, device="auto"), workspace, "tcp://127.0.0.1:1")
    assert driver.start(defined(suite_file, device="cuda"), workspace, "tcp://x:1").definition.device == "cuda:0"


def test_best_so_far_never_falls(suite_file: Path) -> None:
    spec = defined(suite_file).spec(("digits",), {"edit": "none", "merge": "average"})
    values = [None, 0.4, 0.3, None, 0.6, 0.5]
    trials = [Trial("trial", n, 0, {}, spec, "f", "done", "r", value) for n, value in enumerate(values)]
    assert best_so_far(trials) == [None, 0.4, 0.4, 0.4, 0.6, 0.6]


def test_what_another_version_wrote_hides_nothing(workspace: Workspace, suite_file: Path) -> None:
    sweeps = SweepStore(workspace.store)
    readable, other = (driver.start(defined(suite_file, seed=seed), workspace) for seed in (0, 1))
    with workspace.store.connect() as connection:
        connection.execute("update sweeps set definition = ? where id = ?", ('{"magic": true}', other.id))
    assert [sweep.id for sweep in sweeps.all()] == [readable.id]
    with pytest.raises(MergingError, match="another version"):
        sweeps.get(other.id)


def write(path: Path, suite_file: Path, **changes: Any) -> Path:
    path.write_text(defined(suite_file, **changes).to_yaml())
    return path


def test_the_command_line_carries_out_a_file(tmp_path: Path, suite_file: Path) -> None:
    file, home = write(tmp_path / "sweep.yaml", suite_file), tmp_path / "home"
    shown = CliRunner().invoke(main, ["sweep", str(file), "--home", str(home)])
    assert shown.exit_code == 0, shown.stderr
    assert "3 of 3 trials" in shown.stdout and shown.stdout.count("Task Arithmetic · λ 0.") == 3
    assert shown.stdout.count("best average on validation: trial ") == 1 and "best so far" in shown.stderr
    runs = Workspace(home).store.all()
    found = call(file, "--home", home)
    assert found["state"] == "done" and found["finished"] == found["total"] == 3
    assert [trial["settings"]["merges.task_arithmetic.scaling"] for trial in found["trials"]] == SCALINGS
    (best,) = found["best"]
    assert best["val"] == max(trial["average"] for trial in found["trials"])
    assert {trial["split"] for trial in found["trials"]} == {"val"}
    test = Workspace(home).store.get(best["test_run"])
    assert test.result is not None and test.result.average == best["test"] and test.spec.split == "test"
    assert [run.id for run in Workspace(home).store.all()] == [run.id for run in runs]
    assert f"on test {100 * best['test']:.1f} %" in shown.stdout


def test_interrupting_the_command_cancels_and_the_same_command_goes_on(tmp_path: Path, suite_file: Path) -> None:
    home = tmp_path / "home"
    file = write(tmp_path / "sweep.yaml", suite_file, merges={"adamerging": {"steps": [20_000], "batch_size": [2]}})
    said = tmp_path / "said.txt"
    child = Copied(command_alone("sweep", file, "--home", home), said)
    store = Workspace(home).store
    until(lambda: any(run.done > 1 for run in store.active()), going_on=lambda: child.poll() is None)
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130 and "Interrupted" in said.read_text()
    assert not store.active()
    sweeps = SweepStore(store)
    assert sweeps.ids("cancelled") == sweeps.ids()


def test_the_command_line_refuses_in_words(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("suite: mini\nmerges: {tsv: }\n")
    result = CliRunner().invoke(main, ["sweep", str(tmp_path / "sweep.yaml"), "--home", str(tmp_path / "home")])
    assert result.exit_code == 1 and result.stderr.startswith("Error: sweep.yaml: unknown merge 'tsv'")


# --- deleting, going on, the command line ----------------------------------------------------------------------------


def call(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["sweep", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_sweep_is_deleted_without_its_runs_or_with_those_that_are_its_own(
    workspace: Workspace, suite_file: Path
) -> None:
    before = workspace.submit(defined(suite_file).spec(("digits", "leaves"), PLAIN))
    first, second = defined(suite_file), defined(suite_file, merges={"task_arithmetic": {"scaling": [0.6, 0.8]}})
    run_here(before.job, workspace, None, no_progress)
    kept, gone = (made_up_sweep(one, workspace) for one in (first, second))
    store = SweepStore(workspace.store)
    runs = {run.id for run in workspace.store.all()}
    assert store.delete(gone[:8]) == (gone, []) and store.ids() == [kept]
    assert {run.id for run in workspace.store.all()} == runs and not store.trials(gone)
    again = made_up_sweep(second, workspace)
    shared = {trial.run for trial in store.trials(kept)} & {trial.run for trial in store.trials(again)}
    own = {trial.run for trial in store.trials(kept)} - shared - {before.id}
    assert shared and own and before.id in {trial.run for trial in store.trials(kept)}
    assert set(store.delete(kept, runs=True)[1]) == own
    assert {run.id for run in workspace.store.all()} == runs - own
    with pytest.raises(RunError, match="no sweep"):
        store.delete(kept)


def test_a_sweep_that_goes_on_is_not_deleted(workspace: Workspace, suite_file: Path) -> None:
    sweep = driver.start(defined(suite_file), workspace)
    store = SweepStore(workspace.store)
    store.add(sweep.id, [Trial("trial", 0, 0, {}, defined(suite_file).spec(("digits",), PLAIN), "f")])
    with pytest.raises(RunError, match=f"sweep {sweep.id} goes on; cancel it"):
        store.delete(sweep.id, runs=True)
    assert store.get(sweep.id) == sweep and len(store.trials(sweep.id)) == 1
    driver.cancel(sweep.id, workspace)
    assert store.delete(sweep.id, runs=True) == (sweep.id, [])


def test_a_cancelled_sweep_is_resumed_by_its_id(workspace: Workspace, own_suite: Path) -> None:
    sweep = driver.start(defined(own_suite / "suite.yaml"), workspace, "tcp://somewhere:1")
    assert driver.cancel(sweep.id, workspace).state == "cancelled"
    assert driver.resume(sweep.id[:6], workspace).scheduler == "tcp://somewhere:1"
    driver.cancel(sweep.id, workspace)
    found = driver.resume(sweep.id, workspace, "")
    assert (found.id, found.state, found.scheduler) == (sweep.id, "running", "")
    driver.cancel(sweep.id, workspace)
    (own_suite / "leaves.safetensors").write_bytes((own_suite / "roads.safetensors").read_bytes())
    with pytest.raises(MergingError, match="have changed since sweep"):
        driver.resume(sweep.id, workspace)
    assert SweepStore(workspace.store).ids() == [sweep.id]


def test_sweeps_on_the_command_line(workspace: Workspace, suite_file: Path, tmp_path: Path) -> None:
    home = ("--home", workspace.home)
    assert "no sweeps yet" in CliRunner().invoke(main, ["sweep", "list", "--home", str(workspace.home)]).stdout
    file = tmp_path / "sweep.yaml"
    file.write_text(defined(suite_file).to_yaml())
    begun = call(file, *home)
    assert call("start", file, *home) == begun  # the word can be left out
    (row,) = call("list", *home)["sweeps"]
    best = max(trial["average"] for trial in begun["trials"])
    assert (row["sweep"], row["state"], row["finished"], row["best"]) == (begun["sweep"], "done", 3, best)
    text = CliRunner().invoke(main, ["sweep", "list", "--home", str(workspace.home)]).stdout.splitlines()
    assert text[1].startswith(f"{row['sweep']}  ") and text[1].split()[-3:] == ["3/3", f"{100 * best:.1f}", "%"]
    assert call("show", row["sweep"][:5], *home) == begun
    shown = CliRunner().invoke(main, ["sweep", "show", row["sweep"], "--home", str(workspace.home)]).stdout
    assert shown.startswith(f"sweep {row['sweep']}: 3 of 3 trials\n") and "best average on validation" in shown
    assert call("cancel", row["sweep"], *home) == {"sweep": row["sweep"], "state": "done"}
    assert call("resume", row["sweep"], *home) == begun
    stopped = driver.start(defined(suite_file, seed=3), workspace)
    assert call("cancel", stopped.id, *home)["state"] == "cancelled"
    shown = CliRunner().invoke(main, ["sweep", "show", stopped.id, "--home", str(workspace.home)]).stdout
    assert shown.startswith(f"sweep {stopped.id}: 0 of 3 trials, cancelled\n")
    assert call("resume", stopped.id, *home)["state"] == "done"
    assert len(call("delete", stopped.id, "--runs", *home)["runs"]) == 4
    assert call("delete", row["sweep"], *home) == {"deleted": row["sweep"], "runs": []}
    assert call("list", *home) == {"sweeps": []} and len(workspace.store.all()) == 4
    gone = CliRunner().invoke(main, ["sweep", "show", "abc", "--home", str(workspace.home)])
    assert gone.exit_code == 1 and "no sweep 'abc'; see `sweep list`" in gone.stderr
    assert CliRunner().invoke(main, ["sweep"]).exit_code == 2
    assert "delete" in CliRunner().invoke(main, ["sweep", "--help"]).stdout
    missing = CliRunner().invoke(main, ["sweep", str(tmp_path / "gone.yaml")])
    assert missing.exit_code == 2 and "does not exist" in missing.stderr
