"""Finding runs: what is listed follows the table of runs, whoever changes it."""

from pathlib import Path

import pytest

from merging.runs import listing as module
from merging.runs.annotations import annotate
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import SORTS, View, choices, listing, read_runs, unreadable
from merging.runs.table import RunStore

SPEC = MergeSpec.build(suite="tiny", tasks=("a", "b"))
RESULT = MergeResult(accuracy={"a": 0.4, "b": 0.6}, average=0.5, fingerprints={"base": "b" * 64})


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "home")


def test_a_listed_run_follows_its_row(store: RunStore) -> None:
    run = store.submit(SPEC, "f", person="Ada")
    elsewhere = RunStore(store.home)  # as another process has it
    assert [(one.state, one.person, one.score) for one in listing(elsewhere)] == [("queued", "Ada", None)]
    store.claim(run.id)
    assert [one.state for one in listing(elsewhere)] == ["running"]
    other = MergeSpec.build(suite="tiny", tasks=("a", "b"), merge="average")
    store.become(run.id, other, "g")
    assert [one.method for one in listing(elsewhere)] == ["Weight averaging"]
    store.finish(run.id, RESULT)
    (done,) = listing(elsewhere)
    assert (done.state, done.score, done.base, done.fingerprint) == ("done", 0.5, "b" * 64, "g")
    annotate(store, run.id, name="x", tags=["y"])
    assert [(one.name, one.tags) for one in listing(elsewhere)] == [("x", '["y"]')]
    assert read_runs(elsewhere, listing(elsewhere)) == [store.get(run.id)]
    store.delete(run.id)
    assert listing(elsewhere) == [] == read_runs(elsewhere, [done])


def test_runs_are_read_once_within_bounds(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        run, _ = store.take(SPEC, str(number))
        store.finish(run.id, RESULT)
    facts = listing(store)
    first = read_runs(store, facts)
    assert [run.id for run in first] == [one.id for one in facts]
    again = read_runs(store, facts[::-1])
    assert all(one is other for one, other in zip(again, first[::-1], strict=True))
    monkeypatch.setattr(module, "_KEPT_BYTES", 2 * len(first[0].result_json or ""))
    read_runs(store, facts)
    kept = read_runs(store, facts)
    assert sum(one is other for one, other in zip(kept, first, strict=True)) <= 2 and kept == first


def test_a_result_that_can_not_be_read_hides_no_run(store: RunStore) -> None:
    run, _ = store.take(SPEC, "f")
    store.finish(run.id, RESULT)
    with store.connect() as connection:
        connection.execute("update runs set result = '{{{' where id = ?", (run.id,))
    assert [(one.id, one.score) for one in listing(store)] == [(run.id, None)] and unreadable(store) == []


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_holds_all_runs_and_what_is_unknown_comes_last(sort: str, store: RunStore) -> None:
    queued = store.submit(SPEC, "queued")
    for number in range(3):
        run, _ = store.take(SPEC, str(number))
        average = 0.2 + number / 10
        store.finish(run.id, RESULT.model_copy(update={"average": average}))
    found = View(sort=sort).of(listing(store))  # type: ignore[arg-type]
    assert len(found) == 4
    if sort in ("best", "longest"):
        assert found[-1].id == queued.id
    if sort == "best":
        assert [one.score for one in found[:3]] == [0.4, 0.30000000000000004, 0.2]


def test_what_came_with_suites_stands_behind_suite_by_suite_in_the_orders_by_time(store: RunStore) -> None:
    for name in "ab":
        store.submit(SPEC, name)
    new, old = listing(store)
    came = [
        new._replace(id=f"{suite} {created:g}", suite=suite, created=created, shipped=True)
        for suite, created in (("mini-related", 9e9), ("mini", 8e9), ("mini", 8.5e9), ("mini-related", 7e9))
    ]
    for sort, own, of_mini, of_related in (
        ("newest", [new, old], ["mini 8.5e+09", "mini 8e+09"], ["mini-related 9e+09", "mini-related 7e+09"]),
        ("oldest", [old, new], ["mini 8e+09", "mini 8.5e+09"], ["mini-related 7e+09", "mini-related 9e+09"]),
    ):
        found = [one.id for one in View(sort=sort).of([new, old, *came])]  # type: ignore[arg-type]
        assert found == [*(one.id for one in own), *of_mini, *of_related]


def test_choices_are_those_that_runs_have(store: RunStore) -> None:
    annotate(store, store.submit(SPEC, "f", person="Ada").id, tags=["b", "A"])
    store.submit(MergeSpec.build(suite="/x/other/suite.yaml", tasks=("a",)), "g")
    found = choices(listing(store))
    assert (found["tags"], found["people"], found["suites"]) == (["A", "b"], ["Ada"], ["other", "tiny"])
