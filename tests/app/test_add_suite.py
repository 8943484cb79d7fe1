"""The page Add a suite: folders it offers, what it writes, and the report on every file."""

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load, load_file, save_file
from starlette.exceptions import HTTPException
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest

from merging.core.errors import MergingError
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.suites.folder import checkpoint_folders
from tests.app.conftest import TASKS, build_suite, texts
from tests.carrying import execute
from tests.fake_hub import FakeHub
from tests.random_models import write_adapter, write_yaml
from ui.suites import uploads
from ui.suites.permission import sits_here

Open = Callable[..., AppTest]


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def carry_out() -> None:
    """Do in this process what waits for the worker."""
    space = Workspace(Path(os.environ["MERGING_HOME"]))
    for run in space.store.queued():
        assert space.store.claim(run.id) and not isinstance(run.job, MergeSpec)
        try:
            space.store.finish(run.id, execute(run.job, space))
        except MergingError as error:
            space.store.stop(run.id, "failed", str(error))


def table_of(app: AppTest, column: str) -> pd.DataFrame:
    """The table that has such a column, its rows by what stands in the first one."""
    found: pd.DataFrame = next(one.value for one in app.dataframe if column in one.value)
    return found.set_index(found.columns[0])


@pytest.fixture
def loose(tiny: Suite, suites_folder: Path) -> Path:
    """A folder of checkpoints without a suite.yaml, beside the suite ``tiny``."""
    folder = build_suite(suites_folder / "loose").parent
    (folder / "suite.yaml").unlink()
    return folder


def test_known_data_sets_are_recognised_and_can_be_turned_off(
    tiny: Suite, suites_folder: Path, open_page: Open
) -> None:
    folder = build_suite(suites_folder / "loose", tasks=("MNIST", "svhn", "birds")).parent
    for file in (folder / "suite.yaml", *folder.glob("*.head.*"), *folder.glob("*.npz")):
        file.unlink()  # what has other classes than the data sets
    app = open_page("add_suite")
    assert not app.exception
    known = app.button_group(key=f"known-{folder}")
    assert known.options == ["MNIST", "svhn: SVHN"]
    known.set_value(["svhn"]).run()
    app = press(app, "Write suite.yaml")
    assert not app.exception and not app.error
    written = yaml.safe_load((folder / "suite.yaml").read_text())["tasks"]
    assert {task["name"]: task.get("dataset") for task in written} == {"MNIST": None, "svhn": "SVHN", "birds": None}
    assert "known data sets: svhn on SVHN" in texts(app)


def test_without_known_names_there_is_no_choice_of_data_sets(loose: Path, open_page: Open) -> None:
    assert not [one for one in open_page("add_suite").button_group if str(one.key).startswith("known-")]


def test_a_folder_becomes_a_suite_and_is_chosen(loose: Path, open_page: Open) -> None:
    app = open_page("add_suite")
    assert app.selectbox(key="folder").options == ["suites/loose"]
    app = press(app, "Write suite.yaml")
    assert not app.exception and not app.error
    assert load_suite(loose).task_names == TASKS
    assert app.selectbox(key="suite").value == "loose" and app.multiselect(key="tasks").value == list(TASKS)
    said = texts(app)
    assert "base base.safetensors, 4 tasks (apples, birds, cars, doors)" in said + app.success[0].value.replace(
        "\\", ""
    )
    assert "fill them in" in said and "Files of loose" in said
    assert not [box for box in app.selectbox if box.key == "folder"]  # nothing is left to add


def test_folders_of_a_suites_own_files_are_not_offered(loose: Path, suites_folder: Path, open_page: Open) -> None:
    """The folder that is searched is a suite itself, whose models lie in a folder of their own."""
    tasks = [{"name": task, "checkpoint": f"loose/{task}.safetensors"} for task in TASKS]
    write_yaml(suites_folder, name="own", base="loose/base.safetensors", tasks=tasks)
    assert not [box for box in open_page("add_suite").selectbox if box.key == "folder"]
    (suites_folder / "suite.yaml").unlink()
    assert open_page("add_suite").selectbox(key="folder").options == ["suites/loose"]


def test_the_base_can_be_named(loose: Path, open_page: Open) -> None:
    (loose / "base.safetensors").rename(loose / "start.safetensors")
    app = press(open_page("add_suite"), "Write suite.yaml")
    assert "no file is named as a base" in app.error[0].value.replace("\\", "") and not (loose / "suite.yaml").exists()
    assert str(loose) not in texts(app)
    app.selectbox(key="base").set_value("start.safetensors").run()
    app = press(app, "Write suite.yaml")
    assert not app.error and load_suite(loose).base == "start.safetensors"


def test_of_several_models_the_one_that_is_chosen_is_taken(loose: Path, open_page: Open) -> None:
    apples, birds = (load_file(loose / f"{task}.safetensors") for task in ("apples", "birds"))
    torch.save({"last": {"net": apples}, "ema": {"net": birds}}, loose / "apples.pt")
    (loose / "apples.safetensors").unlink()
    for step in (500, 1500):
        (loose / "birds" / f"checkpoint-{step}").mkdir(parents=True)
        save_file(apples if step == 500 else birds, loose / "birds" / f"checkpoint-{step}" / "model.safetensors")
    (loose / "birds.safetensors").unlink()
    app = press(open_page("add_suite"), "Write suite.yaml")
    assert "nothing says which is meant" in app.error[0].value and not (loose / "suite.yaml").exists()
    choice = app.selectbox(key=f"checkpoint-{loose}-birds")
    assert choice.options == ["checkpoint-500", "checkpoint-1500"] and choice.value is None
    choice.select("checkpoint-500").run()
    app.text_input(key=f"take-{loose}").set_value("ema").run()
    app = press(app, "Write suite.yaml")
    assert not app.error and not app.exception
    suite = load_suite(loose)
    assert torch.equal(suite.checkpoint("birds")["proj"], apples["proj"])
    assert torch.equal(suite.checkpoint("apples")["proj"], birds["proj"])


@pytest.mark.usefixtures("own_files")
def test_every_file_is_reported_on_when_asked(tiny: Suite, open_page: Open) -> None:
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "base.safetensors").read_bytes())
    (tiny.folder / "cars.npz").write_bytes(b"nonsense")
    app = open_page("add_suite")
    assert not app.dataframe
    app = press(app, "Check all files")
    assert not app.dataframe and "Waiting for the worker" in app.get("progress")[0].proto.text  # no page reads files
    carry_out()
    app.run()
    table: pd.DataFrame = app.dataframe[0].value
    rows = table.set_index("File")
    assert rows.loc["birds.safetensors", "Status"] == "warning"
    assert rows.loc["birds.safetensors", "Detail"] == "equal to the base model"
    assert rows.loc["cars.npz (test)", "Status"] == "error"
    assert list(rows["Status"]) == ["error"] * 2 + ["warning"] * 4 + ["ok"] * (len(rows) - 6)
    assert rows.loc["apples.safetensors on its images", "Status"] == "warning"  # it is random
    assert "birds.safetensors (birds): equal to the base model" in texts(app)
    assert rows.loc["apples.safetensors", "Status"] == "ok"
    assert rows.loc["apples.safetensors", "Detail"] == "visual tower, float32"
    assert rows.loc["apples.safetensors", "SHA-256"] == tiny.checkpoint("apples").fingerprint[:12]
    assert "2 errors, 4 warnings" in texts(app) and "cars.npz (test) (cars): cars.npz: not a readable" in texts(app)
    assert app.run().dataframe  # the report stays
    app = press(app, "Check again")
    assert not app.dataframe and "Waiting for the worker" in app.get("progress")[0].proto.text
    carry_out()
    pd.testing.assert_frame_equal(app.run().dataframe[0].value, table)
    (tiny.folder / "cars.npz").write_bytes(b"other nonsense")
    assert not app.run().dataframe  # until a file changes


def test_without_a_folder_to_look_in_it_says_how_to_set_one(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no folder with checkpoints that has no suite.yaml" in texts(open_page("add_suite"))
    monkeypatch.setattr("ui.suites.from_folder.suite_places", list)
    monkeypatch.setattr("merging.suites.discovery.builtin_suites", lambda: {"tiny": tiny.folder})
    monkeypatch.setattr("merging.suites.suite.builtin_suites", lambda: {"tiny": tiny.folder})
    assert "MERGING_SUITES" in texts(open_page("add_suite"))


def test_folders_with_checkpoints_are_found_and_suites_are_not(tmp_path: Path) -> None:
    def put(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")

    put("flat/base.pt", "flat/deeper/a.pt", "by-task/x/finetuned.pt", "by-task/y/finetuned.pt", "done/a.pt")
    put("done/suite.yaml", "one/two/a.pt", "one/notes.txt", "a/b/c/far.pt", ".hidden/a.pt", "set/test/a.pt")
    found = [path.relative_to(tmp_path).as_posix() for path in checkpoint_folders(tmp_path)]
    assert found == ["by-task", "flat", "one/two"]
    put("suite.yaml")
    assert len(checkpoint_folders(tmp_path)) == 3  # a suite at the top hides none below it
    (tmp_path / "suite.yaml").unlink()
    put("base.pt")
    assert checkpoint_folders(tmp_path) == [tmp_path]
    assert checkpoint_folders(tmp_path / "gone") == []


# --- pickled models --------------------------------------------------------------------------------------------------


def test_pickled_models_of_a_folder_are_converted_by_the_worker(loose: Path, open_page: Open) -> None:
    for path in loose.glob("*.safetensors"):
        if not path.name.endswith("head.safetensors"):
            torch.save(load_file(path), path.with_suffix(".pt"))
        path.unlink()
    (loose / "odd.pt").write_bytes(b"nonsense")
    app = press(open_page("add_suite"), "Convert 6 .pt files")
    output = loose.with_name("loose-converted")
    assert not output.exists()
    carry_out()
    app.run()
    table = table_of(app, "Written")
    assert table.loc["base.pt", "Written"] == "base.safetensors" and table.loc["base.pt", "Kind"] == "model"
    assert table.loc["odd.pt", "Kind"] == "error" and "odd.pt: the pickle in it is damaged" in texts(app)
    assert sorted(path.stem for path in output.iterdir()) == sorted(["base", *TASKS])
    assert "5 of 6 files are converted; choose the folder loose-converted" in app.success[0].value.replace("\\", "")
    app.selectbox(key="folder").set_value("suites/loose-converted").run()
    app = press(app, "Write suite.yaml")  # converted files have no config.json beside them any more
    assert "QuickGELU or GELU" in app.error[0].value and not (output / "suite.yaml").exists()
    app.selectbox(key=f"activation-{output}").set_value("quick_gelu")
    app.number_input(key=f"heads-{output}").set_value(4).run()
    app = press(app, "Write suite.yaml")
    suite = load_suite(output)
    assert suite.mergeable() == TASKS and app.selectbox(key="suite").value == "loose-converted"
    assert suite.quick_gelu and suite.architecture["vision_cfg"]["head_width"] == 8  # type: ignore[index]


def test_what_is_pickled_can_be_converted_after_suite_yaml_was_written(loose: Path, open_page: Open) -> None:
    (loose / "whole.pt").write_bytes(b"nonsense")
    app = press(open_page("add_suite"), "Write suite.yaml")
    assert "left out: whole.pt" in texts(app)
    press(app, "Convert 1 .pt file")
    carry_out()
    app.run()
    assert "whole.pt: the pickle in it is damaged" in texts(app) and not app.exception


def test_a_folder_without_pickles_offers_no_conversion(loose: Path, open_page: Open) -> None:
    assert not [button for button in open_page("add_suite").button if "Convert" in button.label]


# --- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def offered(tiny: Suite, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A built-in suite whose models are on the hub, but for one that is nowhere; `tiny` stands for the embedded one."""
    for name in ("base", *TASKS[:3]):
        hub.files[f"zoo/{name}"] = {"model.safetensors": (tiny.folder / f"{name}.safetensors").read_bytes()}
    tasks: list[dict[str, object]] = [{"name": task, "checkpoint": {"hub": f"zoo/{task}"}} for task in TASKS[:3]]
    tasks.append({"name": TASKS[3], "checkpoint": "doors/finetuned.safetensors"})
    path = write_yaml(tmp_path / "ready", name="ready", title="Ready", base={"hub": "zoo/base"}, tasks=tasks)
    found = {"mini": tiny.folder, "ready": path.parent}
    monkeypatch.setattr("merging.suites.discovery.builtin_suites", lambda: found)
    monkeypatch.setattr("merging.suites.suite.builtin_suites", lambda: found)
    monkeypatch.setattr("merging.runs.jobs.download.builtin_suites", lambda: found)
    return hub


def test_a_published_suite_is_downloaded_when_asked_for(offered: FakeHub, open_page: Open) -> None:
    app = open_page("add_suite")
    assert app.selectbox(key="published").options == ["Ready", "Another repository"]
    assert "ready" not in app.selectbox(key="suite").options  # none of its models is here
    said = texts(app)
    tower = sum(torch.Size(info.shape).numel() for info in load_suite("mini").base_checkpoint.infos.values())
    assert f"4 files of weights, about {16 * tower / 1e6:.3g} MB of weights." in said
    assert "Missing here and on the hub: 4 files of weights" in said and "Not on the hub: 1 file of weights" in said
    places = next(code.value for code in app.code if "models--zoo" in code.value)
    assert "models--zoo--base/snapshots/main/model.safetensors" in places and "doors/finetuned.safetensors" in places
    app.multiselect(key="download-tasks").set_value([TASKS[1]]).run()
    assert "Missing here and on the hub: 2 files of weights" in texts(app) and offered.asked == []
    app = press(app, "Download")
    assert offered.asked == [] and "Waiting for the worker" in app.get("progress")[0].proto.text
    carry_out()
    app.run()
    assert "2 files of ready were downloaded" in texts(app)
    assert app.selectbox(key="suite").options == ["mini", "ready", "tiny"]
    asked = len(offered.asked)
    app = press(app, "Choose this suite")
    assert not app.exception and app.selectbox(key="suite").value == "ready"
    assert app.multiselect(key="tasks").options == [TASKS[1]]
    assert len(offered.asked) == asked


def test_a_link_to_a_suite_that_is_not_here_says_how_to_get_it(offered: FakeHub, open_page: Open) -> None:
    app = open_page("similarity", suite="ready")
    assert not app.exception
    assert "Ready is not here yet. " in texts(app)
    link = next(one for one in app.get("page_link") if "Get Ready" in one.proto.label)
    assert link.proto.page == "add_suite" and link.proto.query_string == "published=Ready"
    app = open_page("add_suite", published="Ready")
    assert app.selectbox(key="published").value == "ready"
    assert not app.warning


def test_a_download_that_fails_says_where_files_belong(offered: FakeHub, open_page: Open) -> None:
    offered.refused["zoo/base"] = (503, "")
    app = press(open_page("add_suite"), "Download")
    carry_out()
    app.run()
    assert "zoo/base: the hub answered 503" in texts(app) and "models--zoo--base/snapshots/main" in texts(app)
    offered.refused.clear()
    app = press(app, "Run again")
    carry_out()
    assert "4 files of ready were downloaded" in texts(app.run())


def test_a_repository_with_a_suite_is_downloaded_by_its_id(offered: FakeHub, tiny: Suite, open_page: Open) -> None:
    offered.files["zoo/tiny"] = {path.name: path.read_bytes() for path in tiny.folder.iterdir()}
    app = open_page("add_suite")
    app.selectbox(key="published").set_value("another repository").run()
    app.text_input(key="repository").set_value("nonsense").run()
    assert "Expected the id of a repository" in app.error[0].value
    app.text_input(key="repository").set_value("zoo/tiny").run()
    app = press(app, "Download")
    carry_out()
    app.run()
    assert "zoo/tiny" in app.selectbox(key="suite").options
    app.selectbox(key="suite").set_value("zoo/tiny").run()
    assert not app.exception and app.multiselect(key="tasks").options == list(TASKS)


def test_no_page_asks_the_hub(offered: FakeHub, open_page: Open) -> None:
    for page in ("start", "task_models", "similarity", "merge", "accuracy", "leaderboard", "runs", "add_suite"):
        assert not open_page(page).exception
    assert offered.asked == []


# --- one's own files -------------------------------------------------------------------------------------------------


def drop(app: AppTest, *files: tuple[str, bytes], folder: bool = False) -> AppTest:
    """Drop files, or a folder, on their place."""
    app.file_uploader[folder].set_value([(name, content, "application/octet-stream") for name, content in files])
    return app.run()


def waiting(app: AppTest) -> str:
    """What the URL calls the files that wait."""
    return "".join(app.query_params["incoming"])


@pytest.fixture
def models(tmp_path: Path) -> dict[str, bytes]:
    """Name → content of the files of a suite that lies nowhere."""
    folder = build_suite(tmp_path / "elsewhere").parent
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "suite.yaml"}


def test_dropped_files_are_understood_and_added_without_a_restart(
    tiny: Suite, models: dict[str, bytes], open_page: Open, suites_folder: Path
) -> None:
    app = open_page("add_suite")
    assert app.file_uploader[1].accept_directory and "Add this suite" not in [one.label for one in app.button]
    names = ("base.safetensors", "open_clip_config.json", "birds.safetensors", "birds.npz", "birds.head.safetensors")
    app = drop(app, *((name, models[name]) for name in names), ("bad.safetensors", b"no weights"))
    assert not app.exception and "bad.safetensors: " in app.error[0].value.replace("\\", "")
    assert "5 files taken in" in app.success[0].value
    assert table_of(app, "Model").loc["birds", ["Model", "Images"]].tolist() == ["birds.safetensors", "arrays"]
    assert "similarity, merging and accuracy" in app.info[0].value and "GELU" in texts(app)
    token = waiting(app)
    home = suites_folder.parent / "home"
    assert not (home / "suites").exists() and sorted(os.listdir(home / "incoming")) == [token]
    again = open_page("add_suite", incoming=token)  # a reload, or a server that was started again
    assert [one.label for one in again.button if "suite" in one.label] == ["Add this suite"]
    app.text_input(key=f"name-{token}").set_value("tiny").run()
    app = press(app, "Add this suite")
    assert not [box for box in app.get("file_uploader") if not box.key.endswith("-1")]  # emptied
    assert app.selectbox(key="suite").value == "tiny-2" and app.multiselect(key="tasks").value == ["birds"]
    assert "base base.safetensors, 1 task (birds)" in app.success[0].value.replace("\\", "")
    assert load_suite(home / "suites" / "tiny").measurable("birds") and os.listdir(home / "incoming") == []
    assert "incoming" not in app.query_params


def test_adapters_alone_take_the_base_of_a_known_suite(tiny: Suite, tmp_path: Path, open_page: Open) -> None:
    write_adapter(tmp_path / "lora", 3)
    files = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "lora").iterdir())]
    app = drop(open_page("add_suite"), *files)
    assert "Add this suite" not in [one.label for one in app.button]
    app.text_input(key="unnamed").set_value("roads").run()
    app = press(app, "Name it")
    assert "no file is named as a base" in texts(app)
    token = waiting(app)
    app.selectbox(key=f"base-{token}").set_value("that of Tiny suite").run()
    assert not app.error and not app.exception
    assert "Accuracy for none" in app.info[0].value
    app = press(app, "Add this suite")
    assert not app.error and app.selectbox(key="suite").value == "my-suite"
    assert app.multiselect(key="tasks").value == ["roads"]


def test_what_waits_can_be_thrown_away(models: dict[str, bytes], tiny: Suite, open_page: Open) -> None:
    app = drop(open_page("add_suite"), ("mine/birds.safetensors", models["birds.safetensors"]), folder=True)
    app = press(app, "Throw these files away")
    assert "incoming" not in app.query_params and not app.exception
    assert "Throw these files away" not in [one.label for one in app.button]


def test_paths_are_typed_only_where_the_browser_runs_on_the_machine(
    loose: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("add_suite")
    app.text_input(key="named-model").set_value(str(loose)).run()
    assert "Expected the id of a model" in app.error[0].value
    monkeypatch.setattr("ui.suites.named_models.sits_here", lambda: True)
    app = press(app.run(), "Take it in")
    token = waiting(app)
    assert app.text_input(key=f"name-{token}").value == "loose"
    app = press(app, "Add this suite")
    assert app.selectbox(key="suite").value == "loose" and not (loose / "suite.yaml").exists()
    assert app.multiselect(key="tasks").value == list(TASKS)


def test_models_of_the_hub_are_downloaded_and_taken_in(
    offered: FakeHub, models: dict[str, bytes], open_page: Open
) -> None:
    app = open_page("add_suite")
    for name in ("base", TASKS[0]):
        stored = {"model.safetensors": f"{name}.safetensors", "open_clip_config.json": "open_clip_config.json"}
        offered.files[f"lab/{name}"] = {there: models[file] for there, file in stored.items()}
        asked = len(offered.asked)
        app.text_input(key="named-model").set_value(f"lab/{name}").run()
        assert len(offered.asked) == asked
        app = press(app, f"Download lab/{name}")
        carry_out()
        app = press(app.run(), "Take it in")
    app = press(app, "Add this suite")
    assert not app.error and app.multiselect(key="tasks").value == [TASKS[0]]


@pytest.mark.parametrize(
    ("headers", "here"),
    [
        ({"Host": "localhost:8501", "Origin": "http://localhost:8501"}, True),
        ({"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"}, True),
        ({"Host": "127.0.0.1:8501", "Origin": "https://models.example.org"}, False),
        ({"Host": "models.example.org", "Origin": "http://localhost"}, False),
        ({"Host": "localhost", "Origin": "http://localhost", "X-Forwarded-For": "127.0.0.1"}, False),
        ({"Host": "localhost:8501"}, False),
        ({}, False),
    ],
)
def test_who_sits_at_the_machine(headers: dict[str, str], here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(headers=headers, ip_address=None)
    monkeypatch.setattr("ui.suites.permission.st.context", context)
    assert sits_here() == here


def test_memory_for_uploads_is_bounded_and_only_for_sessions_that_were_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = MemoryUploadedFileManager("/upload")
    context = SimpleNamespace(uploaded_file_mgr=manager, session_id="mine")
    monkeypatch.setattr(uploads, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(uploads.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(uploads.st, "file_uploader", lambda *args, **settings: [])
    monkeypatch.setattr(uploads, "_SMALL", 100)
    uploads.bound()
    uploads.bound()
    manager.add_file("another", UploadedFileRec("0", "lesson.md", "", bytes(100)))
    manager.remove_file("another", "0")
    record = UploadedFileRec("1", "a.pt", "", bytes(600))
    with pytest.raises(HTTPException, match="nobody asked"):
        manager.add_file("mine", record)
    uploads.ask("Files", folder=False, key="files", help="")
    manager.add_file("mine", record)
    with pytest.raises(HTTPException, match="nobody asked"):
        manager.add_file("another", record)
    with pytest.raises(HTTPException, match="no memory left"):
        manager.add_file("mine", UploadedFileRec("2", "b.pt", "", bytes(600)))
    (file,) = manager.get_files("mine", ["1"])
    monkeypatch.setattr(uploads.st, "session_state", {})
    uploads.forget([file])  # type: ignore[list-item]
    manager.add_file("mine", UploadedFileRec("2", "b.pt", "", bytes(600)))


def test_pickled_models_that_were_dropped_are_converted_in_place(
    tiny: Suite, models: dict[str, bytes], open_page: Open, suites_folder: Path
) -> None:
    pickled = io.BytesIO()
    torch.save(OrderedDict(model=partial(dict), state=load(models["birds.safetensors"])), pickled)
    names = ("base.safetensors", "open_clip_config.json", "apples.safetensors")
    app = drop(open_page("add_suite"), *((name, models[name]) for name in names), ("birds.pt", pickled.getvalue()))
    assert "left out: birds.pt" in texts(app)
    app = press(app, "Convert 1 pickled model")
    carry_out()
    app.run()
    assert not app.error and not app.exception and "left out" not in texts(app)
    app = press(app, "Add this suite")
    suite = load_suite(suites_folder.parent / "home" / "suites" / "my-suite")
    assert suite.mergeable() == TASKS[:2]
    assert torch.equal(suite.checkpoint("birds")["proj"], load(models["birds.safetensors"])["proj"])
