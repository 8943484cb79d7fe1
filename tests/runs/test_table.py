"""The table of runs: every change of state, from one process and from many at once."""

import multiprocessing
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from merging.core.errors import RunError
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import unreadable
from merging.runs.table import STALE_SECONDS, RunStore
from tests.waiting import PATIENCE

SPEC = MergeSpec.build(suite="tiny", tasks=("a", "b"))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "home")


def running(store: RunStore, fingerprint: str = "f") -> str:
    run = store.submit(SPEC, fingerprint)
    assert store.claim(run.id)
    return run.id


def silence(store: RunStore, run_id: str) -> None:
    """Make a run look as if its worker had not been heard of for too long."""
    with sqlite3.connect(store.path) as connection:
        connection.execute("update runs set heartbeat = ? where id = ?", (time.time() - STALE_SECONDS - 1, run_id))
    connection.close()


def test_of_runs_that_ended_badly_the_newest_is_found(store: RunStore) -> None:
    ended = []
    for _ in range(3):
        ended.append(running(store))
        store.stop(ended[-1], "failed", "no reason")
    found = store.find("f")
    assert found is not None and found.id == ended[-1]


def test_a_run_from_queue_to_result(store: RunStore) -> None:
    run = store.submit(SPEC, "f")
    assert (run.state, run.active, run.spec, run.result) == ("queued", True, SPEC, None)
    assert [waiting.id for waiting in store.queued()] == [run.id]
    assert store.claim(run.id)
    assert store.queued() == []
    store.progress(run.id, 3, 4, "merging", new_phase=True)
    half = store.get(run.id)
    assert (half.state, half.share, half.message) == ("running", 0.75, "merging")
    store.finish(run.id, MergeResult(average=0.5, accuracy={"a": 1.0}))
    done = store.get(run.id)
    assert (done.state, done.active, done.result) == ("done", False, MergeResult(average=0.5, accuracy={"a": 1.0}))
    assert done.created <= done.started <= done.finished


@pytest.mark.parametrize(
    ("edit", "recorded", "label"),
    [
        ("doge", None, "DOGE TA (earlier version)"),
        ("doge", {"edit": 1}, "DOGE TA"),
        ("ties", None, "TIES"),
    ],
)
def test_a_run_of_an_earlier_version_of_its_method_is_marked(
    store: RunStore, edit: str, recorded: dict[str, int] | None, label: str
) -> None:
    """As a row says it that was written before revisions were recorded."""
    settings = {"units": "published"} if edit == "doge" else {}
    spec = MergeSpec.build(suite="tiny", tasks=("a", "b"), edit=edit, edit_params=settings)
    run_id = store.submit(spec, "f").id
    assert store.claim(run_id) and store.get(run_id).label == label.removesuffix(" (earlier version)")
    store.finish(run_id, MergeResult(average=0.5, warnings=["odd"], revisions=recorded))
    done = store.get(run_id)
    assert done.label == label and done.merged is not None and done.merged.average == 0.5
    earlier = ["computed by an earlier version of DOGE, which merged all other tensors as well and trimmed every "]
    assert [one[: len(earlier[0])] for one in done.warnings] == ["odd", *(earlier if "(" in label else [])]


def test_time_left_is_estimated_from_the_present_phase(store: RunStore) -> None:
    run_id = running(store)
    assert store.get(run_id).seconds_left(time.time()) is None
    store.progress(run_id, 10, 40, "adapting", new_phase=True)
    run = store.get(run_id)
    assert run.phase_started is not None
    assert run.seconds_left(run.phase_started + 5) == pytest.approx(15)
    store.progress(run_id, 20, 40, "adapting", new_phase=False)
    assert store.get(run_id).phase_started == run.phase_started


def test_a_run_says_who_asked_for_it_and_where(tmp_path: Path) -> None:
    RunStore(tmp_path).submit(SPEC, "f")
    with closing(sqlite3.connect(tmp_path / "runs.sqlite")) as connection:  # as a store of an earlier version is
        for column in ("person", "machine", "name", "note", "tags", "star"):
            connection.execute(f"alter table runs drop column {column}")
        for table in ("listed", "deleted"):
            connection.execute(f"drop table {table}")
    store = RunStore(tmp_path)
    assert [(run.person, run.machine, run.name, run.tags, run.star) for run in store.active()] == [
        ("", "", "", (), False)
    ]
    run = store.submit(SPEC, "g", person="Ada")
    assert (run.person, run.machine) == ("Ada", platform.node())


def test_the_same_work_is_queued_once(store: RunStore) -> None:
    first = store.submit(SPEC, "f")
    assert store.submit(SPEC, "f").id == first.id
    store.claim(first.id)
    assert store.submit(SPEC, "f").id == first.id
    store.finish(first.id, MergeResult())
    assert store.submit(SPEC, "f").id == first.id
    assert store.submit(SPEC, "g").id != first.id
    store.delete(first.id)
    assert store.submit(SPEC, "f").id != first.id


@pytest.mark.parametrize("state", ["failed", "cancelled", "lost"])
def test_what_did_not_succeed_says_why_and_leaves_room(store: RunStore, state: str) -> None:
    run_id = running(store)
    store.stop(run_id, state, "the reason", "last lines")
    stopped = store.get(run_id)
    assert (stopped.state, stopped.error, stopped.log) == (state, "the reason", "last lines")
    again = store.submit(SPEC, "f")
    assert again.id != run_id and again.state == "queued"


def test_cancelling_while_queued_is_at_once_and_while_running_a_request(store: RunStore) -> None:
    queued = store.submit(SPEC, "f")
    assert store.cancel(queued.id).state == "cancelled"
    assert not store.claim(queued.id)
    run_id = running(store, "g")
    assert store.beat(run_id) is None
    asked = store.cancel(run_id)
    assert asked.state == "running"
    assert store.beat(run_id) == asked.cancel_asked
    assert store.cancel(run_id).cancel_asked == asked.cancel_asked
    store.stop(run_id, "cancelled", "on request")
    assert store.cancel(run_id).state == "cancelled"


def test_a_silent_worker_means_lost(store: RunStore) -> None:
    run_id = running(store)
    store.beat(run_id)
    assert store.get(run_id).state == "running"
    silence(store, run_id)
    lost = store.get(run_id)
    assert lost.state == "lost"
    assert "run it again" in (lost.error or "")


def test_a_worker_that_was_only_slow_is_believed(store: RunStore) -> None:
    run_id = running(store)
    silence(store, run_id)
    assert store.get(run_id).state == "lost"
    store.finish(run_id, MergeResult(output="late"))
    assert (store.get(run_id).state, store.get(run_id).result) == ("done", MergeResult(output="late"))


def test_a_slow_worker_does_not_disturb_the_run_that_took_over(store: RunStore) -> None:
    run_id = running(store)
    silence(store, run_id)
    again = store.submit(SPEC, "f")
    store.beat(run_id)
    store.finish(run_id, MergeResult(output="late"))
    assert store.get(run_id).state == "lost"
    assert store.get(again.id).state == "queued"


def test_work_of_a_silent_worker_can_be_submitted_at_once(store: RunStore) -> None:
    run_id = running(store)
    silence(store, run_id)
    again = store.submit(SPEC, "f")
    assert (again.state, again.id != run_id) == ("queued", True)


def test_a_running_run_is_not_deleted(store: RunStore) -> None:
    run_id = running(store)
    folder = store.folder(run_id)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="is running; cancel it before"):
        store.delete(run_id)
    assert folder.is_dir() and [run.id for run in store.all()] == [run_id]


def test_a_run_of_another_version_does_not_hide_the_others(store: RunStore) -> None:
    old, new = store.submit(SPEC, "old"), store.submit(SPEC, "new")
    with sqlite3.connect(store.path) as connection:
        connection.execute("update runs set spec = replace(spec, 'task_arithmetic', 'gone') where id = ?", (old.id,))
    connection.close()
    assert [run.id for run in store.all()] == [run.id for run in store.queued()] == [new.id]
    assert store.find("old") is None
    with pytest.raises(RunError, match="another version"):
        store.get(old.id)
    store.delete(old.id)
    with pytest.raises(RunError, match="no run"):
        store.get(old.id)


DAMAGES = {
    "a method that is gone": "replace(spec, 'task_arithmetic', 'gone')",
    "a parameter that is gone": "replace(spec, 'scaling', 'strength')",
    "no specification": "'{}'",
    "no JSON": "'nonsense'",
    "nothing": "''",
    "a number": "7",
}


def damage(store: RunStore, run_id: str, expression: str) -> None:
    """Overwrite the specification of a row by an SQL expression."""
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"update runs set spec = {expression} where id = ?", (run_id,))
    connection.close()


@pytest.mark.parametrize("how", DAMAGES)
def test_unreadable_rows_are_listed_apart_and_can_be_deleted(how: str, store: RunStore) -> None:
    old, new = store.submit(SPEC, "old"), store.submit(SPEC, "new")
    damage(store, old.id, DAMAGES[how])
    assert [run.id for run in store.all()] == [run.id for run in store.active()] == [new.id]
    (row,) = unreadable(store)
    assert (row.id, row.state, row.created) == (old.id, "queued", old.created)
    assert "; another version of this program made it" in row.reason and row.reason.endswith("delete it")
    assert old.id not in row.reason
    assert store.delete(old.id[:8]) == old.id
    assert unreadable(store) == []


@pytest.mark.parametrize("how", DAMAGES)
def test_asking_for_the_same_again_replaces_an_unreadable_row(how: str, store: RunStore) -> None:
    old = store.submit(SPEC, "same")
    damage(store, old.id, DAMAGES[how])
    new = store.submit(SPEC, "same")
    assert new.id != old.id and new.state == "queued" and unreadable(store) == []


def test_an_unreadable_row_that_is_running_is_left_to_whoever_runs_it(store: RunStore) -> None:
    old = store.submit(SPEC, "same")
    assert store.claim(old.id)
    damage(store, old.id, DAMAGES["a method that is gone"])
    with pytest.raises(RunError, match="another version"):
        store.submit(SPEC, "same")
    assert [row.state for row in unreadable(store)] == ["running"]


def test_unknown_and_ambiguous_ids(store: RunStore) -> None:
    ids = [store.submit(SPEC, str(number)).id for number in range(17)]  # two of seventeen begin with the same digit
    shared = next(digit for digit in "0123456789abcdef" if sum(run_id.startswith(digit) for run_id in ids) > 1)
    for action in (store.get, store.cancel, store.delete):
        with pytest.raises(RunError, match="no run 'zzz'"):
            action("zzz")
        with pytest.raises(RunError, match=f"several runs begin with '{shared}'"):
            action(shared)
        with pytest.raises(RunError):
            action("")
        with pytest.raises(RunError, match="no run"):
            action("%")
    assert store.get(ids[3][:10]).id == ids[3]
    assert store.cancel(ids[3][:10]).state == "cancelled"


def test_newest_first_and_oldest_next(store: RunStore) -> None:
    ids = [store.submit(SPEC, str(number)).id for number in range(4)]
    assert [run.id for run in store.all()] == ids[::-1]
    assert [run.id for run in store.all(limit=2)] == ids[:1:-1]
    assert [run.id for run in store.queued()] == ids


def test_results_must_be_plain_json(store: RunStore) -> None:
    run_id = running(store)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.finish(run_id, MergeResult(average=float("nan")))
    assert store.get(run_id).state == "running"


def test_what_was_computed_is_remembered(store: RunStore, tmp_path: Path) -> None:
    assert store.known_accuracy("key") is None
    store.remember_accuracy("key", {"accuracy": 0.25})
    assert RunStore(store.home).known_accuracy("key") == {"accuracy": 0.25}
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert store.known_fingerprint(path) is None
    store.remember_fingerprint(path, "abc")
    assert store.known_fingerprint(path) == "abc"
    path.write_bytes(b"four")
    assert store.known_fingerprint(path) is None


def test_a_damaged_table_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(RunError, match=r"runs\.sqlite: can't be used"):
        RunStore(tmp_path)


class Meddled(RunStore):
    """A table in which, whenever one connection is about to do something, another one tries to delete everything."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.said: list[str] = []

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with super().connect() as connection:
            connection.set_trace_callback(self._meddle)
            yield connection

    def _meddle(self, statement: str) -> None:
        if statement.startswith(("begin", "update", "pragma")):
            return  # before there is anything to protect
        try:
            with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
                other.execute("delete from runs")
            self.said.append("deleted")
        except sqlite3.OperationalError as error:
            self.said.append(str(error))


@pytest.mark.parametrize("known", ["new", "live", "unreadable"])
def test_nobody_comes_between_entering_a_row_and_reading_it(store: RunStore, known: str) -> None:
    if known != "new":
        before = store.submit(SPEC, "f")
    if known == "unreadable":
        damage(store, before.id, DAMAGES["no JSON"])
    meddled = Meddled(store.home)
    meddled.said.clear()
    run = meddled.submit(SPEC, "f")
    assert set(meddled.said) == {"database is locked"} and len(meddled.said) >= 3
    assert [one.id for one in store.queued()] == [run.id]


# --- many processes at once ------------------------------------------------------------------------------------------


def submit_often(home: Path, barrier: object, found: object) -> None:
    store = RunStore(home)
    barrier.wait()  # type: ignore[attr-defined]
    found.put({store.submit(SPEC, "same").id for _ in range(10)})  # type: ignore[attr-defined]


def claim_all(home: Path, barrier: object, found: object) -> None:
    store = RunStore(home)
    ids = [run.id for run in store.queued()]
    barrier.wait()  # type: ignore[attr-defined]
    found.put([run_id for run_id in ids if store.claim(run_id)])  # type: ignore[attr-defined]


def together(target: object, home: Path, processes: int = 4) -> list[object]:
    """What several processes found that started at the same moment."""
    fork = multiprocessing.get_context("fork")
    barrier, found = fork.Barrier(processes), fork.Queue()
    children = [fork.Process(target=target, args=(home, barrier, found)) for _ in range(processes)]  # type: ignore[arg-type]
    for child in children:
        child.start()
    results = [found.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    return results


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_processes_that_submit_the_same_get_one_run(store: RunStore) -> None:
    assert len(set.union(*together(submit_often, store.home))) == 1
    assert len(store.all()) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_every_run_is_claimed_by_one_process(store: RunStore) -> None:
    ids = [store.submit(SPEC, str(number)).id for number in range(20)]
    claimed = [run_id for part in together(claim_all, store.home) for run_id in part]
    assert sorted(claimed) == sorted(ids)


def test_a_run_that_is_taken_is_running_and_in_nobody_s_queue(store: RunStore) -> None:
    taken, mine = store.take(SPEC, "f" * 64)
    assert mine and taken.state == "running" and taken.started is not None and not store.queued()
    again, mine = store.take(SPEC, "f" * 64)
    assert not mine and again.id == taken.id
    assert store.submit(SPEC, "f" * 64).id == taken.id
    waiting = store.submit(SPEC, "e" * 64)
    assert store.take(SPEC, "e" * 64) == (waiting, False)
