"""The page Beyond the benchmark: both views before, while and after something is measured, and samples of images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from merging.methods.presets import PRESETS
from merging.runs.beyond import average, base_on, generalisation_of, robustness_job, shifts_of
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.jobs.robustness import RobustnessJob
from merging.runs.jobs.subsets import SubsetsJob
from merging.suites import Suite
from merging.suites.images.corruptions import CORRUPTIONS
from merging.suites.protocols import SPLITS
from tests.app.conftest import build_suite, texts
from tests.app.finished_runs import carry_out_queued, spec_of
from tests.random_models import CLASSES
from tests.suites.images.test_kinds import write_parquet
from ui.shell import state

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished jobs of these tests are jobs on the CPU, whatever the machine has."""
    monkeypatch.setattr("merging.core.devices.torch.cuda.is_available", lambda: False)


def press(app: AppTest, label: str) -> AppTest:
    return next(one for one in app.button if one.label == label).click().run()


def test_unseen_tasks_from_the_first_look_to_the_chart(tiny: Suite, open_page: Open) -> None:
    app = open_page("beyond", **{"beyond-methods": ["Weight averaging", "TALL masks (localised)"], "leave": "3"})
    assert not app.exception and not app.get("plotly_chart")
    assert "these give each task its own: TALL masks (localised)" in texts(app)
    assert "1 of 1 method is not measured yet" in texts(app)
    app = press(app, "Measure")
    (queued,) = state.workspace().store.queued()
    assert isinstance(queued.job, GeneralisationJob) and len(queued.job.left_out) == 4
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception and len(app.get("plotly_chart")) == 1
    result = state.workspace().store.get(queued.id).result
    means = generalisation_of(PRESETS["average"], result)
    said = f"{100 * average(means.seen):.1f} % seen, and {100 * average(means.unseen):.1f} % unseen"
    assert said in texts(app) and "over 4 splits" in texts(app)
    assert f"{100 * average(base_on(result).seen):.1f}" in app.get("plotly_chart")[0].proto.spec


def test_more_ways_than_asked_for_are_a_sample_and_said(standing: Suite, look: Open) -> None:
    app = look("beyond", leave="2", most="3")
    assert "There are 6 ways to leave out 2 tasks; 3 of them are drawn by a seed." in texts(app)


def test_corrupted_images_from_samples_to_the_heat_map(tiny: Suite, open_page: Open) -> None:
    asked = {"beyond": "Corrupted images", "beyond-methods": "Weight averaging", "severities": ["2", "4"]}
    app = open_page("beyond", **asked)
    assert not app.exception
    rows = [row.proto.imgs for row in app.get("image")]
    assert [len(row) for row in rows] == [6] * len(CORRUPTIONS)
    assert [image.caption for image in rows[0]] == ["clean", "1", "2", "3", "4", "5"]
    app = press(app, "Measure")
    (queued,) = state.workspace().store.queued()
    assert isinstance(queued.job, RobustnessJob) and len(queued.job.shifts) == 2 * len(CORRUPTIONS)
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception and [chart.key for chart in app.get("plotly_chart")] == [
        "robustness",
        "robustness-narrow",
        "robustness-lines",
    ]
    assert "At severity 2 Weight averaging reaches" in texts(app) and "4 tasks, 96 test images" in texts(app)
    spec = app.get("plotly_chart")[0].proto.spec
    assert all(kind.title in spec for kind in CORRUPTIONS.values()) and "Zero-shot" in spec


def test_what_others_measured_in_part_shows_with_gaps(tiny: Suite, open_page: Open) -> None:
    workspace, tasks = state.workspace(), tiny.task_names
    job = partial(robustness_job, suite=str(tiny.folder / "suite.yaml"), tasks=tasks, device="cpu")
    for name, corruptions, levels in (("average", ["contrast"], [3, 5]), ("ties", ["contrast", "spatter"], [3])):
        workspace.submit(job(PRESETS[name], shifts=shifts_of(corruptions, levels)))
    carry_out_queued(workspace)
    asked = {"beyond": "Corrupted images", "beyond-methods": ["Weight averaging", "TIES"]}
    app = open_page("beyond", **asked)
    assert not app.exception and [chart.key for chart in app.get("plotly_chart")] == ["robustness", "robustness-narrow"]
    said = texts(app)
    assert "2 of 2 methods are not measured yet, or only in part" in said and "over Contrast" in said
    assert "What is empty was not measured yet." in said
    assert "Measured for some of these methods as well: severity 5." in said
    press(app, "Measure the missing ones")
    left = {run.job.label: len(run.job.shifts) for run in workspace.store.queued()}
    assert sorted(left.values()) == [len(CORRUPTIONS) - 2, len(CORRUPTIONS) - 1]


@pytest.mark.usefixtures("own_files")
def test_corrupted_images_that_data_sets_carry_are_read_where_they_are(tiny: Suite, open_page: Open) -> None:
    content = yaml.safe_load((tiny.folder / "suite.yaml").read_text())
    for entry in content["tasks"]:
        folder, arrays = tiny.folder / f"{entry['name']}-images", np.load(tiny.folder / f"{entry['name']}.npz")
        names = entry.get("classes", [f"class {place}" for place in range(CLASSES)])
        for split in ("train", "test", "contrast"):
            pixels = arrays["test_images"] // (1 + 3 * (split == "contrast"))
            write_parquet(folder / f"{split}.parquet", pixels[:6], arrays["test_labels"][:6], names)
        entry["data"] = {"kind": "huggingface", "path": folder.name}
    (tiny.folder / "suite.yaml").write_text(yaml.safe_dump(content))
    asked = {"beyond": "Corrupted images", "beyond-methods": ["Weight averaging"], "severities": ["ready"]}
    app = press(open_page("beyond", **asked), "Measure")
    assert not app.exception
    (queued,) = state.workspace().store.queued()
    assert [shift.text for shift in queued.job.shifts] == ["contrast:ready"]
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception and [chart.key for chart in app.get("plotly_chart")] == ["robustness", "robustness-narrow"]
    assert "At the strength of the data sets Weight averaging reaches" in texts(app)
    assert "24 test images, as their data sets carry them" in texts(app)


def test_many_tasks_from_the_first_look_to_the_chart(tiny: Suite, open_page: Open) -> None:
    asked = {"beyond": "Many tasks", "beyond-methods": ["Weight averaging"], "sizes": ["1", "3"], "subsets": "2"}
    app = open_page("beyond", **asked)
    assert "1 of 1 method is not measured yet: how long that takes is not known" in texts(app)
    app = press(app, "Measure")
    (queued,) = state.workspace().store.queued()
    assert isinstance(queued.job, SubsetsJob) and [len(one) for one in queued.job.subsets] == [1, 1, 3, 3]
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception and len(app.get("plotly_chart")) == 1
    assert "Weight averaging goes from " in texts(app) and "4 subsets of 4 tasks" in texts(app)
    app.button_group(key="share").set_value("Normalised accuracy").run()
    assert not app.exception and "Normalised accuracy (%)" in app.get("plotly_chart")[0].proto.spec


def test_a_failed_measurement_says_why_and_can_be_repeated(tiny: Suite, open_page: Open) -> None:
    app = press(open_page("beyond", **{"beyond-methods": "Weight averaging"}), "Measure")
    (queued,) = state.workspace().store.queued()
    state.workspace().store.claim(queued.id)
    state.workspace().store.stop(queued.id, "failed", "the disk is full")
    app = app.run()
    assert "the disk is full" in texts(app) and any(one.label == "Run again" for one in app.button)


def test_without_methods_or_severities_the_page_asks_for_some(standing: Suite, look: Open) -> None:
    app = look("beyond", **{"beyond": "Corrupted images", "beyond-methods": "", "severities": ""})
    assert not app.exception
    assert "Choose at least one method." in texts(app) and "Choose at least one severity." in texts(app)


@pytest.mark.parametrize("view", ["Unseen tasks", "Corrupted images", "Many tasks"])
def test_suites_without_images_say_what_is_missing(view: str, suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("beyond", beyond=view)
    assert not app.exception and "No accuracy without images and heads" in texts(app)


def test_a_run_shows_its_unseen_tasks_and_its_shift(tiny: Suite, open_page: Open) -> None:
    changes = {"tasks": ("apples", "cars"), "unseen": ("birds",), "shift": "contrast:4"}
    run = state.workspace().submit(spec_of(tiny, **changes))
    carry_out_queued(state.workspace())
    app = open_page("runs", run=run.id)
    assert not app.exception
    said = texts(app)
    assert "On 1 unseen task " in said and "points against zero-shot; on the merged ones" in said
    assert "All test images are corrupted: Contrast, severity 4." in said


def test_runs_on_other_images_get_a_chart_of_their_own(tiny: Suite, open_page: Open) -> None:
    runs = [state.workspace().submit(spec_of(tiny, shift=shift)).id for shift in ("clean", "contrast:4")]
    carry_out_queued(state.workspace())
    app = open_page("accuracy", runs=runs)
    assert not app.exception
    said = texts(app)
    assert "images that were corrupted in different ways: they get a chart each" in said
    assert "Baselines were measured on clean images and are not drawn beside these." in said
    assert "Test split · Contrast, severity 4" in said


@pytest.mark.parametrize(("view", "tables"), [("Unseen tasks", 2), ("Corrupted images", 1)])
def test_published_tables_stand_below_for_the_checkpoints_that_they_are_about(
    view: str, tables: int, suites_folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_suite(suites_folder / "clip")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"checkpoints": "fusion_bench"}))
    app = open_page("beyond", beyond=view)
    assert not app.exception and not app.dataframe  # the tower is another one
    monkeypatch.setattr("merging.suites.protocols.published_architecture", lambda architecture: "ViT-B-32")
    app = app.run()
    assert not app.exception and len(app.dataframe) == tables and "FusionBench" in texts(app)


def test_splits_of_the_literature_can_be_chosen_where_their_tasks_are(
    suites_folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = SPLITS["exp2"]
    path = build_suite(suites_folder / "clip", tasks=tuple(sorted({*split.seen, *split.unseen})))
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"checkpoints": "fusion_bench"}))
    monkeypatch.setattr("merging.suites.protocols.published_architecture", lambda architecture: "ViT-B-32")
    asked = {"left-out": "exp2 of the literature", "beyond-methods": ["Weight averaging"]}
    app = press(open_page("beyond", **asked), "Measure")
    (queued,) = state.workspace().store.queued()
    assert (queued.job.tasks, queued.job.left_out) == (split.seen, (split.unseen,))
    carry_out_queued(state.workspace())
    app = app.run()
    assert not app.exception and "in one split" in texts(app) and len(app.dataframe) == len(SPLITS)


@pytest.mark.parametrize("folder", ["pages", "ui"])
def test_pages_say_all_that_is_odd_of_images_not_only_what_is_left_out(folder: str) -> None:
    files = (Path(__file__).parents[2] / folder).rglob("*.py")
    assert not [path.name for path in files if "skipped_in_words" in path.read_text(encoding="utf-8")]
