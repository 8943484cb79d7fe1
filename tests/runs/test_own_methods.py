"""Runs, exports, sweeps, workers and clusters with methods of one's own: never with a source that nobody asked for."""

import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from merging.cli import main
from merging.core.errors import MergingError, SpecError
from merging.core.progress import no_progress
from merging.methods import own
from merging.runs.cluster import lacks_methods
from merging.runs.export.export import export_run
from merging.runs.export.recipe import read_recipe, replay
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.listing import unreadable
from merging.runs.run import Run
from merging.runs.worker.serve import Worker, make_way
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.sweeps import SweepDefinition, SweepStore, driver
from merging.sweeps.driver import SweepDrivers
from tests.own_methods import method, write
from tests.sweeps.by_hand import ByHand, to_the_end

LABEL = "Mine (earlier version)"


def spec(suite_file: Path, **choices: object) -> MergeSpec:
    fields = {"tasks": ("digits", "leaves"), "device": "cpu", "merge": "mine", "evaluate": False, **choices}
    return MergeSpec.build(suite=str(suite_file), **fields)


def run_of(suite_file: Path, workspace: Workspace) -> Run:
    return run_here(spec(suite_file), workspace, None, no_progress)


def test_an_edited_file_makes_a_new_run_and_marks_the_earlier_one(
    own_methods: Path, suite_file: Path, workspace: Workspace
) -> None:
    write(own_methods, "mine.py", method())
    first = run_of(suite_file, workspace)
    assert first.merged is not None and first.merged.sources == {"merge": own.stamp()}
    assert run_of(suite_file, workspace).id == first.id and (first.label, first.warnings) == ("Mine", [])
    write(own_methods, "mine.py", method(factor=2))
    second = run_of(suite_file, workspace)
    assert second.id != first.id and second.label == "Mine"
    earlier = workspace.store.get(first.id)
    assert earlier.label == LABEL and "earlier version of Mine, with another content of mine.py" in earlier.warnings[0]
    (own_methods / "mine.py").unlink()
    own.refresh()
    damaged = unreadable(workspace.store)
    assert [one.id for one in damaged] == [second.id, first.id]
    assert "unknown merge 'mine'" in damaged[0].reason and "name its file with --methods" in damaged[0].reason


def test_a_built_in_run_says_nothing_of_sources(suite_file: Path, workspace: Workspace) -> None:
    run = run_here(spec(suite_file, merge="task_arithmetic"), workspace, None, no_progress)
    assert run.merged is not None and run.merged.sources is None


def test_a_recipe_is_replayed_with_the_very_source_alone(
    own_methods: Path, suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path
) -> None:
    path = write(own_methods, "mine.py", method())
    export_run(run_of(suite_file, workspace), workspace, tmp_path / "out")
    file = tmp_path / "out" / "recipe.yaml"
    recipe = read_recipe(file)
    assert recipe.sources == {"merge": own.stamp()} and own.stamp() in (tmp_path / "out" / "README.md").read_text()
    shown = CliRunner().invoke(main, ["runs", "show", recipe.run, "--home", str(workspace.home)]).stdout
    assert f"merge mine (much = 0.5), a method of your own, SHA-256 {own.stamp()[:12]}\n" in shown

    def again() -> bool:
        return replay(recipe, suite, Workspace(tmp_path / "elsewhere"), tmp_path / "again.safetensors").identical

    assert again()
    text = path.read_text()
    write(own_methods, "mine.py", method(factor=2))
    with pytest.raises(SpecError, match=r"'mine' is a method of its author's own.*mine\.py holds another"):
        again()
    path.unlink()
    own.refresh()
    with pytest.raises(SpecError, match=r"'mine' is a method of its author's own, .* it is not here; name the file"):
        again()
    path.write_text(text)
    own.refresh()
    assert again()
    content = yaml.safe_load(file.read_text())
    del content["sources"]
    file.write_text(yaml.safe_dump(content))
    recipe = read_recipe(file)
    with pytest.raises(SpecError, match="says nothing of the source of its merge 'mine'"):
        again()


def test_a_recipe_of_a_built_in_method_names_no_source(suite_file: Path, workspace: Workspace, tmp_path: Path) -> None:
    export_run(run_here(spec(suite_file, merge="average"), workspace, None, no_progress), workspace, tmp_path / "out")
    assert "sources" not in (tmp_path / "out" / "recipe.yaml").read_text()


def test_a_worker_runs_the_file_as_it_is_and_refuses_what_was_asked_for_with_another(
    own_methods: Path, suite_file: Path, workspace: Workspace
) -> None:
    write(own_methods, "mine.py", method())
    stale = workspace.submit(spec(suite_file))
    text = (own_methods / "mine.py").read_text()
    (own_methods / "mine.py").write_text(text.replace("1.0 * params", "2.0 * params"))  # nobody here looks again
    Worker(workspace).serve(once=True)
    found = workspace.store.get(stale.id)
    assert found.state == "failed" and "those of its methods of your own, have changed since" in (found.error or "")
    fresh = workspace.submit(spec(suite_file))
    Worker(workspace).serve(once=True)
    assert workspace.store.get(fresh.id).state == "done" and fresh.id != stale.id


def test_a_worker_makes_way_for_one_that_takes_methods_from_more_places(
    own_methods: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, looked = Worker(workspace), 0

    def somebody_else(more: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("MERGING_METHODS", f"{own_methods}{os.pathsep}{own_methods.parent}" if more else "")
            make_way(workspace.home)

    def until() -> bool:
        nonlocal looked
        looked += 1
        assert looked < 100
        somebody_else(looked > 2)  # who has none of one's own needs no other worker
        return False

    worker.serve(until=until)
    assert looked == 3


def test_a_sweep_of_an_edited_method_is_another_one(own_methods: Path, suite_file: Path, workspace: Workspace) -> None:
    write(own_methods, "mine.py", method())
    definition = SweepDefinition(
        suite=str(suite_file), tasks=[["digits"]], device="cpu", merges={"mine": {"much": [0.2, 0.4]}}
    )
    first = driver.start(definition, workspace)
    assert driver.start(definition, workspace).id == first.id
    write(own_methods, "mine.py", method(factor=2))
    second = driver.start(definition, workspace)
    assert second.id != first.id
    with pytest.raises(MergingError, match="files of the suite or of a method of your own have changed since"):
        to_the_end(first, workspace, ByHand(workspace, lambda spec: spec.merge_params["much"]))
    assert {trial.state for trial in to_the_end(second, workspace, ByHand(workspace, lambda spec: 0.5))} == {"done"}
    drivers = SweepDrivers(workspace)
    assert drivers.going_on() == [second.id, first.id]
    (own_methods / "mine.py").unlink()
    own.refresh()
    assert drivers.going_on() == [] and SweepStore(workspace.store).all() == []  # another worker may know the method


def test_machines_of_a_cluster_need_the_very_source(own_methods: Path) -> None:
    write(own_methods, "mine.py", method())
    assert lacks_methods({}) == "" == lacks_methods({"merge mine": own.stamp()})
    assert "lacks the source of merge mine, or has another" in lacks_methods({"merge mine": "0" * 64})
    assert "lacks the source of edit mine" in lacks_methods({"edit mine": own.stamp()})
