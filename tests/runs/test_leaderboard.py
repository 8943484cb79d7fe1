"""The leaderboard against single runs."""

import json
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from merging.cli import main
from merging.core.errors import MergingError
from merging.methods.catalogue import catalogue
from merging.methods.params import NEEDS, DataUse
from merging.methods.presets import PRESETS, Preset
from merging.runs.foreground import run_here
from merging.runs.jobs import MergeSpec
from merging.runs.leaderboard import ONE_A_TASK, OUR_OWN, Row, cheapest_first, data_looked_at, to_markdown, two_settings
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite
from tests.carrying import execute
from tests.random_models import TASKS


def call(suite_file: Path, home: Path, *more: str) -> dict:
    arguments = ["leaderboard", str(suite_file), "--home", str(home), "--json", *more]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_rows_are_what_single_runs_give(suite_file: Path, suite: Suite, workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    found = call(suite_file, workspace.home, "--presets", "average, tsv_m", "--output", str(table))
    zero_shot, individual, average, tsv = found["rows"]
    assert [row["method"] for row in found["rows"]] == ["Zero-shot", "Individual", "Weight averaging", "TSV-M"]
    evaluator = workspace.evaluator(suite)
    assert zero_shot["accuracy"] == workspace.base_accuracy(evaluator, TASKS).per_task
    own = workspace.individual_accuracy(evaluator, TASKS).per_task
    assert (individual["accuracy"], individual["normalised"]) == (own, 1.0)
    spec = MergeSpec.build(suite=str(suite_file), tasks=TASKS, merge="tsv_m", merge_params={"scaling": "auto"})
    result = execute(spec, workspace)
    assert (tsv["accuracy"], tsv["scaling"]) == (result.accuracy, result.merge.scaling)
    assert tsv["average"] == pytest.approx(result.average)
    assert own["roads"] == 0 and tsv["normalised"] is None  # there is nothing to divide by
    some = call(suite_file, workspace.home, "--presets", "tsv_m", "--tasks", "digits,leaves")["rows"][-1]
    assert some["normalised"] == pytest.approx(sum(some["accuracy"][t] / own[t] for t in ("digits", "leaves")) / 2)
    assert average["scaling"] is None and average["needs"] == tsv["needs"] == "none"
    assert (average["chosen"], tsv["chosen"]) == ([], ["merge.scaling"])
    lines = table.read_text().splitlines()
    assert len(lines) == 6 and lines[0].startswith("| method | data needed | chosen | circles | digits ")
    assert {tuple(line.split(" | ")[:3]) for line in lines[2:]} == {
        ("| Zero-shot", "none", ""),
        ("| Individual", "labelled", ""),
        ("| Weight averaging", "none", ""),
        ("| TSV-M", "none", "λ"),
    }


def test_nothing_is_run_twice(suite_file: Path, workspace: Workspace) -> None:
    first, second = (call(suite_file, workspace.home, "--presets", "iso_c")["rows"][-1] for _ in range(2))
    assert first == second and len(workspace.store.all()) == 1


def test_all_presets_are_listed_and_the_cheapest_come_first(
    suite_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(suite_file, workspace.home, "--presets", "average,iso_c")
    asked: list[str] = []

    def refuse(spec: MergeSpec, *_: object) -> NoReturn:
        asked.append(spec.label)
        raise MergingError("enough")

    monkeypatch.setattr("merging.runs.leaderboard.run_here", refuse)
    result = CliRunner().invoke(main, ["leaderboard", str(suite_file), "--home", str(workspace.home)])
    order = cheapest_first(PRESETS.values())
    assert asked == [order[0].title]
    left = [preset.title for preset in order if preset.name not in ("average", "iso_c")]
    assert len(left) == len(PRESETS) - 2
    assert result.stderr.splitlines()[0] == f"{len(PRESETS)} methods, 2 run before; to run: {'; '.join(left)}"
    assert result.stderr.splitlines()[1] == two_settings()
    some = ["leaderboard", str(suite_file), "--home", str(workspace.home), "--methods", "wudi, iso_c,iso_c"]
    assert CliRunner().invoke(main, some).stderr.startswith("2 methods, 1 run before; to run: WUDI\n")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (MergingError("the disk is full"), 1)])
def test_what_is_done_is_shown_when_the_rest_is_not(
    suite_file: Path,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
) -> None:
    def stop_at(spec: MergeSpec, *more: object) -> Run:
        if spec.merge == "iso_c":
            raise error
        return run_here(spec, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("merging.runs.leaderboard.run_here", stop_at)
    table = tmp_path / "table.md"
    table.write_text("an older one")
    command = ["leaderboard", str(suite_file), "--home", str(workspace.home), "--presets", "average,iso_c,tsv_m"]
    result = CliRunner().invoke(main, [*command, "--output", str(table)])
    assert result.exit_code == status
    methods = {line.split(" | ")[0].removeprefix("| ") for line in result.stdout.splitlines()[2:]}
    assert methods == {"Zero-shot", "Individual", "Weight averaging"}
    assert table.read_text() == "an older one"
    printed = CliRunner().invoke(main, [*command, "--json"])
    assert printed.exit_code == status and len(json.loads(printed.stdout)["rows"]) == 3


def test_data_needed_does_not_count_what_is_chosen_on_validation() -> None:
    data = {name: data_looked_at(preset) for name, preset in PRESETS.items()}
    assert {name for name, one in data.items() if one.needs == "labelled"} == {"tatr"}
    unlabeled = {
        "fisher",
        "fisher_normalised",
        "regmean",
        "regmean_plus_plus",
        "adamerging_task",
        "adamerging",
        "adamerging_16",
        "adamerging_pp",
        "awd_adamerging",
        "doge_am",
        "parts_adamerging",
    }
    assert {name for name, one in data.items() if one.needs == "unlabeled"} == unlabeled
    assert data["task_arithmetic"].chosen == data["tatr"].chosen == data["doge_ta"].chosen == ("merge.scaling",)
    assert data["consensus_ta"].chosen == ("edit.threshold", "merge.scaling")
    assert data["tall_masks"].chosen == ("merge.threshold",)
    assert data["average"].chosen == data["adamerging"].chosen == ()


def test_the_leaderboard_and_the_list_of_methods_agree_on_the_data_needed() -> None:
    listed = {row["name"]: row["needs"] for row in catalogue()["presets"]}
    assert listed == {name: data_looked_at(preset).needs for name, preset in PRESETS.items()}


def test_the_table_is_sorted_by_average(suite_file: Path, workspace: Workspace) -> None:

    table = to_markdown(
        [
            Row("worse", DataUse("none"), {"a": 0.1}, None),
            Row("masks", DataUse("none"), {"a": 0.9}, None, localised=True),
            Row("better", DataUse("none", ("merge.scaling",)), {"a": 0.2}, 0.5, 0.3, 1.0, 10**6, own=True),
        ]
    )
    merged, apart = table.split(f"\n\n{ONE_A_TASK}\n\n")
    assert [line.split(" | ")[0] for line in merged.splitlines()[2:]] == [f"| better{OUR_OWN}", "| worse"]
    assert [line.split(" | ")[0] for line in apart.splitlines()] == [
        "| method",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        "| masks",
    ]


def test_tasks_without_images_are_refused(own_suite: Path, tmp_path: Path) -> None:

    described = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del described["tasks"][1]["data"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(described))
    result = CliRunner().invoke(main, ["leaderboard", str(own_suite), "--home", str(tmp_path / "home")])
    assert result.exit_code == 1 and f"{described['tasks'][1]['name']} lack them" in result.stderr


def test_the_cheapest_methods_come_first() -> None:
    order = cheapest_first(PRESETS.values())
    assert sorted(preset.name for preset in order) == sorted(PRESETS)
    needs = [NEEDS.index(data_looked_at(preset).needs) for preset in order]
    assert needs == sorted(needs)
    names = [preset.name for preset in order]
    assert names[0] == "average"  # no data, no λ
    assert names.index("wudi_closed_form") < names.index("wudi") and names.index("iso_c") < names.index("doge_ta")
    assert names.index("fisher") < names.index("adamerging_task")


@given(st.permutations(list(PRESETS.values())))
def test_among_equals_the_given_order_stays(presets: list[Preset]) -> None:
    order = cheapest_first(presets)
    alike = [preset.name for preset in presets if preset.pair.merge.name == "adamerging"]
    assert [preset.name for preset in order if preset.pair.merge.name == "adamerging"] == alike


def test_what_takes_many_steps_is_marked() -> None:
    """But for AWD, whose steps in Gram space take milliseconds, and the closed form, which takes none."""
    for preset in PRESETS.values():
        values = [part.values for part in preset.pair.parts if part.name != "awd"]
        steps = any("steps" in each and each.get("solver") != "closed_form" for each in values)
        assert preset.iterative == steps, preset.name
