"""Runs that the version before results were models has stored, one a kind of job and of ending: they open, and whole.

`former_runs.json` holds rows of its table, of the suite `mini`, as that version wrote them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.runs import Run
from merging.runs.jobs import JobResult, MergeSpec
from merging.runs.jobs.landscape import LandscapeResult
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.listing import unreadable
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace

ROWS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("former_runs.json").read_text(encoding="utf-8"))
DONE = [row for row in ROWS if row["state"] == "done"]


def name(row: dict[str, Any]) -> str:
    return f"{row['spec']['job']}-{row['id'][:4]}"


def put(store: RunStore, row: dict[str, Any]) -> Run:
    """Enter a row as it is."""
    values = {**row, "spec": json.dumps(row["spec"]), "result": json.dumps(row["result"]) if row["result"] else None}
    with store.connect() as connection:
        marks = ", ".join("?" for _ in values)
        connection.execute(f"insert into runs ({', '.join(values)}) values ({marks})", tuple(values.values()))
    return store.get(row["id"])


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "home")


def test_every_kind_is_there() -> None:
    kinds = {row["spec"]["job"] for row in DONE}
    assert kinds == {
        "merge",
        "baselines",
        "disentangle",
        "interference",
        "scaling_curve",
        "landscape",
        "predictions",
        "check",
    }
    assert {row["state"] for row in ROWS} == {"done", "failed", "cancelled", "lost"}


@pytest.mark.parametrize("row", DONE, ids=name)
def test_nothing_of_a_result_is_lost(row: dict[str, Any], store: RunStore) -> None:
    run = put(store, row)
    assert run.result is not None and type(run.result) is run.job.result
    found = run.result.stored()
    assert {key: found[key] for key in row["result"]} == row["result"]


@pytest.mark.parametrize("row", [row for row in DONE if row["spec"]["job"] not in ("check", "predictions")], ids=name)
def test_they_are_found_again(row: dict[str, Any], tmp_path: Path) -> None:
    """The same job on the same files has the same fingerprint as ever."""
    workspace = Workspace(tmp_path / "home")
    run = put(workspace.store, row)
    found = workspace.find(run.job)
    assert found is not None and found.id == row["id"]


def test_merges_alone_are_listed_and_all_are_shown(store: RunStore) -> None:
    for row in ROWS:
        put(store, row)
    merges = [row for row in ROWS if row["spec"]["job"] == "merge"]
    assert {run.id for run in store.all()} == {row["id"] for row in merges} and unreadable(store) == []
    for row in merges:
        shown = CliRunner().invoke(main, ["runs", "show", row["id"], "--home", str(store.home), "--json"])
        assert shown.exit_code == 0 and json.loads(shown.stdout)["result"] == row["result"]
        words = CliRunner().invoke(main, ["runs", "show", row["id"], "--home", str(store.home)])
        assert words.exit_code == 0 and row["state"] in words.stdout.splitlines()[0]


def test_what_first_versions_did_not_store_has_its_default(store: RunStore) -> None:
    row = next(row for row in DONE if row["spec"]["job"] == "merge" and row["result"]["accuracy"])
    first = {"accuracy": row["result"]["accuracy"], "average": row["result"]["average"], "of_old": {"x": 1}}
    spec = {key: value for key, value in row["spec"].items() if key != "job"}
    run = put(store, {**row, "spec": spec, "result": first})
    assert isinstance(run.job, MergeSpec)
    assert run.result == MergeResult(accuracy=first["accuracy"], average=first["average"])
    assert run.merged is not None and run.merged.measured == first["accuracy"]


def test_a_value_of_another_form_counts_as_missing_and_leaves_the_rest(store: RunStore) -> None:
    row = next(row for row in DONE if row["spec"]["job"] == "landscape")
    run = put(store, {**row, "result": {**row["result"], "planes": "gone", "counts": [1, 2]}})
    found = run.result_as(LandscapeResult)
    assert found is not None and found.planes == {} and found.counts == {} and found.axis == row["result"]["axis"]
    assert run.result_as(MergeResult) is None and isinstance(run.result, JobResult)
