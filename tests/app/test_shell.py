"""Navigation, the sidebar that all pages share, and errors that become text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
import yaml
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from merging.runs.jobs import MergeSpec
from merging.runs.table import RunStore
from merging.suites import Suite
from tests.app.conftest import TASKS, build_suite, texts
from tests.app.finished_runs import finished
from tests.headings import levels_of_app, step_by_one
from tests.lightly import open_clip
from tests.random_models import ARCHITECTURE, write_arrays
from ui.shell import state

PAGES = (
    *("start", "task_models", "similarity", "merge", "accuracy", "leaderboard"),
    *("beyond", "sweeps", "runs", "add_suite"),
)
TITLES = dict(
    zip(
        PAGES,
        (
            *("Start", "Task models", "Similarity", "Merge", "Accuracy", "Leaderboard"),
            *("Beyond the benchmark", "Sweeps", "Runs", "Add a suite"),
        ),
        strict=True,
    )
)
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
Open = Callable[..., AppTest]


def test_without_a_suite_every_page_says_what_to_do(open_page: Open) -> None:
    for page in PAGES:
        app = open_page(page)
        assert not app.exception, page
        assert app.title[0].value == "No suite yet", page
        assert "studies.mini_suite.build" in app.code[0].value, page


def test_a_broken_suite_is_an_error_in_words_on_every_page(suites_folder: Path, open_page: Open) -> None:
    folder = suites_folder / "broken"
    folder.mkdir()
    (folder / "suite.yaml").write_text("name: broken\nsurprise: 1\n")
    for page in PAGES:
        app = open_page(page)
        assert not app.exception, page
        assert "suite.yaml" in app.error[0].value, page
        assert str(suites_folder) not in texts(app), page


@pytest.mark.usefixtures("own_files")
def test_weights_of_another_shape_are_named_in_words_on_every_page(tiny: Suite, open_page: Open) -> None:
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "birds.head.safetensors").read_bytes())
    for page in PAGES:
        app = open_page(page)
        assert not app.exception and not app.error, page
        assert "birds.safetensors" in texts(app) and "birds" not in app.multiselect(key="tasks").value, page
        assert str(tiny.folder) not in texts(app), page


@pytest.mark.parametrize("runs", [[], ["test"], ["test", "test"], ["test", "val"]])
def test_headings_step_by_one_level_on_every_page(runs: list[str], tiny: Suite, open_page: Open) -> None:
    space = state.workspace()
    shown = [finished(space, tiny, split=split, seed=seed).id for seed, split in enumerate(runs)]
    for page in (*PAGES, "learn", "what_if", "compare") if not shown else ("start", "accuracy", "compare", "runs"):
        parameter = {"accuracy": "runs", "compare": "run", "runs": "run"}.get(page)
        app = open_page(page, **({parameter: shown} if parameter and shown else {}))
        assert not app.exception and step_by_one(levels_of_app(app)), (page, levels_of_app(app))


def test_room_for_images_that_is_no_number_is_an_error_in_words(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_IMAGE_CACHE_GB", "plenty")
    app = open_page()
    assert not app.exception
    assert "MERGING_IMAGE_CACHE_GB is 'plenty'" in app.error[0].value.replace("\\", "")


def test_room_for_images_is_counted_in_gibibytes(tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, bytes_ in (("0.5", 2**29), ("2", 2**31), ("", 20 * 2**30), ("0", 0)):
        monkeypatch.setenv("MERGING_IMAGE_CACHE_GB", given)
        st.cache_resource.clear()
        assert state.workspace().image_limit == bytes_
    assert not open_page().exception


def test_the_sidebar_names_suite_device_and_queue(tiny: Suite, open_page: Open, tmp_path: Path) -> None:
    assert "no active runs" in texts(open_page())
    spec = MergeSpec.build(suite=str(tiny.folder / "suite.yaml"), tasks=TASKS)
    RunStore(tmp_path / "home").submit(spec, "f" * 64)
    said = texts(open_page())
    assert "Tiny suite" in said
    assert "1 queued" in said
    assert "GiB" in said


def test_tasks_come_from_the_url_and_stay_while_pages_change(standing: Suite, look: Open) -> None:
    app = look("similarity", tasks=["apples", "doors"])
    assert app.multiselect(key="tasks").value == ["apples", "doors"]
    app.switch_page("pages/task_models.py").run()
    assert app.multiselect(key="tasks").value == ["apples", "doors"]
    assert "2 of 4 tasks selected" in texts(app)


def test_that_no_task_is_selected_comes_from_the_url_too(standing: Suite, look: Open) -> None:
    app = look("task_models", tasks="")
    assert app.multiselect(key="tasks").value == []
    assert not warnings(app)
    app.switch_page("pages/accuracy.py").run()
    assert app.multiselect(key="tasks").value == []
    assert app.query_params["tasks"] == ""


def warnings(app: AppTest) -> list[str]:
    """What pages warn of, but for models that are hardly right: these are random."""
    said = [element.value.replace("\\", "") for element in app.warning]
    return [each for each in said if "hardly what a fine-tuned model does" not in each]


def test_unknown_tasks_in_the_url_are_dropped_and_named_once(standing: Suite, look: Open) -> None:
    app = look(tasks=["apples", "nonsense", "cars"])
    assert not app.exception
    assert app.multiselect(key="tasks").value == ["apples", "cars"]
    assert warnings(app) == ["Tiny suite has no task nonsense with weights. Only the others are selected."]
    assert not warnings(app.run())


def test_a_link_to_unknown_tasks_only_selects_all_and_says_so(standing: Suite, look: Open) -> None:
    app = look(tasks=["<b>", "nonsense"])
    assert app.multiselect(key="tasks").value == list(TASKS)
    assert warnings(app) == ["Tiny suite has no task <b>, nonsense with weights. All tasks are selected instead."]


@pytest.mark.usefixtures("own_files")
def test_tasks_can_be_chosen_by_group(tiny: Suite, open_page: Open) -> None:
    path = tiny.folder / "suite.yaml"
    content = yaml.safe_load(path.read_text()) | {"groups": {"2": 2, "ends": ["apples", "doors"]}, "usual": "2"}
    path.write_text(yaml.safe_dump(content))
    app = open_page()
    assert app.multiselect(key="tasks").value == ["apples", "birds"]
    app.button(key="together-ends").click().run()
    assert app.multiselect(key="tasks").value == ["apples", "doors"]
    app = open_page(tasks="group:ends")
    assert app.multiselect(key="tasks").value == ["apples", "doors"] and not warnings(app)
    app = open_page(tasks=["group:middle"])
    assert "has no task group:middle" in warnings(app)[0]


def test_an_unknown_suite_in_the_url_is_named_with_what_is_shown(standing: Suite, look: Open) -> None:
    app = look(suite="nonsense")
    assert app.selectbox(key="suite").value == "tiny"
    assert warnings(app) == ["There is no suite nonsense here. Tiny suite is shown instead."]
    assert not warnings(app.run())


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        (
            "similarity",
            {
                "alpha": ("-5", "no number from 0 to 1", "0.1"),
                "steps": ("99999", "no number from 0 to 2000", "300"),
                "scope": ("foo", "none of model, layer, row", "model"),
                "solver": ("sgd", "none of descent, exact, adam", "descent"),
                "beta": ("0.3", "none of 1e-05", "0.01"),
                "level": ("tensor", "none of model, block, layer", "model"),
                "zoom": ("maybe", "none of true, false", "true"),
            },
        ),
        ("similarity", {"alpha": ("nan", "no number from 0 to 1", "0.1")}),
        ("similarity", {"alpha": ("much", "no number from 0 to 1", "0.1")}),
        (
            "leaderboard",
            {
                "data": (
                    "labels",
                    "none of No data, Unlabeled images, Labelled images",
                    "No data, Unlabeled images, Labelled images",
                )
            },
        ),
        (
            "beyond",
            {
                "leave": ("9", "no number from 1 to 3", "2"),
                "beyond": ("Foggy", "none of Unseen tasks, Corrupted images, Many tasks", "Unseen tasks"),
            },
        ),
        ("merge", {"device": ("tpu", "none of auto, cpu", "auto")}),
        (
            "add_suite",
            {"way": ("Floppy disk", "none of Your files, Folder of checkpoints, Hugging Face hub", "Your files")},
        ),
        (
            "what_if?Drop one out",
            {
                "out-edit": ("foo", "none of No edit,", "No edit"),
                "out-merge": ("foo", "none of ACE-Merging, AdaMerging,", "Task Arithmetic"),
                "out-scaling-task_arithmetic": ("9", "no number from -1 to 3", "0.3"),
            },
        ),
        (
            "what_if?λ curves",
            {"curves": ("foo", "none of Task Arithmetic,", "Task Arithmetic, TIES, AWD + Task Arithmetic")},
        ),
        (
            "what_if?Landscape",
            {
                "first": ("foo", "none of Apples, Birds, Cars, Doors", "Apples"),
                "second": ("Apples", "none of Birds, Cars, Doors", "Birds"),
                "plane-scope": ("row", "none of model, layer", "model"),
            },
        ),
    ],
)
def test_values_that_a_link_asks_for_in_vain_are_named_once_with_what_is_allowed(
    page: str, asked: dict[str, tuple[str, str, str]], standing: Suite, look: Open
) -> None:
    page, _, view = page.partition("?")
    values = {name: value for name, (value, _, _) in asked.items()}
    app = look(page, **values, **({"what": view} if view else {}))
    assert not app.exception
    found = {warning.removeprefix("The link asks for ").partition(" = ")[0]: warning for warning in warnings(app)}
    assert found.keys() == asked.keys() and len(warnings(app)) == len(asked)
    for name, (value, said, shown) in asked.items():
        assert found[name].startswith(f"The link asks for {name} = {value}, which is {said}")
        assert found[name].endswith(f". {shown} is shown instead.")
    assert not warnings(app.run())


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("similarity", {"alpha": "0.25", "scope": "layer", "solver": "exact", "tensors": "matrices", "level": "block"}),
        ("similarity", {"beta": "0.02", "steps": "0", "zoom": "false", "level": "block", "block": "block 1"}),
        ("leaderboard", {"data": ["No data", "Labelled images"]}),
        ("merge", {"edit": "awd", "edit.alpha": "0.2", "seed": "3", "device": "cpu"}),
        ("beyond", {"beyond-methods": ["TIES", "TSV-M"], "leave": "1", "most": "4"}),
        ("beyond", {"beyond-methods": ["task_arithmetic", "adamerging_pp", "AdaMerging++"]}),
        ("beyond", {"beyond": "Corrupted images", "severities": ["1", "5"], "samples": "Birds", "sample": "7"}),
    ],
)
def test_links_that_ask_for_what_there_is_warn_of_nothing(
    page: str, query: dict[str, str | list[str]], standing: Suite, look: Open
) -> None:
    assert not look(page, **query).warning


def test_a_block_that_is_not_there_is_named(standing: Suite, look: Open) -> None:
    (warning,) = warnings(look("similarity", level="block", block="block 99"))
    assert warning.startswith("The link asks for block = block 99, which is none of ")
    assert warning.endswith("stem is shown instead.")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_names_parameters_that_it_does_not_know_once_and_takes_no_task_as_no_error(
    page: str, standing: Suite, look: Open
) -> None:
    app = look(page, task="digits")
    assert not app.exception and not app.error
    assert app.title
    (warning,) = warnings(app)
    assert f"The page {TITLES[page]} takes no task = digits; a link to it can hold suite, tasks" in warning
    assert "task" not in app.query_params
    app.multiselect(key="tasks").set_value([]).run()
    assert not app.exception and not app.error
    assert not warnings(app)


@pytest.mark.parametrize("query", [{}, {"tasks": ["apples", "doors"]}, {"suite": "tiny", "tasks": ["cars"]}])
def test_links_to_what_is_there_warn_of_nothing(
    query: dict[str, str | list[str]], tiny: Suite, suites_folder: Path, open_page: Open
) -> None:
    build_suite(suites_folder / "aardvark", tasks=("cars", "roads"))
    app = open_page(**({"suite": "tiny"} | query))
    assert not app.warning
    app.selectbox(key="suite").set_value("aardvark").run()
    assert app.multiselect(key="tasks").value == ["cars", "roads"]
    assert not app.warning
    assert not app.run().warning


def test_another_suite_starts_with_all_of_its_tasks(tiny: Suite, suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "urban", tasks=("cars", "signs", "roads"))
    app = open_page("task_models")
    app.multiselect(key="tasks").set_value(["cars", "doors"]).run()
    app.selectbox(key="suite").set_value("urban").run()
    assert not app.exception
    assert app.multiselect(key="tasks").value == ["cars", "signs", "roads"]
    app.selectbox(key="suite").set_value("tiny").run()
    assert app.multiselect(key="tasks").value == list(TASKS)


def test_suites_with_the_same_folder_name_are_told_apart(suites_folder: Path, open_page: Open) -> None:
    build_suite(suites_folder / "one" / "same")
    build_suite(suites_folder / "two" / "same", tasks=("roads", "signs"))
    app = open_page("task_models", suite="same-2")
    assert app.selectbox(key="suite").options == ["same", "same-2"]
    assert app.multiselect(key="tasks").value == ["roads", "signs"]


def other_head(folder: Path) -> None:
    """As many classes, in another order: what was right is wrong now."""
    head = load_file(folder / "birds.head.safetensors")["weight"]
    save_file({"weight": head.roll(1, 0).contiguous()}, folder / "birds.head.safetensors")


def other_images(folder: Path) -> None:
    write_arrays(folder / "birds.npz", np.random.default_rng(99))


def other_model(folder: Path) -> None:
    (folder / "birds.safetensors").write_bytes((folder / "cars.safetensors").read_bytes())


def other_settings(folder: Path) -> None:
    """What the task is called on screen: no other file has to do with it."""
    path = folder / "suite.yaml"
    path.write_text(path.read_text().replace("title: Birds", "title: Fowl"))


def other_text_tower(folder: Path, seed: int = 1) -> None:
    torch.manual_seed(seed)
    state = open_clip.CLIP(**ARCHITECTURE, text_cfg=TEXT).state_dict()
    save_file({name: t for name, t in state.items() if not name.startswith("visual.")}, folder / "text.safetensors")


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("change", [other_head, other_images, other_model, other_settings, other_text_tower])
def test_what_is_shown_of_a_task_changes_once_a_file_of_it_is_replaced(
    change: Callable[[Path], None], tiny: Suite, open_page: Open
) -> None:
    """Of the task whose file it is, and of no other: the tower of text is one here, as only this task has no head."""
    if change is other_text_tower:
        other_text_tower(tiny.folder, seed=0)
        content = yaml.safe_load((tiny.folder / "suite.yaml").read_text())
        content |= {"text_tower": "text.safetensors", "architecture": {**ARCHITECTURE, "text_cfg": TEXT}}
        del next(entry for entry in content["tasks"] if entry["name"] == "birds")["head"]
        (tiny.folder / "suite.yaml").write_text(yaml.safe_dump(content))

    def shown(app: AppTest) -> dict[str, list[object]]:
        assert not app.exception and not app.error
        return app.dataframe[0].value.set_index("Name")[["Task", "Zero-shot", "Fine-tuned"]].T.to_dict("list")

    app = open_page("task_models")
    before = shown(app)
    change(tiny.folder)
    after = shown(app.run())
    assert list(before) == list(after) == list(TASKS)
    assert {task for task in TASKS if before[task] != after[task]} == {"birds"}


@pytest.mark.usefixtures("own_files")
def test_replaced_weights_are_noticed(tiny: Suite, open_page: Open) -> None:
    app = open_page("task_models")
    before = app.dataframe[0].value["Norm of τ"].tolist()
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "cars.safetensors").read_bytes())
    app.run()
    after = app.dataframe[0].value["Norm of τ"].tolist()
    assert after[1] == pytest.approx(after[2])
    assert after[0] == pytest.approx(before[0])
    assert after[1] != pytest.approx(before[1])
