"""The page What if: sliders change the numbers, and the numbers are those of runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging.methods import registry
from merging.methods.mixing import specification
from merging.runs.jobs import MergeSpec
from merging.runs.positions import Bench
from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.app.conftest import TASKS, build_suite, links, texts
from tests.app.finished_runs import carry_out_queued
from tests.carrying import execute
from tests.own_methods import write
from ui.look import marks
from ui.shell import state
from ui.what_if import coefficients_view, live_accuracy

Open = Callable[..., AppTest]


@pytest.fixture
def average_of_run(untouched: Suite, tmp_path: Path) -> Callable[..., str]:
    """Accuracy of a real run on all four tasks, as the page writes it."""

    def run(coefficients: dict[str, float], edit: str = "none", split: str = "val") -> str:
        spec = specification(str(untouched.folder / "suite.yaml"), coefficients, edit, split=split)
        result = execute(MergeSpec.like(spec), Workspace(tmp_path / "elsewhere"))
        return f"{100 * float(result.score or 0):.1f} %"

    return run


def average(app: AppTest) -> str:
    return str(app.metric[0].value)


def test_it_opens_with_task_arithmetic(standing: Suite, look: Open, average_of_run: Callable[..., str]) -> None:
    app = look("what_if")
    assert not app.exception
    assert average(app) == average_of_run(dict.fromkeys(TASKS, 0.3))
    assert "All 96 validation images" in texts(app)
    assert [app.slider(key=f"c.{task}").label for task in TASKS] == [task.title() for task in TASKS]


@pytest.mark.parametrize(("edit", "split"), [("none", "val"), ("awd", "val"), ("ties", "test")])
def test_numbers_are_those_of_a_run(
    edit: str, split: str, standing: Suite, look: Open, average_of_run: Callable[..., str]
) -> None:
    chosen = dict(zip(TASKS, (1.5, -0.5, 0.0, 0.25), strict=True))
    query = {f"c.{task}": f"{value:g}" for task, value in chosen.items()}
    words = {"what-edit": registry.find("edit", edit).title, "what-split": {"val": "Validation", "test": "Test"}[split]}
    app = look("what_if", **query, **words)
    assert not app.exception
    assert average(app) == average_of_run(chosen, edit, split)
    assert ("chosen on test" in texts(app)) is (split == "test")


WRONG = '''
import numpy as np
from merging.methods.planned import LinearEdit
from merging.methods.registry import edit


@edit("mine", title="Mine")
def mine(vectors: TaskVectors, params: SomeParams, context: Context) -> LinearEdit:
    """Mixes three tasks, of however many."""
    return LinearEdit({name: np.eye(3) for name in vectors.names})
'''


def test_an_edit_of_ones_own_that_gives_what_none_may_is_told(tiny: Suite, own_methods: Path, open_page: Open) -> None:
    write(own_methods, "mine.py", WRONG)
    app = open_page("what_if", **{"what-edit": "Mine"})
    assert not app.exception
    assert any("mine.py, its matrices of tensor" in error.value.replace("\\", "") for error in app.error)


def test_where_all_is_to_be_forgotten_there_is_no_average(standing: Suite, look: Open) -> None:
    app = look("what_if", **{f"c.{task}": "-0.5" for task in TASKS})
    assert not app.exception
    assert average(app) == "–"
    assert "There is no average" in texts(app)


@pytest.mark.usefixtures("own_files")
def test_a_sample_comes_first_and_the_page_does_not_wait_for_the_rest(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch, average_of_run: Callable[..., str]
) -> None:
    monkeypatch.setattr("ui.what_if.live_accuracy.SAMPLE", 10)
    app = open_page("what_if")
    assert not app.exception
    assert "10 validation images a task, drawn at random; measuring all 96: 0 of 4 tasks" in texts(app)
    assert average(app) != average_of_run(dict.fromkeys(TASKS, 0.3))


def test_numbers_stay_while_towers_make_way_for_those_of_other_suites(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch, average_of_run: Callable[..., str]
) -> None:
    bench = live_accuracy._bench

    def another(reference: str, version: state.Stamp) -> Bench:
        bench.clear()
        return bench(reference, version)

    monkeypatch.setattr(live_accuracy, "_bench", another)
    app = open_page("what_if")
    assert not app.exception and average(app) == average_of_run(dict.fromkeys(TASKS, 0.3))


@pytest.mark.usefixtures("own_files")
def test_what_changed_since_the_last_position(standing: Suite, look: Open, average_of_run: Callable[..., str]) -> None:
    app = look("what_if")
    assert not app.metric[0].delta
    before = average(app)
    app.slider(key="c.apples").set_value(1.5).run()
    assert not app.exception
    after = average_of_run({**dict.fromkeys(TASKS, 0.3), "apples": 1.5})
    assert average(app) == after
    change = float(after.split()[0]) - float(before.split()[0])
    assert float(app.metric[0].delta.replace("−", "-")) == pytest.approx(change, abs=0.11)


def test_all_and_resets(standing: Suite, look: Open) -> None:
    app = look("what_if")

    def values() -> list[float]:
        return [float(app.slider(key=f"c.{task}").value) for task in TASKS]

    app.slider(key="all-coefficients").set_value(0.8).run()
    assert values() == [0.8] * 4
    app.button(key="alone-birds").click().run()
    assert values() == [0, 1, 0, 0]
    assert app.slider(key="all-coefficients").value == 0.25
    app.button(key="reset-zero").click().run()
    assert values() == [0] * 4
    app.button(key="reset-best").click().run()
    assert values() == [0.3] * 4
    assert not app.exception


def test_a_slider_moved_before_the_one_for_all_has_followed_is_the_one_that_counts(standing: Suite, look: Open) -> None:
    app = look("what_if", suite="tiny", tasks=["apples", "birds"])
    app.slider(key="c.apples").set_value(0.7)
    app.slider(key="all-coefficients").set_value(0.4)  # where a browser that lags behind says that it stands
    app.run()
    assert [app.slider(key=f"c.{task}").value for task in ("apples", "birds")] == [0.7, 0.3]
    assert app.slider(key="all-coefficients").value == 0.5
    app.slider(key="all-coefficients").set_value(0.4).run()
    assert [app.slider(key=f"c.{task}").value for task in ("apples", "birds")] == [0.4, 0.4]


@pytest.mark.parametrize(("said", "left"), [(0.5, [0.7, 0.3]), (0.1, [0.1, 0.1])])
def test_a_browser_that_hears_late_where_the_one_for_all_was_put_moves_nothing(
    said: float, left: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = {"c.apples": 0.7, "c.birds": 0.3}
    monkeypatch.setattr(coefficients_view.st, "session_state", {**stands, coefficients_view._ALL: said})
    marks.remember(coefficients_view._ALL, stands)
    coefficients_view._follow_all()
    assert [coefficients_view.st.session_state[key] for key in stands] == left


def test_the_best_known_coefficient_is_that_of_a_finished_run(tiny: Suite, open_page: Open) -> None:
    app = open_page("start")
    next(button for button in app.button if "comparison" in button.label).click().run()
    for run in state.workspace().store.queued():
        if run.spec.label != "Task Arithmetic":
            state.workspace().store.cancel(run.id)
    carry_out_queued(state.workspace())
    run = next(run for run in state.workspace().store.all() if run.spec.label == "Task Arithmetic" and run.result)
    assert run.result is not None
    app.switch_page("pages/what_if.py").run()
    assert not app.exception
    assert app.button(key="reset-best").label == f"λ = {run.result.merge.scaling:g}"


def test_a_task_that_is_left_out_is_still_measured(
    standing: Suite, look: Open, average_of_run: Callable[..., str]
) -> None:
    app = look("what_if", **{"what-edit": "AWD"}, merged=["Apples", "Doors"])
    assert not app.exception
    assert app.slider(key="c.birds").disabled
    figure = next(chart for chart in app.get("plotly_chart") if "This merge" in chart.proto.spec)
    assert all(task.title() in figure.proto.spec for task in TASKS)
    app.button_group(key="merged").set_value([]).run()
    assert not app.exception
    assert "this is the base model" in texts(app)


def test_coefficients_travel_to_the_merge_page(standing: Suite, look: Open) -> None:
    app = look("what_if", **{"c.apples": "-0.4", "what-edit": "TIES"})
    query = links(app)["Merge with these coefficients"]
    assert query["merge.scaling"] == ["-0.4,0.3,0.3,0.3"]
    assert query["edit"] == ["ties"]
    assert query["tasks"] == list(TASKS)


def test_large_models_are_measured_by_the_worker(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch, average_of_run: Callable[..., str]
) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0})
    app = open_page("what_if", **{"c.cars": "0.75"})
    assert not app.exception and not app.metric
    assert "The merged vector is" in texts(app)
    next(button for button in app.button if button.label == "Measure this merge").click().run()
    assert [run.spec.merge_params["scaling"] for run in state.workspace().store.queued()] == [[0.3, 0.3, 0.75, 0.3]]
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    expected = average_of_run({**dict.fromkeys(TASKS, 0.3), "cars": 0.75})
    assert f"This merge reaches {expected} on average" in texts(app)


def test_weights_alone_show_the_geometry(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("what_if")
    assert not app.exception
    assert "No accuracy without images and heads" in texts(app)
    assert "The merged vector is" in texts(app)


def test_drop_one_out_is_a_job(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    app = open_page("what_if", what="Drop one out")
    assert not app.exception and not launched_workers
    assert "5 merges, each measured on all 4 tasks" in texts(app)
    next(button for button in app.button if button.label == "Drop one out").click().run()
    assert launched_workers
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 2
    assert "On average a task changes another's accuracy by" in texts(app)
    assert "Pearson r =" in texts(app)
    assert not state.workspace().store.all()  # the history is one of merges
    app.selectbox(key="out-edit").set_value("ties").run()
    assert "5 merges" in texts(app)
    app.selectbox(key="out-merge").set_value("fisher").run()
    assert not app.exception
    assert "takes no edit" in texts(app)


def test_drop_one_out_needs_two_tasks(standing: Suite, look: Open) -> None:
    app = look("what_if", what="Drop one out", tasks=["cars"])
    assert not app.exception
    assert "Choose at least two tasks" in texts(app)


def test_curves_of_several_methods(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    app = open_page("what_if", what="λ curves")
    assert not app.exception
    assert "3 of the chosen methods have no curve yet" in texts(app)
    next(button for button in app.button if button.label == "Measure the curves").click().run()
    assert launched_workers
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    said = texts(app)
    for title in ("Task Arithmetic", "TIES", "AWD + Task Arithmetic"):
        assert f"{title}: λ = " in said
    assert "96 validation and 96 test images in all" in said
    assert sum('"dash":"dash"' in chart.proto.spec for chart in app.get("plotly_chart")) == 1
    app.selectbox(key="curve-task").set_value("cars").run()
    assert not app.exception
    assert "On Cars, with λ chosen on validation" in texts(app)
    assert any("Accuracy on Cars (%)" in chart.proto.spec for chart in app.get("plotly_chart"))
    app.button_group(key="curves").set_value([]).run()
    assert "Choose at least one method" in texts(app)


def test_landscape_of_two_tasks(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("merging.runs.jobs.landscape", "ui.what_if.landscape_view"):
        monkeypatch.setattr(f"{module}.STEPS", 3)
    app = open_page("what_if", what="Landscape", second="Cars")
    assert not app.exception
    assert "18 models" in texts(app)
    next(button for button in app.button if button.label == "Measure the landscape").click().run()
    spec = state.workspace().store.queued()[0].job
    assert (spec.tasks, spec.edit_params["scope"]) == (("apples", "cars"), "model")
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    assert "48 validation images, drawn at random, at 3 × 3 points" in texts(app)
    assert "both pictures show the same plane" in texts(app)
    figure = app.get("plotly_chart")[0].proto.spec
    for label in ("Base", "Model of Apples", "Model of Cars", "AWD + Task Arithmetic, "):
        assert figure.count(f'"name":"{label}') == 2
    app.button_group(key="plane-of").set_value("loss").run()
    assert "best loss of the grid" in texts(app) and " nats" in texts(app)
    app.button_group(key="plane-task").set_value("cars").run()
    assert not app.exception


def test_settings_survive_a_visit_to_another_page(standing: Suite, look: Open) -> None:
    app = look("what_if", **{"c.birds": "-0.5", "what-edit": "TIES", "merged": ["Birds", "Cars"]})
    app.slider(key="c.cars").set_value(1.0).run()
    before = average(app)
    app.switch_page("pages/task_models.py").run()
    app.switch_page("pages/what_if.py").run()
    assert not app.exception and not app.warning
    assert app.slider(key="c.birds").value == -0.5 and app.slider(key="c.cars").value == 1.0
    assert app.selectbox(key="what-edit").value == "ties" and average(app) == before
    assert app.query_params["c.cars"] == "1" or app.query_params["c.cars"] == "1.0"
    assert app.query_params["merged"] == ["Birds", "Cars"]


def test_tasks_that_went_meanwhile_are_no_trouble(standing: Suite, look: Open) -> None:
    app = look("what_if", merged=["Birds", "Cars"], what="Landscape", second="Doors")
    app.switch_page("pages/task_models.py").run()
    app.multiselect(key="tasks").set_value(["apples", "doors"]).run()
    app.switch_page("pages/what_if.py").run()
    assert not app.exception and not app.error
    app.segmented_control(key="what").set_value("coefficients").run()
    assert not app.exception and not app.error


def test_values_asked_for_in_vain_are_named(standing: Suite, look: Open) -> None:
    query = {
        "c.birds": "7",
        "c.nope": "3",
        "what-edit": "Nonsense",
        "merged": ["Cars", "Boats"],
        "what-split": "Train",
        "what": "Odd",
    }
    app = look("what_if", **query)
    said = texts(app)
    assert "c.birds = 7, which is no number from -1 to 1.5. 0.3 is shown instead." in said
    assert "c.nope = 3, and Tiny suite has no task nope. It is left out." in said
    assert "what-edit = Nonsense, which is none of No edit," in said and "No edit is shown instead." in said
    assert "merged = Boats, which is none of Apples, Birds, Cars, Doors. Cars is shown instead." in said
    assert "what-split = Train, which is none of Validation, Test. Validation is shown instead." in said
    assert "what = Odd, which is none of Coefficients," in said and "Coefficients is shown instead." in said
    assert not app.run().warning


def test_every_button_has_a_name_of_its_own(standing: Suite, look: Open) -> None:
    app = look("what_if")
    names = [button.label for button in app.button]
    assert len(set(names)) == len(names) and {f"{task.title()} alone" for task in TASKS} <= set(names)
