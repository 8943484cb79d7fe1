"""The page Task models: its numbers are the package's, its selection is everybody's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from streamlit.testing.v1 import AppTest

from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.app.conftest import TASKS, build_suite, links, texts
from tests.app.finished_runs import carry_out_queued
from tests.random_models import ARCHITECTURE, write_config
from ui.shell import state

Open = Callable[..., AppTest]


def test_the_table_shows_norms_and_accuracies_as_measured(standing: Suite, look: Open, tmp_path: Path) -> None:
    app = look("task_models")
    table = app.dataframe[0].value
    space = Workspace(tmp_path / "elsewhere")
    evaluator = space.evaluator(standing)
    zero_shot = space.base_accuracy(evaluator, TASKS)
    individual = space.individual_accuracy(evaluator, TASKS)
    assert table["Task"].tolist() == ["Apples", "Birds", "Cars", "Doors"]
    assert table["Name"].tolist() == list(TASKS)
    np.testing.assert_allclose(table["Norm of τ"], space.geometry(standing).norms)
    np.testing.assert_allclose(table["Zero-shot"], [round(100 * zero_shot.per_task[task], 1) for task in TASKS])
    np.testing.assert_allclose(table["Fine-tuned"], [round(100 * individual.per_task[task], 1) for task in TASKS])
    assert table["Classes"].tolist() == [5] * 4
    assert table["Test images"].tolist() == [24] * 4
    assert sum("CC0" in caption.value for caption in app.caption) == 4
    assert "Missing" not in table


def retitle(suite: Suite, **titles: str) -> None:
    """Give tasks other titles in suite.yaml."""
    content = yaml.safe_load((suite.folder / "suite.yaml").read_text())
    for entry in content["tasks"]:
        entry["title"] = titles.get(entry["name"], "")
    (suite.folder / "suite.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.usefixtures("own_files")
def test_what_no_tensor_shows_is_said_or_what_contradicts_it(tiny: Suite, open_page: Open) -> None:
    write_config(tiny.folder)
    said = texts(open_page("task_models"))
    assert "GELU (open_clip_config.json beside base.safetensors)" in said.replace("\\", "")
    write_config(tiny.folder, vision_cfg={**ARCHITECTURE["vision_cfg"], "head_width": 8})
    app = open_page("task_models")
    assert any(
        "the number of attention heads is 2 by suite.yaml and 4" in box.value.replace("\\", "") for box in app.error
    )
    assert not app.exception and len(app.dataframe[0].value) == len(TASKS)


@pytest.mark.usefixtures("own_files")
def test_names_that_are_the_labels_need_no_column(tiny: Suite, open_page: Open) -> None:
    retitle(tiny)
    table = open_page("task_models").dataframe[0].value
    assert table["Task"].tolist() == list(TASKS)
    assert "Name" not in table


@pytest.mark.usefixtures("own_files")
def test_tasks_with_the_same_title_are_told_apart(tiny: Suite, open_page: Open) -> None:
    retitle(tiny, birds="Wings", doors="Wings", cars="Cars")
    app = open_page("task_models")
    assert app.dataframe[0].value["Task"].tolist() == ["apples", "Wings (birds)", "Cars", "Wings (doors)"]


def test_all_and_none(standing: Suite, look: Open) -> None:
    app = look("task_models")
    button = {element.label: element for element in app.button}
    assert button["Select all"].disabled
    button["Select none"].click().run()
    assert not app.exception
    assert app.multiselect(key="tasks").value == []
    assert app.query_params["tasks"] == ""
    button = {element.label: element for element in app.button}
    assert button["Select none"].disabled
    button["Select all"].click().run()
    assert app.multiselect(key="tasks").value == list(TASKS)


def test_the_table_checks_what_the_sidebar_selects(standing: Suite, look: Open) -> None:
    app = look("task_models")
    app.multiselect(key="tasks").set_value(["birds", "doors"]).run()
    assert app.session_state["task-table"]["selection"]["rows"] == [1, 3]
    assert links(app)["Compare 2 selected"] == {"tasks": ["birds", "doors"]}


def with_image_folder(suite: Suite, task: str) -> Path:
    """Let a task read its images from a folder, two of each class and split, all black; gives the folder."""
    folder = suite.folder / "images" / task
    for split in ("val", "test"):
        for number in range(5):
            place = folder / split / f"class {number}"
            place.mkdir(parents=True)
            for name in ("1.png", "2.png"):
                Image.new("RGB", (32, 32)).save(place / name)
    content = yaml.safe_load((suite.folder / "suite.yaml").read_text())
    for entry in content["tasks"]:
        if entry["name"] == task:
            entry["data"] = {"kind": "imagefolder", "path": f"images/{task}"}
    (suite.folder / "suite.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.usefixtures("own_files")
def test_an_image_replaced_in_place_is_noticed(tiny: Suite, open_page: Open) -> None:
    def pictures(app: AppTest) -> list[str]:
        return [element.proto.imgs[0].url for element in app.get("image")]

    folder = with_image_folder(tiny, "cars")
    app = open_page("task_models", tasks=["cars"])
    before = pictures(app)
    assert len(before) == 5
    assert pictures(app.run()) == before
    Image.new("RGB", (32, 32), "white").save(folder / "test" / "class 2" / "1.png")
    state._image_folders.clear()  # else only some seconds later
    after = pictures(app.run())
    assert not app.exception
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True, True]


def test_a_strip_of_images_per_selected_task(standing: Suite, look: Open) -> None:
    app = look("task_models", tasks=["cars"])
    said = texts(app)
    assert "**Cars**" in said
    assert "**Birds**" not in said
    assert all(f"class {number}" in said for number in range(5))
    assert len(app.get("image")) == 5


@pytest.mark.parametrize("images", [True, False])
def test_missing_parts_are_named(images: bool, suites_folder: Path, open_page: Open) -> None:
    path = build_suite(suites_folder / "partial", images=images)
    if images:
        (path.parent / "cars.npz").unlink()
    app = open_page("task_models")
    assert not app.exception
    assert not app.error
    missing = app.dataframe[0].value["Missing"].tolist()
    if images:
        assert missing == ["", "", "images", ""]
        assert "1 of the selected tasks have no images" in texts(app)
    else:
        assert missing == ["images, head"] * 4
        assert "Accuracies can't be shown" in texts(app)


def test_without_any_weights_the_missing_files_are_named(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", weights=False)
    app = open_page("task_models")
    assert not app.exception
    assert "apples.safetensors" in texts(app)


def test_long_measurements_wait_for_a_click(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0, "cuda": 0, "mps": 0})
    app = open_page("task_models")
    assert app.dataframe[0].value["Zero-shot"].isna().all()
    next(button for button in app.button if button.label.startswith("Measure")).click().run()
    assert app.dataframe[0].value["Zero-shot"].isna().all()
    carry_out_queued(state.workspace())
    app.run()
    assert not app.exception
    measured = state.workspace().base_accuracy(state.workspace().evaluator(tiny), TASKS)
    shown = app.dataframe[0].value["Zero-shot"]
    np.testing.assert_allclose(shown, [round(100 * measured.per_task[task], 1) for task in TASKS])


def test_a_measurement_that_fails_says_why(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0, "cuda": 0, "mps": 0})
    app = open_page("task_models")
    next(button for button in app.button if button.label.startswith("Measure")).click().run()
    store = state.workspace().store
    (run,) = store.queued()
    assert store.claim(run.id)
    store.stop(run.id, "failed", "CPU out of memory; choose fewer tasks")
    app.run()
    assert not app.exception
    assert "choose fewer tasks" in texts(app)
    assert any(button.label == "Run again" for button in app.button)


@pytest.mark.usefixtures("own_files")
def test_a_suite_description_that_changes_is_noticed(tiny: Suite, open_page: Open) -> None:
    app = open_page("task_models")
    path = tiny.folder / "suite.yaml"
    path.write_text(path.read_text().replace("Apples", "Pomegranates"))
    app.run()
    assert "Pomegranates" in set(app.dataframe[0].value["Task"])


def test_tasks_in_a_row_with_commas_are_taken_as_the_command_line_takes_them(standing: Suite, look: Open) -> None:
    app = look("task_models", tasks="cars, apples")
    assert not app.exception and ["chance" in warning.value for warning in app.warning] == [True]  # random models
    assert app.multiselect(key="tasks").value == ["apples", "cars"]
    assert app.query_params["tasks"] == ["apples", "cars"]
    app = look("task_models", tasks="cars,trains")
    assert app.multiselect(key="tasks").value == ["cars"] and "trains" in app.warning[0].value
