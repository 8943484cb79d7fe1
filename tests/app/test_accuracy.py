from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from merging.charts.run_series import name_runs
from merging.runs.annotations import annotate
from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite, links, texts
from tests.app.finished_runs import finished, spec_of
from ui.runs.text import option_labels
from ui.shell import state

Open = Callable[..., AppTest]
AUTO = {"merge_params": {"scaling": "auto"}}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def ranked(app: AppTest) -> list[str]:
    return app.dataframe[0].value["Method"].tolist()


def test_without_runs_it_says_what_to_do(standing: Suite, look: Open) -> None:
    app = look("accuracy", tasks=["apples", "cars"])
    assert not app.exception
    assert links(app)["Merge"] == {"tasks": ["apples", "cars"]}
    assert [one.label for one in app.button].count("Run the comparison") == 1


def test_the_newest_run_of_every_method_is_compared_by_default(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    finished(space, tiny, 0.5, seed=1, merge="adamerging")
    newest = finished(space, tiny, 0.8, merge="adamerging")
    plain = finished(space, tiny, 0.6, **AUTO)
    app = open_page("accuracy")
    assert not app.exception
    assert set(app.multiselect(key="accuracy-runs").value) == {newest.id, plain.id}
    assert set(ranked(app)) == {"Zero-shot", "Individual", "AdaMerging", "Task Arithmetic"}
    assert sorted(app.query_params["runs"]) == sorted([newest.id, plain.id])


def test_a_scaling_chosen_on_validation_comes_before_newer_ones_given(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    older = finished(space, tiny, 0.5, **AUTO, seed=1)
    validated = finished(space, tiny, 0.6, **AUTO)
    for scaling in (0.3, 0.9):
        finished(space, tiny, 0.9, merge_params={"scaling": scaling})
    ties = [finished(space, tiny, 0.7, edit="ties", merge_params={"scaling": scaling}) for scaling in (0.3, 0.5)]
    app = open_page("accuracy")
    assert set(app.multiselect(key="accuracy-runs").value) == {validated.id, ties[1].id}
    assert older.id not in app.multiselect(key="accuracy-runs").value


def test_a_task_to_be_forgotten_counts_in_no_average(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    plain = finished(space, tiny, 0.6, **AUTO)
    first, *others = tiny.task_names
    forgets = finished(space, tiny, 0.7, tasks=(first,), merge_params={"scaling": 0.5, "weights": -1})
    app = open_page("accuracy")
    assert app.multiselect(key="accuracy-runs").value == [plain.id]
    app = open_page("accuracy", runs=[forgets.id, plain.id])
    assert not app.exception
    assert plain.result is not None
    averages = dict(zip(ranked(app), app.dataframe[0].value["Average (%)"], strict=True))
    mean = 100 * sum(plain.result.accuracy[task] for task in others) / len(others)
    names = name_runs([plain, forgets])
    assert averages[names[forgets.id]] == pytest.approx(38.0)
    assert averages[names[plain.id]] == pytest.approx(mean, abs=0.05)
    words = texts(app)
    assert "over the 3 tasks not to be forgotten" in words
    assert f"{tiny.task(first).label} is to be forgotten by a run shown here and counts in no average." in words
    app = open_page("accuracy", runs=[forgets.id])
    assert "keeps 38.0 % on average over the 3 tasks not to be forgotten" in texts(app)


@pytest.mark.parametrize("name", ["Zero-shot", "Individual"])
def test_no_run_takes_the_place_of_a_baseline_by_its_name(tiny: Suite, open_page: Open, name: str) -> None:
    space = state.workspace()
    run = finished(space, tiny, 0.6, **AUTO)
    plain = open_page("accuracy", runs=[run.id])
    annotate(space.store, run.id, name=name)
    app = open_page("accuracy", runs=[run.id])
    assert not app.exception and f"{name} · Task Arithmetic reaches" in texts(app)
    columns = ["Average (%)", "vs zero-shot", "Normalised (%)"]
    assert app.dataframe[0].value[columns].equals(plain.dataframe[0].value[columns])


def test_tasks_that_were_never_merged_are_said_so(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny, 0.6, **AUTO)
    finished(state.workspace(), tiny, 0.6, tasks=("apples", "birds"))
    app = open_page("accuracy", tasks=["apples", "cars"])
    assert not app.exception
    assert app.multiselect(key="accuracy-runs").value == [] and not app.get("plotly_chart")
    assert "No finished run merges exactly the selected tasks (Apples, Cars)." in texts(app)
    assert "choose above among 2 runs of other tasks" in texts(app)
    assert [" · 2 tasks · " in option for option in app.multiselect(key="accuracy-runs").options] == [True, False]
    assert links(app)["Merge"] == {"tasks": ["apples", "cars"]}
    assert [one.label for one in app.button].count("Run the comparison") == 1
    assert "runs" not in app.query_params


def test_what_nobody_chose_follows_the_selected_tasks(tiny: Suite, open_page: Open) -> None:
    every = finished(state.workspace(), tiny, 0.6, **AUTO)
    two = finished(state.workspace(), tiny, 0.6, tasks=("apples", "birds"))
    app = open_page("accuracy")
    assert app.multiselect(key="accuracy-runs").value == [every.id]
    app.multiselect(key="tasks").set_value(["apples", "birds"]).run()
    assert app.multiselect(key="accuracy-runs").value == [two.id]
    app.switch_page("pages/task_models.py").run()
    app.multiselect(key="tasks").set_value(list(tiny.task_names)).run()
    app.switch_page("pages/accuracy.py").run()
    assert app.multiselect(key="accuracy-runs").value == [every.id]
    app.multiselect(key="tasks").set_value(["apples", "cars"]).run()
    assert app.multiselect(key="accuracy-runs").value == []
    app.multiselect(key="accuracy-runs").set_value([every.id]).run()
    app.multiselect(key="tasks").set_value(["apples", "birds"]).run()
    assert app.multiselect(key="accuracy-runs").value == [every.id]  # somebody chose it


def test_runs_of_other_tasks_than_selected_say_so(tiny: Suite, open_page: Open) -> None:
    runs = [finished(state.workspace(), tiny, 0.6), finished(state.workspace(), tiny, 0.6, tasks=("apples", "birds"))]
    said = texts(open_page("accuracy", runs=runs[1].id))
    assert "The chosen runs merge other tasks than the 4 selected in the sidebar: 2 tasks." in said
    said = texts(open_page("accuracy", runs=[run.id for run in runs]))
    assert "1 of the chosen runs merge other tasks than the 4 selected in the sidebar: 2 tasks." in said
    assert "selected in the sidebar:" not in texts(open_page("accuracy", runs=runs[0].id))


@pytest.mark.parametrize(
    ("name", "form"),
    [("run", "{0},{1}"), ("runs", "{0}, {1}"), ("run", ["{0}", "{1}"]), ("runs", ["{0},{1}", "{1}"])],
)
def test_both_names_and_lists_with_commas_choose_runs(
    name: str, form: str | list[str], tiny: Suite, open_page: Open
) -> None:
    space = state.workspace()
    ids = [finished(space, tiny, 0.6, edit=edit).id for edit in ("ties", "dare", "none")][:2]
    value = form.format(*ids) if isinstance(form, str) else [one.format(*ids) for one in form]
    for page, own in (("accuracy", "runs"), ("runs", "run")):
        app = open_page(page, **{name: value})
        assert not app.exception and not app.warning
        assert app.query_params[own] == ids
        assert set(app.query_params) == {own}
        key = "accuracy-runs" if page == "accuracy" else "runs-chosen"
        assert list(app.session_state[key]) == ids


def test_a_link_chooses_runs_and_baselines_come_along(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    finished(space, tiny, 0.6, **AUTO)
    finished(space, tiny, 0.8, merge="adamerging")
    ties = finished(space, tiny, 0.7, edit="ties")
    app = open_page("accuracy", runs=ties.id)
    assert app.multiselect(key="accuracy-runs").value == [ties.id]
    everything = {"Zero-shot", "Individual", "AdaMerging", "Task Arithmetic", "TIES"}
    assert set(ranked(app)) == everything
    app.button_group(key="baselines").set_value(["Individual"]).run()
    assert set(ranked(app)) == {"Individual", "TIES"}


def test_runs_of_one_method_get_names_that_tell_them_apart(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    runs = [finished(space, tiny, 0.5 + scaling / 10, merge_params={"scaling": scaling}) for scaling in (0.2, 0.5)]
    app = open_page("accuracy", runs=[run.id for run in runs])
    names = [name for name in ranked(app) if name.startswith("Task")]
    assert sorted(names) == ["Task Arithmetic · λ 0.2, set by hand", "Task Arithmetic · λ 0.5, set by hand"]


def test_splits_are_never_mixed_in_one_chart(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    runs = [finished(space, tiny, 0.6, split=split) for split in ("test", "val")]
    app = open_page("accuracy", runs=[run.id for run in runs])
    assert not app.exception
    assert [header.value for header in app.header] == ["Test split", "Validation split"]
    assert "a chart each" in texts(app)
    assert len(app.dataframe) == 2


def test_different_task_sets_are_compared_on_what_they_share_and_say_so(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    runs = [finished(space, tiny, 0.6), finished(space, tiny, 0.7, tasks=("apples", "birds"))]
    app = open_page("accuracy", runs=[run.id for run in runs])
    assert "different sets of tasks" in texts(app)
    apart = finished(space, tiny, 0.7, tasks=("cars", "doors"))
    app = open_page("accuracy", runs=[runs[1].id, apart.id])
    assert "no task in common" in texts(app)


def test_normalised_accuracy_and_other_views(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny, 0.6, **AUTO)
    app = open_page("accuracy")
    app.button_group(key="scale").set_value("Normalised").run()
    for view in ("Dots", "Radar", "Bars"):
        app.button_group(key="view").set_value(view).run()
        assert not app.exception


def test_two_tasks_are_bars_instead_of_a_radar_and_it_says_why(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, 0.6, tasks=("apples", "birds"))
    app = open_page("accuracy", runs=run.id)
    app.button_group(key="view").set_value("Radar").run()
    assert not app.exception
    assert "A radar needs at least 3 tasks, here are 2: bars are shown." in texts(app)
    assert '"type":"bar"' in app.get("plotly_chart")[0].proto.spec


def test_the_search_for_scaling_is_shown_with_its_split(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny, 0.6, **AUTO)
    app = open_page("accuracy")
    assert "How λ was chosen" in texts(app)
    assert "0.4 for Task Arithmetic" in texts(app)


def test_runs_of_other_suites_are_left_out_and_counted(suites_folder: Path, tiny: Suite, open_page: Open) -> None:
    from merging.suites import load_suite

    other = load_suite(build_suite(suites_folder / "zeta", tasks=("roads", "signs", "leaves", "owls", "pears")))
    (other.folder / "base.safetensors").write_bytes((other.folder / "roads.safetensors").read_bytes())
    finished(state.workspace(), tiny, 0.6)
    finished(state.workspace(), other, 0.6)
    app = open_page("accuracy")
    assert "1 more runs belong to other suites" in texts(app)
    assert len(app.multiselect(key="accuracy-runs").options) == 1


def test_unknown_ids_in_the_url_are_dropped(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, 0.6)
    app = open_page("accuracy", runs=["nonsense", run.id])
    assert app.multiselect(key="accuracy-runs").value == [run.id]
    assert "no run nonsense here; it may have been deleted. Only the others are shown." in texts(app)


def test_unknown_ids_alone_give_the_newest_runs_and_say_so(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, 0.6)
    app = open_page("accuracy", runs="nonsense")
    assert app.multiselect(key="accuracy-runs").value == [run.id]
    assert "no run nonsense here; it may have been deleted. The newest runs are shown instead." in texts(app)


def test_runs_of_another_suite_on_the_same_base_stay_out(tiny: Suite, suites_folder: Path, open_page: Open) -> None:
    other = load_suite(build_suite(suites_folder / "other"))
    (other.folder / "base.safetensors").write_bytes((tiny.folder / "base.safetensors").read_bytes())
    weights = load_file(other.folder / "cars.safetensors")
    save_file({name: 1.01 * tensor for name, tensor in weights.items()}, other.folder / "cars.safetensors")
    own = finished(state.workspace(), tiny, 0.6, **AUTO)
    finished(state.workspace(), load_suite(other.folder / "suite.yaml"), 0.8, **AUTO)
    app = open_page("accuracy", suite="tiny")
    assert not app.exception
    assert app.multiselect(key="accuracy-runs").options == [*option_labels([own], tiny.task_names).values()]
    assert "1 more runs belong to other suites" in texts(app)


def test_one_definition_of_normalised_accuracy(tiny: Suite, open_page: Open) -> None:
    """The mean of the ratios, in the ranking, under the chart and on the leaderboard."""
    run = finished(state.workspace(), tiny, 0.6, **AUTO)
    assert run.result is not None
    accuracy = run.result.accuracy
    space = state.workspace()
    own = space.individual_accuracy(space.evaluator(tiny), tiny.task_names).per_task
    expected = round(100 * sum(accuracy[task] / own[task] for task in accuracy) / len(accuracy), 1)
    app = open_page("accuracy")
    table = app.dataframe[0].value.set_index("Method")
    assert table.loc["Task Arithmetic", "Normalised (%)"] == expected
    assert f"normalised {expected:.1f} %" in texts(app)
    board = open_page("leaderboard").dataframe[0].value.set_index("Method")
    assert board.loc["Task Arithmetic", "Normalised (%)"] == expected


def test_a_linked_run_that_can_not_be_shown_is_there_and_the_reason_is_said(tiny: Suite, open_page: Open) -> None:
    store = state.workspace().store
    finished(state.workspace(), tiny, 0.6)
    waiting = state.workspace().submit(spec_of(tiny, merge_params={"scaling": 0.7}))
    damaged = state.workspace().submit(spec_of(tiny, merge_params={"scaling": 0.8}))
    with store.connect() as connection:
        connection.execute(
            "update runs set spec = replace(spec, 'task_arithmetic', 'gone') where id = ?", (damaged.id,)
        )
    app = open_page("accuracy", runs=[waiting.id, damaged.id])
    assert not app.exception
    said = texts(app)
    assert f"Run {waiting.id} has no result to show here, as it is queued" in said
    assert f"Run {damaged.id} can't be read: " in said
    assert "deleted" not in said


def test_the_beginning_of_an_id_in_the_url_is_no_run(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, 0.6)
    said = texts(open_page("accuracy", runs=run.id[:6]))
    assert f"There is no run {run.id[:6]} here" in said
    assert "was not measured" not in said


def test_a_link_holds_baselines_scale_and_view(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = open_page("accuracy", run=run.id, baselines="Individual", scale="Normalised", view="Dots")
    assert not app.exception and not app.warning
    assert set(ranked(app)) == {"Individual", "Task Arithmetic"}
    assert (app.button_group(key="scale").value, app.button_group(key="view").value) == ("Normalised", "Dots")
    app.switch_page("pages/task_models.py").run()
    app.switch_page("pages/accuracy.py").run()
    assert app.button_group(key="view").value == "Dots" and not app.warning
    said = texts(open_page("accuracy", run=run.id, view="Pie", scale="Log", baselines="Nonsense"))
    assert "view = Pie, which is none of Bars, Dots, Radar. Bars is shown instead." in said
    assert "scale = Log, which is none of Absolute, Normalised. Absolute is shown instead." in said
    assert "baselines = Nonsense, which is none of Zero-shot," in said


def test_runs_of_the_same_second_can_be_told_apart(tiny: Suite, open_page: Open) -> None:
    """Streamlit tells options apart by their texts alone."""
    first = replace(finished(state.workspace(), tiny), id="aaaaaaaaaaaa")
    second = replace(first, id="bbbbbbbbbbbb")
    texts = option_labels([first, second], tiny.task_names)
    assert texts[first.id].endswith(" · aaaaaa") and texts[second.id].endswith(" · bbbbbb")
    assert "aaaaaa" not in option_labels([first], tiny.task_names)[first.id]
