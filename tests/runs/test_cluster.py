"""Jobs of every kind on a Dask cluster in this process: what comes back is what is computed here."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import RunError, SpecError, SuiteError
from merging.runs import cluster as cluster_module
from merging.runs.carrying import Carrier, Queue
from merging.runs.cluster import Cluster, lacks_suite
from merging.runs.export.weights import kept_weights
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import Job, MergeSpec, landscape
from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.check import CheckJob
from merging.runs.jobs.convert import ConvertJob
from merging.runs.jobs.disentangle import DisentangleJob
from merging.runs.jobs.download import DownloadJob
from merging.runs.jobs.generalisation import GeneralisationJob
from merging.runs.jobs.interference import InterferenceJob
from merging.runs.jobs.landscape import LandscapeJob
from merging.runs.jobs.predictions import PredictionsJob, evaluator_of, known_predictions
from merging.runs.jobs.robustness import RobustnessJob
from merging.runs.jobs.scaling_curve import ScalingCurveJob
from merging.runs.jobs.subsets import SubsetsJob
from merging.runs.workspace import Workspace
from tests.carrying import execute
from tests.lightly import distributed

TASKS = ("digits", "leaves")
BILL = {"seconds", "peak_bytes"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with one worker, a thread of this process, reached over TCP as any other."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        protocol="tcp",
        host="127.0.0.1",
    ) as started:
        yield started.scheduler_address


@pytest.fixture
def cluster(address: str, workspace: Workspace) -> Iterator[Cluster]:
    """A connection to it."""
    with closing(Cluster(address, workspace.store, "cpu")) as connection:
        yield connection


def spec(suite_file: Path, kind: type[MergeSpec] = MergeSpec, **choices: object) -> MergeSpec:
    return kind.build(suite=str(suite_file), tasks=TASKS, device="cpu", **choices)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MergeSpec, {"edit": "ties"}),
        (BaselinesJob, {}),
        (DisentangleJob, {"edit": "awd"}),
        (InterferenceJob, {}),
        (ScalingCurveJob, {}),
        (LandscapeJob, {"edit": "awd"}),
        (RobustnessJob, {"shifts": ["contrast:5"]}),
        (GeneralisationJob, {"left_out": [TASKS[:1]]}),
        (SubsetsJob, {"subsets": [TASKS[:1], TASKS]}),
    ],
)
def test_a_job_of_any_kind_gives_there_what_it_gives_here(
    kind: type[MergeSpec],
    fields: dict[str, object],
    cluster: Cluster,
    workspace: Workspace,
    suite_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landscape, "STEPS", 3)
    monkeypatch.setattr(landscape, "IMAGES", 9)
    job = spec(suite_file, kind, **fields)
    told: list[tuple[int, int, str]] = []
    run = have_done(job, workspace, cluster, lambda *report: told.append(report))
    assert run.state == "done" and type(run.result) is job.result
    expected = execute(job, Workspace(tmp_path / "here"), keep=tmp_path / "kept.safetensors")
    assert run.result.stored() | dict.fromkeys(BILL) == expected.stored() | dict.fromkeys(BILL) | (
        {"output": "model.safetensors"} if kind is MergeSpec else {}
    )
    assert told[0][2] == "on the cluster"


@pytest.mark.parametrize("who", ["here", "queue", "cluster"])
def test_whoever_carries_jobs_out_is_a_carrier(
    who: str, cluster: Cluster, workspace: Workspace, suite_file: Path
) -> None:
    carriers: dict[str, Carrier] = {"here": Here(workspace), "queue": Queue(workspace.store), "cluster": cluster}
    job = spec(suite_file, evaluate=False)
    carriers[who].submit(job, job.fingerprint(workspace))
    carriers[who].look_after()
    (run,) = workspace.store.all()
    assert run.state in {"here": ("done",), "queue": ("queued",), "cluster": ("running", "done")}[who]


def test_what_waits_for_the_worker_is_taken_over(cluster: Cluster, workspace: Workspace, suite_file: Path) -> None:
    waiting = workspace.submit(spec(suite_file, evaluate=False))
    assert have_done(waiting.job, workspace, cluster).id == waiting.id


@pytest.mark.parametrize("kind", ["predictions", "check", "download", "convert"])
def test_what_needs_this_machine_stays_on_it(
    kind: str, cluster: Cluster, workspace: Workspace, suite_file: Path
) -> None:
    jobs: dict[str, Job] = {
        "predictions": spec(suite_file, PredictionsJob),  # type: ignore[arg-type]
        "check": CheckJob(suite=str(suite_file)),
        "download": DownloadJob(suite=str(suite_file)),
        "convert": ConvertJob(folder=str(suite_file.parent), output=str(suite_file.parent), files=("suite.yaml",)),
    }
    with pytest.raises(RunError, match=r"can't go to a cluster, since .* of this machine; leave out"):
        have_done(jobs[kind], workspace, cluster)
    assert workspace.store.active() == []


def test_a_suite_that_a_worker_lacks_is_named_before_anything_is_sent(
    cluster: Cluster, workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(name: str) -> None:
        raise SuiteError("suite.yaml: no such file")

    monkeypatch.setattr(cluster_module, "load_suite", lost)
    with pytest.raises(RunError) as caught:
        have_done(spec(suite_file), workspace, cluster)
    words = str(caught.value)
    assert words.startswith("1 of 1 workers of the cluster can't carry this out: tcp://127.0.0.1:")
    assert "can't open the suite: suite.yaml: no such file; every machine needs suite 'tiny', under the same" in words
    assert workspace.store.all() == []


def test_models_that_a_worker_lacks_are_named(own_suite: Path, tmp_path: Path) -> None:
    assert lacks_suite(str(own_suite), TASKS) == ""
    (own_suite / "leaves.safetensors").unlink()
    assert lacks_suite(str(own_suite), TASKS) == "lacks the models of leaves"
    assert lacks_suite(str(tmp_path / "nowhere"), TASKS).startswith("can't open the suite: ")


def test_large_weights_stay_there_and_the_result_says_so_while_what_they_predict_comes_back(
    cluster: Cluster, workspace: Workspace, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "FETCHED_BYTES", 10)
    run = have_done(spec(suite_file, edit="ties"), workspace, cluster)
    assert run.merged is not None and "stayed on the cluster" in run.merged.warnings[-1]
    with pytest.raises(RunError, match="weights are gone"):
        kept_weights(run, workspace.store)
    evaluator = evaluator_of(run, workspace)
    labels = {task: evaluator.image_set(task, "test").labels for task in TASKS}
    predicted = known_predictions(run, workspace, evaluator)
    assert {task: (predicted[task] == labels[task]).mean() for task in TASKS} == run.merged.accuracy


def test_merges_from_the_command_line_go_to_a_cluster(address: str, suite_file: Path, tmp_path: Path) -> None:
    def called(home: str, *more: str) -> dict[str, object]:
        settings = ("--edit", "ties", "--tasks", ",".join(TASKS), "--device", "cpu", "--evaluate", "--json")
        output = tmp_path / f"{home}.safetensors"
        where = ("--home", str(tmp_path / home), "--output", str(output))
        result = CliRunner().invoke(main, ["merge", str(suite_file), *settings, *where, *more])
        assert result.exit_code == 0, result.stderr
        return {**json.loads(result.stdout), "bytes": output.read_bytes()}

    there, here = called("there", "--scheduler", address), called("here")
    for name in ("accuracy", "fingerprint", "bytes", "warnings"):
        assert there[name] == here[name]


def test_a_leaderboard_is_made_on_a_cluster(address: str, suite_file: Path, tmp_path: Path) -> None:
    def called(home: str, *more: str) -> list[object]:
        chosen = ("--presets", "average,tsv_m", "--tasks", ",".join(TASKS), "--device", "cpu", "--json")
        command = ["leaderboard", str(suite_file), *chosen, "--home", str(tmp_path / home), *more]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.stderr
        return [(row["method"], row["accuracy"], row["scaling"]) for row in json.loads(result.stdout)["rows"]]

    assert called("there", "--scheduler", address) == called("here")


def test_a_device_that_depends_on_the_machine_is_refused(suite_file: Path, tmp_path: Path) -> None:
    command = ["merge", str(suite_file), "--home", str(tmp_path), "--scheduler", "tcp://127.0.0.1:1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "device 'auto': the machines of a cluster need not be like this one" in result.stderr
    assert [cluster_module.device_there(name) for name in ("cpu", "cuda", "cuda:0")] == ["cpu", "cuda:0", "cuda:0"]
    with pytest.raises(SpecError):
        cluster_module.device_there("cuda:1")
