"""Deleted runs: out of everybody's way at once, had back within a day, gone with their files after it."""

import time
from pathlib import Path

import pytest

from merging.core.errors import RunError
from merging.runs import deleted
from merging.runs.annotations import annotate
from merging.runs.deleted import UNDO_SECONDS, deleted_runs, erase, restore, usage
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import listing, read_runs
from merging.runs.run import Run
from merging.runs.table import RunStore

SPEC = MergeSpec.build(suite="tiny", tasks=("a", "b"))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "home")


def done(store: RunStore, fingerprint: str = "f") -> Run:
    """A finished run with a file and predictions."""
    run = store.submit(SPEC, fingerprint)
    assert store.claim(run.id)
    store.folder(run.id).mkdir(parents=True)
    (store.folder(run.id) / "model.safetensors").write_bytes(b"x" * 10_000)
    store.remember_predictions(f"key of {run.id}", run.id, b"1234")
    store.finish(run.id, MergeResult(average=0.5))
    return store.get(run.id)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr(deleted.time, "time", lambda: now)


def test_a_deleted_run_is_out_of_the_way_and_comes_back_whole(store: RunStore) -> None:
    run = done(store)
    annotate(store, run.id, name="the one", tags=["paper"], star=True)
    before = store.get(run.id)
    assert store.delete(run.id[:6]) == run.id
    assert store.all() == listing(store) == [] and store.find("f") is None
    with pytest.raises(RunError, match="no run"):
        store.get(run.id)
    (kept,) = deleted_runs(store)
    assert (kept.id, kept.name, kept.state, kept.label) == (run.id, "the one", "done", "Task Arithmetic")
    assert restore(store, run.id[:6]) == run.id
    assert store.get(run.id) == before and deleted_runs(store) == []
    assert (store.folder(run.id) / "model.safetensors").is_file()
    assert store.known_predictions(f"key of {run.id}", run.id) == b"1234"
    assert read_runs(store, listing(store)) == [before]


def test_a_deleted_run_does_not_stand_for_the_work(store: RunStore) -> None:
    run = done(store)
    store.delete(run.id)
    again = store.submit(SPEC, "f")
    assert again.id != run.id and again.state == "queued"
    with pytest.raises(RunError, match=f"as run {again.id} is the same and queued since; delete that one first"):
        restore(store, run.id)
    store.delete(again.id)
    assert restore(store, run.id) == run.id and store.find("f") == store.get(run.id)


def test_the_same_again_takes_its_place_or_leaves_it(store: RunStore) -> None:
    run = done(store)
    annotate(store, run.id, name="the one", note="why", tags=["paper"], star=True)
    before = store.get(run.id)
    with store.connect() as connection:  # as if the process had been killed in between
        connection.execute("create trigger no before insert on runs begin select raise(abort, 'no'); end")
    with pytest.raises(RunError, match="can't be used"):
        store.replace(run.id, SPEC, "f", "Ada")
    assert store.all() == [before] and deleted_runs(store) == []
    with store.connect() as connection:
        connection.execute("drop trigger no")
    again = store.replace(run.id[:6], SPEC, "f", "Ada")
    assert (again.state, again.person, again.fingerprint) == ("queued", "Ada", "f") and store.all() == [again]
    assert (again.name, again.note, again.tags, again.star) == ("the one", "why", ("paper",), True)
    assert [one.id for one in deleted_runs(store)] == [run.id]
    store.claim(again.id)
    with pytest.raises(RunError, match="is running"):
        store.replace(again.id, SPEC, "f")


def test_after_a_day_it_is_gone_with_its_files(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = done(store), done(store, "g")
    store.delete(gone.id)
    later(monkeypatch, UNDO_SECONDS - 60)
    assert [one.id for one in deleted_runs(store)] == [gone.id]
    later(monkeypatch, UNDO_SECONDS + 60)
    RunStore(store.home)  # as whoever opens it does
    with pytest.raises(RunError, match="can be restored"):
        restore(store, gone.id)
    assert not store.folder(gone.id).exists() and store.known_predictions(f"key of {gone.id}", gone.id) is None
    assert store.folder(kept.id).is_dir() and [run.id for run in store.all()] == [kept.id]


def test_what_is_deleted_is_still_on_the_disk_and_said_so(store: RunStore) -> None:
    first, second = done(store), done(store, "g")
    before = usage(store)
    assert before.runs >= 20_000 and before.deleted == 0 and before.table > 0
    store.delete(first.id)
    after = usage(store)
    assert after.deleted >= 10_000 and after.runs + after.deleted == before.runs
    erase(store, first.id)
    assert usage(store).deleted == 0 and usage(store).runs == after.runs
    erase(store, second.id)
    assert usage(store).runs == 0


def test_failed_runs_come_back_beside_the_one_that_succeeded(store: RunStore) -> None:
    failed = store.submit(SPEC, "f")
    store.claim(failed.id)
    store.stop(failed.id, "failed", "bad luck")
    store.delete(failed.id)
    done(store)
    restore(store, failed.id)
    assert sorted(run.state for run in store.all()) == ["done", "failed"]
