"""A Dask cluster as users start it: `dask scheduler` and `dask worker` by their own commands, from an empty folder.

The processes have environments of their own, some with the package and some without, made as pip leaves them: the
package lies on Python's path by a line in site-packages. Nothing of the tests' own path is handed down.
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from merging import __version__
from merging.core.errors import RunError
from merging.runs.cluster import Cluster
from merging.runs.jobs import MergeSpec
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.sweeps import SweepDefinition, SweepStore, driver
from tests.lightly import distributed
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
STEPS = [10, 11, 12, 13]  # of AdaMerging on the tiny suite, each a trial of some moments
Start = Callable[..., "subprocess.Popen[bytes]"]


def environment(folder: Path, *packages: Path) -> Path:
    """An environment with the libraries of this one, and some packages more; gives its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    lines = [*map(str, packages), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (folder / "lib" / version / "site-packages" / "there.pth").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return python


@pytest.fixture(scope="module")
def with_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package, as ``pip install -e .`` makes it."""
    return environment(tmp_path_factory.mktemp("with"), ROOT)


@pytest.fixture(scope="module")
def without_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has Dask and all other libraries, but not the package."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "merging" / "results").mkdir(parents=True)  # a mere folder of that name is not the package
    return environment(folder / "env", folder)


@pytest.fixture(scope="module")
def with_old_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with another version of the package."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "merging").mkdir()
    (folder / "merging" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    return environment(folder / "env", folder)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``dask …`` with a Python, in an empty folder; all that was started ends with the test."""
    empty, started = tmp_path / "empty", []
    empty.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MERGING"))}

    def run(python: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"dask{len(started)}.log").open("wb") as log:
            command = [str(python), "-m", "dask", *arguments]
            started.append(subprocess.Popen(command, cwd=empty, env=kept, stdout=log, stderr=log))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait(PATIENCE)
    assert list(empty.iterdir()) == []


def scheduler(start: Start, python: Path, folder: Path) -> str:
    """A scheduler on a free port; gives its address."""
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    process = start(python, "scheduler", *options)
    until(lambda: written(file), lambda: process.poll() is None)
    return str(json.loads(file.read_text())["address"])


def written(file: Path) -> bool:
    """Whether all of a JSON file is there; the scheduler writes it in place."""
    try:
        return bool(json.loads(file.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def worker(start: Start, python: Path, address: str, folder: Path, name: str) -> "subprocess.Popen[bytes]":
    """A worker with a name; without a nanny, so that nobody starts it again."""
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name, "--local-directory", str(folder))
    return start(python, "worker", address, *options)


def named(client: Any) -> dict[str, str]:
    """Name of each worker that the scheduler knows → its address."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {row["name"]: address for address, row in workers.items()}


def test_every_trial_is_done_though_a_worker_is_killed_and_others_lack_the_package(
    start: Start,
    with_package: Path,
    without_package: Path,
    with_old_package: Path,
    workspace: Workspace,
    suite_file: Path,
    tmp_path: Path,
) -> None:
    """The scheduler has Dask alone, which is enough; so has a worker that joins late, which is passed by.

    That one, and one with another version, are named before anything else is sent.
    """
    address = scheduler(start, without_package, tmp_path)
    processes = {name: worker(start, with_package, address, tmp_path / name, name) for name in ("one", "two")}
    with distributed.Client(address, set_as_default=False) as client:
        until(lambda: len(named(client)) == 2, lambda: all(one.poll() is None for one in processes.values()))
        kill_one_amid_a_sweep(client, processes, workspace, suite_file)
        with closing(Cluster(address, workspace.store, "cpu")) as cluster:
            late = worker(start, without_package, address, tmp_path / "late", "late")
            pass_by(cluster, client, late, workspace, suite_file)
        worker(start, with_old_package, address, tmp_path / "old", "old")
        until(lambda: len(named(client)) == 3)
        name_the_unfit(named(client), address, Workspace(tmp_path / "another"), suite_file)


def kill_one_amid_a_sweep(
    client: Any, processes: dict[str, "subprocess.Popen[bytes]"], workspace: Workspace, suite_file: Path
) -> None:
    """Kill a worker that has something to do; all trials are done all the same."""
    fields = {
        "suite": str(suite_file),
        "tasks": [["digits", "leaves"]],
        "device": "cpu",
        "parallel": 2,
        "merges": {"adamerging": {"steps": STEPS, "batch_size": [8]}},
    }
    sweep = driver.start(SweepDefinition.model_validate(fields), workspace, client.scheduler.address)
    thread = threading.Thread(target=driver.drive, args=(sweep.id, workspace))
    thread.start()
    struck: set[str] = set()

    def somebody_is_busy() -> bool:
        busy = {address for address, keys in client.processing().items() if keys}
        struck.update(name for name, address in named(client).items() if address in busy)
        return bool(struck)

    until(somebody_is_busy, thread.is_alive)
    name = min(struck)
    processes[name].send_signal(signal.SIGKILL)
    until(lambda: not thread.is_alive())
    assert name not in named(client)
    sweeps = SweepStore(workspace.store)
    assert sweeps.get(sweep.id).state == "done", sweeps.get(sweep.id).error
    states = {trial.settings["merges.adamerging.steps"]: trial.state for trial in sweeps.trials(sweep.id, "trial")}
    assert states == dict.fromkeys(STEPS, "done")
    assert [run.state for run in workspace.store.all()] == ["done"] * 5  # four trials, and the best on test


def pass_by(
    cluster: Cluster, client: Any, late: "subprocess.Popen[bytes]", workspace: Workspace, suite_file: Path
) -> None:
    """With the one fit worker busy, a job waits for it rather than to be done, or to fail, on the idle one."""
    fields = {"suite": str(suite_file), "tasks": ("digits", "leaves"), "device": "cpu"}
    long = MergeSpec.build(**fields, merge="adamerging", merge_params={"steps": 20_000, "batch_size": 2})
    short = MergeSpec.build(**fields, merge="average")

    def state(spec: MergeSpec) -> Run:
        cluster.look_after()
        found = workspace.find(spec)
        assert found is not None
        return found

    cluster.submit(long, long.fingerprint(workspace))
    until(lambda: state(long).done > 0)  # progress comes back
    until(lambda: "left out" in state(long).message, lambda: late.poll() is None)
    assert state(long).message.endswith(f"left out: {named(client)['late']} lacks the package merging")
    cluster.submit(short, short.fingerprint(workspace))
    until(lambda: named(client)["late"] in {address for address, keys in client.processing().items() if keys})
    assert state(short).active
    workspace.store.cancel(state(long).id)
    until(lambda: not state(short).active)
    assert (state(short).state, state(long).state) == ("done", "cancelled")


def name_the_unfit(where: dict[str, str], address: str, workspace: Workspace, suite_file: Path) -> None:
    """With one fit worker, one without the package and one with an old one, a sweep fails at once, and says why."""
    (fit,) = where.keys() - {"late", "old"}
    fields = {
        "suite": str(suite_file),
        "tasks": [["digits", "leaves"]],
        "device": "cpu",
        "merges": {"task_arithmetic": {"scaling": [0.3]}},
    }
    sweep = driver.start(SweepDefinition.model_validate(fields), workspace, address)
    driver.drive(sweep.id, workspace)
    ended = SweepStore(workspace.store).get(sweep.id)
    assert ended.state == "failed" and ended.error is not None
    assert ended.error.startswith("2 of 3 workers of the cluster can't carry this out: ")
    assert f"{where['late']} lacks the package merging" in ended.error
    assert f"{where['old']} has version 0.0.1 of the package merging, expected {__version__}" in ended.error
    assert where[fit] not in ended.error and "pip install '.[cluster]'" in ended.error
    assert workspace.store.all() == []
    with pytest.raises(RunError, match="2 of 3 workers"), closing(Cluster(address, workspace.store, "cpu")):
        pass
