"""A suite with a broken task model: every page works on the others, and says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from merging.runs.jobs import MergeSpec
from merging.suites import Suite
from tests.app.conftest import TASKS, texts
from tests.app.finished_runs import carry_out_queued
from ui.shell import state

pytestmark = pytest.mark.usefixtures("own_files")

Open = Callable[..., AppTest]
PAGES = ("start", "task_models", "similarity", "merge", "accuracy", "leaderboard", "runs", "add_suite")
SOUND = ["apples", "birds", "cars"]


def nonsense(path: Path) -> None:
    path.write_bytes(b"this is no weight file")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def reshape(path: Path) -> None:
    model = load_file(path)
    save_file({**model, "proj": model["proj"][:, :-1].contiguous()}, path)


def fill_with_nan(path: Path) -> None:
    model = load_file(path)
    save_file({**model, "proj": torch.full_like(model["proj"], float("nan"))}, path)


DAMAGES = {
    nonsense: "the header declares",
    truncate: "it is truncated or was overwritten",
    reshape: "both must be of the same architecture",
    fill_with_nan: "tensor 'proj' holds NaN or infinity",
}


@pytest.mark.parametrize("damage", [nonsense, fill_with_nan])  # found when a file is opened, and when it is read
def test_every_page_works_on_the_sound_models(damage: Callable[[Path], None], tiny: Suite, open_page: Open) -> None:
    damage(tiny.folder / "doors.safetensors")
    for page in PAGES:
        app = open_page(page)
        assert not app.exception and not app.error, page
        assert app.multiselect(key="tasks").options == app.multiselect(key="tasks").value == SOUND, page
        assert "3 of 3 tasks selected" in texts(app), page
        assert any(element.label == "1 broken model" for element in app.expander), page
        assert "doors.safetensors" in texts(app) and DAMAGES[damage] in texts(app), page


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_broken_model_is_listed_with_the_reason_and_not_selectable(
    damage: Callable[[Path], None], tiny: Suite, open_page: Open
) -> None:
    damage(tiny.folder / "doors.safetensors")
    app = open_page("task_models")
    assert app.dataframe[0].value["Name"].tolist() == SOUND
    assert "Doors: doors.safetensors" in texts(app) and DAMAGES[damage] in texts(app)
    assert "Mend their files, or take the tasks out of suite.yaml" in texts(app)


def test_a_link_to_a_broken_model_says_what_is_wrong_with_it(tiny: Suite, open_page: Open) -> None:
    truncate(tiny.folder / "doors.safetensors")
    app = open_page(tasks=["apples", "doors"])
    assert not app.exception and app.multiselect(key="tasks").value == ["apples"]
    (warning,) = (element.value.replace("\\", "") for element in app.warning)
    assert warning.startswith("doors can't be used: doors.safetensors: the header declares")
    assert "download or export it again. Only the others are selected." in warning


def test_a_model_that_breaks_while_it_is_selected_is_deselected_and_named(tiny: Suite, open_page: Open) -> None:
    app = open_page("similarity", tasks=["apples", "birds", "doors"])
    assert len(app.metric) == 4 and not app.warning
    fill_with_nan(tiny.folder / "doors.safetensors")
    app.run()
    assert not app.exception and not app.error and len(app.metric) == 4
    assert app.multiselect(key="tasks").value == ["apples", "birds"]
    assert any("doors can't be used" in element.value for element in app.warning)


def test_methods_run_on_the_sound_models(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    fill_with_nan(tiny.folder / "doors.safetensors")
    app = open_page("merge")
    next(button for button in app.button if button.label == "Merge").click().run()
    assert not app.exception and not app.error
    (run,) = state.workspace().store.queued()
    assert list(run.spec.tasks) == SOUND
    assert "--tasks apples,birds,cars" in app.code[0].value
    carry_out_queued(state.workspace())
    app = open_page("accuracy")
    assert not app.exception and not app.error and "Task Arithmetic" in texts(app)


def test_a_run_with_a_model_that_broke_since_is_shown_as_it_was(tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    spec = MergeSpec.build(suite=str(tiny.folder / "suite.yaml"), tasks=TASKS)
    run = space.submit(spec)
    carry_out_queued(space)
    truncate(tiny.folder / "doors.safetensors")
    app = open_page("runs", run=run.id)
    assert not app.exception and not app.error
    assert run.id in texts(app) and "Doors" in str(app.get("plotly_chart")[0].proto.spec)


def test_when_all_are_broken_the_reasons_are_the_error(tiny: Suite, open_page: Open) -> None:
    for task in TASKS:
        truncate(tiny.folder / f"{task}.safetensors")
    for page in ("start", "task_models", "similarity", "merge", "leaderboard"):
        app = open_page(page)
        assert not app.exception
        assert all(f"{task}.safetensors" in app.error[0].value.replace("\\", "") for task in TASKS)


@pytest.mark.parametrize("damage", [truncate, fill_with_nan])
def test_a_broken_base_is_named_where_it_is_needed(
    damage: Callable[[Path], None], tiny: Suite, open_page: Open
) -> None:
    damage(tiny.folder / "base.safetensors")
    for page in ("start", "task_models", "similarity", "leaderboard"):
        app = open_page(page)
        assert not app.exception
        assert app.error[0].value.replace("\\", "").startswith("base.safetensors: ")
        assert "leave the task out" not in texts(app)
    for page in ("runs", "add_suite"):
        app = open_page(page)
        assert not app.exception and not app.error
