"""The study of AWD: its cases, its tables, and that the page says what the results say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merging.methods import registry
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from studies import tables
from studies.awd import RESULTS, measure, run_study
from studies.cases import SCOPES, SOLVERS, SUBSETS, VARIANTS, all_cases, subsets
from studies.combinations import SHORTLIST, shortlist_cases, subset_cases
from studies.page import PAGE, load, render

TASKS = tuple("abcdefgh")


def test_subsets_are_different_and_always_the_same() -> None:
    for count in range(2, 9):
        found = subsets(TASKS, count)
        assert found == subsets(TASKS, count)
        assert len(set(found)) == len(found) == (1 if count == 8 else SUBSETS)
        assert all(len(subset) == count and list(subset) == sorted(subset) for subset in found)


def test_awd_stands_before_every_merge_that_takes_an_edit() -> None:
    cases = all_cases(TASKS)
    allowed = {name for name in registry.merges() if not registry.find("merge", name).unedited}
    merges = [case for case in cases if case.section == "merges"]
    assert {case.spec_fields["merge"] for case in merges} == allowed
    for merge in {case.merge for case in merges}:
        assert {case.variant for case in merges if case.merge == merge} == set(VARIANTS)
    solvers = {case.variant for case in cases if case.section == "solvers"}
    assert solvers == {f"{scope}, {solver}" for scope in SCOPES for solver in SOLVERS} | {"reading B"}
    assert {len(case.tasks) for case in cases if case.section == "counts"} == set(range(2, 9))
    for case in cases:
        case.spec("mini", "cpu")  # refused if a parameter is wrong


def test_the_combinations_need_no_data_and_lambda_comes_from_validation() -> None:
    pairs = shortlist_cases(TASKS)
    assert len({pair.label for pair in pairs}) == len(pairs)
    for pair in pairs:
        spec = pair.spec("mini", "cpu", TASKS)
        assert spec.merge_params["scaling"] == "auto"
    published = {pair.label for pair in pairs if pair.published}
    assert {"Task Arithmetic", "TIES + Task Arithmetic", "TSV-M", "WUDI, closed form"} <= published
    assert "AWD + TSV-M" not in published


def test_the_shortlist_is_chosen_on_validation() -> None:
    pairs = shortlist_cases(TASKS)
    validation = list(np.linspace(0.1, 0.9, len(pairs)))
    chosen = subset_cases(pairs, validation, TASKS)
    unpublished = [pair for pair in reversed(pairs) if not pair.published][:SHORTLIST]
    assert list(dict.fromkeys(pair for pair, _ in chosen if not pair.published)) == unpublished
    assert {len(subset) for _, subset in chosen} == {3, 5, 6}


def test_the_study_runs_and_goes_on_where_it_was(
    suite: Suite, suite_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [case for case in all_cases(suite.mergeable()) if len(case.tasks) != 3 and case.variant != "layer"]
    monkeypatch.setattr("studies.awd.all_cases", lambda tasks: some)
    said: list[str] = []
    first = run_study(suite, str(suite_file), workspace, "cpu", ("counts",), said.append)
    assert json.loads(json.dumps(first)) == first
    assert len(first["cases"]) == len(said)
    plain = tables.pick(first["cases"], variant="none", best=False)
    assert all(case["mean_abs_cosine"] is None and case["scaling"] is None for case in plain)
    best = tables.pick(first["cases"], variant="model", best=True)
    assert all(case["validation"] == max(case["search"]["average_accuracy"]) for case in best)
    monkeypatch.setattr("merging.runs.foreground.carry_out", lambda *arguments: pytest.fail("it was done before"))
    assert run_study(suite, str(suite_file), workspace, "cpu", ("counts",), said.append) == first


def test_what_is_kept_of_a_run_is_its_test_accuracy(suite: Suite, suite_file: Path, workspace: Workspace) -> None:
    case = next(case for case in all_cases(suite.mergeable()) if case.section == "counts" and not case.best)
    kept = measure(case.spec(str(suite_file), "cpu"), workspace)
    run = workspace.store.all()[0]
    assert run.spec.split == "test" and run.result is not None
    assert kept["accuracy"] == run.result.accuracy and kept["tasks"] == list(case.tasks)


def result(**fields: Any) -> dict[str, Any]:
    """One case with accuracies 0.5 and 0.7, changed as wanted."""
    usual = {"section": "merges", "merge": "task_arithmetic", "variant": "none", "best": True, "tasks": ["a", "b"]}
    return {**usual, "accuracy": {"a": 0.5, "b": 0.7}, "scaling": 0.3, "mean_abs_cosine": None, "norms": None, **fields}


def test_gains_are_against_the_same_merge_of_the_same_tasks() -> None:
    cases = [
        result(variant=variant, accuracy={"a": 0.5 + gain, "b": 0.7})
        for variant, gain in (("none", 0.0), ("model", 0.02), ("layer", -0.04), ("row", 0.0))
    ]
    header, rows = tables.merges_table({"cases": cases}, best=True)
    assert header == ["merge", "no AWD", "AWD, model", "AWD, layer", "AWD, row"]
    assert rows == [["Task Arithmetic", "60.0", "61.0 (+1.0)", "58.0 (−2.0)", "60.0 (+0.0)"]]
    counts = [{**case, "section": "counts"} for case in cases]
    assert tables.gains_by_count({"cases": counts}, "model", True) == {2: [pytest.approx(1.0)]}


def test_a_table_in_markdown() -> None:
    assert tables.markdown(["name", "x"], [["one", "1"]]) == "| name | x |\n| --- | ---: |\n| one | 1 |"


def test_the_page_says_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(load("mini"), load("mini-1"), load("related"))


def test_the_results_are_of_the_suite_as_it_is(tmp_path: Path) -> None:
    mini, stored = load_suite("mini"), load("mini")
    assert (RESULTS / "mini.json").is_file() and stored["tasks"] == list(mini.mergeable())
    np.testing.assert_allclose(Workspace(tmp_path).geometry(mini).gram, stored["before"], rtol=1e-4, atol=1e-6)
