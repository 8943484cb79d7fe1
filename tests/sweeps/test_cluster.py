"""Sweeps on a real Dask cluster of worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from merging.core.progress import no_progress
from merging.runs.export.export import export_run
from merging.runs.export.recipe import weights_sha256
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.sweeps import SweepDefinition, SweepStore, driver
from tests.lightly import distributed
from tests.waiting import until

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

# What workers use: also open_clip, which this module here loads.
PRELOADED = ["distributed", "merging.runs.cluster", "tests.random_models"]
STEPS = [20, 25, 30, 35]  # AdaMerging on the tiny suite for some seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two worker processes, each started again by its nanny if it dies.

    They are copies of a process that has loaded what they need. Workers started by their own command are tried in
    ``test_cluster_machines.py``. Tests of the dashboard leave Streamlit's script behind as the main module, which new
    processes would run first.
    """
    import dask
    import distributed  # whose settings must be there before one is set for a while

    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
    ):
        patch.setattr("distributed.utils._forkserver_preload_set", True)  # else Dask has other things loaded
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            local_directory=str(tmp_path_factory.mktemp("scratch")),
            silence_logs=50,
        ) as started:
            yield started
    sys.modules["__main__"] = main


def defined(suite_file: Path, **changes: Any) -> SweepDefinition:
    fields = {
        "suite": str(suite_file),
        "tasks": [["digits", "leaves"]],
        "device": "cpu",
        "parallel": 2,
        "merges": {"adamerging": {"steps": STEPS, "batch_size": [8]}},
        **changes,
    }
    return SweepDefinition.model_validate(fields)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A view of the cluster once both workers are there: one that a test before has killed has to start first."""
    with distributed.Client(cluster, set_as_default=False) as seen:
        until(lambda: len(addresses(seen)) == 2)
        yield seen


def addresses(client: Client) -> set[str]:
    """The workers that the scheduler knows of."""
    return set(client.scheduler_info(n_workers=-1)["workers"])


def at_work(client: Client) -> dict[str, str]:
    """Address of every worker that is really computing → the key of what was given to it.

    Asked of each worker, so one that is gone, or about to be, is left out and not waited for.
    """
    computing = client.run(busy, on_error="ignore")
    given = {address: keys for address, keys in client.processing().items() if keys}
    return {address: str(keys[0]) for address, keys in given.items() if computing.get(address)}


def kill_one_at_work(client: Client) -> str:
    """Kill a worker that is computing, and wait until the scheduler knows; gives the key of what it was doing."""
    found: dict[str, str] = {}
    until(lambda: found.update(at_work(client)) or found)
    address, key = next(iter(found.items()))
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
    until(lambda: address not in addresses(client))
    return key


def test_a_killed_worker_s_trial_is_retried_and_every_result_is_stored_once(
    cluster: LocalCluster, client: Client, workspace: Workspace, suite_file: Path
) -> None:
    assert os.getpid() not in client.run(os.getpid).values()
    sweep = driver.start(defined(suite_file), workspace, cluster.scheduler_address)
    sweeps = SweepStore(workspace.store)
    thread = threading.Thread(target=driver.drive, args=(sweep.id, workspace))
    thread.start()
    key = kill_one_at_work(client)
    until(lambda: not thread.is_alive())
    assert sweeps.get(sweep.id).state == "done", sweeps.get(sweep.id).error
    struck = workspace.store.get(key.removeprefix("merging-"))
    assert struck.state == "done" and struck.result is not None
    runs = workspace.store.all()
    assert [run.state for run in runs] == ["done"] * 5  # four trials, and the best on test
    assert len({run.fingerprint for run in runs}) == 5
    trials = sweeps.trials(sweep.id, "trial")
    assert [trial.settings["merges.adamerging.steps"] for trial in trials] == STEPS
    assert all(trial.state == "done" and trial.value is not None for trial in trials)
    here = run_here(struck.spec, Workspace(workspace.home.parent / "here"), None, no_progress)
    assert here.result is not None and here.result.accuracy == struck.result.accuracy


def test_cancelling_stops_what_runs_on_the_cluster(
    cluster: LocalCluster, client: Client, workspace: Workspace, suite_file: Path
) -> None:
    merges = {"adamerging": {"steps": [20_000, 19_999, 19_998], "batch_size": [2]}}
    sweep = driver.start(defined(suite_file, merges=merges), workspace, cluster.scheduler_address)
    thread = threading.Thread(target=driver.drive, args=(sweep.id, workspace))
    thread.start()
    until(lambda: len(at_work(client)) == 2)
    driver.cancel(sweep.id, workspace)
    until(lambda: not thread.is_alive())
    until(lambda: not any(client.run(busy).values()))
    assert SweepStore(workspace.store).get(sweep.id).state == "cancelled"
    assert [run.state for run in workspace.store.all()] == ["cancelled"] * 2


def test_small_weights_that_no_table_rebuilds_come_back(
    cluster: LocalCluster, workspace: Workspace, suite_file: Path, tmp_path: Path
) -> None:
    merges = {"iso_c": {"scaling": [0.9]}}
    sweep = driver.start(defined(suite_file, merges=merges), workspace, cluster.scheduler_address)
    driver.drive(sweep.id, workspace)
    (test,) = SweepStore(workspace.store).trials(sweep.id, "test")
    run = workspace.store.get(str(test.run))
    export_run(run, workspace, tmp_path / "export")
    here = Workspace(workspace.home.parent / "here")
    run_here(run.spec, here, tmp_path / "here.safetensors", lambda *_: None)
    assert weights_sha256(tmp_path / "export" / "model.safetensors") == weights_sha256(tmp_path / "here.safetensors")
    assert [path.parent.name for path in workspace.home.rglob("model.safetensors")] == [run.id]  # not the trial's


def busy(dask_worker: Any) -> int:
    """Tasks that a worker of the cluster is really computing."""
    return len(dask_worker.active_threads)


def test_a_refused_run_fails_its_trial_with_the_reason(
    cluster: LocalCluster, workspace: Workspace, own_suite: Path
) -> None:
    """The files change between asking and doing: the worker of the cluster notices."""
    sweep = driver.start(defined(own_suite / "suite.yaml", parallel=1), workspace, cluster.scheduler_address)
    submit = driver.Driver._submit

    def change(self: driver.Driver, trial: Any) -> None:
        (own_suite / "leaves.safetensors").write_bytes((own_suite / "roads.safetensors").read_bytes())
        submit(self, trial)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(driver.Driver, "_submit", change)
        driver.drive(sweep.id, workspace)
    sweeps = SweepStore(workspace.store)
    assert "have changed since this sweep" in str(sweeps.get(sweep.id).error)
    assert "have changed since this run" in str(sweeps.trials(sweep.id)[0].error)


def test_without_a_scheduler_or_a_gpu_the_sweep_says_so(
    cluster: LocalCluster, workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = SweepStore(workspace.store)
    sweep = driver.start(defined(suite_file, device="cuda"), workspace, cluster.scheduler_address)
    driver.drive(sweep.id, workspace)
    assert "none of the 2 workers of the cluster offers a GPU" in str(sweeps.get(sweep.id).error)
    monkeypatch.setattr("merging.runs.cluster._ANSWER_SECONDS", 1)
    sweep = driver.start(defined(suite_file, seed=1), workspace, "tcp://127.0.0.1:1")
    driver.drive(sweep.id, workspace)
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in str(sweeps.get(sweep.id).error)


GPUS_LEFT: list[float] = []


def look_at_resources(
    spec: str, fingerprint: str, run_id: str, topic: str
) -> tuple[dict[str, Any], None, dict[str, bytes]]:
    """In place of a run: how many GPUs its worker has left for others meanwhile."""
    GPUS_LEFT.append(distributed.get_worker().state.available_resources["GPU"])
    split = MergeSpec.model_validate_json(spec).split
    return {"accuracy": {"digits": 0.5}, "average": 0.5, "split": split}, None, {}


def test_a_trial_on_a_gpu_takes_one_from_its_worker(
    workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.runs.cluster.carry_out_on_worker", look_at_resources)
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        protocol="tcp",
        host="127.0.0.1",
        resources={"GPU": 1},
    ) as one:
        sweep = driver.start(defined(suite_file, device="cuda"), workspace, one.scheduler_address)
        driver.drive(sweep.id, workspace)
    found = SweepStore(workspace.store)
    assert found.get(sweep.id).state == "done", found.get(sweep.id).error
    assert GPUS_LEFT == [0] * 5
