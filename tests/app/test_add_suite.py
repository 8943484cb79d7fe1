"""The page Add a suite: folders it offers, what it writes, and the report on every file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from merging.suites import Suite, load_suite
from merging.suites.folder import checkpoint_folders
from tests.app.conftest import TASKS, build_suite, texts

Open = Callable[..., AppTest]


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


@pytest.fixture
def loose(tiny: Suite, suites_folder: Path) -> Path:
    """A folder of checkpoints without a suite.yaml, beside the suite ``tiny``."""
    folder = build_suite(suites_folder / "loose").parent
    (folder / "suite.yaml").unlink()
    return folder


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


def test_the_base_can_be_named(loose: Path, open_page: Open) -> None:
    (loose / "base.safetensors").rename(loose / "start.safetensors")
    app = press(open_page("add_suite"), "Write suite.yaml")
    assert "no file is named as a base" in app.error[0].value.replace("\\", "") and not (loose / "suite.yaml").exists()
    assert str(loose) not in texts(app)
    app.selectbox(key="base").set_value("start.safetensors").run()
    app = press(app, "Write suite.yaml")
    assert not app.error and load_suite(loose).base == "start.safetensors"


def test_every_file_is_reported_on_when_asked(tiny: Suite, open_page: Open) -> None:
    (tiny.folder / "birds.safetensors").write_bytes((tiny.folder / "base.safetensors").read_bytes())
    (tiny.folder / "cars.npz").write_bytes(b"nonsense")
    app = open_page("add_suite")
    assert not app.dataframe
    app = press(app, "Check all files")
    table: pd.DataFrame = app.dataframe[0].value
    rows = table.set_index("File")
    assert rows.loc["birds.safetensors", "Status"] == "warning"
    assert rows.loc["birds.safetensors", "Detail"] == "equal to the base model"
    assert rows.loc["cars.npz (test)", "Status"] == "error"
    assert list(rows["Status"]) == ["error"] * 2 + ["warning"] + ["ok"] * (len(rows) - 3)
    assert "birds.safetensors (birds): equal to the base model" in texts(app)
    assert rows.loc["apples.safetensors", "Status"] == "ok" and rows.loc["apples.safetensors", "Type"] == "float32"
    assert rows.loc["apples.safetensors", "SHA-256"] == tiny.checkpoint("apples").fingerprint[:12]
    assert "2 errors, 1 warning" in texts(app) and "cars.npz (test) (cars): cars.npz: not a readable" in texts(app)
    assert app.run().dataframe  # the report stays
    (tiny.folder / "cars.npz").write_bytes(b"other nonsense")
    assert not app.run().dataframe  # until a file changes


def test_without_a_folder_to_look_in_it_says_how_to_set_one(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no folder with checkpoints that has no suite.yaml" in texts(open_page("add_suite"))
    monkeypatch.setattr("ui.state.suite_roots", list)
    monkeypatch.setattr("ui.state.builtin_suites", lambda: {"tiny": tiny.folder})
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
