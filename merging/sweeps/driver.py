"""Driving a sweep: queue trials, tell what came of them to the search, queue more, measure the best on test.

All state is in the store, so a driver can be killed at any moment and another one goes on. A trial is an ordinary run:
what was computed before costs nothing, and trials are carried out by the worker of the workspace or by a cluster.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

from merging.core import devices
from merging.core.errors import MergingError
from merging.evaluation.accuracy import best_first
from merging.methods import own
from merging.runs import Run
from merging.runs.carrying import ATTEMPTS, Carrier, Queue
from merging.runs.export.weights import KEPT_WEIGHTS, require_done
from merging.runs.jobs.baselines import BaselinesJob, BaselinesResult
from merging.runs.jobs.model_job import ModelJob
from merging.runs.workspace import Workspace
from merging.suites.suite import Split, load_suite
from merging.sweeps.definition import Settings, SweepDefinition
from merging.sweeps.search import Known, next_numbers, propose
from merging.sweeps.store import Role, Sweep, SweepStore, Trial

POLL_SECONDS = 0.3
_SPLITS: tuple[Split, ...] = ("val", "test")


def start(definition: SweepDefinition, workspace: Workspace, scheduler: str = "") -> Sweep:
    """Have a sweep carried out by whoever serves the workspace, or go on with it if it was stopped.

    Args:
        definition: what to try.
        workspace: where runs are kept.
        scheduler: address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; empty for this machine.

    Raises:
        MergingError: the suite, its files or a combination of values can't be used.
    """
    suite = load_suite(definition.suite)
    completed = definition.completed(suite, _device(definition, scheduler))
    return SweepStore(workspace.store).start(completed, identity(completed, workspace), scheduler)


def resume(sweep_id: str, workspace: Workspace, scheduler: str | None = None) -> Sweep:
    """Go on with a sweep that was stopped or failed; one that runs or is done stays as it is.

    Args:
        sweep_id: its id or an unambiguous beginning of it.
        workspace: where it is.
        scheduler: as in :func:`start`; as it was started by default.

    Raises:
        RunError: there is none.
        MergingError: files that it reads have changed since, so that it would be another sweep.
    """
    sweep = SweepStore(workspace.store).get(sweep_id)
    if identity(sweep.definition, workspace) != sweep.fingerprint:
        raise MergingError(f"files of the suite have changed since sweep {sweep.id} was started; start a new one")
    return start(sweep.definition, workspace, sweep.scheduler if scheduler is None else scheduler)


def _device(definition: SweepDefinition, scheduler: str) -> str:
    """The device with its number, so that trials are the same runs as those of the command line."""
    if not scheduler:
        return str(devices.resolve(definition.device))
    from merging.runs.cluster import device_there

    return device_there(definition.device)


def identity(definition: SweepDefinition, workspace: Workspace) -> str:
    """Fingerprint of a completed definition and of all files that its runs will read."""
    files = definition.spec(_union(definition), {"edit": "none", "merge": "average"}).fingerprint(workspace)
    text = f"{definition.model_dump_json(exclude={'suite'})}\n{files}"
    sources = own.sources(definition.stages)
    text += f"\n{json.dumps(sources, sort_keys=True)}" if sources else ""
    return hashlib.sha256(text.encode()).hexdigest()


def _union(definition: SweepDefinition) -> tuple[str, ...]:
    """All tasks of all subsets."""
    return tuple(dict.fromkeys(task for subset in definition.tasks for task in subset))


def cancel(sweep_id: str, workspace: Workspace) -> Sweep:
    """Stop a sweep, and the runs that it asked for; one that has ended stays as it is."""
    sweeps = SweepStore(workspace.store)
    sweep = sweeps.get(sweep_id)
    sweeps.end(sweep.id, "cancelled")
    _cancel_runs(sweep, sweeps)
    return sweeps.get(sweep.id)


def _cancel_runs(sweep: Sweep, sweeps: SweepStore) -> None:
    for trial in sweeps.trials(sweep.id, state="open"):
        run = sweeps.runs.find(trial.fingerprint)
        if run is not None and run.active and run.created >= sweep.created:  # older ones somebody else asked for
            sweeps.runs.cancel(run.id)


def drive(sweep_id: str, workspace: Workspace, stopped: Callable[[], bool] = lambda: False) -> None:
    """Bring a running sweep to its end; whatever stops it for good stands in its row then.

    Args:
        sweep_id: which sweep.
        workspace: where runs are kept.
        stopped: asked between steps; if so the sweep is left as it is, for another driver.
    """
    sweeps = SweepStore(workspace.store)
    sweep = sweeps.get(sweep_id)
    try:
        with closing(_carrier(sweep, workspace)) as carrier:
            driver = Driver(sweep, sweeps, workspace, carrier)
            while not stopped() and sweeps.get(sweep_id).state == "running":
                carrier.look_after()
                if not driver.advance():
                    sweeps.end(sweep_id, "done")
                time.sleep(POLL_SECONDS)
            if sweeps.get(sweep_id).state == "cancelled":
                _cancel_runs(sweep, sweeps)
                carrier.look_after()
    except MergingError as error:
        sweeps.end(sweep_id, "failed", str(error))
        _cancel_runs(sweep, sweeps)


class SweepDrivers:
    """The sweeps of a workspace as its worker drives them, see :class:`merging.runs.worker.serve.Drivers`."""

    def __init__(self, workspace: Workspace) -> None:
        self._sweeps = SweepStore(workspace.store)

    def going_on(self) -> list[str]:
        """Ids of the sweeps that are running, but for those whose methods another worker may know."""
        return [sweep_id for sweep_id in self._sweeps.ids("running") if self._sweeps.readable(sweep_id)]

    def drive(self, name: str, workspace: Workspace, stopped: Callable[[], bool]) -> None:
        """Drive a sweep, see :func:`drive`."""
        drive(name, workspace, stopped)

    def fail(self, name: str, reason: str) -> None:
        """Mark a sweep as failed since its driver died."""
        self._sweeps.end(name, "failed", f"the process that drove the sweep died ({reason})")


def _carrier(sweep: Sweep, workspace: Workspace) -> Carrier:
    if not sweep.scheduler:
        return Queue(workspace.store)
    from merging.runs.cluster import Cluster

    return Cluster(sweep.scheduler, workspace.store, sweep.definition.device)


class Driver:
    """Takes one sweep forward, a step at a time."""

    def __init__(self, sweep: Sweep, sweeps: SweepStore, workspace: Workspace, carrier: Carrier) -> None:
        self.sweep = sweep
        self.definition = sweep.definition
        self.sweeps = sweeps
        self.workspace = workspace
        self.carrier = carrier
        self._attempts: Counter[str] = Counter()
        self._looked = False

    def advance(self) -> bool:
        """Note what has ended, and ask for what comes next; False once everything is done.

        Raises:
            MergingError: the sweep can't go on, or no trial succeeded.
        """
        awaited = self._open()
        for trial in awaited:
            self._follow(trial)
        if awaited and self._looked and len(self._open()) == len(awaited):
            return True  # nothing has ended, so there is no more room than before
        self._looked = True
        stages: dict[Role, Callable[[], list[Trial]]] = {
            "individual": self._individual,
            "trial": self._trials,
            "test": self._tests,
        }
        for role, stage in stages.items():
            asked = stage()
            self.sweeps.add(self.sweep.id, asked)
            for trial in asked:
                self._submit(trial)
            if self.sweeps.trials(self.sweep.id, role, "open"):
                return True
        return False

    def _open(self) -> list[Trial]:
        """Open trials; only the task models' own accuracies while these, by which others are divided, are missing."""
        return self.sweeps.trials(self.sweep.id, "individual", "open") or self.sweeps.trials(
            self.sweep.id, state="open"
        )

    def _submit(self, trial: Trial) -> None:
        self._attempts[trial.fingerprint] += 1
        self.carrier.submit(trial.spec, trial.fingerprint)

    def _follow(self, trial: Trial) -> None:
        """Conclude an open trial whose run has ended; have the run carried out again if it was lost."""
        run = self.sweeps.runs.find(trial.fingerprint)
        if run is not None and run.active:
            return
        if run is not None and run.state == "done":
            self._conclude(trial, run)
        elif not self._attempts[trial.fingerprint] or (
            (run is None or run.state == "lost") and self._attempts[trial.fingerprint] < ATTEMPTS
        ):
            self._submit(trial)
        else:
            state = "deleted" if run is None else run.state
            reason = f"its run {state}: {run.error if run and run.error else 'no reason was recorded'}"
            self.sweeps.conclude(self.sweep.id, trial, run.id if run else None, None, reason)

    def _conclude(self, trial: Trial, run: Run) -> None:
        # What the task models reach by themselves has no objective; its run's result is looked up when it is needed.
        value = 0.0 if trial.role == "individual" else self._objective(run)
        error = "there is no accuracy to maximise, as all its tasks are to be forgotten" if value is None else None
        self.sweeps.conclude(self.sweep.id, trial, run.id, value, error)
        if trial.role == "trial" and run.created >= self.sweep.created:
            # Hundreds of trials would fill the disk; the weights worth keeping are those of the best, measured on test.
            (self.sweeps.runs.folder(run.id) / KEPT_WEIGHTS).unlink(missing_ok=True)

    def _objective(self, run: Run) -> float | None:
        """What is maximised; None where all tasks are to be forgotten."""
        result = require_done(run)
        if self.definition.objective == "average":
            return result.score
        accuracy, individual = result.accuracy or {}, self._individual_accuracy(run.spec.split)
        shares = [value / individual[task] for task, value in accuracy.items() if task not in run.spec.forgotten]
        return sum(shares) / len(shares) if shares else None

    def _individual_accuracy(self, split: Split) -> dict[str, float]:
        trial = self.sweeps.trials(self.sweep.id, "individual")[_SPLITS.index(split)]
        run = self.sweeps.runs.find(trial.fingerprint)
        result = None if run is None else run.result_as(BaselinesResult)
        if result is None:
            raise MergingError(
                f"the run with the task models' own accuracies on {split} is gone; start the sweep again"
            )
        found = result.individual
        zero = [task for task, value in found.items() if value == 0]
        if zero:
            raise MergingError(
                f"no accuracy can be divided by that of the models of {', '.join(zero)}, which is 0 on {split}; "
                "choose objective: average"
            )
        return found

    def _individual(self) -> list[Trial]:
        """The task models' own accuracies, if the objective needs them and nobody has asked for them."""
        if self.definition.objective == "average":
            return []
        known = self.sweeps.trials(self.sweep.id, "individual")
        failed = [trial.error for trial in known if trial.state == "failed"]
        if failed:
            raise MergingError(f"the task models' own accuracies could not be measured: {failed[0]}")
        if known:
            return []
        suite, tasks, device = self.definition.suite, _union(self.definition), self.definition.device
        return [
            self._asked(
                "individual", number, 0, BaselinesJob.build(suite=suite, tasks=tasks, device=device, split=split)
            )
            for number, split in enumerate(_SPLITS)
        ]

    def _trials(self) -> list[Trial]:
        """The next proposals, if there is room."""
        known = self.sweeps.trials(self.sweep.id, "trial")
        numbers = next_numbers(self.definition, {trial.number: trial.state != "open" for trial in known})
        own.refresh()
        if numbers and identity(self.definition, self.workspace) != self.sweep.fingerprint:
            which = " or of a method of your own" if own.sources(self.definition.stages) else ""
            raise MergingError(f"files of the suite{which} have changed since this sweep was asked for; start it again")
        asked: list[Trial] = []
        for number in numbers:
            subset = number // self.definition.trials_per_subset
            earlier = [trial for trial in (*known, *asked) if trial.subset == subset and trial.number < number]
            asked.append(self._proposed(number, subset, earlier))
        return asked

    def _proposed(self, number: int, subset: int, earlier: Sequence[Trial]) -> Trial:
        history = [Known(trial.settings, trial.state != "open", trial.value) for trial in earlier]
        settings = propose(self.definition, number, history)
        return self._asked(
            "trial", number, subset, self.definition.spec(self.definition.tasks[subset], settings), settings
        )

    def _tests(self) -> list[Trial]:
        """The best trial of every subset, measured on test once."""
        trials = self.sweeps.trials(self.sweep.id, "trial")
        known = {trial.number for trial in self.sweeps.trials(self.sweep.id, "test")}
        found = [best_of(trials, subset) for subset in range(len(self.definition.tasks))]
        if not any(found):
            raise MergingError(f"no trial succeeded; the first failed: {trials[0].error}")
        return [
            self._asked(
                "test",
                best.subset,
                best.subset,
                self.definition.spec(self.definition.tasks[best.subset], best.settings, "test"),
                best.settings,
            )
            for best in found
            if best is not None and best.subset not in known
        ]

    def _asked(self, role: Role, number: int, subset: int, spec: ModelJob, settings: Settings | None = None) -> Trial:
        return Trial(role, number, subset, settings or {}, spec, spec.fingerprint(self.workspace))


def best_of(trials: Sequence[Trial], subset: int) -> Trial | None:
    """The trial of a subset with the largest objective, the first of equals; None if none has any.

    Only trials are looked at, whose runs are on the validation split: what was measured on test chooses nothing.
    """
    done = [one for one in trials if one.role == "trial" and one.subset == subset and one.value is not None]
    done.sort(key=lambda one: one.number)
    return done[best_first([one.value or 0.0 for one in done])[0]] if done else None
