"""Runs from one machine to another, and files that others wrote."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from merging.core.errors import RunError
from merging.runs.annotations import annotate
from merging.runs.export.weights import KEPT_WEIGHTS, kept_weights
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import View, listing, read_runs
from merging.runs.moved_file import LINES
from merging.runs.moving import export_runs, import_runs
from merging.runs.run import Run
from merging.runs.shipped import shipped_files
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from merging.suites import load_suite

BASE = "b" * 64


def spec(**changes: Any) -> MergeSpec:
    return MergeSpec.build(**{"suite": "/home/ada/mine/suite.yaml", "tasks": ("a", "b"), **changes})


def result(average: float = 0.5, **changes: Any) -> MergeResult:
    accuracy = {"a": average - 0.1, "b": average + 0.1}
    return MergeResult(accuracy=accuracy, average=average, images=20, fingerprints={"base": BASE}, **changes)


def put(store: RunStore, fingerprint: str, job: MergeSpec | None = None, found: MergeResult | None = None) -> Run:
    run = store.submit(job or spec(), fingerprint * 64, person="Ada")
    assert store.claim(run.id)
    store.finish(run.id, found or result())
    return store.get(run.id)


def shipped_only(home: Path) -> RunStore:
    """A store below which lies what comes with suites."""
    return Workspace(home, shipped=shipped_files()).store


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A store on another machine."""
    monkeypatch.setattr("merging.runs.table.platform.node", lambda: "ada-s-desk")
    return RunStore(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "here")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.zip"


def test_a_run_arrives_whole_with_its_machine_and_without_paths(there: RunStore, here: RunStore, file: Path) -> None:
    run = put(there, "1")
    annotate(there, run.id, name="the one", note="*see* table 2", tags=["paper"], star=True)
    there.remember_predictions("c" * 64, run.id, b"\1\0\0\0")
    failed = there.submit(spec(seed=3), "2" * 64)
    there.claim(failed.id)
    there.stop(failed.id, "failed", "bad luck", "last line")
    there.submit(spec(seed=4), "3" * 64)
    assert export_runs(there, file, listing(there)) == 2
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [LINES] and b"/home/ada" not in archive.read(LINES)
    taken = import_runs(here, file)
    assert (sorted(taken.new), taken.known, taken.refused) == (sorted([run.id, failed.id]), 0, [])
    got = here.get(run.id)
    assert (got.machine, got.person, got.name, got.tags, got.star) == ("ada-s-desk", "Ada", "the one", ("paper",), True)
    assert got.result == run.result and got.spec.suite_name == "mine" and got.fingerprint == run.fingerprint
    assert here.known_predictions("c" * 64, run.id) == b"\1\0\0\0"
    assert (here.get(failed.id).error, here.get(failed.id).log) == ("bad luck", "last line")
    assert {one.machine for one in View(machines=("ada-s-desk",)).of(listing(here))} == {"ada-s-desk"}


def test_what_was_done_here_stays_and_a_difference_is_said(there: RunStore, here: RunStore, file: Path) -> None:
    for fingerprint in "12":
        put(there, fingerprint, found=result(0.6))
    same, other = put(here, "1", found=result(0.6)), put(here, "2", found=result(0.5))
    export_runs(there, file, listing(there))
    taken = import_runs(here, file)
    assert (taken.new, taken.known, taken.differing) == ([], 2, [other.id])
    assert {run.id for run in read_runs(here, listing(here))} == {same.id, other.id}
    assert import_runs(there, file).known == 2


def test_a_suite_that_is_here_is_known_by_its_files(
    there: RunStore, here: RunStore, file: Path, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    prints = {"base": suite.base_checkpoint.fingerprint}
    put(there, "1", found=result().model_copy(update={"fingerprints": prints}))
    put(there, "2", job=spec(suite="mini"))
    put(there, "3")
    export_runs(there, file, listing(there))
    taken = import_runs(here, file, {str(suite_file): suite})
    suites = {run.fingerprint[0]: run.spec.suite for run in read_runs(here, listing(here))}
    assert suites == {"1": str(suite_file), "2": "mini", "3": "mine"} and taken.without_suite == 1


def test_suites_that_share_a_base_are_told_apart_by_the_models_of_their_tasks(
    there: RunStore, tmp_path: Path, file: Path
) -> None:
    """As both embedded suites do, whose results come with every home."""
    store = shipped_only(tmp_path)
    came = {run.spec.suite: run for run in read_runs(store, listing(store))}
    for number, run in enumerate(came.values(), 1):
        put(there, str(number), run.spec, run.merged)
    export_runs(there, file, listing(there))
    for home in (shipped_only(tmp_path / "with results"), RunStore(tmp_path / "without")):
        taken = import_runs(home, file)
        assert taken.without_suite == 0 and len(taken.new) == 2
        arrived = [home.get(run_id).spec for run_id in taken.new]
        assert {one.suite: one.tasks for one in arrived} == {
            name: load_suite(name).task_names for name in ("mini", "mini-related")
        }


def test_a_damaged_row_here_does_not_keep_runs_from_coming(there: RunStore, here: RunStore, file: Path) -> None:
    put(there, "1")
    export_runs(there, file, listing(there))
    broken = put(here, "2")
    with here.connect() as connection:
        connection.execute("update runs set spec = 'no JSON' where id = ?", (broken.id,))
    assert len(import_runs(here, file).new) == 1


def test_a_suite_with_other_models_on_the_same_base_is_not_taken_for_it(
    there: RunStore, here: RunStore, file: Path, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    base = suite.base_checkpoint.fingerprint
    first, second = (suite.checkpoint(task).fingerprint for task in suite.task_names[:2])
    job = spec(tasks=suite.task_names[:2])
    accuracy = dict.fromkeys(job.tasks, 0.5)
    for number, prints in enumerate([(first, second), (first, "0" * 64), ("0" * 64, "1" * 64)], 1):
        files = {"base": base, **dict(zip(job.tasks, prints, strict=True))}
        put(there, str(number), job, MergeResult(accuracy=accuracy, average=0.5, images=20, fingerprints=files))
    export_runs(there, file, listing(there))
    taken = import_runs(here, file, {str(suite_file): suite})
    suites = {run.fingerprint[0]: run.spec.suite for run in read_runs(here, listing(here))}
    assert suites == {"1": str(suite_file), "2": "mine", "3": "mine"} and taken.without_suite == 2


def test_weights_travel_when_asked_for(there: RunStore, here: RunStore, file: Path, tmp_path: Path) -> None:
    import torch

    run = put(there, "1", job=spec(edit="ties"))
    there.folder(run.id).mkdir(parents=True)
    save_file({"w": torch.ones(3)}, there.folder(run.id) / KEPT_WEIGHTS)
    export_runs(there, file, listing(there), weights=True)
    import_runs(here, file)
    assert kept_weights(here.get(run.id), here).read_bytes() == kept_weights(run, there).read_bytes()
    with zipfile.ZipFile(file) as archive:
        lines, weights = archive.read(LINES), archive.namelist()[1]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(LINES, lines)
        archive.writestr(weights, b"nonsense")
    elsewhere = RunStore(tmp_path / "elsewhere")
    taken = import_runs(elsewhere, file)
    assert taken.new == [] and "weights are not those that were exported" in taken.refused[0]
    assert listing(elsewhere) == [] and not elsewhere.folder(run.id).exists()


def changed(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write something else into the first run of a file."""
    with zipfile.ZipFile(file) as archive:
        head, line, *_ = archive.read(LINES).splitlines()
    values = json.loads(line)
    change(values)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(LINES, head + b"\n" + json.dumps(values).encode() + b"\n")


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "an id that climbs": ({"id": "../../../etc"}, "id"),
    "a suite that is a path": ({"job": {**json.loads(spec().model_dump_json())}}, "a path"),
    "another kind of job": ({"job": {"job": "download", "suite": "mini"}}, "job"),
    "an unknown method": ({"job": {**json.loads(spec(suite="x").model_dump_json()), "merge": "gone"}}, "gone"),
    "an accuracy above 1": ({"result": {"accuracy": {"a": 1.5, "b": 0.5}, "average": 1.0}}, "between 0 and 1"),
    "an average of other numbers": ({"result": {"accuracy": {"a": 0.5, "b": 0.5}, "average": 0.9}}, "not the mean"),
    "accuracies of other tasks": ({"result": {"accuracy": {"a": 0.5}, "average": 0.5}}, "other tasks"),
    "no result": ({"result": None}, "no result"),
    "predictions that are none": ({"predictions": {"c" * 64: "!!"}}, "predictions"),
    "a note without end": ({"note": "x" * 20_000}, "note"),
    "a time without end": ({"created": 1e300}, "created"),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_line_is_refused_with_the_reason_and_the_others_come(
    how: str, there: RunStore, here: RunStore, file: Path
) -> None:
    put(there, "1")
    export_runs(there, file, listing(there))
    values, reason = FORGED[how]
    changed(file, lambda line: line.update(values))
    taken = import_runs(here, file)
    assert taken.new == [] and listing(here) == []
    assert len(taken.refused) == 1 and reason in taken.refused[0]


def test_forged_predictions_are_not_taken_for_those_of_a_run_of_ones_own(
    there: RunStore, here: RunStore, file: Path
) -> None:
    put(there, "1")
    mine = put(here, "2")
    export_runs(there, file, listing(there))
    changed(file, lambda line: line.update(predictions={"c" * 64: "AQAAAA=="}))
    import_runs(here, file)
    assert here.known_predictions("c" * 64, mine.id) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "not a readable file of runs"),
        ({"other.txt": b"x"}, "without runs.jsonl"),
        ({LINES: b'{"format": "merging runs", "version": 99}\n'}, "not a file of runs of this version"),
        ({LINES: b"[1]\n"}, "not a file of runs"),
        ({LINES: b""}, "not a file of runs"),
    ],
)
def test_what_is_no_file_of_runs_is_refused(
    content: bytes | dict[str, bytes], said: str, here: RunStore, file: Path
) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with pytest.raises(RunError, match=said):
        import_runs(here, file)


def test_a_line_without_end_is_not_read_to_its_end(here: RunStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merging.runs.moved_file.MAX_MOVED_LINE", 1000)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(LINES, b'{"format": "merging runs", "version": 1}\n' + b" " * 10**6)
    with pytest.raises(RunError, match="more than"):
        import_runs(here, file)
