"""How far a sweep is and what it has found, for the command line and the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from merging.core.text import short
from merging.evaluation.accuracy import SAME_ACCURACY
from merging.methods import registry
from merging.sweeps.driver import best_of
from merging.sweeps.store import Sweep, SweepStore, Trial


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        sweep: its row.
        trials: those proposed so far.
        tests: the best trials, measured on test.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    tests: tuple[Trial, ...]

    @property
    def finished(self) -> int:
        """How many trials have ended, well or badly."""
        return sum(trial.state != "open" for trial in self.trials)

    @property
    def failed(self) -> int:
        """How many have no value."""
        return sum(trial.state == "failed" for trial in self.trials)

    def of_subset(self, subset: int) -> list[Trial]:
        """Trials of one task subset."""
        return [trial for trial in self.trials if trial.subset == subset]

    def best(self, subset: int) -> Trial | None:
        """The best trial of a subset so far, by validation."""
        return best_of(self.trials, subset)

    def test(self, subset: int) -> Trial | None:
        """The best trial's run on test, once it was asked for."""
        return next((trial for trial in self.tests if trial.number == subset), None)

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        definition = self.sweep.definition
        return {
            "sweep": self.sweep.id,
            "state": self.sweep.state,
            "error": self.sweep.error,
            "definition": definition.model_dump(mode="json"),
            "total": definition.total,
            "finished": self.finished,
            "failed": self.failed,
            "best": [self._best_as_json(subset) for subset in range(len(definition.tasks))],
            "trials": [
                {
                    "number": one.number,
                    "subset": one.subset,
                    "settings": one.settings,
                    "state": one.state,
                    "run": one.run,
                    definition.objective: one.value,
                    "split": one.spec.split,
                    "error": one.error,
                }
                for one in self.trials
            ],
        }

    def _best_as_json(self, subset: int) -> dict[str, Any]:
        best, test = self.best(subset), self.test(subset)
        return {
            "tasks": list(self.sweep.definition.tasks[subset]),
            "trial": best.number if best else None,
            "settings": best.settings if best else None,
            "val": best.value if best else None,
            "test": test.value if test else None,
            "test_run": test.run if test else None,
        }


def look(sweep_id: str, sweeps: SweepStore) -> Snapshot:
    """A sweep as it is now.

    Raises:
        RunError: there is none.
    """
    sweep = sweeps.get(sweep_id)
    return Snapshot(sweep, tuple(sweeps.trials(sweep.id, "trial")), tuple(sweeps.trials(sweep.id, "test")))


def best_so_far(trials: Sequence[Trial]) -> list[float | None]:
    """For each trial the largest value of it and all before it; None before there is one."""
    best: float | None = None
    course = []
    for trial in trials:
        if trial.value is not None and (best is None or trial.value > best + SAME_ACCURACY):
            best = trial.value
        course.append(best)
    return course


def parameters(trial: Trial) -> dict[str, Any]:
    """The values proposed for a trial, by their paths."""
    return {path: value for path, value in trial.settings.items() if path not in ("edit", "merge")}


def titles(path: str) -> tuple[str, str]:
    """What people call the method and the parameter at a path.

    >>> titles("merges.task_arithmetic.scaling")
    ('Task Arithmetic', 'λ')
    """
    section, name, parameter = path.split(".")
    method = registry.find("edit" if section == "edits" else "merge", name)
    return method.title, method.params.model_fields[parameter].title or parameter.replace("_", " ")


def method_title(trial: Trial) -> str:
    """What people call the pair of edit and merge, whatever its parameters."""
    return trial.spec.pair.usual.label


def trial_in_words(trial: Trial) -> str:
    """Method and values of a trial on one line."""
    values = [f"{titles(path)[1]} {short(value)}" for path, value in parameters(trial).items()]
    return " · ".join([method_title(trial), *values])
