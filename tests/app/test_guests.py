"""Pages of a shared dashboard, as a guest and as the owner who came by the link."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging.core.guests import OWNER, Limits, write_limits
from merging.core.owner import owner_secret
from merging.suites import Suite
from merging.sweeps import SweepStore, driver
from merging.sweeps.definition import build_definition
from tests.app.conftest import texts
from tests.app.finished_runs import ended, finished, spec_of
from tests.carrying import execute
from ui.shell import state

Open = Callable[..., AppTest]
OTHER = "guest 00000002"


@pytest.fixture
def shared(tiny: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("MERGING_SERVE", "1")
    return tiny


def labels(app: AppTest) -> set[str]:
    """Of the buttons that can be pressed, downloads among them."""
    return {one.label for one in app.button if not one.disabled} | {
        str(one.proto.label) for one in app.get("download_button")
    }


def as_owner() -> dict[str, str]:
    return {"owner": owner_secret(state.workspace().home)}


def test_the_owners_link_makes_an_owner_and_leaves_the_address(shared: Suite, open_page: Open) -> None:
    app = open_page("task_models", **as_owner())
    assert "The owner" in texts(app) and "owner" not in app.query_params
    assert "The owner" in texts(app.run())
    other = open_page("task_models", owner="x" * 43)
    assert "This is not the owner's link" in texts(other) and "owner" not in other.query_params
    assert "The owner" not in texts(other) and "guest " in texts(other)


def test_without_others_there_is_no_owner(tiny: Suite, open_page: Open) -> None:
    app = open_page("task_models", owner="x")
    assert "The page Task models takes no owner = x" in texts(app)
    assert "guest " not in texts(app) and "The owner" not in texts(app)


def test_what_can_be_done_with_a_run(shared: Suite, open_page: Open) -> None:
    own = {"Delete it", "Run it again", "Download"}
    plain = state.housekeeping()
    run = finished(plain, shared)
    assert own <= labels(open_page("runs", run=run.id, **as_owner()))
    assert not own & labels(open_page("runs", run=run.id))
    mine = open_page("runs")
    plain.submit(spec_of(shared, seed=3), mine.session_state["session-name"])
    run = finished(plain, shared, seed=3)
    mine.session_state["runs-chosen"] = [run.id]
    assert own <= labels(mine.run())


def test_the_log_of_a_run_is_for_the_owner(shared: Suite, open_page: Open) -> None:
    run = ended(state.housekeeping(), shared, "failed", "bad luck", "the last line")
    assert "the last line" in [code.value for code in open_page("runs", run=run.id, **as_owner()).code]
    app = open_page("runs", run=run.id)
    assert "bad luck" in texts(app) and not [code for code in app.code if code.value == "the last line"]


def test_a_guest_asks_within_the_limits(shared: Suite, open_page: Open) -> None:
    app = open_page("merge")
    write_limits(state.workspace().home, Limits(runs_per_person=1))
    for place, scaling in enumerate((0.1, 0.2)):
        app = open_page("merge", **{"merge": "task_arithmetic", "merge.scaling": str(scaling)})
        app.session_state["session-name"] = OTHER
        next(one for one in app.button if one.label == "Merge").click().run()
        assert ("1 run of yours waits already" in texts(app)) == bool(place)
    assert [run.person for run in state.workspace().store.all()] == [OTHER]


def test_one_button_asks_for_as_many_as_there_is_room_for(
    shared: Suite, open_page: Open, launched_workers: list[Path]
) -> None:
    write_limits(state.workspace().home, Limits(runs_per_person=2))
    app = open_page("start")
    app.session_state["session-name"] = OTHER
    next(one for one in app.button if one.label == "Run the comparison").click().run()
    assert "could be asked for: 2 runs of yours wait already" in texts(app) and "Cancel" in labels(app)
    assert [run.person for run in state.workspace().store.all()] == [OTHER] * 2
    assert launched_workers


def test_who_has_no_room_keeps_the_result_and_gets_back_no_run_that_waits(shared: Suite, open_page: Open) -> None:
    app = open_page("runs")
    app.session_state["session-name"] = OTHER
    plain = state.housekeeping()
    write_limits(plain.home, Limits(runs_per_person=1))
    done, waiting = (plain.submit(spec_of(shared, seed=seed), OTHER) for seed in (1, 2))
    finished(plain, shared, seed=1)
    app.session_state["runs-chosen"] = [done.id]
    next(one for one in app.run().button if one.label == "Run it again").click().run()
    assert "1 run of yours waits already" in texts(app) and plain.store.get(done.id).state == "done"
    plain.store.delete(waiting.id)
    plain.submit(spec_of(shared, seed=3), OTHER)
    app.run().button(key=f"restore-{waiting.id}").click().run()
    assert "1 run of yours waits already" in texts(app) and len(plain.store.active()) == 1


def test_sweeps_are_looked_at(shared: Suite, open_page: Open) -> None:
    app = open_page("sweeps")
    assert "The owner of this dashboard can start one" in texts(app) and not app.get("text_area")
    plain = state.housekeeping()
    definition = build_definition(
        {
            "suite": str(shared.folder / "suite.yaml"),
            "tasks": [list(shared.task_names)],
            "device": "cpu",
            "merges": {"task_arithmetic": {"scaling": 0.3}},
        }
    )
    driver.start(definition, plain)
    app = open_page("sweeps")
    assert not app.exception and labels(app) <= {"Run again"}
    shown = "\n".join(code.value for code in app.code)
    assert "path/to/tiny/suite.yaml" in shown and str(shared.folder.parent) not in shown
    assert {"Cancel", "Start the sweep"} <= labels(open_page("sweeps", **as_owner()))
    assert len(SweepStore(plain.store).all()) == 1


def test_suites_are_looked_at(shared: Suite, open_page: Open) -> None:
    app = open_page("add_suite")
    assert not app.exception and "Suites are added by the owner of this dashboard" in texts(app)
    assert "Nobody has checked these files yet" in texts(app) and "Check all files" not in labels(app)
    assert "check-deep" not in {box.key for box in app.checkbox}  # which would change nothing for them
    owners = open_page("add_suite", **as_owner())
    assert "Check all files" in labels(owners)
    owners.checkbox(key="check-deep").check().run()
    next(one for one in owners.button if one.label == "Check all files").click().run()
    plain = state.housekeeping()
    (run,) = plain.store.queued()
    assert run.job.model_dump()["deep"]
    plain.store.claim(run.id)
    plain.store.finish(run.id, execute(run.job, plain))
    app.run()  # the most that was looked at is theirs to see without asking
    assert not app.exception and "Nobody has checked these files yet" not in texts(app) and app.dataframe


def test_runs_carry_who_asked(shared: Suite, open_page: Open) -> None:
    for query, person in (({}, "guest "), (as_owner() if open_page() else {}, OWNER)):
        app = open_page("merge", **{"merge": "average", **query})
        next(one for one in app.button if one.label == "Merge").click().run()
        (run,) = state.workspace().store.all()
        assert run.person.startswith(person)
        state.housekeeping().store.delete(run.id)
