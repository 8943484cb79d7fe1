from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging.methods.presets import PRESETS
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.suites.images.suite_images import load_images
from tests.app.conftest import build_suite, texts
from tests.app.finished_runs import ended, finished
from ui.accuracy.preset_runs import METHODS
from ui.shell import state

Open = Callable[..., AppTest]
COMPARISON = [PRESETS[name].spec_fields() for name in METHODS]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished runs of these tests are runs on the CPU, whatever the machine has."""
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def button(app: AppTest, label: str) -> object:
    return next(one for one in app.button if one.label == label)


def test_nothing_is_queued_by_opening_the_page(standing: Suite, look: Open, launched_workers: list[Path]) -> None:
    app = look()
    assert not app.exception
    assert [b.label for b in app.button] == ["Run the comparison"]
    assert state.workspace().store.all() == []
    assert launched_workers == []


def test_baselines_show_at_once_with_their_provenance(standing: Suite, look: Open) -> None:
    app = look()
    assert app.dataframe[0].value["Method"].tolist() in (["Individual", "Zero-shot"], ["Zero-shot", "Individual"])
    images = sum(len(load_images(standing, task, "test", 32)) for task in standing.task_names)
    assert f"{images} images" in texts(app)
    assert "test split" in texts(app)


def test_one_press_queues_four_runs_once(tiny: Suite, open_page: Open, launched_workers: list[Path]) -> None:
    app = open_page()
    button(app, "Run the comparison").click().run()  # type: ignore[attr-defined]
    assert not app.exception
    runs = state.workspace().store.all()
    assert sorted(run.spec.label for run in runs) == [
        "AWD + AdaMerging",
        "AWD + Task Arithmetic",
        "AdaMerging",
        "Task Arithmetic",
    ]
    assert {run.spec.merge_params.get("scaling") for run in runs} == {"auto", None}
    assert launched_workers
    assert "Run the comparison" not in [b.label for b in app.button]
    assert sum(b.label == "Cancel" for b in app.button) == 4


def test_results_are_found_again_after_a_reload(tiny: Suite, open_page: Open) -> None:
    for level, changes in zip((0.6, 0.8, 0.65, 0.85), COMPARISON, strict=True):
        finished(state.workspace(), tiny, level, **changes)
    app = open_page()
    assert len(state.workspace().store.all()) == 4
    ranked = app.dataframe[0].value
    assert set(ranked["Method"]) == {
        "Zero-shot",
        "Individual",
        "Task Arithmetic",
        "AdaMerging",
        "AWD + Task Arithmetic",
        "AWD + AdaMerging",
    }
    assert ranked["Average (%)"].is_monotonic_decreasing
    words = texts(app)
    assert "λ 0.4, best on validation" in ranked["Coefficients"].tolist()
    assert "adapted on unlabeled test images" in words
    assert "at each one's best λ" in words
    assert not app.button


def test_a_failed_method_shows_its_reason_and_can_be_run_again(tiny: Suite, open_page: Open) -> None:
    ended(state.workspace(), tiny, "failed", "out of luck", "last line", **COMPARISON[1])
    app = open_page()
    assert "out of luck" in texts(app)
    assert "last line" in [code.value for code in app.code]
    button(app, "Run again").click().run()  # type: ignore[attr-defined]
    assert [run.state for run in state.workspace().store.all()] == ["queued", "failed"]


def test_only_what_is_missing_is_offered(tiny: Suite, open_page: Open) -> None:
    finished(state.workspace(), tiny, **COMPARISON[0])
    app = open_page()
    button(app, "Run the 3 that are missing").click().run()  # type: ignore[attr-defined]
    assert sorted(run.state for run in state.workspace().store.all()) == ["done", "queued", "queued", "queued"]


def test_a_suite_without_images_says_what_to_do(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page()
    assert not app.exception
    assert "lack them" in texts(app)
    assert not app.button


def test_a_suite_without_weights_says_what_to_do(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "empty", weights=False)
    app = open_page()
    assert not app.exception
    assert "put the files where its suite.yaml says" in texts(app)


def test_the_comparison_follows_the_chosen_tasks(tiny: Suite, open_page: Open) -> None:
    app = open_page(tasks=["apples", "cars"])
    button(app, "Run the comparison").click().run()  # type: ignore[attr-defined]
    assert {run.spec.tasks for run in state.workspace().store.all()} == {("apples", "cars")}
    assert isinstance(state.workspace(), Workspace)


@pytest.mark.usefixtures("own_files")
def test_with_large_models_the_worker_measures_the_baselines_too(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.accuracy.measuring._QUICK", {"cpu": 0, "cuda": 0, "mps": 0})
    app = open_page("start")
    assert any(button.label == "Measure the baselines" for button in app.button)
    next(button for button in app.button if button.label == "Run the comparison").click().run()
    assert not app.exception
    assert [run.job.kind for run in state.workspace().store.queued()] == ["baselines", *["merge"] * 4]
    assert not any(button.label == "Measure the baselines" for button in app.button)
