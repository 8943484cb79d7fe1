"""Jobs on files, carried out by a real worker: queued, reported on, cancelled, and kept apart from merges."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from merging.core.errors import MergingError, RunError
from merging.hub.cache import repository
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.check import CheckJob, check_suite
from merging.runs.jobs.convert import ConvertJob
from merging.runs.jobs.download import DownloadJob
from merging.runs.jobs.file_job import FileJob
from merging.runs.worker.serve import Worker
from merging.runs.workspace import Workspace
from merging.suites import load_suite
from tests.carrying import execute
from tests.fake_hub import FakeHub
from tests.random_models import TASKS, write_yaml
from tests.waiting import until


@pytest.fixture
def hubbed(hub: FakeHub, suite_file: Path, tmp_path: Path) -> Path:
    """A suite with a base and one task on the hub; its suite.yaml."""
    for name in ("base", "roads"):
        hub.files[f"zoo/{name}"] = {"model.safetensors": (suite_file.parent / f"{name}.safetensors").read_bytes()}
    task = {"name": "roads", "checkpoint": {"hub": "zoo/roads"}}
    return write_yaml(tmp_path / "mine", base={"hub": "zoo/base"}, tasks=[task])


def work(workspace: Workspace, job: FileJob) -> Any:
    run = workspace.submit(job)
    Worker(workspace).serve(once=True)
    return workspace.store.get(run.id)


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers


def test_a_worker_downloads_a_suite(workspace: Workspace, hubbed: Path, hub: FakeHub) -> None:
    run = work(workspace, DownloadJob(suite=str(hubbed), tasks=("roads",)))
    assert run.state == "done" and run.result.missing == [] and len(run.result.files) == 2
    suite = load_suite(hubbed)
    assert suite.mergeable() == ("roads",)
    path = suite.path(suite.base)
    assert workspace.store.known_fingerprint(path) == run.result.files[0].digest  # needs no second reading
    assert workspace.store.all() == []  # it is no merge, so the history does not show it
    with pytest.raises(RunError, match="is no merge but a download of"):
        _ = run.spec


def test_a_failed_download_says_why_and_can_be_asked_for_again(
    workspace: Workspace, hubbed: Path, hub: FakeHub
) -> None:
    hub.refused["zoo/base"] = (503, "")
    failed = work(workspace, DownloadJob(suite=str(hubbed)))
    assert failed.state == "failed" and failed.error.startswith("zoo/base: the hub answered 503")
    hub.refused.clear()
    again = workspace.retry(failed.id)
    assert again.job == failed.job and again.state == "queued"
    Worker(workspace).serve(once=True)
    assert workspace.store.get(again.id).state == "done"


def test_a_cancelled_download_stops_and_leaves_no_file(workspace: Workspace, hubbed: Path, hub: FakeHub) -> None:
    hub.files["zoo/base"]["model.safetensors"], hub.drip = bytes(16 * 2**20), 0.02
    run = workspace.submit(DownloadJob(suite=str(hubbed)))
    worker = Worker(workspace)
    worker.start_queued()
    wait(worker, lambda: workspace.store.get(run.id).message.startswith("downloading"))
    workspace.store.cancel(run.id)
    wait(worker, lambda: not worker.children)
    ended = workspace.store.get(run.id)
    assert ended.state == "cancelled" and ended.error == (
        "the download was cancelled; the next one goes on where it stopped"
    )
    assert load_suite(hubbed).mergeable() == ()
    assert [path.suffix for path in repository("zoo/base", "model").rglob("*") if path.is_file()] == [".incomplete"]


def wait(worker: Worker, condition: Callable[[], bool]) -> None:
    """Let a worker work until something is so."""
    until(condition, meanwhile=worker.look_after)


def test_the_check_of_a_worker_is_the_check(workspace: Workspace, own_suite: Path) -> None:
    (own_suite / "roads.safetensors").write_bytes(b"nonsense")
    run = work(workspace, CheckJob(suite=str(own_suite)))
    assert run.state == "done"
    report = run.result.model_copy(update={"label": ""})
    assert report == check_suite(load_suite(own_suite)) and report.problems == 1


def test_a_check_of_the_same_files_is_not_repeated(workspace: Workspace, own_suite: Path) -> None:
    former, present = (CheckJob(suite=str(own_suite), seen=seen) for seen in ("version 1", "version 2"))
    first = workspace.submit(former)
    assert workspace.submit(former).id == first.id
    Worker(workspace).serve(once=True)
    assert workspace.submit(former).id == first.id
    second = workspace.submit(present)
    assert second.id != first.id and workspace.find(former) is None  # forgotten


def test_a_download_that_is_done_can_be_asked_for_again(workspace: Workspace, hubbed: Path, hub: FakeHub) -> None:
    job = DownloadJob(suite=str(hubbed))
    first = work(workspace, job)
    again = workspace.submit(job)
    assert again.id != first.id and again.state == "queued" and workspace.submit(job).id == again.id


def test_pickled_models_are_converted(workspace: Workspace, tmp_path: Path) -> None:
    module = types.ModuleType("src_gone")
    exec("import torch\nclass Head(torch.nn.Linear): pass", module.__dict__)
    sys.modules["src_gone"] = module
    (tmp_path / "in" / "deep").mkdir(parents=True)
    try:
        head = module.Head(4, 3, bias=False)
        head.weight.data = torch.eye(4)[:3] * 20
        torch.save(head, tmp_path / "in" / "deep" / "head_x.pt")
    finally:
        del sys.modules["src_gone"]
    (tmp_path / "in" / "broken.pt").write_bytes(b"nonsense")
    files = ("deep/head_x.pt", "broken.pt")
    run = work(workspace, ConvertJob(folder=str(tmp_path / "in"), output=str(tmp_path / "out"), files=files))
    assert run.state == "done"
    good, broken = run.result.files
    assert good.ok and (good.file, good.output) == ("deep/head_x.pt", "deep/head_x.safetensors")
    assert good.kind == "head" and good.held == "src_gone.Head"
    assert torch.equal(load_file(tmp_path / "out" / "deep" / "head_x.safetensors")["weight"], torch.eye(4)[:3])
    assert broken.file == "broken.pt" and not broken.ok and broken.output is None
    assert "the pickle in it is damaged" in broken.detail
    assert str(tmp_path) not in str(run.result)


def test_jobs_on_files_do_not_wait_for_merges(workspace: Workspace, own_suite: Path) -> None:
    spec = MergeSpec.build(suite=str(own_suite), tasks=TASKS, device="cpu", evaluate=False)
    merge = workspace.submit(spec)
    check = workspace.submit(CheckJob(suite=str(own_suite)))
    other = workspace.submit(DownloadJob(suite=str(own_suite)))
    worker = Worker(workspace)
    worker.start_queued()
    assert {run.id for run in (child.run for child in worker.children.values())} == {merge.id, check.id}
    assert workspace.store.get(other.id).state == "queued"  # one job on files at a time
    worker.serve(once=True)
    assert all(workspace.store.get(run.id).state == "done" for run in (merge, check, other))


def test_a_job_that_stops_between_steps(workspace: Workspace, own_suite: Path) -> None:
    with pytest.raises(MergingError, match="cancelled"):
        execute(CheckJob(suite=str(own_suite)), workspace, cancelled=lambda: True)
    assert execute(CheckJob(suite=str(own_suite)), workspace).problems == 0
