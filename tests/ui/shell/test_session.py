"""Who is who on a shared dashboard, and what they may do: each line of the table of rights, at the place of the act."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st

from merging.core.errors import MergingError, RunError
from merging.core.guests import OWNER, Limits, write_limits
from merging.core.owner import SECRET_FILE, owner_secret
from merging.runs import Run
from merging.runs.jobs.check import CheckJob
from merging.runs.jobs.download import DownloadJob
from merging.runs.table import RunStore
from merging.suites import Suite
from tests.app.conftest import build_suite, own_files, suites_folder, tiny
from tests.app.finished_runs import finished, spec_of
from ui.history import deleting
from ui.history.export import offer, to_folder
from ui.lesson import phones
from ui.lesson.questions import Question
from ui.shell import session, state
from ui.shell.guard import GuardedStore
from ui.shell.rights import RIGHTS, Act
from ui.shell.session import NotAllowed, guest_in, sealed

__all__ = ["own_files", "suites_folder", "tiny"]

ME = "guest 00000001"
WHO = {"owner": {"session-is-owner": True}, "guest": {"session-name": ME}, "nobody": dict[str, object]()}

# What pages call of the table of runs that changes nothing, and what only those call that carry runs out.
LOOKING = {
    "active", "alike", "all", "connect", "done_like", "enough", "expected", "find", "find_each", "folder", "get",
    "kept_open", "known_accuracy", "known_coefficients", "known_fingerprint", "known_predictions", "known_scaling",
    "queued", "measured_by", "to_show",
}  # fmt: skip
DOING = {
    "beat", "become", "claim", "finish", "mark_lost", "progress", "remember_accuracy", "remember_coefficients",
    "remember_fingerprint", "remember_predictions", "remember_scaling", "stop", "writing",
}  # fmt: skip


@pytest.fixture
def shared(tiny: Suite, own_files: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    """A shared dashboard with one suite."""
    monkeypatch.setenv("MERGING_SERVE", "1")
    st.cache_resource.clear()
    st.session_state.clear()
    yield tiny
    st.session_state.clear()
    st.cache_resource.clear()


def come(who: str) -> None:
    """Sit down in front of the session."""
    st.session_state.clear()
    st.session_state.update(WHO[who])


def attempts(suite: Suite, run: Run) -> dict[Act, list[Callable[[], object]]]:
    """Every act, as pages do it, with a run of somebody's where it is done to one."""
    space = state.workspace()
    elsewhere = spec_of(suite).model_copy(update={"suite": str(build_suite(suite.folder.parents[1] / "hidden"))})
    check = CheckJob(suite=str(suite.folder / "suite.yaml"), measured_on="cpu", deep=False, seen="")
    return {
        Act.LOOK: [lambda: space.store.get(run.id), lambda: session.require(Act.LOOK)],
        Act.EXPLORE: [lambda: session.require(Act.EXPLORE)],
        Act.QUEUE: [lambda: space.submit(spec_of(suite, seed=7)), lambda: space.retry(run.id)],
        Act.CANCEL: [lambda: space.store.cancel(run.id), lambda: space.store.ask_for_what_it_has(run.id)],
        Act.RENAME: [lambda: session.require(Act.RENAME, run)],
        Act.DELETE: [lambda: space.store.delete(space.again(run.id).id), lambda: space.store.delete(run.id)],
        Act.REMOVE: [lambda: deleting.remove([run.id])],
        Act.EXPORT: [lambda: offer(run, to_disk=False)],
        Act.SWEEP: [lambda: session.require(Act.SWEEP)],
        Act.TYPE_PATHS: [lambda: space.submit(elsewhere), lambda: to_folder(run, space)],
        Act.SEE_FOLDERS: [lambda: session.require(Act.SEE_FOLDERS)],
        Act.ADD_SUITES: [lambda: space.submit(check), lambda: space.submit(DownloadJob(suite="a/b"))],
        Act.ADD_METHODS: [lambda: session.require(Act.ADD_METHODS)],
        Act.TEACH: [lambda: phones._ask(Question("?", ("a", "b")))],
        Act.SHARED_SETTINGS: [lambda: session.require(Act.SHARED_SETTINGS)],
    }


@pytest.mark.parametrize("whose", [ME, "guest 00000002", OWNER])
@pytest.mark.parametrize("who", ["owner", "guest"])
def test_each_line_of_the_table_holds_where_the_act_is_done(who: str, whose: str, shared: Suite) -> None:
    plain = state.housekeeping()
    plain.submit(spec_of(shared), whose)
    run = finished(plain, shared)
    run = plain.store.get(run.id)
    assert run.person == whose
    plain.store.folder(run.id).mkdir(parents=True, exist_ok=True)
    come(who)
    every = attempts(shared, run)
    assert set(every) == set(RIGHTS) == set(Act)
    for act, ways in every.items():
        right = RIGHTS[act]
        may = right.owner if who == "owner" else right.guest == "all" or (right.guest == "own" and whose == ME)
        for way in ways:
            try:
                way()
            except NotAllowed:
                assert not may, act
            except MergingError:  # of what may be asked for, but can't be done in this state
                assert may or act == Act.TYPE_PATHS, act
            else:
                assert may, act
    left = plain.store.all()
    assert any(one.id == run.id for one in left) == (who == "guest" and whose != ME)
    assert {one.person for one in left if one.id != run.id} == {OWNER if who == "owner" else ME}
    hidden = [one for one in left if "hidden" in one.spec.suite]
    assert bool(hidden) == (who == "owner")


def test_whoever_has_no_name_owns_nothing(shared: Suite) -> None:
    come("nobody")
    assert session.person() == session.NOBODY and not session.may(Act.CANCEL, session.NOBODY)
    assert not session.may(Act.SWEEP) and not session.may(Act.DELETE, "")


@pytest.mark.parametrize(("who", "refused"), [("guest", True), ("owner", False)])
def test_the_limits_hold_for_guests(who: str, refused: bool, shared: Suite) -> None:
    come(who)
    write_limits(state.workspace().home, Limits(runs_per_person=1))
    first = state.workspace().submit(spec_of(shared))
    assert state.workspace().submit(spec_of(shared)).id == first.id  # nothing new is asked for
    if not refused:
        state.workspace().submit(spec_of(shared, seed=1))
        return
    with pytest.raises(RunError, match="a person may have 1 waiting"):
        state.workspace().submit(spec_of(shared, seed=1))


def test_without_others_nobody_asks(tiny: Suite, own_files: None) -> None:
    st.cache_resource.clear()
    assert not isinstance(state.workspace().store, GuardedStore)
    assert all(session.may(act, "somebody") == right.owner for act, right in RIGHTS.items())
    assert state.workspace().submit(spec_of(tiny)).person == ""


def test_all_that_changes_runs_is_guarded() -> None:
    """A new method of the table is to be guarded, or named above."""
    public = {name for name in dir(RunStore) if not name.startswith("_")}
    assert public == LOOKING | DOING | {name for name in vars(GuardedStore) if not name.startswith("_")}


@pytest.mark.parametrize("folder", ["pages", "ui"])
def test_pages_leave_to_others_what_carries_runs_out(folder: str) -> None:
    root = Path(__file__).parents[3]
    calls = [f".store.{name}(" for name in DOING]
    found = [
        (path.name, call) for path in (root / folder).rglob("*.py") for call in calls if call in path.read_text("utf-8")
    ]
    assert not found


@pytest.mark.parametrize(
    ("cookie", "name"),
    [
        (sealed("0123abcd", "secret"), "0123abcd"),
        (sealed("0123abcd", "another"), ""),
        (sealed("owner", "secret"), ""),
        ("0123abcd", ""),
        ("0123abce." + sealed("0123abcd", "secret").partition(".")[2], ""),
        ("é.ü", ""),
        ("", ""),
    ],
)
def test_a_guest_keeps_only_a_name_that_was_given(cookie: str, name: str) -> None:
    assert guest_in(cookie, "secret") == name


def test_the_owners_secret_stays_and_is_nobody_elses(tmp_path: Path) -> None:
    secret = owner_secret(tmp_path)
    file = tmp_path / SECRET_FILE
    assert len(secret) == 43 and owner_secret(tmp_path) == secret and file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(RunError, match="others on this machine can read"):
        owner_secret(tmp_path)
    file.chmod(0o600)
    file.write_text("x")
    with pytest.raises(RunError, match="holds no secret"):
        owner_secret(tmp_path)
