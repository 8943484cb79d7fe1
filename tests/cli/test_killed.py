"""Commands about runs, killed in the middle: what was finished stays, and nothing half-written is shown."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from merging.cli import main
from merging.runs.annotations import annotate
from merging.runs.deleted import deleted_runs
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.jobs import MergeSpec
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.leftovers import clean
from merging.runs.run import Run
from merging.runs.table import RunStore
from tests.killing import again_and_again, command, killed_once

RUNS = 40
ATTEMPTS = 20  # a busy machine may look away while the work is done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Runs with weights, predictions and notes; to be looked at only."""
    import torch

    store = RunStore(tmp_path_factory.mktemp("made"))
    weights = {"w": torch.rand(50_000)}
    for number in range(RUNS):
        spec = MergeSpec.build(suite="/suites/mine/suite.yaml", tasks=("a",), edit="ties", seed=number)
        run, _ = store.take(spec, f"{number:064x}")
        store.folder(run.id).mkdir(parents=True)
        save_file(weights, store.folder(run.id) / KEPT_WEIGHTS)
        store.remember_predictions(f"{number + 1000:064x}", run.id, os.urandom(30_000))
        store.finish(run.id, MergeResult(accuracy={"a": 0.5}, average=0.5, images=9, fingerprints={"base": "b" * 64}))
        annotate(store, run.id, name=f"run {number}", note="*seen*", tags=["kept"], star=True)
    return store


@pytest.fixture(scope="module")
def packed(made: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in a file."""
    file = tmp_path_factory.mktemp("packed") / "lab.zip"
    done("export", file, "--weights", home=made.home)
    return file


@pytest.fixture
def store(packed: Path, tmp_path: Path) -> RunStore:
    """A store of one's own with all of them."""
    done("import", packed, home=tmp_path / "home")
    return RunStore(tmp_path / "home")


def done(*words: object, home: Path) -> str:
    result = CliRunner().invoke(main, ["runs", *map(str, words), "--home", str(home)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def number_in(home: Path, what: str) -> int:
    """Rows of a table as they are now; none before there is one."""
    try:
        with sqlite3.connect(f"file:{home / 'runs.sqlite'}?mode=ro", uri=True) as connection:
            return int(connection.execute(f"select count(*) from {what}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def whole(store: RunStore) -> dict[str, Any]:
    """Id → all that there is of each run: its row, what it predicts, its weights."""

    def of(run: Run) -> tuple[object, ...]:
        key = f"{run.spec.seed + 1000:064x}"
        weights = store.folder(run.id) / KEPT_WEIGHTS
        about = (run.name, run.note, run.tags, run.star, run.state, run.result, run.fingerprint)
        return (*about, store.known_predictions(key, run.id), weights.read_bytes())

    return {run.id: of(run) for run in store.all()}


def attempts(folder: Path) -> Iterator[Path]:
    """A place for each try to kill something in its middle."""
    for number in range(ATTEMPTS):
        place = folder / f"attempt-{number}"
        place.mkdir()
        yield place
    pytest.fail("was never killed in its middle")


def test_export(made: RunStore, tmp_path: Path) -> None:
    for place in attempts(tmp_path):
        file = place / "lab.zip"
        export = command("runs", "export", file, "--weights", "--home", made.home)
        if killed_once(lambda place=place: list(place.glob(".lab.zip.*.tmp")), export):  # type: ignore[misc]
            break
    assert not file.exists() and len(list(place.iterdir())) == 1
    done("export", file, home=made.home)
    assert list(place.iterdir()) == [file]  # what was left is gone
    done("import", file, home=tmp_path / "home")
    assert number_in(tmp_path / "home", "runs") == RUNS


def test_import(made: RunStore, packed: Path, tmp_path: Path) -> None:
    for home in attempts(tmp_path):
        taking = command("runs", "import", packed, "--home", home)
        if killed_once(lambda home=home: number_in(home, "runs") > 2, taking):  # type: ignore[misc]
            break
    store, everything = RunStore(home), whole(made)
    got = whole(store)
    assert 2 < len(got) < RUNS and got.items() <= everything.items()
    clean(store)
    assert not list(home.glob(".*.tmp"))
    assert f"{RUNS - len(got)} run" in done("import", packed, home=home)
    assert whole(store) == everything


def test_delete_and_restore(store: RunStore) -> None:
    before = whole(store)
    delete, restore = (command("runs", what, *before, "--home", store.home) for what in ("delete", "restore"))
    for _ in range(ATTEMPTS):
        if killed_once(lambda: number_in(store.home, "deleted") > 2, delete):
            break
        done("restore", *before, home=store.home)
    gone = {one.id for one in deleted_runs(store)}
    assert 2 < len(gone) < RUNS and set(whole(store)) == set(before) - gone
    done("delete", *set(before) - gone, home=store.home)
    for _ in range(ATTEMPTS):
        if killed_once(lambda: number_in(store.home, "runs") > 2, restore):
            break
        done("delete", *before, home=store.home)
    back = whole(store)
    assert 2 < len(back) < RUNS and back.items() <= before.items()
    done("restore", *before.keys() - back.keys(), home=store.home)
    assert whole(store) == before


def test_remove(store: RunStore, packed: Path) -> None:
    before, folders = whole(store), store.home / "runs"
    for _ in range(ATTEMPTS):
        done("delete", *before, home=store.home)
        remove = command("runs", "remove", "--all", "--home", store.home)
        if killed_once(lambda: len(list(folders.iterdir())) < RUNS - 2, remove):
            break
        done("import", packed, home=store.home)
    left = {one.id for one in deleted_runs(store)}  # whoever looks goes on with one that was half gone
    assert 0 < len(left) < RUNS and left == {folder.name for folder in folders.iterdir()}
    done("restore", *left, home=store.home)
    assert whole(store) == {run: before[run] for run in left}


def test_notes(store: RunStore) -> None:
    run = store.all()[0].id

    def write(number: int) -> None:
        words = ("--name", f"v{number}", "--note", f"v{number}", "--tag", f"v{number}", "--untag", f"v{number - 1}")
        command("runs", "annotate", run, "--home", store.home, *words)()

    assert killed_once(lambda: store.get(run).name > "v3", again_and_again(write))
    found = store.get(run)
    assert found.name == found.note and set(found.tags) == {"kept", found.name}
    assert run in done("list", "--search", found.name, "--tag", found.name, home=store.home)


def test_report(made: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    words = ("runs", "report", *whole(made), "--format", "html", "--output", file, "--home", made.home)
    assert killed_once(file.exists, again_and_again(lambda _: command(*words)()))
    assert file.read_text().endswith("</html>\n")
    command(*words)()
    assert list(tmp_path.iterdir()) == [file]
