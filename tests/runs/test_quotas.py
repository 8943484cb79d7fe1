"""What guests of a shared dashboard may ask for, and that nobody waits for all the runs of another."""

from pathlib import Path

import pytest

from merging.core.errors import RunError
from merging.core.guests import LIMITS_FILE, OWNER, Limits, is_guest, read_limits, write_limits
from merging.runs.quotas import require_room
from merging.runs.table import RunStore
from tests.runs.test_expected import spec


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def asked(store: RunStore, **persons: int) -> list[str]:
    """Queue so many runs of each person, one person after the other; ids in that order."""
    return [
        store.submit(spec(), f"{person} {number}", person).id
        for person, count in persons.items()
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("waiting", "written", "limits", "why"),
    [
        ({"ann": 1}, 0, {"runs_per_person": 2}, ""),
        ({"ann": 2}, 0, {"runs_per_person": 2}, "2 runs of yours wait already, and a person may have 2 waiting here"),
        ({"bob": 2}, 0, {"runs_per_person": 2}, ""),
        ({"ann": 1, "bob": 2}, 0, {"runs": 3}, "3 runs wait already, and 3 may wait here in all"),
        (
            {"ann": 1},
            3 * 10**6,
            {"disk": 2 * 10**6},
            "the dashboard's folder holds 0.003[0-9]* GB and may hold 0.002 GB",
        ),
        ({"ann": 1}, 3 * 10**6, {"disk_per_person": 2 * 10**6}, "your runs hold 0.003 GB here"),
        ({"bob": 1}, 3 * 10**6, {"disk_per_person": 2 * 10**6}, ""),
    ],
)
def test_room_for_one_run_more(
    store: RunStore, waiting: dict[str, int], written: int, limits: dict[str, int], why: str
) -> None:
    for run_id in asked(store, **waiting):
        store.folder(run_id).mkdir(parents=True)
        (store.folder(run_id) / "weights").write_bytes(b"0" * written)
    if not why:
        require_room(store, Limits(**limits), "ann")
        return
    with pytest.raises(RunError, match=why):
        require_room(store, Limits(**limits), "ann")


def test_files_of_a_deleted_run_count_as_long_as_they_are_there(store: RunStore) -> None:
    (run_id,) = asked(store, ann=1)
    store.folder(run_id).mkdir(parents=True)
    (store.folder(run_id) / "weights").write_bytes(b"0" * 3 * 10**6)
    store.delete(run_id)
    with pytest.raises(RunError, match=r"your runs hold 0\.003 GB here"):
        require_room(store, Limits(disk_per_person=2 * 10**6), "ann")


def test_what_has_started_does_not_wait_any_more(store: RunStore) -> None:
    (first,) = asked(store, ann=1)
    store.claim(first)
    require_room(store, Limits(runs=1, runs_per_person=1), "ann")


def test_limits_are_kept_in_the_workspace(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits()
    write_limits(tmp_path, Limits(minutes=5, memory=2**30))
    assert read_limits(tmp_path) == Limits(minutes=5, memory=2**30)
    (tmp_path / LIMITS_FILE).write_text('{"minutes": -1}')
    with pytest.raises(RunError, match=LIMITS_FILE):
        read_limits(tmp_path)


@pytest.mark.parametrize(
    ("person", "guest"), [("", False), (OWNER, False), ("guest 3f2a", True), ("a@b.example", True)]
)
def test_only_others_are_guests(person: str, guest: bool) -> None:
    assert is_guest(person) == guest


def test_people_take_turns_and_each_keeps_an_order(store: RunStore) -> None:
    asked(store, ann=4)
    asked(store, bob=2)
    asked(store, cat=1)
    order = []
    while waiting := store.queued():
        assert [run.id for run in waiting] == [run.id for run in store.queued()]
        store.claim(waiting[0].id)
        order.append(waiting[0].fingerprint)
    assert order == ["ann 0", "bob 0", "cat 0", "ann 1", "bob 1", "ann 2", "ann 3"]


def test_the_order_shown_is_the_order_kept(store: RunStore) -> None:
    asked(store, ann=3, bob=2)
    shown = [run.fingerprint for run in store.queued()]
    assert shown == ["ann 0", "bob 0", "ann 1", "bob 1", "ann 2"]
    for name in shown:
        first = store.queued()[0]
        assert first.fingerprint == name
        store.claim(first.id)


def test_whoever_comes_late_is_next(store: RunStore) -> None:
    early = asked(store, ann=5)
    for run_id in early[:2]:
        store.claim(run_id)
    (late,) = asked(store, bob=1)
    assert store.queued()[0].id == late
