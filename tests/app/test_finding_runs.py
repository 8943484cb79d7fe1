"""The page Runs with many runs: found, written about, taken along, varied; a view is a link."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from merging.runs import Run
from merging.runs.annotations import annotate
from merging.runs.listing import View, listing
from merging.runs.moved_file import LINES
from merging.suites import Suite
from tests.app.conftest import texts
from tests.app.finished_runs import ended, finished
from ui.history import finding
from ui.history.taking_away import _packed
from ui.shell import state

Open = Callable[..., AppTest]


def rows(app: AppTest) -> list[str]:
    """Ids of the runs in the table, in its order."""
    return list(next((frame.value["Run"] for frame in app.dataframe if "State" in frame.value), []))


@pytest.fixture
def three(tiny: Suite, open_page: Open) -> list[Run]:
    """A run that is written about, one of somebody else on another machine, and one that failed."""
    space = state.workspace()
    first = finished(space, tiny)
    annotate(space.store, first.id, name="The one", note="see **table** 2 <b>x</b>", tags=["paper", "seed study"])
    second = finished(space, tiny, merge="average", level=0.8)
    with space.store.connect() as connection:
        connection.execute("update runs set person = 'Ada', machine = 'desk' where id = ?", (second.id,))
        connection.execute("delete from listed where run = ?", (second.id,))
    third = ended(space, tiny, "failed", "bad luck", merge="adamerging")
    return [space.store.get(run.id) for run in (first, second, third)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"sort": "Best average first"}, [1, 0, 2]),
        ({"search": "ada"}, [2, 1]),  # the person, and AdaMerging
        ({"tag": ["paper", "seed study"], "of": "tiny"}, [0]),
        ({"method": "Weight averaging", "who": "Ada", "machine": "desk", "state": "done"}, [1]),
        ({"since": "Last day", "star": "true"}, []),
    ],
)
def test_a_view_is_a_link(query: dict[str, Any], found: list[int], three: list[Run], open_page: Open) -> None:
    app = open_page("runs", **query)
    assert not app.exception and not app.warning
    assert rows(app) == [three[place].id for place in found]
    if len(found) < 3:
        said = "None of 3 runs is so" if not found else f"{len(found)} of 3 runs"
        assert said in texts(app)


def test_a_view_of_a_state_that_no_run_is_in_is_empty_and_its_filters_are_taken_away(
    three: list[Run], open_page: Open
) -> None:
    app = open_page("runs", state=["cancelled", "lost"], search="one", sort="Oldest first")
    assert not app.exception and not app.warning and rows(app) == []
    assert "None of 3 runs is so: “one”, cancelled or lost." in texts(app)
    app.button(key="unfilter").click().run()
    assert not app.exception and rows(app) == [run.id for run in three]
    assert not any(app.query_params.get(name) for name in ("state", "search"))
    app = open_page("runs", state="nonsense")
    assert "state = nonsense, which is none of" in texts(app) and len(rows(app)) == 3


def test_what_nobody_has_written_is_said_so_in_a_link(three: list[Run], open_page: Open) -> None:
    app = open_page("runs", tag="nonsense")
    assert "tag = nonsense, which is none of" in texts(app) and len(rows(app)) == 3


def test_names_tags_machines_and_people_are_columns_where_there_are_any(three: list[Run], open_page: Open) -> None:
    app = open_page("runs")
    table = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert table["Name"].tolist() == ["", "", "The one"] and table["Asked by"].tolist() == ["", "Ada", ""]
    assert table["Machine"].tolist()[1] == "desk" and list(table["Tags"][2]) == ["paper", "seed study"]
    app = open_page("runs", state="failed")
    table = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert not {"Name", "Tags", "Machine", "Asked by"} & set(table)


def test_a_name_a_note_tags_and_a_star_are_written_on_the_page(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("runs", run=run.id)
    app.session_state[f"notes-{run.id}"] = True
    app.text_input(key=f"tags-{run.id}").set_value("x" * 50)
    next(one for one in app.button if one.label == "Save").click().run()
    assert "a tag of 50 letters" in texts(app) and app.session_state[f"notes-{run.id}"]
    app.text_input(key=f"name-{run.id}").set_value("Mine")
    app.text_input(key=f"tags-{run.id}").set_value("paper, PAPER, two words")
    app.text_area(key=f"text-{run.id}").set_value("![x](http://e/x.png) <i>no</i> **yes**")
    next(one for one in app.button if one.label == "Save").click().run()
    assert not app.session_state[f"notes-{run.id}"]
    app.button(key=f"star-{run.id}").click().run()
    kept = state.workspace().store.get(run.id)
    assert (kept.name, kept.tags, kept.star) == ("Mine", ("paper", "two words"), True)
    assert "Mine" in [heading.value for heading in app.header]
    note = next(one.value for one in app.markdown if "**yes**" in one.value)
    assert note == "[x](http://e/x.png) &lt;i>no&lt;/i> **yes**"


def test_a_star_for_a_run_that_was_deleted_elsewhere_is_said_to_be_in_vain(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("runs", run=run.id)
    state.workspace().store.delete(run.id)
    app.button(key=f"star-{run.id}").click().run()
    assert not app.exception and [run.id in one.value for one in app.toast] == [True]


def test_of_many_runs_the_table_shows_a_part_and_says_so(
    three: list[Run], open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PART", 2)
    app = open_page("runs", run=three[2].id)
    assert rows(app) == [three[2].id, three[1].id] and "3 runs. 1 to 2 are in the table." in texts(app)
    app.number_input(key="part").set_value(2).run()
    assert rows(app) == [three[0].id] and "bad luck" in texts(app)  # what was chosen stays, though it is not in sight
    app.text_input(key="search").set_value("failed nothing").run()
    assert not app.exception and "None of 3 runs is so: “failed nothing”." in texts(app)
    app.text_input(key="search").set_value("one").run()
    assert rows(app) == [three[0].id]


def test_runs_beyond_those_offered_are_reached_by_a_link(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [finished(state.workspace(), tiny, merge_params={"scaling": scaling}) for scaling in (0.1, 0.2, 0.3)]
    monkeypatch.setattr("ui.accuracy.view.MOST_OFFERED", 2)
    app = open_page("accuracy")
    assert "The newest 2 runs are offered here; 1 older ones can be chosen" in texts(app)
    assert [runs[0].id] not in [select.value for select in app.multiselect]
    app = open_page("accuracy", runs=runs[0].id)
    assert app.multiselect(key="accuracy-runs").value == [runs[0].id] and not app.warning


def test_again_with_marks_what_is_changed(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, edit="ties", merge_params={"scaling": 0.3})
    app = open_page("runs", run=run.id)
    app = next(one for one in app.button if one.label == "Again with …").click().run()
    assert not app.exception and app.title[0].value == "Merge"
    assert f"As in **TIES** `{run.id}`, so far." in texts(app) and app.query_params["varies"] == run.id
    app = open_page("merge", varies=run.id, edit="ties", seed="4", **{"edit.keep": "0.3", "merge.scaling": "0.3"})
    said = texts(app)
    assert f"Unlike **TIES** `{run.id}`: edit: keep 0.2 → :orange-background[0.3]; seed 0 → " in said
    gone = open_page("merge", varies="feedbeef")
    assert "no run feedbeef" in texts(gone) and "The form is not compared with it." in texts(gone)


def test_chosen_runs_are_reported_and_listed_ones_taken_along(three: list[Run], open_page: Open) -> None:
    app = open_page("runs", run=[run.id for run in three[:2]])
    assert not app.exception
    labels = [element.proto.label for element in app.get("download_button")]
    assert {"HTML", "LaTeX", "Markdown", "Runs as a file"} <= set(labels)
    app = open_page("runs", run=[run.id for run in three])
    assert f"No report of these: run {three[2].id} has no accuracies (failed)" in texts(app)
    space = state.workspace()
    packed = _packed(space, View(tags=("paper",)).of(listing(space.store)))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        _, line = archive.read(LINES).splitlines()
    assert json.loads(line)["id"] == three[0].id


def test_two_machines_stand_side_by_side_with_their_names(three: list[Run], open_page: Open) -> None:
    app = open_page("runs", run=[run.id for run in three[:2]])
    table = next(frame.value for frame in app.dataframe if "Setting" in frame.value)
    second, first = table.columns[1:]
    assert first == f"The one · {three[0].machine}" and second == "Weight averaging · desk"


def test_a_shared_folder_is_said_in_the_sidebar(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.runs.journal._SHARED", frozenset({"ext4", "tmpfs", "overlay", "xfs", "btrfs"}))
    app = open_page("runs")
    assert "Runs on a shared folder" in [element.label for element in app.expander]
    assert "rollback journal" in texts(app)
