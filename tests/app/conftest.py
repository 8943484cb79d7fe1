"""A tiny random suite in a temporary folder, and the dashboard looking at it."""

import re
import runpy
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import streamlit as st
import yaml
from safetensors.torch import load_file, save_file
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest, app_test, local_script_runner

from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.random_models import write_suite
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("apples", "birds", "cars", "doors")


def build_suite(folder: Path, *, images: bool = True, weights: bool = True, tasks: tuple[str, ...] = TASKS) -> Path:
    """A random suite named after its folder, without images and heads or without weights if asked; its suite.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in _suite_files(tasks).items():
        (folder / name).write_bytes(written)
    if not weights:
        for task in tasks:
            (folder / f"{task}.safetensors").unlink()
    path = folder / "suite.yaml"
    path.write_text(_description(folder.name, images, tasks))
    return path


@cache
def _description(name: str, images: bool, tasks: tuple[str, ...]) -> str:
    """The ``suite.yaml`` of such a suite."""
    content = yaml.safe_load(_suite_files(tasks)["suite.yaml"])
    content |= {"name": name, "title": f"{name.title()} suite"}
    for entry in content["tasks"]:
        entry |= {"title": entry["name"].title(), "licence": "CC0", "source": "random numbers"}
        if not images:
            del entry["head"], entry["data"]
    return yaml.safe_dump(content)


@cache
def _suite_files(tasks: tuple[str, ...]) -> dict[str, bytes]:
    """Name → content of every file of a complete suite of these tasks, drawn once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        write_suite(Path(folder), tasks)
        draw_together(Path(folder), tasks)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def draw_together(folder: Path, tasks: tuple[str, ...]) -> None:
    """Give the task vectors norms around 2 and a part in common, as fine-tuned models have: else AWD finds nothing."""
    base = load_file(folder / "base.safetensors")
    models = [load_file(folder / f"{task}.safetensors") for task in tasks]
    for task, model in zip(tasks, models, strict=True):
        mixed = {
            name: tensor + 0.2 * (model[name] - tensor) + 0.1 * sum(other[name] - tensor for other in models)
            for name, tensor in base.items()
        }
        save_file(mixed, folder / f"{task}.safetensors")


@pytest.fixture(autouse=True, scope="session")
def what_does_not_change_is_read_once() -> Iterator[None]:
    """For every run of a page AppTest compiles the scripts, and for every app it reads all packages' metadata."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        for module in (app_test, local_script_runner):
            patch.setattr(module, "ScriptCache", cache(ScriptCache))
        patch.setattr(runpy, "_get_code_from_file", cache(runpy._get_code_from_file))  # type: ignore[attr-defined]
        yield


@pytest.fixture(autouse=True, scope="session")
def whoever_waits_for_a_page_sleeps() -> Iterator[None]:
    """AppTest looks a thousand times a second whether a page is drawn, and each time holds up whoever draws it."""
    look = local_script_runner.require_widgets_deltas

    def wait(runner: local_script_runner.LocalScriptRunner, timeout: float = 3) -> None:
        assert runner._script_thread is not None
        runner._script_thread.join(timeout)
        look(runner, 0.1)  # raises where it is not

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_script_runner, "require_widgets_deltas", wait)
        yield


def look_in(folder: Path, monkeypatch: pytest.MonkeyPatch, home: Path | None = None) -> None:
    """Let the dashboard search a folder for suites, with no built-in ones beside it and a home beside the folder."""
    monkeypatch.setenv("MERGING_HOME", str(home or folder.parent / "home"))
    monkeypatch.setenv("MERGING_SUITES", str(folder))
    monkeypatch.setattr("merging.suites.suite.builtin_suites", dict)
    monkeypatch.setattr("merging.suites.discovery.builtin_suites", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder.parent / "hub-cache"))


def forget_all() -> None:
    """As when the server is started again."""
    st.cache_data.clear()
    st.cache_resource.clear()


def opened(page: str | None = None, **query: str | list[str]) -> AppTest:
    """Open a page of the dashboard, with query parameters if any."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    for name, value in query.items():
        app.query_params[name] = value
    if page is not None:
        app.switch_page(f"pages/{page}.py")
    return app.run()


@pytest.fixture
def suites_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that the dashboard searches for suites, with no built-in ones beside it, and an own home."""
    folder = tmp_path / "suites"
    folder.mkdir()
    look_in(folder, monkeypatch)
    forget_all()
    yield folder
    forget_all()


@pytest.fixture
def open_page(request: pytest.FixtureRequest) -> Callable[..., AppTest]:
    """:func:`opened`."""
    if "tiny" not in request.fixturenames:
        request.getfixturevalue("suites_folder")
    return opened


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The suite ``tiny``, which no test changes."""
    return load_suite(build_suite(tmp_path_factory.mktemp("standing") / "suites" / "tiny"))


@pytest.fixture(scope="module")
def _going_on() -> Iterator[None]:
    """What pages of other modules have kept is of other suites."""
    forget_all()
    yield
    forget_all()


@pytest.fixture
def own_files(suites_folder: Path) -> None:
    """Files of ``tiny`` that a test may change, on a server that has just been started."""


@pytest.fixture
def tiny(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    """The suite ``tiny``: four tasks with everything. Its runs are the test's own, its files are those of all tests."""
    if "suites_folder" in request.fixturenames:
        yield load_suite(build_suite(request.getfixturevalue("suites_folder") / "tiny"))
        return
    untouched: Suite = request.getfixturevalue("untouched")
    request.getfixturevalue("_going_on")
    look_in(untouched.folder.parent, monkeypatch, tmp_path / "home")
    before = files_of(untouched)
    yield untouched
    assert files_of(untouched) == before, "take `own_files`, too, where files are changed"


def files_of(suite: Suite) -> dict[Path, tuple[int, int]]:
    """Size and time of every file."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in suite.folder.rglob("*")}


@pytest.fixture
def standing(untouched: Suite, _going_on: None, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The suite ``tiny`` for tests that change no file and ask for no run: what pages have measured of it stays."""
    look_in(untouched.folder.parent, monkeypatch)
    return untouched


@pytest.fixture
def look(standing: Suite) -> Iterator[Callable[..., AppTest]]:
    """:func:`opened`, on a server that goes on from test to test."""
    yield opened
    assert not Workspace(standing.folder.parents[1] / "home").store.all(), "take `tiny` where runs are asked for"


@pytest.fixture(autouse=True)
def launched_workers(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Homes for which a page wanted a worker; none is really started."""
    homes: list[Path] = []
    monkeypatch.setattr("ui.runs.panel._Launcher.ensure", lambda launcher: homes.append(launcher.home))
    return homes


def texts(app: AppTest) -> str:
    """Everything that a page says in words, without the escapes against markdown."""
    parts = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.info, *app.error, *app.warning]
    return re.sub(r"\\(?=[^\w\s])", "", "\n".join(str(element.value) for element in parts))


def links(app: AppTest) -> dict[str, dict[str, list[str]]]:
    """Label of every page link → the query parameters it carries."""
    found = {}
    for element in app.get("page_link"):
        found[element.proto.label] = parse_qs(element.proto.query_string)
    return found
