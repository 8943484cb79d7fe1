import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite, links, texts
from tests.app.finished_runs import carry_out_queued, ended, finished, result_of, spec_of
from tests.own_methods import HEAD, method
from ui.merge import form as merge_form
from ui.shell import state

Open = Callable[..., AppTest]


def press(app: AppTest, label: str) -> AppTest:
    return next(one for one in app.button if one.label == label).click().run()


def command(app: AppTest) -> str:
    return " ".join(str(app.code[0].value).replace("\\\n", " ").split())


def test_the_form_starts_with_plain_task_arithmetic(standing: Suite, look: Open) -> None:
    app = look("merge")
    assert not app.exception
    assert app.selectbox(key="form.edit").value == "none"
    assert app.selectbox(key="form.merge").value == "task_arithmetic"
    assert command(app) == ("merging merge path/to/tiny/suite.yaml --merge task_arithmetic --evaluate")
    assert "Nothing is running" in texts(app)


def test_a_link_presets_the_form(standing: Suite, look: Open) -> None:
    link = {"edit": "awd", "edit.alpha": "0.25", "edit.scope": "layer", "merge.scaling": "auto", "seed": "7"}
    app = look("merge", **link)
    assert not app.exception
    assert app.number_input(key="form.edit.awd.alpha").value == 0.25
    for part in ("--edit awd", "edit.alpha=0.25", "edit.scope=layer", "merge.scaling=auto", "--seed 7"):
        assert part in command(app)


def test_a_link_can_ask_to_forget(standing: Suite, look: Open) -> None:
    app = look("merge", **{"merge.scaling": "auto", "merge.weights": "-1"})
    assert not app.exception
    for part in ("merge.scaling=auto", "merge.weights=-1"):
        assert part in command(app)


def test_a_bad_link_is_refused_and_nothing_changes(standing: Suite, look: Open) -> None:
    app = look("merge", **{"edit": "awd", "edit.alpha": "-3"})
    assert not app.exception
    assert "not taken over" in texts(app)
    assert app.selectbox(key="form.edit").value == "none"


@pytest.mark.parametrize("link", [{"edit": "nonsense"}, {"merge.scaling": "1,2"}, {"seed": "abc"}, {"device": "tpu"}])
def test_no_link_can_break_the_page(standing: Suite, look: Open, link: dict[str, str]) -> None:
    app = look("merge", **link)
    assert not app.exception
    assert "Merge" in [b.label for b in app.button]


def test_merging_queues_a_run_that_stands_in_the_url(
    tiny: Suite, open_page: Open, launched_workers: list[Path]
) -> None:
    app = press(open_page("merge"), "Merge")
    assert not app.exception
    (run,) = state.workspace().store.all()
    assert app.query_params["run"] == run.id
    assert run.state == "queued"
    assert run.spec.merge_params == {"scaling": 0.3}
    assert launched_workers


def test_the_same_again_is_found_instead_of_run(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    app = press(open_page("merge"), "Merge")
    assert len(state.workspace().store.all()) == 1
    assert app.query_params["run"] == run.id
    assert "Exactly this was run before" in texts(app)


@pytest.mark.usefixtures("own_files")
def test_what_was_measured_before_is_said_with_its_accuracy_before_one_asks_again(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny)
    assert run.merged and run.merged.score is not None
    app = open_page("merge")
    assert f"Measured before: {100 * run.merged.score:.1f} % on average." in texts(app)
    assert links(app)[f"Run {run.id}"]["run"] == [run.id]
    app.number_input(key="form.seed").set_value(1).run()  # nobody measured this
    assert not app.exception and "Measured before" not in texts(app) and f"Run {run.id}" not in links(app)
    press(app, "Merge")  # nor while it only waits
    assert not app.exception and "easured before" not in texts(app)
    (replaced := tiny.folder / "apples.safetensors").write_bytes((tiny.folder / "birds.safetensors").read_bytes())
    assert replaced.exists() and "Measured before" not in texts(open_page("merge"))  # with other files


def test_beside_the_button_stands_how_long_it_takes_or_that_it_shows_a_run(tiny: Suite, open_page: Open) -> None:
    def said(app: AppTest) -> list[str]:
        beginnings = ("Takes ", "Done ", "Running ", "Queued ")
        return [caption.value for caption in app.caption if caption.value.startswith(beginnings)]

    app = open_page("merge")
    (takes,) = said(app)
    assert takes.startswith("Takes ")
    assert said(press(app, "Merge")) == ["Queued already: shows that run"]
    store = state.workspace().store
    (run,) = store.all()
    store.claim(run.id)
    assert said(app.run()) == ["Running already: shows that run"]
    store.finish(run.id, result_of(tiny, run.spec, state.workspace()))
    assert said(app.run()) == ["Done before: shows that run"]
    (takes,) = said(app.number_input(key="form.seed").set_value(1).run())
    assert takes.startswith("Takes ")
    ended(state.workspace(), tiny, "failed", "no room", seed=1)
    (takes,) = said(app.run())  # one that failed is made again
    assert takes.startswith("Takes ")


def test_a_queued_run_can_be_cancelled(tiny: Suite, open_page: Open) -> None:
    app = press(open_page("merge"), "Merge")
    press(app, "Cancel")
    (run,) = state.workspace().store.all()
    assert run.state == "cancelled"


def test_a_running_run_shows_phase_and_is_asked_to_stop(tiny: Suite, open_page: Open) -> None:
    app = press(open_page("merge"), "Merge")
    store = state.workspace().store
    run = store.all()[0]
    store.claim(run.id)
    store.progress(run.id, 3, 10, "adapting_things before AWD", True)
    app.run()
    assert "Adapting\\_things before AWD" in app.get("progress")[0].proto.text
    assert "Cancel" in [b.label for b in app.button]
    press(app, "Cancel")
    assert store.get(run.id).cancel_asked is not None


@pytest.mark.parametrize(
    ("end", "words"), [("failed", "ran out of luck"), ("lost", "fell silent"), ("cancelled", "asked to")]
)
def test_a_run_that_ended_badly_says_why_and_can_be_run_again(
    tiny: Suite, open_page: Open, end: str, words: str
) -> None:
    run = ended(state.workspace(), tiny, end, words, "log line 1\nlog line 2")
    app = open_page("merge", run=run.id)
    assert words in texts(app)
    assert "log line 1\nlog line 2" in [code.value for code in app.code]
    press(app, "Run again")
    fresh = state.workspace().store.all()[0]
    assert fresh.id != run.id
    assert app.query_params["run"] == fresh.id


def test_a_finished_run_shows_what_came_of_it(tiny: Suite, open_page: Open) -> None:
    run = finished(state.workspace(), tiny, 0.7, merge_params={"scaling": "auto"})
    app = open_page("merge", run=run.id)
    assert not app.exception
    values = {metric.label: metric.value for metric in app.metric}
    assert values["Coefficients"] == "λ = 0.4"
    assert values["Average accuracy"].endswith("%")
    assert "48 images" in texts(app)


def test_the_average_of_a_run_that_forgets_is_that_of_the_others(tiny: Suite, open_page: Open) -> None:
    params = {"scaling": 0.5, "weights": -1}
    run = finished(state.workspace(), tiny, 0.9, tasks=tiny.task_names[:1], merge_params=params)
    app = open_page("merge", run=run.id)
    assert not app.exception
    assert next(one.value for one in app.metric if one.label == "Average accuracy") == "38.0 %"
    every = finished(state.workspace(), tiny, 0.9, merge_params=params)
    app = open_page("merge", run=every.id)
    assert not app.exception
    assert next(one.value for one in app.metric if one.label == "Average accuracy") == "–"
    assert "There is no average, as every task here is to be forgotten." in texts(app)


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("page", ["merge", "runs"])
def test_a_model_that_equals_the_base_is_said_beside_the_result(page: str, tiny: Suite, open_page: Open) -> None:
    shutil.copy(tiny.folder / "base.safetensors", tiny.folder / "birds.safetensors")
    run = state.workspace().submit(spec_of(load_suite(tiny.folder / "suite.yaml"), merge="average"))
    carry_out_queued(state.workspace())
    app = open_page(page, run=run.id)
    assert not app.exception
    said = [str(one.value) for one in app.warning]
    assert any("Task 'birds' equals the base model base" in one and "adds nothing" in one for one in said), said


def test_a_run_that_ends_while_the_page_is_drawn_shows_its_result(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page("merge")
    space = state.workspace()
    run = space.submit(spec_of(tiny))
    space.store.claim(run.id)
    drawn = merge_form.draw

    def slowly(*arguments: Any) -> Any:
        if space.store.get(run.id).active:
            space.store.finish(run.id, result_of(tiny, run.spec, space, 0.6))
        return drawn(*arguments)

    monkeypatch.setattr(merge_form, "draw", slowly)
    app = open_page("merge", run=run.id)
    assert not app.exception
    assert "Average accuracy" in [metric.label for metric in app.metric]


def test_an_unknown_run_in_the_url_is_no_error(standing: Suite, look: Open) -> None:
    app = look("merge", run="feedbeef")
    assert not app.exception
    assert "no run feedbeef here; it may have been deleted. The form starts a new one." in texts(app)
    assert not app.run().warning


def test_methods_that_need_images_are_refused_without_them(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("merge", merge="adamerging")
    assert not app.exception
    assert "needs images and heads" in texts(app)
    assert next(b for b in app.button if b.label == "Merge").disabled
    app.selectbox(key="form.merge").set_value("average").run()
    assert not next(b for b in app.button if b.label == "Merge").disabled


def merge_button(app: AppTest) -> Button:
    (button,) = (one for one in app.button if one.label == "Merge")
    return button


def damage(suite: Suite, how: str) -> None:
    if how == "truncated base":
        (suite.folder / "base.safetensors").write_bytes(b"")
    elif how == "no images":
        (suite.folder / "birds.npz").unlink()
    elif how == "truncated head":
        (suite.folder / "birds.head.safetensors").write_bytes(b"\0" * 20)
    elif how == "NaN in a head":
        save_file({"weight": torch.full((5, 16), torch.nan)}, suite.folder / "birds.head.safetensors")


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated base", "base.safetensors: the file is empty"),
        ("no images", "Files are missing: images of Birds."),
        ("truncated head", "birds.head.safetensors"),
        ("NaN in a head", "birds.head.safetensors: 'weight' holds NaN"),
    ],
)
def test_what_is_known_to_fail_cannot_be_started(how: str, reason: str, tiny: Suite, open_page: Open) -> None:
    assert not merge_button(open_page("merge")).disabled
    damage(tiny, how)
    app = open_page("merge")
    assert not app.exception
    assert merge_button(app).disabled
    assert reason in texts(app)
    app = open_page("merge", tasks=["apples", "cars"])
    assert merge_button(app).disabled == (how == "truncated base")


def test_files_that_are_not_described_stop_no_merge_that_needs_none(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("merge")
    assert not merge_button(app).disabled
    assert "--evaluate" not in app.code[0].value  # the command would refuse it


def test_the_command_line_evaluates_what_can_be_measured(standing: Suite, look: Open) -> None:
    assert "--evaluate" in look("merge").code[0].value


def test_choosing_another_method_changes_form_and_command(standing: Suite, look: Open) -> None:
    app = look("merge")
    app.selectbox(key="form.edit").set_value("ties").run()
    app.selectbox(key="form.merge").set_value("adamerging").run()
    assert not app.exception
    assert "--edit ties --merge adamerging" in command(app)
    assert app.query_params["edit"] == "ties"


def test_the_form_is_as_it_was_when_one_comes_back(standing: Suite, look: Open) -> None:
    app = look("merge")
    app.selectbox(key="form.edit").set_value("awd").run()
    app.number_input(key="form.edit.awd.alpha").set_value(0.4).run()
    app.switch_page("pages/runs.py").run()
    for key in ("edit", "edit.alpha"):
        app.query_params.pop(key, None)
    app.switch_page("pages/merge.py").run()
    assert app.number_input(key="form.edit.awd.alpha").value == 0.4


def test_a_published_method_fills_the_form(standing: Suite, look: Open) -> None:
    app = look("merge")
    assert app.selectbox(key="form.published").value is None
    app.selectbox(key="form.published").select("consensus_ties").run()
    assert not app.exception
    assert (app.selectbox(key="form.edit").value, app.selectbox(key="form.merge").value) == (
        "consensus",
        "task_arithmetic",
    )
    assert "--set edit.total=ties" in command(app) and "--set merge.scaling=auto" in command(app)
    assert app.selectbox(key="form.published").value == "consensus_ties"
    app.selectbox(key="form.merge").select("tsv_m").run()
    assert not app.exception
    assert app.selectbox(key="form.published").value is None


def test_a_choice_that_a_browser_still_shows_while_something_else_is_set_undoes_nothing(
    standing: Suite, look: Open
) -> None:
    app = look("merge", edit="awd", **{"merge.scaling": "auto"})
    preset, alpha = "form.edit.awd.preset", "form.edit.awd.alpha"
    published = app.selectbox(key="form.published").value
    shown = app.button_group(key=preset).value
    assert published and shown
    app.number_input(key=alpha).set_value(0.3).run()
    assert (app.selectbox(key="form.published").value, app.button_group(key=preset).value) == (None, None)
    app.number_input(key=alpha).set_value(0.4)
    app.selectbox(key="form.published").set_value(published)
    app.button_group(key=preset).set_value(shown).run()
    assert not app.exception and app.number_input(key=alpha).value == 0.4
    assert (app.selectbox(key="form.published").value, app.button_group(key=preset).value) == (None, None)
    app.button_group(key=preset).set_value(shown).run()
    assert app.number_input(key=alpha).value == 0.1 and app.selectbox(key="form.published").value == published


def test_memory_is_estimated_from_the_sizes(standing: Suite, look: Open) -> None:
    def size(**link: Any) -> float:
        app = look("merge", **link)
        text = next(metric.value for metric in app.metric if metric.label == "Memory, estimated")
        return float(str(text).split()[0])

    assert size(merge="adamerging") > size()


def test_merges_that_make_no_sense_after_an_edit_are_named_before_one_is_chosen(standing: Suite, look: Open) -> None:
    app = look("merge", **{"edit": "ties", "edit.combine": "mean"})
    assert "Not after TIES as it is set: Weight averaging, Fisher merging, RegMean, RegMean++." in texts(app)
    app = look("merge", **{"edit": "ties", "merge": "fisher"})
    assert "TIES and Fisher merging make no sense together" in texts(app)
    assert next(one for one in app.button if one.label == "Merge").disabled
    assert "Not after" not in texts(look("merge", edit="none"))


def test_a_method_of_ones_own_has_a_form_and_runs_and_a_broken_file_is_said(
    own_methods: Path, tiny: Suite, open_page: Open
) -> None:
    (own_methods / "bad.py").write_text("import merging.methods\n1 / 0\n")
    (own_methods / "mine.py").write_text(HEAD + method())
    app = open_page("merge", merge="mine", **{"merge.much": "0.25"})
    assert not app.exception
    assert app.number_input(key="form.merge.mine.much").value == 0.25 and "your own, from mine.py" in texts(app)
    assert app.selectbox(key="form.published").options[-1] == "Mine"
    (warning,) = app.sidebar.warning
    assert warning.value.replace("\\", "").endswith(
        "bad.py are not loaded: line 2, ZeroDivisionError: division by zero"
    )
    press(app, "Merge")
    (run,) = state.workspace().store.active()
    carry_out_queued(state.workspace())
    assert state.workspace().store.get(run.id).state == "done"
    (own_methods / "bad.py").unlink()
    (own_methods / "mine.py").write_text(HEAD + method(factor=2))
    app.run()
    assert not app.exception and not app.sidebar.warning
    press(app, "Merge")
    (again,) = state.workspace().store.active()
    assert again.id != run.id and again.job == run.job
