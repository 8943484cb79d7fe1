"""How long runs are likely to take, and the order that follows from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from merging.runs.expected import Expected
from merging.runs.jobs import Job, MergeSpec
from merging.runs.run import Run
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from tests.carrying import execute

TWO, FOUR = ("a", "b"), ("a", "b", "c", "d")


def spec(merge: str = "average", tasks: tuple[str, ...] = TWO, suite: str = "x", **params: Any) -> MergeSpec:
    return MergeSpec.build(suite=suite, tasks=tasks, device="cpu", merge=merge, merge_params=params)


def known(*pairs: tuple[Job, float]) -> Expected:
    return Expected([(job.model_dump(mode="json"), seconds) for job, seconds in pairs])


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (spec(), 10.0),
        (spec(tasks=FOUR), 20.0),
        (spec("adamerging", steps=100), 50.0),
        (spec("adamerging", steps=200), 100.0),
        (spec("adamerging", steps=100, batch_size=16), 25.0),
        (spec("adamerging", steps=100, granularity="task"), 50.0),
        (spec("adamerging", steps=50, granularity="task"), None),
        (spec(suite="y"), None),
        (spec("iso_c"), None),
    ],
)
def test_a_run_takes_as_long_as_the_like_of_it_did(job: Job, seconds: float | None) -> None:
    assert known((spec(), 10.0), (spec(), 99.0), (spec("adamerging", steps=100), 50.0)).seconds(job) == seconds


def test_a_search_takes_at_least_as_long_as_one_of_its_values() -> None:
    searched, given = spec("task_arithmetic", scaling="auto"), spec("task_arithmetic", scaling=0.3)
    expected = known((searched, 20.0))
    assert (expected.seconds(searched), expected.at_most(searched)) == (20.0, False)
    assert (expected.seconds(given), expected.at_most(given)) == (20.0, True)
    both = known((searched, 20.0), (given, 2.0))
    assert (both.seconds(given), both.at_most(given)) == (2.0, False)
    assert known((given, 2.0)).seconds(searched) is None
    assert not known().at_most(given)


def test_a_closed_form_is_not_taken_for_an_iteration() -> None:
    """Both have a number of steps, which one of them does not make."""
    closed = {"solver": "closed_form", "scaling": 1.0}
    searched = spec("wudi", **{**closed, "scaling": "auto"})
    expected = known((spec("wudi", steps=300, scaling="auto"), 99.0), (searched, 20.0))
    assert (expected.seconds(spec("wudi", **closed)), expected.at_most(spec("wudi", **closed))) == (20.0, True)
    assert expected.at_most(spec("wudi", steps=300, scaling=1.0)) and expected.seconds(searched) == 20.0
    assert known((spec("wudi", steps=300), 99.0)).seconds(spec("wudi", **closed)) is None


def test_what_another_machine_took_counts_where_nothing_else_does() -> None:
    there = [(spec(merge).model_dump(mode="json"), 99.0) for merge in ("average", "iso_c")]
    expected = Expected([(spec().model_dump(mode="json"), 10.0)], there)
    assert (expected.seconds(spec()), expected.from_elsewhere(spec())) == (10.0, False)
    assert (expected.seconds(spec("iso_c")), expected.from_elsewhere(spec("iso_c"))) == (99.0, True)
    assert not expected.from_elsewhere(spec("tsv_m"))


@pytest.fixture
def queue(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def queued(store: RunStore, *jobs: MergeSpec) -> list[str]:
    return [store.submit(job, str(number)).id for number, job in enumerate(jobs)]


def test_what_is_quick_passes_what_takes_long_and_the_rest_keeps_its_order(queue: RunStore) -> None:
    long, first, second = queued(queue, spec("adamerging"), spec("iso_c"), spec("average"))
    assert [run.id for run in queue.queued()] == [first, second, long]


def test_nothing_is_passed_for_ever(queue: RunStore) -> None:
    queued(queue, spec("adamerging"), spec("average"))
    long, short = sorted(queue.queued(), key=lambda run: run.job.merge)  # type: ignore[attr-defined]
    expected = known((spec("adamerging"), 400.0), (spec("average"), 5.0))
    later = replace(short, created=short.created + 1000)
    assert expected.in_order([later, long]) == [long, later]
    assert expected.in_order([long, short]) == [short, long]


def test_when_a_run_is_likely_to_start(queue: RunStore) -> None:
    ids = queued(queue, spec("average"), spec("iso_c"), spec("tsv_m"))
    queue.claim(ids[0])
    running = queue.get(ids[0])
    assert running.started is not None
    active: list[Run] = [running, *(queue.get(one) for one in ids[1:])]
    lanes = dict.fromkeys(ids, "cpu")
    expected = known((spec("average"), 30.0), (spec("iso_c"), 7.0))
    starts = expected.starts(active, lanes, running.started + 10)
    assert starts == {ids[1]: pytest.approx(20.0), ids[2]: pytest.approx(27.0)}
    late = replace(running, done=1, total=4, phase_started=running.started)  # by its pace, three times as long again
    behind = expected.starts([late, *active[1:]], lanes, running.started + 40)
    assert behind[ids[1]] == pytest.approx(120.0)
    assert known((spec("iso_c"), 7.0)).starts(active, lanes, running.started) == {ids[1]: None, ids[2]: None}
    other = {**lanes, ids[2]: "files"}
    assert expected.starts(active, other, running.started)[ids[2]] == 0.0


def test_the_store_guesses_by_what_it_has_done(workspace: Workspace, suite_file: Path) -> None:
    job = MergeSpec.build(suite=str(suite_file), tasks=("digits", "leaves"), device="cpu")
    assert workspace.store.expected().seconds(job) is None
    run = workspace.submit(job)
    workspace.store.claim(run.id)
    workspace.store.finish(run.id, execute(job, workspace))
    taken = workspace.store.get(run.id)
    assert taken.finished and taken.started
    assert workspace.store.expected().seconds(job) == pytest.approx(taken.finished - taken.started)
