"""The table of runs on the command line: found, written about, deleted and had back, moved."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from merging.cli import main
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.table import RunStore
from tests.random_models import TASKS

METHODS = ("task_arithmetic", "average", "tsv_m", "iso_c")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Four finished runs, the oldest first in :data:`METHODS`, each better than the one before."""
    store = RunStore(tmp_path / "home")
    for number, method in enumerate(METHODS):
        spec = MergeSpec.build(
            suite=f"/suites/{'even' if number % 2 == 0 else 'odd'}/suite.yaml", tasks=("a",), merge=method
        )
        run, _ = store.take(spec, f"{number:064x}")
        accuracy = 0.5 + number / 10
        prints = {"base": "b" * 64}
        store.finish(run.id, MergeResult(accuracy={"a": accuracy}, average=accuracy, fingerprints=prints))
    return store.home


def call(*arguments: object, home: Path, said: str = "") -> Result:
    return CliRunner().invoke(main, ["runs", *map(str, arguments), "--home", str(home)], input=said)


def found(*arguments: object, home: Path) -> Any:
    result = call(*arguments, "--json", home=home)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_jobs_that_no_list_shows_are_counted_where_there_are_no_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "home")
    assert "other kinds" not in call("list", home=store.home).output
    store.submit(BaselinesJob.build(suite="tiny", tasks=("a",), split="test", device="cpu"), "f")
    assert "no runs yet" in (said := call("list", home=store.home).output) and "1 job of other kinds" in said


def methods(*arguments: object, home: Path) -> list[str]:
    """The methods that a list names, as numbers of :data:`METHODS`."""
    labels = {RunStore(home).get(run["run"]).spec.merge for run in found("list", *arguments, home=home)["runs"]}
    assert labels <= set(METHODS)
    return [RunStore(home).get(run["run"]).spec.merge for run in found("list", *arguments, home=home)["runs"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], METHODS[::-1]),
        (["--sort", "oldest"], METHODS),
        (["--sort", "best"], METHODS[::-1]),
        (["--suite", "odd"], METHODS[3::-2]),
        (["--suite", "odd", "--suite", "even", "--search", "iso"], METHODS[3:]),
        (["--state", "failed"], ()),
        (["--method", "Weight averaging"], METHODS[1:2]),
        (["--since", "1h"], METHODS[::-1]),
        (["--since", "2100-01-01"], ()),
        (["--limit", "2"], METHODS[:1:-1]),
        (["--machine", "elsewhere"], ()),
    ],
)
def test_runs_are_found(options: list[str], expected: tuple[str, ...], home: Path) -> None:
    assert methods(*options, home=home) == list(expected)


def test_what_a_list_leaves_out_is_counted(home: Path) -> None:
    assert "the first 3 of 4 runs; --limit 0 lists all of them" in call("list", "--limit", 3, home=home).stdout
    assert "of 4 runs" not in call("list", home=home).stdout
    assert "none of 4 runs is so" in call("list", "--search", "nothing like it", home=home).stdout
    assert "expected 7d" in call("list", "--since", "soon", home=home).stderr


def test_names_notes_tags_and_stars_are_kept_and_searched(home: Path) -> None:
    run, other = (row["run"] for row in found("list", "--limit", 2, home=home)["runs"])
    row = found("annotate", run, "--name", "the one", "--tag", "paper,table 2", "--star", home=home)
    assert (row["name"], row["tags"], row["star"]) == ("the one", ["paper", "table 2"], True)
    assert call("annotate", run, "--note", "-", home=home, said="worth *looking* at\n").exit_code == 0
    row = found("annotate", run, "--untag", "PAPER", home=home)
    assert (row["tags"], row["note"], row["name"]) == (["table 2"], "worth *looking* at", "the one")
    for options in (["--star"], ["--tag", "table 2"], ["--search", "looking the"]):
        assert [one["run"] for one in found("list", *options, home=home)["runs"]] == [run]
    assert f"{run} ★" in call("list", home=home).stdout and "the one" in call("show", run, home=home).stdout
    assert not found("annotate", run, "--no-star", "--name", "", home=home)["star"]
    refused = call("annotate", other, "--name", "x" * 200, home=home)
    assert refused.exit_code == 1 and "at most 120 are kept" in refused.stderr
    assert found("show", other, home=home)["name"] == ""


def test_deleted_runs_are_listed_and_had_back(home: Path) -> None:
    first, second = (row["run"] for row in found("list", "--limit", 2, home=home)["runs"])
    assert found("delete", first, second[:8], home=home) == {"deleted": [first, second]}
    assert len(found("list", home=home)["runs"]) == 2
    assert {row["id"] for row in found("restore", home=home)["deleted"]} == {first, second}
    assert first in call("restore", home=home).stdout
    assert found("restore", first, home=home) == {"restored": [first]}
    assert len(found("list", home=home)["runs"]) == 3
    again = call("restore", first, home=home)
    assert again.exit_code == 1 and "can be restored" in again.stderr
    assert found("usage", home=home)["table"] > 0


def test_deleted_runs_are_removed_for_good(home: Path) -> None:
    first, second, third = (row["run"] for row in found("list", "--limit", 3, home=home)["runs"])
    found("delete", first, second, home=home)
    alive = call("remove", third, home=home)
    assert alive.exit_code == 1 and "removed for good" in alive.stderr  # what was not deleted can't be
    assert call("remove", home=home).exit_code == call("remove", first, "--all", home=home).exit_code == 2
    assert found("remove", second[:8], home=home)["removed"] == [second]
    assert found("remove", "--all", home=home)["removed"] == [first]
    assert found("restore", home=home) == {"deleted": []} and found("show", third, home=home)["run"] == third


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("unexpected KeyError: 'x'", "Nobody foresaw this error"),
        ("the process that carried out the run died (signal 9, perhaps out of memory)", "fewer tasks"),
        ("digits.safetensors: is missing; get it with ...", ""),
    ],
)
def test_a_failed_run_says_what_to_do_and_is_queued_again(
    error: str, advice: str, suite_file: Path, tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "fresh")
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, device="cpu")
    run, _ = store.take(spec, "f")
    store.stop(run.id, "failed", error, "its last line")
    said = call("show", run.id, home=store.home).stdout
    assert "its last line" in said and (advice in said if advice else "Nobody" not in said and "memory" not in said)
    assert f"merging runs again {run.id[:6]}" in said
    again = found("again", run.id, home=store.home)
    assert again["state"] == "queued" and again["run"] != run.id and store.get(run.id).state == "failed"
    assert call("again", again["run"], home=store.home).exit_code == 1


def test_what_waits_or_runs_is_cancelled_and_nothing_else(home: Path) -> None:
    store = RunStore(home)
    spec = MergeSpec.build(suite="/suites/even/suite.yaml", tasks=("a",), merge="wudi")
    running, _ = store.take(spec, "e" * 64)
    waiting = store.submit(spec, "f" * 64)
    assert found("cancel", waiting.id, home=home)["state"] == "cancelled"
    assert "stops once" in call("cancel", running.id, home=home).stdout
    assert store.get(running.id).state == "running" and store.get(running.id).cancel_asked
    again = call("cancel", waiting.id, home=home)
    assert again.exit_code == 1 and "is cancelled; only what waits" in again.stderr


def test_chosen_runs_are_exported_and_imported(home: Path, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "odd.zip", tmp_path / "elsewhere"
    assert found("export", file, "--suite", "odd", home=home)["runs"] == 2
    taken = found("import", file, home=elsewhere)
    assert len(taken["new"]) == 2 and methods(home=elsewhere) == list(METHODS[3::-2])
    assert "2 runs were here already" in call("import", file, home=elsewhere).stdout
    run = found("list", "--limit", 1, home=home)["runs"][0]["run"]
    before = file.read_bytes()
    there = call("export", file, "--run", run, home=home)
    assert there.exit_code == 1 and "odd.zip is there already; nothing was written; --force" in there.stderr
    assert file.read_bytes() == before
    assert "1 run," in call("export", file, "--run", run, "--force", home=home).stdout
    file.write_bytes(b"nonsense")
    refused = call("import", file, home=elsewhere)
    assert refused.exit_code == 1 and "not a readable file of runs" in refused.stderr
    of_a_file = (("--weights",), ("--tag", "x"), ("--force",))
    for odd in (("odd.zip", "--dtype", "float16"), *((run, "folder", *options) for options in of_a_file)):
        assert call("export", *odd, home=home).exit_code == 2
    nothing = call("export", tmp_path / "none.zip", "--state", "failed", home=home)
    assert nothing.exit_code == 1 and not (tmp_path / "none.zip").exists()
