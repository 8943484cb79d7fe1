import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from streamlit.testing.v1 import AppTest

from merging.charts.run_series import name_runs
from merging.runs.annotations import annotate
from merging.runs.deleted import deleted_runs
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.listing import unreadable
from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite, links, texts
from tests.app.finished_runs import ended, finished, spec_of
from ui.history.differences import differences
from ui.history.export import to_folder, zipped
from ui.runs.text import phases
from ui.shell import state

Open = Callable[..., AppTest]


def press(app: AppTest, label: str) -> AppTest:
    return next(one for one in app.button if one.label == label).click().run()


def test_without_runs_it_says_what_to_do(standing: Suite, look: Open) -> None:
    app = look("runs", tasks=["apples", "cars"])
    assert not app.exception
    assert "No runs yet" in texts(app)
    assert links(app)["Merge"] == {"tasks": ["apples", "cars"]}
    assert [one.label for one in app.button].count("Run the comparison") == 1


def test_history_lists_every_state_newest_first(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    finished(space, tiny)
    ended(space, tiny, "failed", "bad luck", merge="adamerging")
    ended(space, tiny, "lost", "silence", merge="average")
    space.submit(spec_of(tiny, seed=9))
    app = open_page("runs")
    assert not app.exception
    table = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert [one for (one,) in table["State"]] == ["queued", "lost", "failed", "done"]
    assert "Cancel" in [b.label for b in app.button]


def test_a_deep_link_opens_a_linear_run(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, merge_params={"scaling": "auto"})
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert [tab.label for tab in app.tabs] == ["Accuracy", "Coefficients", "Time and memory", "Settings and files"]
    assert run.fingerprint in texts(app)
    assert "same coefficient, 0.3" in texts(app)


def test_what_a_link_names_comes_before_the_table(tiny: Suite, open_page: Open) -> None:
    linked = finished(state.workspace(), tiny, merge="average")
    other = finished(state.workspace(), tiny)
    app = open_page("runs", run=linked.id)
    headings = [element.value for element in app.header]
    assert headings == ["Weight averaging", "All runs"]
    app.session_state["runs-chosen"] = [other.id]  # as a click in the table does
    app.run()
    assert [element.value for element in app.header] == ["Task Arithmetic"]
    assert [element.value for element in open_page("runs").header] == []


def test_adamerging_shows_its_adaptation(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, edit="awd", merge="adamerging")
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert [tab.label for tab in app.tabs][:4] == ["Accuracy", "Coefficients", "Adaptation", "Cosines"]
    words = texts(app)
    assert "entropy went from" in words
    assert "before the edit" in words
    assert "adapted on unlabeled test images" in words


def test_a_run_that_is_not_linear_has_no_coefficients(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, edit="ties")
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert "Coefficients" not in [tab.label for tab in app.tabs]


def test_localised_models_show_what_they_take(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, merge="tall_masks")
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert [tab.label for tab in app.tabs] == ["Accuracy", "Storage", "Time and memory", "Settings and files"]
    words = texts(app)
    assert "2.2 MB instead of 5.0 MB" in words and "2.2 times less" in words and "leaves 50 %" in words
    count = len(tiny.task_names)
    tables = [frame.value for frame in app.dataframe]
    history = next(table for table in tables if "State" in table)
    assert history["Coefficients"].tolist() == [f"{count} models, masks λ 0.4"]
    masks = next(table for table in tables if "Active entries (%)" in table)
    assert masks["λ"].tolist() == [0.4] * count and masks["Active entries (%)"].tolist() == [25.0] * count


def test_a_negation_shows_what_is_forgotten_and_what_is_kept(tiny: Suite, open_page: Open) -> None:
    first = tiny.task_names[0]
    run = finished(state.workspace(), tiny, tasks=(first,), merge_params={"scaling": 0.5, "weights": -1})
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert "Forgetting" in [tab.label for tab in app.tabs]
    history = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert history["Coefficients"].tolist() == [f"forgets {first}"]
    words = texts(app)
    assert "subtracted (−0.5)" in words.replace("\\", "")
    assert run.result is not None
    assert f": 50.0 % zero-shot, {100 * run.result.accuracy[first]:.1f} % after." in words
    assert f"To be kept, {len(tiny.task_names) - 1} tasks: 40.0 % zero-shot, 38.0 % after on average." in words
    assert "Added" not in words
    assert history["Average (%)"].tolist() == pytest.approx([38.0])  # what it is to forget is not in it
    assert "keeps 38.0 % on average over the 3 tasks not to be forgotten" in words
    assert f"{tiny.task(first).label} is to be forgotten by a run shown here and counts in no average" in words


def test_the_time_is_told_by_what_happened(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, merge="adamerging")
    assert "2.3 s in all on cpu, 1.5 s of it adapting; peak memory 400 MiB." in texts(open_page("runs", run=run.id))


def test_runs_of_earlier_versions_still_show_their_times(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    assert run.result is not None
    old = replace(
        run, result_json=json.dumps(run.result.stored() | {"seconds": {"plan": 1.0, "merge": 2.0, "total": 3.0}})
    )
    assert phases(old) == {"before merging": 1.0, "merging": 2.0}


def test_several_runs_show_only_what_differs(tiny: Suite, open_page: Open) -> None:
    runs = [finished(state.workspace(), tiny, merge_params={"scaling": scaling}) for scaling in (0.2, 0.4)]
    names = name_runs(runs)
    table = differences(runs)
    assert table["Setting"].tolist() == ["merge: scaling"]
    assert [table[names[run.id]][0] for run in runs] == ["0.2", "0.4"]
    app = open_page("runs", run=[run.id for run in runs])
    assert not app.exception
    assert "2 runs compared" in texts(app)


def test_runs_that_differ_in_the_seed_are_called_by_it_and_others_not(tiny: Suite) -> None:
    space = state.workspace()
    drawn = [finished(space, tiny, edit="dare", merge_params={"scaling": 0.3}, seed=seed) for seed in (1, 2)]
    plain = finished(space, tiny, merge_params={"scaling": 0.3}, seed=3)
    names = name_runs([*drawn, plain])
    assert [names[run.id] for run in drawn] == [f"{drawn[0].label} · λ 0.3, set by hand · seed {n}" for n in (1, 2)]
    assert names[plain.id] == plain.label


def test_a_failed_run_shows_why_and_is_retried(tiny: Suite, open_page: Open) -> None:
    run = ended(state.workspace(), tiny, "failed", "bad luck", "the last line")
    app = open_page("runs", run=run.id)
    assert "bad luck" in texts(app)
    assert "the last line" in [code.value for code in app.code]
    press(app, "Run again")
    assert [one.state for one in state.workspace().store.all()] == ["queued", "failed"]


def test_adjusting_opens_the_form_with_suite_tasks_and_settings(
    tiny: Suite, suites_folder: Path, open_page: Open
) -> None:
    changes = {"tasks": ("birds", "doors"), "edit": "awd", "edit_params": {"alpha": 0.25}, "seed": 7}
    run = finished(state.workspace(), tiny, **changes)
    build_suite(suites_folder / "aardvark", tasks=("birds", "roads"))
    app = press(open_page("runs", suite="aardvark", run=run.id), "Again with …")
    assert not app.exception
    assert not app.warning
    assert app.title[0].value == "Merge"
    assert app.selectbox(key="suite").value == "tiny"
    assert app.multiselect(key="tasks").value == ["birds", "doors"]
    assert app.number_input(key="form.edit.awd.alpha").value == 0.25
    assert app.number_input(key="form.seed").value == 7


def test_delete_asks_first(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("runs", run=run.id)
    assert len(state.workspace().store.all()) == 1
    press(app, "Delete it")
    assert state.workspace().store.all() == []
    assert "No runs yet" in texts(app) and f"`{run.id}` was deleted" in texts(app)
    press(app, "Undo")
    assert [one.id for one in state.workspace().store.all()] == [run.id]
    assert "was deleted" not in texts(app) and "No runs yet" not in texts(app)
    assert f"Task Arithmetic `{run.id}` is back." in texts(app)
    assert "` is back" not in texts(app.run())


def test_a_deleted_run_can_be_restored_later_unless_the_same_was_done_since(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    first, second = finished(space, tiny), finished(space, tiny, merge="average")
    for run in (first, second):
        space.store.delete(run.id)
    again = finished(space, tiny)
    app = open_page("runs")
    assert "Deleted within a day (2), and disk space" in [element.label for element in app.expander]
    app.button(key=f"restore-{first.id}").click().run()
    assert f"Run {first.id} can't be restored, as run {again.id} is the same" in texts(app)
    assert "` is back" not in texts(app)
    app.button(key=f"restore-{second.id}").click().run()
    assert not app.exception and {one.id for one in space.store.all()} == {again.id, second.id}
    assert f"`{second.id}` is back." in texts(app)


def test_deleted_runs_can_be_removed_for_good(tiny: Suite, open_page: Open) -> None:
    open_page()
    space = state.workspace()
    runs = [finished(space, tiny, seed=seed) for seed in range(3)]
    kept = space.store.folder(runs[0].id) / KEPT_WEIGHTS
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    app = open_page("runs", run=runs[0].id)
    press(app, "Delete it")
    for run in runs[1:]:
        space.store.delete(run.id)
    app.run().button(key=f"remove-{runs[0].id}").click().run()
    assert not app.exception and not kept.exists() and "Undo" not in [one.label for one in app.button]
    assert {one.id for one in deleted_runs(space.store)} == {run.id for run in runs[1:]}
    app.button(key="remove-all").click().run()
    assert not app.exception and not deleted_runs(space.store) and "Disk space" in [one.label for one in app.expander]


def test_a_finished_run_can_be_done_again(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    run = finished(state.workspace(), tiny)
    annotate(state.workspace().store, run.id, name="main row", note="for the paper", tags=["paper"], star=True)
    press(open_page("runs", run=run.id), "Run it again")
    (fresh,) = state.workspace().store.all()
    assert fresh.state == "queued" and fresh.id != run.id
    assert (fresh.name, fresh.note, fresh.tags, fresh.star) == ("main row", "for the paper", ("paper",), True)
    assert fresh.fingerprint == run.fingerprint
    assert launched_workers


def test_an_unknown_run_in_the_url_is_said_so(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny)
    app = open_page("runs", run="feedbeef")
    assert not app.exception
    assert "no run feedbeef here; it may have been deleted. The table holds all there are." in texts(app)


def test_of_several_runs_in_the_url_those_that_are_there_are_shown(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("runs", run=["feedbeef", run.id])
    assert "no run feedbeef here; it may have been deleted. Only the others are shown." in texts(app)
    assert app.query_params["run"] == run.id


def test_an_unknown_run_is_named_where_there_are_none(standing: Suite, look: Open) -> None:
    app = look("runs", run="feedbeef")
    assert "no run feedbeef" in texts(app)
    assert "No runs yet" in texts(app)
    assert not app.run().warning


def test_export_holds_weights_recipe_and_description(tiny: Suite, open_page: Open) -> None:
    import io
    import zipfile

    space = state.workspace()
    run = finished(space, tiny)
    with zipfile.ZipFile(io.BytesIO(zipped(run, space))) as archive:
        names = sorted(name.split("/")[1] for name in archive.namelist())
    assert {"README.md", "classify.py", "coefficients.csv", "model.safetensors", "recipe.yaml"} <= set(names)
    assert to_folder(run, space) == f"home/exports/{run.id}"
    assert (space.home / "exports" / run.id / "model.safetensors").is_file()


def test_an_export_has_the_form_that_is_chosen(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(state.workspace(), tiny)
    monkeypatch.setattr("ui.history.export.MAX_DOWNLOAD", 0)
    app = open_page("runs", run=run.id)
    app.selectbox(key=f"layout-{run.id}").select("huggingface")
    app.selectbox(key=f"dtype-{run.id}").select("bfloat16").run()
    app.button(key=f"to-disk-{run.id}").click().run()
    assert not app.exception and "-huggingface-bfloat16" in app.toast[0].value
    folder = state.workspace().home / "exports" / f"{run.id}-huggingface-bfloat16"
    assert "CLIPVisionModelWithProjection" in (folder / "config.json").read_text()
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16} and "visual_projection.weight" in stored


@pytest.mark.usefixtures("own_files")
def test_a_form_that_the_weights_can_not_have_is_refused_where_it_is_chosen(tiny: Suite, open_page: Open) -> None:
    description = yaml.safe_load((tiny.folder / "suite.yaml").read_text())
    description["architecture"]["vision_cfg"]["pool_type"] = "avg"
    (tiny.folder / "suite.yaml").write_text(yaml.safe_dump(description))
    run = finished(state.workspace(), load_suite(tiny.folder))
    app = open_page("runs", run=run.id)
    assert not app.warning
    app.selectbox(key=f"layout-{run.id}").select("huggingface").run()
    assert "has no counterpart there" in app.warning[0].value and not app.exception


@pytest.mark.usefixtures("own_files")
def test_export_is_off_when_the_checkpoints_have_changed(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    (tiny.folder / "base.safetensors").write_bytes((tiny.folder / "apples.safetensors").read_bytes())
    load_suite(tiny.folder)
    app = open_page("runs", run=run.id)
    assert not app.exception
    assert next(b for b in app.button if b.label == "Export").disabled


def forget_method(run_id: str) -> None:
    """Make a row one of a version that had another method."""
    with sqlite3.connect(state.workspace().store.path) as connection:
        connection.execute(
            "update runs set spec = replace(spec, '\"task_arithmetic\"', '\"gone\"') where id = ?", (run_id,)
        )
    connection.close()


def test_an_unreadable_run_is_shown_as_such_beside_the_others_and_can_be_deleted(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    old, new = finished(space, tiny), finished(space, tiny, merge="average")
    forget_method(old.id)
    for page in ("start", "accuracy", "leaderboard", "merge", "runs"):
        app = open_page(page)
        assert not app.exception and not app.error
    table = next(frame.value for frame in app.dataframe if "State" in frame.value)
    assert table["Run"].tolist() == [new.id]
    assert "1 run can't be read" in [element.label for element in app.expander]
    assert f"\n{old.id}, " in texts(app) and "unknown merge 'gone'" in texts(app)
    app.button(key=f"delete-unreadable-{old.id}").click().run()
    assert not app.exception and "can't be read" not in texts(app)
    assert not unreadable(space.store) and [run.id for run in space.store.all()] == [new.id]


def test_when_all_runs_are_unreadable_they_can_be_deleted(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    forget_method(run.id)
    app = open_page("runs")
    assert not app.exception and "No runs yet" in texts(app)
    app.button(key=f"delete-unreadable-{run.id}").click().run()
    assert not app.exception and not unreadable(state.workspace().store)


def test_a_link_opens_a_tab(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("runs", run=run.id, **{f"tab.{run.id}": "Coefficients"})
    assert not app.exception and not app.warning
    assert app.session_state[f"tab.{run.id}"] == "Coefficients"
    app = open_page("runs", run=run.id, **{f"tab.{run.id}": "Nonsense"})
    assert "which is none of Accuracy, Coefficients, Time and memory, Settings and files" in texts(app)


def test_the_history_of_several_suites_fits_into_a_narrow_window(
    tiny: Suite, suites_folder: Path, open_page: Open
) -> None:
    space = state.workspace()
    other = load_suite(build_suite(suites_folder / "another-suite-with-a-long-name", tasks=("cars", "roads")))
    here = [finished(space, tiny, edit="dare", edit_params={"drop": 0.123}, seed=3), finished(space, tiny, split="val")]
    finished(space, other, merge="adamerging")
    frame = next(one for one in open_page("runs", suite="tiny").dataframe if "State" in one.value)
    shown = list(frame.proto.column_order)
    assert {"State", "Method", "Suite", "Average (%)", "Coefficients", "Started"} <= set(shown)
    widths = {name: column["width"] for name, column in json.loads(frame.proto.columns).items() if "width" in column}
    assert sum(widths[name] for name in shown) <= 855
    assert not open_page("runs", suite=other.name, run=[run.id for run in here]).exception


def test_runs_that_differ_in_the_seed_alone_have_it_beside_them_in_a_narrow_window(
    tiny: Suite, suites_folder: Path, open_page: Open
) -> None:
    space = state.workspace()
    other = load_suite(build_suite(suites_folder / "another-suite-with-a-long-name", tasks=("cars", "roads")))
    finished(space, other, merge="adamerging", seed=5)
    finished(space, tiny, edit="dare", edit_params={"drop": 0.123}, split="val", seed=1)

    def shown() -> list[str]:
        frame = next(one for one in open_page("runs", suite="tiny").dataframe if "State" in one.value)
        return list(frame.proto.column_order)

    assert "Seed" not in shown()  # there is no room, and the names tell these apart
    finished(space, tiny, edit="dare", edit_params={"drop": 0.123}, split="val", seed=2)
    assert "Seed" in shown()
