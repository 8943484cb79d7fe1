"""How long jobs are likely to take, from how long the like took before, and in which order that makes them worth doing.

A guess: machines differ, and are busy with other things. Where nothing like it was done, a job counts as short unless
its method learns in many steps.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merging.methods.params import AUTO
from merging.methods.spec import Spec
from merging.runs.jobs import Job
from merging.runs.run import Run
from merging.runs.turns import taking_turns

# Seconds that a job counts for, in the order of the queue, where nothing like it was done before.
_SHORT, _LONG = 30.0, 300.0
_STEPS = 100  # of a method that count as many
_WAYS = ("granularity", "split", "solver")  # parameters of merges that time hangs on, and that are no numbers
_PARTS = ("shifts", "left_out", "subsets")  # what a job measures one after the other

Fields = Mapping[str, Any]


class Expected:
    """What is known of how long jobs take.

    Args:
        done: a job's fields and the seconds that it took, newest first.
        elsewhere: the same of jobs on another machine, which count where nothing like them was done.
    """

    def __init__(self, done: Iterable[tuple[Fields, float]], elsewhere: Iterable[tuple[Fields, float]] = ()) -> None:
        self._known: dict[str, tuple[Fields, float, bool]] = {}
        self._searched: dict[str, tuple[Fields, float, bool]] = {}  # by what is like them without the search
        for pairs, here in ((done, True), (elsewhere, False)):
            for fields, seconds in pairs:
                like, learns, given = _like(fields), _learns_like(fields), _like(fields, searched=False)
                for key in filter(None, (like, learns)):
                    self._known.setdefault(key, (fields, seconds, here))
                if given != like:
                    self._searched.setdefault(given, (fields, seconds, here))

    def seconds(self, job: Job) -> float | None:
        """About how long a job will take, or :meth:`at_most`; None where nothing like it was done before."""
        found, fields = self._found(job), job.model_dump(mode="json")
        return None if found is None else found[1] * _amount(fields) / _amount(found[0])

    def from_elsewhere(self, job: Job) -> bool:
        """Whether that is guessed from what another machine took."""
        found = self._found(job)
        return found is not None and not found[2]

    def at_most(self, job: Job) -> bool:
        """Whether it is only known how long the like takes where a parameter that is given here is searched for."""
        return self._exact(job) is None and self._found(job) is not None

    def _found(self, job: Job) -> tuple[Fields, float, bool] | None:
        return self._exact(job) or self._searched.get(_like(job.model_dump(mode="json")))

    def _exact(self, job: Job) -> tuple[Fields, float, bool] | None:
        fields = job.model_dump(mode="json")
        return self._known.get(_like(fields)) or self._known.get(_learns_like(fields))

    def cost(self, job: Job) -> float:
        """The same for putting jobs in order, where every one needs a number."""
        known = self.seconds(job)
        if known is not None:
            return known
        return _LONG if isinstance(job, Spec) and _steps(job.model_dump(mode="json")) >= _STEPS else _SHORT

    def in_order(self, waiting: Sequence[Run], turns: Mapping[str, float] | None = None) -> list[Run]:
        """Who is next, first: by when a run could have been done, had it been started as soon as it was asked for.

        What is quick passes what takes long, what is alike keeps its order, and nothing is passed for ever. People who
        share a dashboard take turns, so that this is the order within the runs of each.

        Args:
            waiting: the runs.
            turns: person → when one of their runs was started last.
        """
        by_cost = sorted(waiting, key=lambda run: run.created + self.cost(run.job))
        return taking_turns(by_cost, turns or {})

    def starts(self, active: Sequence[Run], lanes: Mapping[str, str], now: float) -> dict[str, float | None]:
        """Waiting run → seconds until it is likely to start; None where that can't be guessed.

        Args:
            active: what is running, and what waits in order.
            lanes: run → what it waits for.
            now: seconds since the epoch.
        """
        free: dict[str, float | None] = {}
        found: dict[str, float | None] = {}
        for run in sorted(active, key=lambda run: run.state == "queued"):
            lane, takes = lanes[run.id], self.seconds(run.job)
            if run.state == "queued":
                found[run.id] = free.get(lane, 0.0)
            elif takes is not None and run.started is not None:
                takes = max(takes - (now - run.started), run.seconds_left(now) or 0.0)  # as its progress says
            before = free.get(lane, 0.0)
            free[lane] = None if before is None or takes is None else before + takes
        return found


def _like(fields: Fields, searched: bool = True) -> str:
    """The same for jobs that take about as long, but for their numbers of tasks and of steps.

    A parameter that is to be chosen on validation, whatever it is called, takes a search; which number is given instead
    makes no difference. Unless ``searched``, it is as if one was given. Which of several ways is taken, such as
    a solver, does make one.
    """
    params = _params(fields).items()
    rest = {key: value for key, value in params if key in _WAYS or (searched and value == AUTO)}
    return json.dumps(
        [fields.get(key) for key in ("job", "suite", "edit", "merge")] + [rest], sort_keys=True, default=str
    )


def _learns_like(fields: Fields) -> str:
    """The same for methods that learn in many steps, which take about as long whatever is edited or learned.

    Empty for other jobs.
    """
    params = _params(fields)
    searched = sorted(key for key, value in params.items() if value == AUTO)
    named = [*(fields.get(key) for key in ("job", "suite", "merge")), params.get("solver"), searched]
    return json.dumps([*named, "learns"]) if fields.get("job") == "merge" and _steps(fields) >= _STEPS else ""


def _params(fields: Fields) -> Fields:
    return fields.get("merge_params") or {}


def _steps(fields: Fields) -> float:
    steps = _params(fields).get("steps")
    return float(steps) if isinstance(steps, (int, float)) else 0.0


def _amount(fields: Fields) -> float:
    return (
        max(1, len(fields.get("tasks") or ()))
        * max(1.0, _steps(fields))
        * max(1, _params(fields).get("batch_size") or 1)
        * max(1, *(len(fields.get(parts) or ()) for parts in _PARTS))
    )
