"""Fixtures shared by all tests.

What takes seconds to import is imported where it is needed: pytest-xdist's first process reads this file, and only
then starts those that test.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when torch is loaded, and by the processes that tests start; torch.set_num_threads speaks to its own thread only,
# and pages are drawn in others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MERGING_METHODS", None)  # those of whoever runs the tests
# Workers have torch count GPUs in a way that lets them fork; where there are none it looks for them for nothing.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "0")

import pytest

# Modules and tests make so many objects that looking for garbage among them takes a twentieth of the time.
gc.set_threshold(100_000)

_BROWSER = "tests/browser/"
_FEW_MODULES, _FEW_TESTS = 20, 100
_looked_through = 0  # modules whose objects are not looked through for garbage any more
_tests_since = 0  # which each leave a hundred objects with pytest
_IN_MEMORY = Path("/dev/shm")
_ROOM = 8 * 2**30  # bytes; all tests together write an eighth of it
# What takes longest, in the order in which it is begun; all else follows by name.
_LONGEST = (
    _BROWSER,
    "tests/sweeps/test_driver.py",
    "tests/methods/test_properties.py",
    "tests/runs/jobs/test_merge.py",
    "tests/runs/export/",
    "tests/install/",
    "tests/sweeps/test_cluster.py",
    "tests/app/",
    "tests/examples/",
    "tests/methods/test_plan.py",
)

if TYPE_CHECKING:
    import torch

    from merging.evaluation.evaluator import Evaluator
    from merging.methods.context import Context
    from merging.runs.workspace import Workspace
    from merging.suites import Suite
    from merging.weights.vectors import TaskVectors
    from tests.fake_hub import FakeHub


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """How many examples hypothesis draws; ``--hypothesis-profile thorough`` draws more, and others each time."""
    _keep_files_in_memory()
    alone = not config.getoption("numprocesses", None) or "PYTEST_XDIST_WORKER" in os.environ
    if not alone and not config.getoption("--hypothesis-profile", None):
        return  # the first process of several, which tests nothing itself
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "project",
        deadline=None,
        max_examples=30,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    settings.register_profile("thorough", parent=settings.get_profile("project"), max_examples=500, derandomize=False)
    settings.register_profile(  # `make fuzz`: what takes seconds hangs for somebody who sends worse
        "fuzz", parent=settings.get_profile("thorough"), max_examples=5000, deadline=10_000, print_blob=True
    )
    settings.load_profile("project")


def _keep_files_in_memory() -> None:
    """Let folders of tests lie in memory where there is plenty: on a disk, making files takes a tenth of all time."""
    with suppress(OSError):
        if os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Each of several processes begins with other files, so that no two compile the same while nothing is compiled."""
    number, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0))
    here = Path(__file__).parent
    if not number or collector.path != here or sys.dont_write_bytecode:
        return
    if collector.config.args != [here.name]:  # as `make test` has it; others wait for their few files alone
        return
    files = sorted(here.rglob("test_*.py"))
    start = int(number.removeprefix("gw")) * len(files) // count
    for path in [*files[start:], *files[:start]]:
        with suppress(Exception):  # it is imported again by who says what is wrong with it
            importlib.import_module(".".join(path.relative_to(here.parent).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that no process is left with them when all others have ended."""

    def place(item: pytest.Item) -> int:
        return next((rank for rank, name in enumerate(_LONGEST) if item.nodeid.startswith(name)), len(_LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: tests in browsers, and those of workers, wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file are one process's, for what they share; all in browsers are one's, for its one dashboard.

    ``--dist loadgroup`` would do it with marks, but pytest-xdist 3.8 can't tell pytest 9.2 of them.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Grouped(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _BROWSER if nodeid.startswith(_BROWSER) else str(super()._split_scope(nodeid))

    return Grouped(config, log)


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> Iterator[Callable[[], int]]:
    """Tiny tensors are not worth threads: on a busy machine threads that wait for each other cost tenfold.

    How many there are is asked again and again, each time in a thread that is made for it.
    """
    import torch

    from merging.core import streaming

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        asked = streaming.threads
        patch.setattr(streaming, "threads", lambda: 1)
        yield asked


@pytest.fixture
def three_threads(_few_threads: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch works with three threads, whatever the machine has."""
    import torch

    monkeypatch.setattr("merging.core.streaming.threads", _few_threads)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> Iterator[None]:
    """That tables of runs outlive a loss of power is SQLite's to test, and most of what a small transaction takes."""
    connect = sqlite3.connect

    def hasty(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.execute("pragma synchronous = off")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", hasty)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nobody_looks_only_now_and_then() -> Iterator[None]:
    """Whoever waits for runs looks some times a second; tests with many runs would spend most of their time so."""
    from merging.runs import foreground
    from merging.runs.worker import serve
    from merging.sweeps import driver
    from merging.sweeps import foreground as sweep_here

    with pytest.MonkeyPatch.context() as patch:
        for module in (serve, driver):
            patch.setattr(module, "POLL_SECONDS", 0.03)
        for module in (foreground, sweep_here):
            patch.setattr(module, "_POLL_SECONDS", 0.03)
        yield


@pytest.fixture(autouse=True)
def _what_is_imported_is_no_garbage() -> None:
    """Jobs and Streamlit look for garbage after each run: among a million objects of libraries that took most of it."""
    global _looked_through, _tests_since
    _tests_since += 1
    # Some modules are loaded only when they are first needed.
    if len(sys.modules) > _looked_through + _FEW_MODULES or _tests_since > _FEW_TESTS:
        gc.collect()
        gc.freeze()
        _looked_through, _tests_since = len(sys.modules), 0


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every kind of device; those that this machine lacks are skipped."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return torch.device(request.param, 0) if request.param == "cuda" else torch.device("cpu")


@pytest.fixture
def vectors(tmp_path: Path) -> TaskVectors:
    """Three random task vectors of a few hundred weights."""
    from tests.random_models import random_vectors

    return random_vectors(tmp_path / "models")


@pytest.fixture
def make_vectors(tmp_path: Path) -> Callable[..., TaskVectors]:
    """Random task vectors with choices, each call in a folder of its own."""
    from tests.random_models import random_vectors

    made = 0

    def make(**choices: object) -> TaskVectors:
        nonlocal made
        made += 1
        return random_vectors(tmp_path / f"models{made}", **choices)

    return make


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``suite.yaml`` of a complete tiny suite that no test changes."""
    from tests.random_models import write_suite

    return write_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="session")
def suite(suite_file: Path) -> Suite:
    """The tiny suite."""
    from merging.suites import load_suite

    return load_suite(suite_file)


@pytest.fixture
def own_suite(suite_file: Path, tmp_path: Path) -> Path:
    """A copy of the tiny suite's folder that a test may damage."""
    folder = tmp_path / "suite"
    shutil.copytree(suite_file.parent, folder)
    return folder


@pytest.fixture
def evaluator(suite: Suite) -> Evaluator:
    """A fresh evaluator of the tiny suite on the CPU."""
    from merging.evaluation.evaluator import Evaluator

    return Evaluator(suite)


@pytest.fixture
def context(evaluator: Evaluator) -> Context:
    """A context whose methods may look at images."""
    from merging.methods.context import Context

    return Context(evaluator=evaluator)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace."""
    from merging.runs.workspace import Workspace

    space = Workspace(tmp_path / "home")
    with space.store.kept_open():
        yield space


@pytest.fixture
def few_scalings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who chooses λ on validation tries every fifth value, where it is of no interest how finely."""
    from merging.methods import scaling

    whole = scaling.search_grid
    monkeypatch.setattr(scaling, "search_grid", lambda grid, *given: whole(grid[::5], *given))


@pytest.fixture
def own_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder from which methods of one's own come, once somebody calls ``own.refresh()``."""
    from merging.methods import own

    folder = tmp_path / "methods"
    folder.mkdir()
    monkeypatch.setenv("MERGING_METHODS", str(folder))
    yield folder
    monkeypatch.delenv("MERGING_METHODS", raising=False)  # a test may have undone it
    own.refresh()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An empty Hugging Face hub on this machine, and an empty cache of it."""
    import huggingface_hub

    from tests.fake_hub import serving

    with serving() as hub:
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr("merging.hub.transfer._PAUSE", 0.0)
        yield hub
